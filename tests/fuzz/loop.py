"""A loop on which nothing happens by itself: threads' work waits until it is told to go on, and so does time.

Which of two things comes first is then a choice of the input, and the same input is the same sequence.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn


class Held(ThreadPoolExecutor):
    """An executor without threads; asyncio takes no other kind than this."""

    def __init__(self) -> None:
        super().__init__(1)
        self.waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Work that waits, as if a thread had begun it: who is cancelled meanwhile does not stop it."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.waiting.append((future, partial(function, *args, **kwargs)))
        return future

    def step(self) -> bool:
        """Do what waits longest; whether anything did."""
        if not self.waiting:
            return False
        future, work = self.waiting.popleft()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - as a thread would hand it on
            future.set_exception(error)
        return True


class _Nobody:
    """A selector without anybody to hear from."""

    def select(self, timeout: float | None) -> list[NoReturn]:
        assert timeout == 0, "everybody waits for each other"
        return []


class Loop(asyncio.BaseEventLoop):
    """A loop without sockets, whose time is `now`; asyncio's own loops take 3 ms to open and close."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.held = Held()
        self._selector = _Nobody()
        self.set_default_executor(self.held)

    def time(self) -> float:
        """Seconds."""
        return self.now

    async def settle(self) -> None:
        """Until everything waits for somebody else."""
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        while True:
            await asyncio.sleep(0)
            if not ready:
                return

    def end(self) -> None:
        """Close it; whoever is still at work, as after a find, is cancelled first."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        self.run_until_complete(asyncio.gather(*left, return_exceptions=True) if left else asyncio.sleep(0))
        self.close()

    def _process_events(self, _: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is no other thread that could wake it."""
