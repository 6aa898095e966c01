"""The same sessions for code without asyncio: each call runs on an event loop in a thread of its own.

with clients.connect_blocking("aggregator:7443", "site/") as session:
    result = session.contribute({"w": w}, weight=569, base=model)
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from aggregator.wire.operator_messages import Deadlines, RoundEvent
from clients.connection import connect
from clients.contribution import Observer
from clients.operator import Operator, operate
from clients.result import RoundResult
from clients.session import Session

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
    ) -> RoundResult | None:
        """See `Session.contribute`."""
        return self._loop.run(
            self._session.contribute(update, weight=weight, base=base, again=again, observer=observer)
        )

    def fetch_result(self, round_number: int = 0) -> RoundResult:
        """See `Session.fetch_result`."""
        return self._loop.run(self._session.fetch_result(round_number))


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
        result_to_operator_only: bool = False,
    ) -> bool:
        """See `Operator.create_task`."""
        only = result_to_operator_only
        work = self._operator.create_task(name, parameters, deadlines=deadlines, result_to_operator_only=only)
        return self._loop.run(work)

    def start_round(self, task: str, *, base: Update | None = None) -> int:
        """See `Operator.start_round`."""
        return self._loop.run(self._operator.start_round(task, base=base))

    def watch(self, task: str, round_number: int) -> Iterator[RoundEvent]:
        """See `Operator.watch`."""
        events = self._operator.watch(task, round_number)
        while (event := self._loop.run(_next(events))) is not None:
            yield event

    def fetch_result(self, task: str, round_number: int = 0) -> RoundResult:
        """See `Operator.fetch_result`."""
        return self._loop.run(self._operator.fetch_result(task, round_number))

    def run_round(
        self, task: str, *, base: Update | None = None, on_event: Callable[[RoundEvent], None] | None = None
    ) -> RoundResult:
        """See `Operator.run_round`; `on_event` is called in the loop's thread."""
        return self._loop.run(self._operator.run_round(task, base=base, on_event=on_event))


def _blocking(
    make: Callable[P, AbstractAsyncContextManager[T]], kind: Callable[[Loop, T], B]
) -> Callable[P, AbstractContextManager[B]]:
    """The blocking twin of an async context manager, with the same arguments."""

    @contextmanager
    @wraps(make)
    def enter(*args: P.args, **kwargs: P.kwargs) -> Iterator[B]:
        with Loop() as loop:
            context = make(*args, **kwargs)
            entered = loop.run(_enter(context))
            try:
                yield kind(loop, entered)
            finally:
                loop.run(_leave(context))

    return enter


connect_blocking = _blocking(connect, BlockingSession)
operate_blocking = _blocking(operate, BlockingOperator)


async def _enter(context: AbstractAsyncContextManager[T]) -> T:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[T]) -> None:
    await context.__aexit__(None, None, None)


async def _next(events: AsyncIterator[RoundEvent]) -> RoundEvent | None:
    return await anext(events, None)
