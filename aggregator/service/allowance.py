"""How much one certificate may say, chunks not counted: a rate, and what may come at once.

What an honest site says in a round of 1,000 clients: an advert (0.2 KB), shares for 132 neighbours (155 bytes each,
20 KB), a signature, 132 revealed shares (5 KB), and four calls: 42 KB as counted here. In as many tasks as its calls
allow for (16, two calls each) that is 0.7 MB when all of them open at once, a twelfth of the burst; rounds of 1,000
take 44 s (README), so 15 KB/s, a seventeenth of the rate. 32 tasks would take twice that.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from aggregator.crypto.certificates import Certificate
from aggregator.errors import Overloaded

RATE: Final = 256 << 10  # bytes a second
BURST_BYTES: Final = 8 << 20
CALL_BYTES: Final = 4 << 10  # what a call counts for: it costs the server as much as such a message
REMEMBERED: Final = 20_000
RETRY_MOST_S: Final = 30.0


class Allowance:
    """What each certificate may still say.

    Args:
        clock: seconds, monotonic.
        rate: bytes a second that come back.
        burst_bytes: the most that one may have saved up.
    """

    def __init__(self, clock: Callable[[], float], rate: float = RATE, burst_bytes: int = BURST_BYTES) -> None:
        self._clock = clock
        self._rate = rate
        self._burst_bytes = burst_bytes
        self._spent: dict[bytes, tuple[float, float]] = {}  # bytes that were spent, and when that was so

    def charge(self, caller: Certificate, size: int) -> None:
        """Take so many bytes. The last message may overdraw, or one that is larger than the burst could never come.

        Raises:
            Overloaded: nothing is left; says when there will be.
        """
        now, who = self._clock(), caller.fingerprint
        spent = self._spent_by(who, now)
        if spent >= self._burst_bytes:
            wait_s = min((spent - self._burst_bytes + CALL_BYTES) / self._rate, RETRY_MOST_S)
            raise Overloaded(
                f"{caller.name} has sent more than {self._burst_bytes} bytes of messages and calls at once; "
                f"{self._rate:g} a second are taken: come back in {wait_s:.1f} s",
                wait_s,
            )
        if len(self._spent) >= REMEMBERED:
            self._forget(now)
        self._spent[who] = spent + size, now

    def _spent_by(self, who: bytes, now: float) -> float:
        spent, since = self._spent.get(who, (0.0, -inf))
        return max(0.0, spent - (now - since) * self._rate)

    def _forget(self, now: float) -> None:
        """Drop who has everything again: within 32 s of silence that is everybody."""
        self._spent = {who: entry for who, entry in self._spent.items() if self._spent_by(who, now)}
