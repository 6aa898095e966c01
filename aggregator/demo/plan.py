"""Who vanishes when, and how: fixed before the first round, from the seed.

In a round each vanishing hospital leaves at another of the five steps, right before its answer of that step would have
gone out whole; in the masked-input step after the header of its upload, before the last chunk. Every second one lets
its connections go (and keeps its memory), the others kill their own process. All are back for the next round.
"""

from dataclasses import dataclass
from enum import StrEnum

from aggregator.demo.draws import shuffled
from aggregator.errors import ParameterError
from aggregator.protocol.graph import COMPLETE_UP_TO, ThreatModel, degree
from aggregator.wire.vocabulary import Step

SITES_LEAST = 2


class Exit(StrEnum):
    """How a hospital vanishes."""

    STREAM = "stream cut"
    PROCESS = "process killed"


@dataclass(frozen=True, slots=True)
class Absence:
    """One hospital vanishes in one round; `site` counts from 0, `round` from 1."""

    round: int
    site: int
    step: Step
    exit: Exit


def minimum_cohort(sites: int) -> int:
    """Hospitals in a sum: more than half, at least three where there are three. Two is this demo's own choice."""
    return max(min(3, sites), sites // 2 + 1)


def tolerance(sites: int) -> int:
    """How many hospitals may vanish in any steps of one round.

    Who vanishes before its advert makes n and so t smaller, never larger: t of the full roster holds for all plans.

    Raises:
        ParameterError: the demo does not run that many hospitals.
    """
    if not SITES_LEAST <= sites <= COMPLETE_UP_TO:
        raise ParameterError(f"the demo runs {SITES_LEAST} to {COMPLETE_UP_TO} hospitals, not {sites}")
    threshold = degree(sites, sites, ThreatModel()).t
    return sites - max(threshold, minimum_cohort(sites))


def draw(sites: int, rounds: int, dropouts: int, seed: int) -> tuple[Absence, ...]:
    """Plan all absences: `dropouts` in every round, each at another step; beyond five, steps repeat evenly.

    Raises:
        ParameterError: no round, or more dropouts than the threshold tolerates.
    """
    most = tolerance(sites)
    if rounds < 1 or dropouts < 0:
        raise ParameterError(f"{rounds} rounds with {dropouts} dropouts: at least 1 round and 0 dropouts are needed")
    if dropouts > most:
        raise ParameterError(
            f"{sites} hospitals tolerate at most {most} dropouts in a round, {dropouts} were asked for: "
            f"fewer than {sites - most} that stay could not take the masks off the sum"
        )
    return tuple(absence for number in range(1, rounds + 1) for absence in _absences(sites, number, dropouts, seed))


def of_round(absences: tuple[Absence, ...], number: int) -> dict[int, Absence]:
    """The absences of one round by site."""
    return {absence.site: absence for absence in absences if absence.round == number}


def _absences(sites: int, number: int, dropouts: int, seed: int) -> list[Absence]:
    steps, exits = list(Step), list(Exit)
    who = shuffled(seed, f"sites of round {number}", sites)
    where = shuffled(seed, f"steps of round {number}", len(steps))
    before = seed + (number - 1) * dropouts
    return [
        Absence(number, int(site), steps[where[i % len(steps)]], exits[(before + i) % len(exits)])
        for i, site in enumerate(who[:dropouts])
    ]
