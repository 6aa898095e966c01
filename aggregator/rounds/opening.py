"""When a round opens, and to whom: it waits until enough participants have come, and may draw its cohort from them.

The draw is the server's, so it protects nothing: a lying server picks whom it likes. What a site insists on is its own
minimum cohort (`Safeguards.minimum_cohort`), which holds for a drawn cohort as for any other.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from aggregator.crypto.agreement import Entropy
from aggregator.crypto.roster import Roster
from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol.graph import degree
from aggregator.protocol.parameters import Parameters
from aggregator.rounds.lines import Lines
from aggregator.wire.operator_messages import Opening

T = TypeVar("T")

DRAW_BYTES = 8


@dataclass(frozen=True, slots=True)
class Gathering:
    """What a round waits for before it opens.

    Attributes:
        enough: so many connected participants open the round, at least as many as it draws and as a sum needs; 0 where
            it opens at once.
        gather_s: or whoever is there after so many seconds.
        least: the round's minimum cohort.
        sample: so many are invited; 0 for the whole roster.
        parties: key holder and auditor, by name, without whom a homomorphic round cannot open.
    """

    enough: int
    gather_s: float
    least: int
    sample: int
    parties: frozenset[str] = frozenset()

    @classmethod
    def of(cls, opening: Opening, parameters: Parameters) -> "Gathering":
        """What a task's rounds wait for."""
        least = parameters.minimum_cohort
        enough = max(opening.enough, opening.sample, least) if opening.enough or opening.sample else 0
        parties = parameters.parties.names.values() if parameters.parties else ()
        return cls(enough, opening.gather_s, least, opening.sample, frozenset(parties))

    def waits(self, lines: Lines) -> bool:
        """Whether there is anything to wait for."""
        return bool(self.enough or self.parties - lines.connected)

    async def wait(
        self, lines: Lines, roster: Callable[[], Roster], clock: Callable[[], float], waited_s: float = 0.0
    ) -> frozenset[str]:
        """Wait until enough have come, or until the time is over; the names of those who are there.

        Args:
            lines: who is connected.
            roster: gives the present one.
            clock: seconds, monotonic.
            waited_s: how long the round has waited before, under a server that was started again.

        Raises:
            RoundAborted: the time is over, and fewer are there than a sum needs, or key holder or auditor are not.
        """
        deadline = clock() + self.gather_s - waited_s
        while True:
            lines.changed.clear()
            here = present(lines, roster())
            left = deadline - clock()
            missing = self.parties - lines.connected
            if (len(here) >= self.enough and not missing) or left <= 0:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await lines.changed.wait()
        if missing:
            raise RoundAborted(f"gathering: {' and '.join(sorted(missing))} did not come")
        if self.enough and len(here) < self.least:
            raise RoundAborted(f"gathering: {len(here)} sites came, need {self.least}")
        return here

    def invited(self, here: frozenset[str], entropy: Entropy) -> frozenset[str] | None:
        """Whom the round invites of those who are there; None for the whole roster."""
        if not self.sample:
            return None
        return frozenset(draw(sorted(here), min(self.sample, len(here)), entropy))


def present(lines: Lines, roster: Roster) -> frozenset[str]:
    """Who is connected, and in the present roster."""
    return lines.connected.intersection(certificate.name for certificate in roster.certificates)


def draw(items: Sequence[T], size: int, entropy: Entropy) -> tuple[T, ...]:
    """`size` of the items, each subset as likely as any other: the first steps of a Fisher-Yates shuffle."""
    pool = list(items)
    for at in range(size):
        other = at + below(len(pool) - at, entropy)
        pool[at], pool[other] = pool[other], pool[at]
    return tuple(pool[:size])


def below(bound: int, entropy: Entropy) -> int:
    """A uniform integer of 0 .. bound - 1; draws in the last, incomplete run of `bound` values are thrown away."""
    values = 1 << (8 * DRAW_BYTES)
    while (value := int.from_bytes(entropy(DRAW_BYTES), "big")) >= values - values % bound:
        pass
    return value % bound


def check_fits(parameters: Parameters, opening: Opening, roster_size: int) -> None:
    """Refuse a task whose rounds could never open.

    Raises:
        ParameterError: it needs or awaits more participants than there are, or draws too many, or too few: among fewer
            than a third of the roster (above 100, about 1.3 times the corrupt) those drawn could all be corrupt.
    """
    least, most = parameters.minimum_cohort, parameters.clients_max
    if least > roster_size:
        raise ParameterError(f"minimum_cohort is {least}, the roster has {roster_size} participants")
    if opening.sample and not least <= opening.sample <= most:
        raise ParameterError(f"sample is {opening.sample}, minimum_cohort is {least} and clients_max is {most}")
    if max(opening.enough, opening.sample) > roster_size:
        awaited = f"enough is {opening.enough}, sample is {opening.sample}"
        raise ParameterError(f"{awaited}: the roster has {roster_size} participants")
    if opening.sample:
        try:
            degree(opening.sample, roster_size, parameters.threat)
        except RoundAborted:
            few = f"sample is {opening.sample}: of a roster of {roster_size} that is too few for any threshold"
            raise ParameterError(few) from None
