"""A server's state directory: everything that it must not forget, held by one server at a time.

    records.sqlite     tasks, rounds, answers, events: see `schema`; its lock is the directory's lease
    spool/TASK/ROUND/  uploads that have arrived, until the round has ended, and a running sum of them
    results/TASK/      the sums of rounds that have closed, for as long as the task keeps them
    audit.jsonl        what was decided: see `audit`

The lease goes with its process, however that ends: a killed server can be started again at once, a second one is
refused. No secret of a client is here that the protocol does not show to the server.
"""

import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from aggregator.errors import StorageError
from aggregator.storage.audit import AUDIT_FILE, AuditFile, AuditLog, Chain, Head
from aggregator.storage.base import Fact, Stored
from aggregator.storage.reading import read_all, read_pending
from aggregator.storage.round_records import Desk, DurableTask
from aggregator.storage.schema import RecordsDatabase
from aggregator.storage.spool import MemorySpool, storage_errors
from aggregator.storage.spool_directory import RoundSpool
from aggregator.storage.writer import Writer
from aggregator.wire.codec import encode
from aggregator.wire.operator_messages import RoundRequest, Task

DATABASE_FILE: Final = "records.sqlite"
SPOOL: Final = "spool"
RESULTS: Final = "results"
DISK_THREADS: Final = 8  # a file system forces many files to the disk at once: 29 of 0.3 MB in 27 ms, in turn in 105


class State:
    """See `storage.base.Records`. Made by `opened`, in a running loop.

    Args:
        writer: of the database, open.
        audit: the log.
        desk: what all records share.
        tasks: the records that are there already, by task.
    """

    durable = True

    def __init__(self, writer: Writer, audit: AuditLog, desk: Desk, tasks: dict[str, DurableTask]) -> None:
        self._writer = writer
        self._audit = audit
        self._desk = desk
        self._tasks = tasks

    def create(self, spec: Task, owner: str, created_s: float) -> DurableTask:
        """As `Records.create`."""
        self._say("INSERT INTO tasks VALUES (?, ?, ?, ?, 0, 0)", spec.name, owner, encode(spec), created_s)
        self._tasks[spec.name] = DurableTask(self._desk, spec.name)
        return self._tasks[spec.name]

    def cancel(self, task: str) -> None:
        """As `Records.cancel`."""
        self._say("UPDATE tasks SET cancelled = 1 WHERE name = ?", task)

    def delete(self, task: str, owner: str) -> None:
        """As `Records.delete`."""
        self._tasks.pop(task).delete()
        self._say("DELETE FROM tasks WHERE name = ?", task)
        self._say("DELETE FROM keys WHERE task = ?", task)
        self._say("INSERT INTO deleted (name, owner) VALUES (?, ?)", task, owner)

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
        self._audit.decided(what, facts)

    async def written(self) -> None:
        """As `Settled.written`."""
        await self._writer.written()

    async def settled(self) -> None:
        """As `Settled.settled`."""
        await self._writer.settled()

    def _say(self, sql: str, *parameters: object) -> None:
        self._writer.say(sql, *parameters)


@asynccontextmanager
async def opened(
    directory: Path,
    memory: MemorySpool,
    now: Callable[[], float],
    *,
    sync: bool = True,
    failed: Callable[[str | None], None] = lambda _: None,
) -> AsyncIterator[tuple[State, Stored]]:
    """A state directory, made if it is not there, and what it holds; at its end all that was said is written.

    Args:
        directory: where it is.
        memory: for uploads on their way in.
        now: the wall clock, unix seconds.
        sync: whether all is forced to the disk, or left to the system: it then outlives the process, but not a power
            cut.
        failed: told why the disk refuses, and None when it takes again.

    Raises:
        StorageError: in use by another server, read-only, damaged, or of a newer version.
    """
    writer, file = Writer(failed), None
    with ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="sangam-disk") as threads:
        try:
            await writer.run(_make, directory)
            await writer.open(partial(_open_records, directory / DATABASE_FILE), sync=sync)
            pending = await writer.read(read_pending)
            file = await writer.run(AuditFile, directory / AUDIT_FILE, pending)
            audit = AuditLog(writer, Chain(Head.of(pending[-1]) if pending else Head(), now), file)
            desk = Desk(
                writer,
                spool=lambda task, number: RoundSpool(memory, directory / SPOOL / task / str(number), sync=sync),
                results=lambda task: RoundSpool(memory, directory / RESULTS / task, sync=sync),
                decided=audit.decided,
                threads=threads,
                now=now,
            )
            stored, tasks = await writer.read(partial(read_all, desk=desk))
            await writer.run(_sweep, directory, frozenset(tasks))
            found = [stored]
            del stored  # its files are mapped for as long as somebody holds it, and that is not us
            yield State(writer, audit, desk, tasks), found.pop()
        finally:
            await writer.close()
            if file is not None:
                file.close()


def _open_records(path: Path) -> RecordsDatabase:
    database = RecordsDatabase(path)
    try:
        database.fill_log()
    except StorageError:
        database.close()
        raise
    return database


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the state directory {directory}: {error.strerror}") from None


def _sweep(directory: Path, tasks: frozenset[str]) -> None:
    """Destroy what is left of tasks that were deleted, by a server that was killed before it came to it."""
    for place in (SPOOL, RESULTS):
        for child in (directory / place).glob("*"):
            if child.name not in tasks:
                with storage_errors():
                    shutil.rmtree(child)
