"""How long a broken line is retried, and how fast: exponential with jitter, at most 2 s apart."""

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from aggregator.errors import Disconnected, Overloaded, StorageError

DEFAULT_PATIENCE_S = 600.0
WAIT_FIRST_S = 0.1
WAIT_MAX_S = 2.0


def patiently(patience_s: float) -> AsyncRetrying:
    """Attempts until one succeeds or `patience_s` have passed; then the last error is raised.

    Only what time may heal is retried: Disconnected, Overloaded, StorageError (the server's disk).
    """
    return AsyncRetrying(
        retry=retry_if_exception_type((Disconnected, Overloaded, StorageError)),
        wait=wait_exponential(WAIT_FIRST_S, WAIT_MAX_S) + wait_random(0, WAIT_FIRST_S),
        stop=stop_after_delay(patience_s),
        reraise=True,
    )
