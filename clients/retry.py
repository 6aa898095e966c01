"""How long a broken line is retried, and how fast: exponential with jitter, at most 2 s apart."""

from time import monotonic

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from aggregator.errors import Disconnected, Overloaded, SangamError, StorageError

DEFAULT_PATIENCE_S = 600.0
WAIT_FIRST_S = 0.1
WAIT_MAX_S = 2.0
HEALS = (Disconnected, Overloaded, StorageError)  # the last is the server's disk


class Progress:
    """How far a transfer has come, over all its attempts. What is sent a second time is no progress."""

    def __init__(self) -> None:
        self._chunks = 0
        self.last = monotonic()

    def reached(self, chunks: int) -> None:
        """So many chunks are on their way, or here."""
        if chunks > self._chunks:
            self._chunks = chunks
            self.last = monotonic()


def patiently(
    patience_s: float, progress: Progress | None = None, heals: tuple[type[SangamError], ...] = HEALS
) -> AsyncRetrying:
    """Attempts until one succeeds or `patience_s` have passed without progress; then the last error is raised.

    Only errors that time `heals` are retried.
    """

    def out_of_patience(state: RetryCallState) -> bool:
        since = max(state.start_time, progress.last if progress else 0.0)
        return monotonic() - since >= patience_s

    return AsyncRetrying(
        retry=retry_if_exception_type(heals),
        wait=wait_exponential(WAIT_FIRST_S, WAIT_MAX_S) + wait_random(0, WAIT_FIRST_S),
        stop=out_of_patience,
        reraise=True,
    )
