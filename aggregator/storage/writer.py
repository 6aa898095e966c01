"""What is said to the database goes there in the order in which it was said, in batches: one fsync for all that wait.

A batch that the disk refuses is tried again every second, with all that was said meanwhile, until it takes it.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias, TypeVar

from aggregator.database import Database
from aggregator.errors import StorageError

_LOG = logging.getLogger(__name__)

RETRY_S: Final = 1.0

T = TypeVar("T")
Statement: TypeAlias = tuple[str, tuple[object, ...]]
Afterwards: TypeAlias = Callable[[], None]


class Progress:
    """How far one kind of work is, and who waits for it."""

    def __init__(self) -> None:
        self.done = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def reaches(self, count: int) -> "asyncio.Future[None]":
        """Done once so much is; StorageError when the disk refuses before."""
        future = asyncio.get_running_loop().create_future()
        if count <= self.done:
            future.set_result(None)
        else:
            self._waiting.append((count, future))
        return future

    def advance(self, by: int) -> None:
        """So much more is done."""
        self.done += by
        due = [future for count, future in self._waiting if count <= self.done]
        self._waiting = [one for one in self._waiting if one[0] > self.done]
        for future in due:
            if not future.done():
                future.set_result(None)

    def refuse(self, reason: str) -> None:
        """Whoever waits learns why not."""
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(StorageError(reason))


class Writer:
    """Writes in a thread of its own, and does in another what is to follow; for one asyncio loop.

    Args:
        failed: told why the disk refuses, and None when it takes again.
    """

    def __init__(self, failed: Callable[[str | None], None]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sangam-records")
        self._second = ThreadPoolExecutor(1, thread_name_prefix="sangam-follow")
        self._failed = failed
        self._refused: set[Progress] = set()  # whose work the disk refuses
        self._said: list[Statement] = []
        self._acts: deque[tuple[int, Afterwards]] = deque()  # each with how many statements go before it
        self._statements, self._acted = Progress(), Progress()
        self._work: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._database: Database | None = None

    async def open(self, make: Callable[[], Database], *, sync: bool) -> None:
        """Open the database; errors as `Database`. Without `sync`, what is written may be lost with a power cut."""
        self._database = await self.run(make)
        if not sync:
            await self.read(lambda database: database.execute("PRAGMA synchronous = OFF"))

    async def read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read the database, in its thread. StorageError when the disk refuses."""

        def work() -> T:
            with self._opened.storage_errors():
                return read(self._opened.connection)

        return await self.run(work)

    @property
    def _opened(self) -> Database:
        if self._database is None:
            raise StorageError("the records are not open")
        return self._database

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in the database's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def say(self, sql: str, *parameters: object) -> None:
        """Have a statement executed."""
        self._said.append((sql, parameters))
        self._set_to_work()

    def afterwards(self, act: Afterwards) -> None:
        """Have something done in another thread once what was said before is on the disk."""
        self._acts.append((self._count, act))
        self._set_to_work()

    async def written(self) -> None:
        """Wait until all that was said so far is on the disk, but not for what follows.

        Raises:
            StorageError: the disk refuses it now.
        """
        self._set_to_work()
        await self._statements.reaches(self._count)

    async def settled(self) -> None:
        """Wait until all that was said so far is on the disk, and what was to follow is done; errors as `written`."""
        self._set_to_work()
        acts = self._acted.reaches(self._acted.done + len(self._acts))
        acts.add_done_callback(_take_error)  # when the statements' is raised first
        await self._statements.reaches(self._count)
        await acts

    async def close(self) -> None:
        """Write what is left, and let the database go; what the disk refuses is lost with the process."""
        with suppress(StorageError):
            await self.settled()
        for work in (self._work, self._following):
            if work is not None:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        if self._database is not None:
            await self.run(self._database.close)
        self._thread.shutdown()
        self._second.shutdown()

    @property
    def _count(self) -> int:
        """Statements that were ever said."""
        return self._statements.done + len(self._said)

    def _set_to_work(self) -> None:
        if self._said and (self._work is None or self._work.done()):
            self._work = asyncio.create_task(self._write_all())
            self._work.add_done_callback(partial(self._broke_off, self._statements))
        if self._may_act and (self._following is None or self._following.done()):
            self._following = asyncio.create_task(self._act_all())
            self._following.add_done_callback(partial(self._broke_off, self._acted))

    @property
    def _may_act(self) -> bool:
        return bool(self._acts) and self._acts[0][0] <= self._statements.done

    async def _write_all(self) -> None:
        while self._said:
            batch = tuple(self._said)
            if await self._done(self._statements, self.run(self._commit, batch)):
                del self._said[: len(batch)]  # what is committed is never committed again
                self._statements.advance(len(batch))
                self._set_to_work()

    async def _act_all(self) -> None:
        while self._may_act:
            loop = asyncio.get_running_loop()
            if await self._done(self._acted, loop.run_in_executor(self._second, self._acts[0][1])):
                self._acts.popleft()
                self._acted.advance(1)

    async def _done(self, progress: Progress, work: Awaitable[None]) -> bool:
        """Whether the disk takes it; where it refuses, that is said, and some time passes."""
        try:
            await work
        except StorageError as error:
            progress.refuse(str(error))
            self._note(progress, str(error))
            await asyncio.sleep(RETRY_S)
            return False
        self._note(progress, None)
        return True

    def _commit(self, statements: Sequence[Statement]) -> None:
        with self._opened.transaction() as database:
            for sql, parameters in statements:
                database.execute(sql, parameters)

    def _broke_off(self, progress: Progress, work: "asyncio.Task[None]") -> None:
        """A mishap that nobody foresaw must not leave anybody waiting."""
        if not work.cancelled() and (error := work.exception()) is not None:
            _LOG.error("records broke off", exc_info=error)
            reason = f"records broke off: {type(error).__name__}"
            progress.refuse(reason)
            self._note(progress, reason)

    def _note(self, progress: Progress, reason: str | None) -> None:
        """Say once that the disk refuses, and once that it takes all again."""
        before = bool(self._refused)
        if reason is None:
            self._refused.discard(progress)
        else:
            self._refused.add(progress)
        if bool(self._refused) != before:
            self._failed(reason)


def _take_error(future: "asyncio.Future[None]") -> None:
    """Mark an error as seen."""
    if not future.cancelled():
        future.exception()
