"""What a run is made of, and who of its clients misbehaves in which way."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aggregator.config import MIB
from aggregator.local.workload import Workload
from aggregator.wire.operator_messages import Deadlines

TASK: Final = "crowd"
BASE_BYTES: Final = 64 * MIB  # of the server's memory, for what is loaded and allocated once; docs/operating.md
SITE_BYTES: Final = MIB // 2  # for each site that is connected, whatever it does
WORD_BYTES: Final = 12  # of the sum, in the mode that takes most


class Conduct(StrEnum):
    """How a client behaves; those from SLOW on take part until their input is asked for."""

    HONEST = "honest"
    HALF_OPEN = "half open"  # TCP, and never a handshake
    SILENT = "silent"  # a connection, and no call
    NEVER_ANSWERS = "never answers"  # joins, and that is all
    GARBAGE = "garbage"  # on each method, again and again
    OVERSIZED = "oversized"  # messages of 5 MiB
    FORGES = "forges"  # answers with an advert that it did not sign
    STORM = "storm"  # connects, calls, hangs up
    SLOW = "slow"  # its upload pauses before each chunk
    STOPS = "stops"  # its upload is a header
    HEADERS = "headers"  # a new upload with each call


_MISBEHAVING: Final = tuple(Conduct)[1:]
UPLOADING: Final = frozenset({Conduct.HONEST, Conduct.SLOW, Conduct.STOPS, Conduct.HEADERS})


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    Args:
        workload: clients, entries and mode.
        processes: how many hold the clients.
        step_s: the deadline of each step; the first one, in which nothing takes long, has a quarter of it.
        staging_bytes, spool_bytes: the server's.
        pause_s: between two things that a hostile client does, seconds, and before each chunk of a slow one a hundred
            times that.
        misbehaves_every: of so many clients one misbehaves.
        waits: whether silent clients stay until the step's deadline; else they leave once all others have answered.
    """

    workload: Workload
    processes: int = 2
    step_s: float = 120.0
    staging_bytes: int = 64 * MIB
    spool_bytes: int = 64 * MIB
    pause_s: float = 0.1
    misbehaves_every: int = 10
    waits: bool = True

    @property
    def deadlines(self) -> Deadlines:
        """How long each step waits."""
        longest = self.step_s
        return Deadlines(longest / 4, longest, longest, longest, longest, 2.0 if self.waits else 0.0)

    @property
    def rss_bound_bytes(self) -> int:
        """What the server may take above its idle state: the staging, the sum twice, and each site's part."""
        load = self.workload
        return BASE_BYTES + self.staging_bytes + 2 * WORD_BYTES * load.entries + SITE_BYTES * load.clients

    def conduct(self, client: int) -> Conduct:
        """How a client behaves: those that misbehave do so in all ways in turn."""
        turn, place = divmod(client, self.misbehaves_every)
        return _MISBEHAVING[turn % len(_MISBEHAVING)] if place == self.misbehaves_every - 1 else Conduct.HONEST

    def count(self, *conducts: Conduct) -> int:
        """How many clients behave in one of these ways."""
        return sum(self.conduct(client) in conducts for client in range(self.workload.clients))
