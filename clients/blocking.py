"""The same sessions for code without asyncio: each call runs on an event loop in a thread of its own.

with clients.connect_blocking("aggregator:7443", "site/") as session:
    result = session.contribute({"w": w}, weight=569, base=model)
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from aggregator.errors import RoundAborted
from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from aggregator.wire.operator_messages import (
    Deadlines,
    Opening,
    Retention,
    RoundEvent,
    RoundSummary,
    SiteSummary,
    TaskDescription,
    TaskSummary,
)
from clients.connection import connect, open_site
from clients.contribution import Observer
from clients.operator import KEY_EXPIRES_IN_S, PAGE_SIZE, Operator, operate
from clients.result import RoundResult
from clients.session import Session
from clients.site import OpenSite

T = TypeVar("T")
B = TypeVar("B")
P = ParamSpec("P")


class Loop:
    """An event loop in a thread; used as a context."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sangam", daemon=True)

    def __enter__(self) -> "Loop":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end and give the result; an interrupt cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise


class BlockingSession:
    """`Session`, one call after the other."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session

    def contribute(
        self,
        update: Update,
        *,
        weight: int,
        base: Update | None = None,
        again: str = "",
        observer: Observer | None = None,
        parameters: Parameters | None = None,
        within_s: float | None = None,
    ) -> RoundResult | None:
        """See `Session.contribute`; after `within_s` seconds without an end it is given up: RoundAborted."""
        work = self._session.contribute(
            update, weight=weight, base=base, again=again, observer=observer, parameters=parameters
        )
        return self._loop.run(_within(work, within_s))

    def fetch_result(self, round_number: int = 0, *, base: Update | None = None) -> RoundResult:
        """See `Session.fetch_result`."""
        return self._loop.run(self._session.fetch_result(round_number, base=base))


class BlockingSite:
    """`OpenSite`; its sessions may be used from several threads at once."""

    def __init__(self, loop: Loop, site: OpenSite) -> None:
        self._loop = loop
        self._site = site

    def join(self, task: str = "") -> AbstractContextManager[BlockingSession]:
        """See `OpenSite.join`."""
        return _entered(self._loop, self._site.join(task), BlockingSession)


class BlockingOperator:
    """`Operator`, one call after the other."""

    def __init__(self, loop: Loop, operator: Operator) -> None:
        self._loop = loop
        self._operator = operator

    def create_task(
        self,
        name: str,
        parameters: Parameters,
        *,
        deadlines: Deadlines | None = None,
        opening: Opening | None = None,
        retention: Retention | None = None,
        starters: Iterable[str] = (),
        result_to_operator_only: bool = False,
    ) -> bool:
        """See `Operator.create_task`."""
        work = self._operator.create_task(
            name,
            parameters,
            deadlines=deadlines,
            opening=opening,
            retention=retention,
            starters=starters,
            result_to_operator_only=result_to_operator_only,
        )
        return self._loop.run(work)

    def tasks(self, *, page_size: int = PAGE_SIZE) -> Iterator[TaskSummary]:
        """See `Operator.tasks`."""
        return self._each(self._operator.tasks(page_size=page_size))

    def describe_task(self, task: str) -> TaskDescription:
        """See `Operator.describe_task`."""
        return self._loop.run(self._operator.describe_task(task))

    def cancel_task(self, task: str) -> TaskDescription:
        """See `Operator.cancel_task`."""
        return self._loop.run(self._operator.cancel_task(task))

    def delete_task(self, task: str) -> None:
        """See `Operator.delete_task`."""
        self._loop.run(self._operator.delete_task(task))

    def start_round(
        self, task: str, *, base: Update | None = None, key: str = "", key_expires_in_s: float = KEY_EXPIRES_IN_S
    ) -> int:
        """See `Operator.start_round`."""
        return self._loop.run(self._operator.start_round(task, base=base, key=key, key_expires_in_s=key_expires_in_s))

    def abort_round(self, task: str, round_number: int, reason: str = "") -> RoundSummary:
        """See `Operator.abort_round`."""
        return self._loop.run(self._operator.abort_round(task, round_number, reason))

    def rounds(self, task: str, *, page_size: int = PAGE_SIZE) -> Iterator[RoundSummary]:
        """See `Operator.rounds`."""
        return self._each(self._operator.rounds(task, page_size=page_size))

    def describe_round(self, task: str, round_number: int) -> RoundSummary:
        """See `Operator.describe_round`."""
        return self._loop.run(self._operator.describe_round(task, round_number))

    def watch(self, task: str, round_number: int) -> Iterator[RoundEvent]:
        """See `Operator.watch`."""
        return self._each(self._operator.watch(task, round_number))

    def fetch_result(self, task: str, round_number: int = 0, *, base: Update | None = None) -> RoundResult:
        """See `Operator.fetch_result`."""
        return self._loop.run(self._operator.fetch_result(task, round_number, base=base))

    def delete_result(self, task: str, round_number: int) -> RoundSummary:
        """See `Operator.delete_result`."""
        return self._loop.run(self._operator.delete_result(task, round_number))

    def sites(self, task: str = "", *, page_size: int = PAGE_SIZE) -> Iterator[SiteSummary]:
        """See `Operator.sites`."""
        return self._each(self._operator.sites(task, page_size=page_size))

    def sum_ckks(self, vectors: Iterable[bytes]) -> bytes:
        """See `Operator.sum_ckks`; vectors are asked for in the loop's thread."""
        return self._loop.run(self._operator.sum_ckks(vectors))

    def run_round(
        self, task: str, *, base: Update | None = None, on_event: Callable[[RoundEvent], None] | None = None
    ) -> RoundResult:
        """See `Operator.run_round`; `on_event` is called in the loop's thread."""
        return self._loop.run(self._operator.run_round(task, base=base, on_event=on_event))

    def outcome(
        self, task: str, round_number: int, *, on_event: Callable[[RoundEvent], None] | None = None
    ) -> RoundResult:
        """See `Operator.outcome`; `on_event` is called in the loop's thread."""
        return self._loop.run(self._operator.outcome(task, round_number, on_event=on_event))

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        while (item := self._loop.run(_next(items))) is not None:
            yield item


def _blocking(
    make: Callable[P, AbstractAsyncContextManager[T]], kind: Callable[[Loop, T], B]
) -> Callable[P, AbstractContextManager[B]]:
    """The blocking twin of an async context manager, with the same arguments."""

    @contextmanager
    @wraps(make)
    def enter(*args: P.args, **kwargs: P.kwargs) -> Iterator[B]:
        with Loop() as loop, _entered(loop, make(*args, **kwargs), kind) as entered:
            yield entered

    return enter


@contextmanager
def _entered(loop: Loop, context: AbstractAsyncContextManager[T], kind: Callable[[Loop, T], B]) -> Iterator[B]:
    entered = loop.run(_enter(context))
    try:
        yield kind(loop, entered)
    finally:
        loop.run(_leave(context))


open_site_blocking = _blocking(open_site, BlockingSite)
connect_blocking = _blocking(connect, BlockingSession)
operate_blocking = _blocking(operate, BlockingOperator)


async def _within(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise RoundAborted(f"no round that this site could be in has ended within {seconds:g} s") from None


async def _enter(context: AbstractAsyncContextManager[T]) -> T:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[T]) -> None:
    await context.__aexit__(None, None, None)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
