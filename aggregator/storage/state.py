"""A server's state directory: everything that it must not forget, held by one server at a time.

    records.sqlite     tasks, rounds, answers, events: see `schema`; its lock is the directory's lease
    spool/TASK/ROUND/  uploads that have arrived, until the round has ended, and a running sum of them
    results/TASK/      the sums of rounds that have closed, for as long as the task keeps them
    audit.jsonl        what was decided: see `audit`

The lease goes with its process, however that ends: a killed server can be started again at once, a second one is
refused. No secret of a client is here that the protocol does not show to the server.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self

from aggregator.errors import StorageError
from aggregator.storage.audit import AUDIT_FILE, AuditFile, Chain, Head
from aggregator.storage.base import Fact, Stored
from aggregator.storage.reading import read_all, read_pending
from aggregator.storage.round_records import Desk, DurableTask
from aggregator.storage.schema import RecordsDatabase
from aggregator.storage.spool import MemorySpool
from aggregator.storage.spool_directory import RoundSpool
from aggregator.storage.writer import Writer
from aggregator.wire.codec import encode
from aggregator.wire.operator_messages import RoundRequest, Task

DATABASE_FILE: Final = "records.sqlite"
SPOOL: Final = "spool"
RESULTS: Final = "results"
DISK_THREADS: Final = 8  # a file system forces many files to the disk at once: 29 of 0.3 MB in 27 ms, in turn in 105


class State:
    """See `storage.base.Records`. Made by `open`, in a running loop.

    Args:
        writer: of the database, open.
        chain: makes the audit log's lines.
        audit: their file.
        desk: makes what all records share.
    """

    durable = True

    def __init__(self, writer: Writer, chain: Chain, audit: AuditFile, desk: Callable[["State"], Desk]) -> None:
        self._writer = writer
        self._chain = chain
        self._audit = audit
        self._desk = desk(self)
        self._tasks: dict[str, DurableTask] = {}
        self.stored = Stored()

    @classmethod
    async def open(
        cls,
        directory: Path,
        memory: MemorySpool,
        now: Callable[[], float],
        *,
        sync: bool = True,
        failed: Callable[[str | None], None] = lambda _: None,
    ) -> Self:
        """Open a state directory, made if it is not there.

        Args:
            directory: where it is.
            memory: for uploads on their way in.
            now: the wall clock, unix seconds.
            sync: whether all is forced to the disk, or left to the system: it then outlives the process, but not a
                power cut.
            failed: told why the disk refuses, and None when it takes again.

        Raises:
            StorageError: in use by another server, read-only, damaged, or of a newer version.
        """
        writer = Writer(failed)
        try:
            await writer.run(_make, directory)
            await writer.open(partial(RecordsDatabase, directory / DATABASE_FILE), sync=sync)
            pending = await writer.read(read_pending)
            audit = await writer.run(AuditFile, directory / AUDIT_FILE, pending)
            chain = Chain(Head.of(pending[-1]) if pending else Head(), now)

            threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="sangam-disk")

            def desk(state: State) -> Desk:
                return Desk(
                    writer,
                    spool=lambda task, number: RoundSpool(memory, directory / SPOOL / task / str(number), sync=sync),
                    results=lambda task: RoundSpool(memory, directory / RESULTS / task, sync=sync),
                    decided=state.note,
                    threads=threads,
                    now=now,
                )

            state = cls(writer, chain, audit, desk)
            state.stored, state._tasks = await writer.read(partial(read_all, desk=state._desk))
        except BaseException:
            await writer.close()
            raise
        return state

    async def close(self) -> None:
        """Write what is left, and let the directory go."""
        await self._writer.close()
        self._desk.threads.shutdown()
        self._audit.close()

    def create(self, spec: Task, owner: str, created_s: float) -> DurableTask:
        """As `Records.create`."""
        self._say("INSERT INTO tasks VALUES (?, ?, ?, ?, 0, 0)", spec.name, owner, encode(spec), created_s)
        self.decided("task created", task=spec.name, operator=owner, mode=spec.parameters.mode)
        self._tasks[spec.name] = DurableTask(self._desk, spec.name)
        return self._tasks[spec.name]

    def cancel(self, task: str) -> None:
        """As `Records.cancel`."""
        self._say("UPDATE tasks SET cancelled = 1 WHERE name = ?", task)
        self.decided("task cancelled", task=task)

    def delete(self, task: str, owner: str) -> None:
        """As `Records.delete`."""
        self._tasks.pop(task).delete()
        self._say("DELETE FROM tasks WHERE name = ?", task)
        self._say("DELETE FROM keys WHERE task = ?", task)
        self._say("INSERT INTO deleted (name, owner) VALUES (?, ?)", task, owner)
        self.decided("task deleted", task=task)

    def free_name(self, task: str) -> None:
        """As `Records.free_name`."""
        self._say("DELETE FROM deleted WHERE name = ?", task)

    def keep_key(self, operator: str, request: RoundRequest, number: int) -> None:
        """As `Records.keep_key`; those whose time is over go."""
        key = (operator, request.task, request.idempotency_key)
        self._say("DELETE FROM keys WHERE expires_s < ?", self._desk.now())
        sql = "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)"
        self._say(sql, *key, encode(request), number, request.key_expires_s)

    def decided(self, what: str, /, **facts: Fact) -> None:
        """As `Records.decided`."""
        self.note(what, facts)

    def note(self, what: str, facts: dict[str, Fact]) -> None:
        """One line of the audit log: first into the records, then into the file."""
        line = self._chain.line(what, facts)
        self._say("INSERT INTO audit VALUES (?, ?)", self._chain.head.seq, line)
        self._writer.afterwards(partial(self._audit.append, (line,)))
        self._say("DELETE FROM audit WHERE seq < ?", self._audit.filed)  # which tells the file's end from another one

    async def written(self) -> None:
        """As `Settled.written`."""
        await self._writer.written()

    async def settled(self) -> None:
        """As `Settled.settled`."""
        await self._writer.settled()

    def _say(self, sql: str, *parameters: object) -> None:
        self._writer.say(sql, *parameters)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the state directory {directory}: {error.strerror}") from None
