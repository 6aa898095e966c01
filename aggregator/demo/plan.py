"""Who vanishes when, and how: fixed before the first round, from the seed.

In a round each vanishing hospital leaves at another of the five steps, right before its answer of that step would have
gone out whole; in the masked-input step after the header of its upload, before the last chunk. Every second one lets
its connections go (and keeps its memory), the others kill their own process. All are back for the next round.

In one round, a third into the run, the hub itself is killed when it has just begun to take uploads. A hub that comes
back waits for those whose lines it has broken, so hospitals leave that round before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aggregator.errors import ParameterError
from aggregator.local import tolerance
from aggregator.local.draws import departures
from aggregator.protocol.parameters import Mode
from aggregator.wire.vocabulary import MASKED_STEPS, Step

HOSPITALS_STEPS: Final = (Step.COMMIT_INPUT, Step.UPLOAD)
"""Those of homomorphic mode; the others are key holder's and auditor's."""


UPLOADING: Final = (Step.MASKED_INPUT, Step.UPLOAD)


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


def draw(sites: int, rounds: int, dropouts: int, seed: int, mode: Mode = Mode.AUTO) -> tuple[Absence, ...]:
    """Plan all absences: `dropouts` in every round, each at another step; beyond as many, steps repeat evenly.

    Raises:
        ParameterError: no round, or more dropouts than the threshold tolerates.
    """
    if rounds < 1:
        raise ParameterError(f"{rounds} rounds: at least 1 is needed")
    masked = mode is not Mode.HOMOMORPHIC
    tolerance.check_dropouts(sites, dropouts, "hospitals", masked=masked)
    steps = MASKED_STEPS if masked else HOSPITALS_STEPS
    before = [step for step in steps if steps.index(step) < min(map(steps.index, set(UPLOADING) & set(steps)))]
    hub = hub_round(rounds)
    return tuple(
        absence
        for number in range(1, rounds + 1)
        for absence in _absences(sites, number, dropouts, seed, before if number == hub else steps)
    )


def hub_round(rounds: int) -> int:
    """The round in which the hub is killed."""
    return (rounds + 2) // 3


def of_round(absences: tuple[Absence, ...], number: int) -> dict[int, Absence]:
    """The absences of one round by site."""
    return {absence.site: absence for absence in absences if absence.round == number}


def _absences(sites: int, number: int, dropouts: int, seed: int, steps: Sequence[Step]) -> list[Absence]:
    exits = list(Exit)
    before = seed + (number - 1) * dropouts
    return [
        Absence(number, site, step, exits[(before + i) % len(exits)])
        for i, (site, step) in enumerate(departures(seed, number, sites, dropouts, steps))
    ]
