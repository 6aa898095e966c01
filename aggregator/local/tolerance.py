"""How many sites of a local consortium may vanish: below that, every round must close."""

from aggregator.errors import ParameterError
from aggregator.protocol.graph import COMPLETE_UP_TO, ThreatModel, degree

SITES_LEAST = 2


def minimum_cohort(sites: int) -> int:
    """Sites in a sum: more than half, at least three where there are three. Two is a choice for this machine only."""
    return max(min(3, sites), sites // 2 + 1)


def tolerance(sites: int, called: str, sites_most: int = COMPLETE_UP_TO, *, masked: bool = True) -> int:
    """How many sites may vanish in any steps of one round.

    Who vanishes before its advert makes n and so t smaller, never larger: t of the full roster holds for all plans.
    Above 100 it is the threat model's share of dropouts, with which a round fails once in 2**failure_bits.
    Where nothing is masked there is no threshold: a minimum cohort has to stay.

    Args:
        sites: of the roster.
        called: how a sentence to the user names them.
        sites_most: how many the caller can run.
        masked: whether the round is in a masked mode.

    Raises:
        ParameterError: one machine does not run that many.
    """
    if not SITES_LEAST <= sites <= sites_most:
        raise ParameterError(f"{sites} {called}: this runs {SITES_LEAST} to {sites_most:,} {called}")
    if not masked:
        return sites - minimum_cohort(sites)
    threat = ThreatModel()
    fewest = max(degree(sites, sites, threat).t, threat.fewest_survivors(sites))
    return sites - max(fewest, minimum_cohort(sites))


def check_dropouts(
    sites: int, dropouts: int, called: str, sites_most: int = COMPLETE_UP_TO, *, masked: bool = True
) -> None:
    """Refuse a number of dropouts that a round would not survive; arguments as `tolerance`.

    Raises:
        ParameterError: negative, or more than the threshold tolerates.
    """
    most = tolerance(sites, called, sites_most, masked=masked)
    if dropouts < 0:
        raise ParameterError(f"{dropouts} dropouts: at least 0 are needed")
    if dropouts > most:
        why = "could not take the masks off the sum" if masked else "are no cohort"
        raise ParameterError(
            f"{sites} {called} tolerate at most {most} dropouts in a round, {dropouts} were asked for: "
            f"fewer than {sites - most} that stay {why}"
        )
