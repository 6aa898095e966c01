"""What goes wrong, drawn from one seed: the times between, what it is, and whom it meets."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import inf
from random import Random
from time import monotonic
from typing import Any, Final

from tests.cable import Cable
from tests.chaos.disk import Disk
from tests.chaos.keeper import Kept
from tests.chaos.recovery import Recovery
from tests.chaos.tally import Tally

AGAIN: Final = 0.25  # the share of the server's kills that are followed by another while it starts, or just after
AGAIN_WITHIN_S: Final = 1.0
ANYHOW: Final = 0.1
AWAY_S: Final = 5.0  # at most, of a server that is not started again at once
SLOW_S: Final = 3.0
HOLD_S: Final = 0.05  # of each piece that arrives, at most
FULL_S: Final = 3.0
LATELY_S: Final = 2.0
CUT_WITHIN_BYTES: Final = 200_000


class Faults:
    """Makes things go wrong.

    Args:
        draws: all that is drawn.
        between_s: the mean time between two faults, seconds.
        server: its process.
        sites: theirs.
        parties: key holder's and auditor's.
        cables: by name of who comes over it.
        disk: the server's.
        tally: where to count.
        recovery: told of the server's kills.
        bears: whether the running rounds can bear the loss of this site.
    """

    def __init__(
        self,
        draws: Random,
        between_s: float,
        server: Kept,
        sites: Sequence[Kept],
        parties: Sequence[Kept],
        cables: Mapping[str, Cable],
        disk: Disk,
        tally: Tally,
        recovery: Recovery,
        bears: Callable[[str], bool],
    ) -> None:
        self._full_until = -inf
        self._draws = draws
        self._between_s = between_s
        self._server = server
        self._sites = sites
        self._parties = parties
        self._cables = cables
        self._disk = disk
        self._tally = tally
        self._recovery = recovery
        self._bears = bears
        self._lasting: set[asyncio.Task[None]] = set()

    @property
    def full_lately(self) -> bool:
        """Whether the disk is full, or was a moment ago."""
        return monotonic() < self._full_until + LATELY_S

    async def run(self, enough: Callable[[], bool]) -> None:
        """One fault after the other until it is enough; then all that lasts is mended."""
        kinds: Mapping[Callable[[], None], int] = {
            self._kill_server: 36,
            self._kill_server_for_long: 4,
            self._stop_server: 4,
            self._kill_site: 28,
            self._kill_party: 6,
            self._cut: 12,
            self._slow: 6,
            self._fill: 6,
        }
        try:
            while not enough():
                await asyncio.sleep(self._draws.expovariate(1 / self._between_s))
                self._draws.choices(list(kinds), list(kinds.values()))[0]()
        finally:
            for one in self._lasting:
                one.cancel()
            await asyncio.gather(*self._lasting, return_exceptions=True)

    def _kill_server(self) -> None:
        if self._server.signal(signal.SIGKILL):
            self._recovery.killed()
        if self._draws.random() < AGAIN:
            self._lasts(self._kill_server_again(self._draws.uniform(0, AGAIN_WITHIN_S)))

    def _kill_server_for_long(self) -> None:
        self._tally.faults["server away for seconds"] += 1
        self._server.away_s = self._draws.uniform(0, AWAY_S)
        self._kill_server()

    async def _kill_server_again(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if self._server.signal(signal.SIGKILL):
            self._tally.faults["server killed again at once"] += 1
            self._recovery.killed()

    def _stop_server(self) -> None:
        if self._server.signal(signal.SIGTERM):
            self._tally.faults["server stopped"] += 1

    def _kill_site(self) -> None:
        """One site; seldom one more than the rounds can bear, since that they fail then is no news."""
        site, anyhow = self._draws.choice(self._sites), self._draws.random() < ANYHOW
        if anyhow or self._bears(site.name):
            site.signal(signal.SIGKILL)

    def _kill_party(self) -> None:
        self._draws.choice(self._parties).signal(signal.SIGKILL)

    def _cut(self) -> None:
        """A line breaks: at once, or in the middle of a message to come."""
        cable = self._draws.choice(list(self._cables.values()))
        self._tally.faults["line cut"] += 1
        within = self._draws.randrange(CUT_WITHIN_BYTES)
        match self._draws.randrange(3):
            case 0:
                cable.cut()
            case 1:
                cable.upward_cuts = deque([cable.upward_bytes + within])
            case _:
                cable.downward_cuts = deque([cable.downward_bytes + within])

    def _slow(self) -> None:
        self._tally.faults["line slow"] += 1
        self._lasts(self._hold(self._draws.choice(list(self._cables.values())), self._draws.uniform(0, SLOW_S)))

    async def _hold(self, cable: Cable, for_s: float) -> None:
        draws = Random(for_s)  # of its own: how many pieces come depends on the machine
        cable.hold_s = lambda: draws.uniform(0, HOLD_S)
        try:
            await asyncio.sleep(for_s)
        finally:
            cable.hold_s = lambda: 0.0

    def _fill(self) -> None:
        for_s = self._draws.uniform(0, FULL_S)
        if not self.full_lately and self._server.pid:
            self._tally.faults["disk full"] += 1
            self._lasts(self._full(for_s))

    async def _full(self, for_s: float) -> None:
        self._full_until = inf
        try:
            self._disk.fill(self._server.pid)
            await asyncio.sleep(for_s)
        finally:
            self._full_until = monotonic()
            self._disk.free(self._server.pid)

    def _lasts(self, fault: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(fault)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)
