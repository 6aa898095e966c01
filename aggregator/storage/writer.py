"""What is said to the database goes there in the order in which it was said, in batches: one fsync for all that wait.

A batch that the disk refuses is tried again every second, with all that was said meanwhile, until it takes it.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeAlias, TypeVar

from aggregator.database import Database
from aggregator.errors import StorageError

_LOG = logging.getLogger(__name__)

RETRY_S: Final = 1.0

T = TypeVar("T")
Statement: TypeAlias = tuple[str, tuple[object, ...]]
Afterwards: TypeAlias = Callable[[], None]


class Writer:
    """Writes in a thread of its own; for one asyncio loop.

    Args:
        failed: told why the disk refuses, and None when it takes again.
    """

    def __init__(self, failed: Callable[[str | None], None]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sangam-records")
        self._failed = failed
        self._refused = False
        self._said: list[tuple[int, Statement | Afterwards]] = []  # with its place, and not written yet
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._count = 0  # of all that was ever said
        self._work: asyncio.Task[None] | None = None
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
        self._add((sql, parameters))

    def afterwards(self, act: Afterwards) -> None:
        """Have something done in the database's thread once what was said before is on the disk."""
        self._add(act)

    async def settled(self) -> None:
        """Wait until all that was said so far is on the disk.

        Raises:
            StorageError: the disk refuses it now.
        """
        if self._written == self._count:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((self._count, future))
        self._set_to_work()
        await future

    async def close(self) -> None:
        """Write what is left, and let the database go; what the disk refuses is lost with the process."""
        with suppress(StorageError):
            await self.settled()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        if self._database is not None:
            await self.run(self._database.close)
        self._thread.shutdown()

    def _add(self, item: Statement | Afterwards) -> None:
        self._said.append((self._count, item))
        self._count += 1
        self._set_to_work()

    def _set_to_work(self) -> None:
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._write_all())
            self._work.add_done_callback(self._broke_off)

    async def _write_all(self) -> None:
        while self._said:
            batch = tuple(self._said)
            try:
                await self.run(self._commit, [item for _, item in batch if isinstance(item, tuple)])
                acts = [(place, item) for place, item in batch if not isinstance(item, tuple)]
                self._said[: len(batch)] = acts  # what is committed is never committed again
                for _, act in acts:
                    await self.run(act)
                    del self._said[0]
            except StorageError as error:
                self._tell(error)
                await asyncio.sleep(RETRY_S)
            else:
                self._tell(None)

    def _commit(self, statements: list[Statement]) -> None:
        if statements:
            with self._opened.transaction() as database:
                for sql, parameters in statements:
                    database.execute(sql, parameters)

    def _broke_off(self, work: asyncio.Task[None]) -> None:
        """A mishap that nobody foresaw must not leave anybody waiting."""
        if not work.cancelled() and (error := work.exception()) is not None:
            _LOG.error("records broke off", exc_info=error)
            self._tell(StorageError(f"records broke off: {type(error).__name__}"))

    @property
    def _written(self) -> int:
        return self._said[0][0] if self._said else self._count

    def _tell(self, error: StorageError | None) -> None:
        """Whoever waits learns that its words are written, or that they are not."""
        due = [one for one in self._waiting if error is not None or one[0] <= self._written]
        self._waiting = [one for one in self._waiting if one not in due]
        for _, future in due:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(StorageError(str(error)))
        if (error is not None) != self._refused:
            self._refused = error is not None
            self._failed(str(error) if error else None)
