"""How long a broken line is retried, and how fast: exponential with jitter, at most 2 s apart, or as a server says."""

from time import monotonic

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from aggregator.errors import Disconnected, Overloaded, SangamError, StorageError

DEFAULT_PATIENCE_S = 600.0
WAIT_FIRST_S = 0.1
WAIT_MAX_S = 2.0
JITTER = 0.25  # of what the server says: clients that were refused together do not come back together
HEALS = (Disconnected, Overloaded, StorageError)  # the last is the server's disk

_BACK_OFF = wait_exponential(WAIT_FIRST_S, WAIT_MAX_S) + wait_random(0, WAIT_FIRST_S)


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

    def placed(self) -> None:
        """The server keeps this transfer's place and has said when it comes to it: patience begins anew."""
        self.last = monotonic()


def patiently(
    patience_s: float, progress: Progress | None = None, heals: tuple[type[SangamError], ...] = HEALS
) -> AsyncRetrying:
    """Attempts until one succeeds or `patience_s` have passed without progress; then the last error is raised.

    Only errors that time `heals` are retried. A server that says when to come back (`Overloaded.retry_after_s`) is
    asked again then, up to a quarter later; to a transfer, that counts as progress: the server ends it with its step.
    """

    def wait(state: RetryCallState) -> float:
        told = _told_s(state)
        return _BACK_OFF(state) if told is None else told + wait_random(0, told * JITTER)(state)

    def out_of_patience(state: RetryCallState) -> bool:
        if progress is not None and _told_s(state) is not None:
            progress.placed()
        since = max(state.start_time, progress.last if progress else 0.0)
        return monotonic() - since >= patience_s

    return AsyncRetrying(retry=retry_if_exception_type(heals), wait=wait, stop=out_of_patience, reraise=True)


def _told_s(state: RetryCallState) -> float | None:
    """When the server said to come back, if it did."""
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after_s if isinstance(error, Overloaded) else None
