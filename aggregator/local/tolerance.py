"""How many sites of a local consortium may vanish: below that, every round must close."""

from aggregator.errors import ParameterError
from aggregator.protocol.graph import COMPLETE_UP_TO, ThreatModel, degree

SITES_LEAST = 2


def minimum_cohort(sites: int) -> int:
    """Sites in a sum: more than half, at least three where there are three. Two is a choice for this machine only."""
    return max(min(3, sites), sites // 2 + 1)


def tolerance(sites: int, called: str) -> int:
    """How many sites may vanish in any steps of one round.

    Who vanishes before its advert makes n and so t smaller, never larger: t of the full roster holds for all plans.

    Args:
        sites: of the roster.
        called: how a sentence to the user names them.

    Raises:
        ParameterError: one machine does not run that many.
    """
    if not SITES_LEAST <= sites <= COMPLETE_UP_TO:
        raise ParameterError(f"{sites} {called}: this runs {SITES_LEAST} to {COMPLETE_UP_TO} {called}")
    threshold = degree(sites, sites, ThreatModel()).t
    return sites - max(threshold, minimum_cohort(sites))


def check_dropouts(sites: int, dropouts: int, called: str) -> None:
    """Refuse a number of dropouts that a round would not survive.

    Raises:
        ParameterError: negative, or more than the threshold tolerates.
    """
    most = tolerance(sites, called)
    if dropouts < 0:
        raise ParameterError(f"{dropouts} dropouts: at least 0 are needed")
    if dropouts > most:
        raise ParameterError(
            f"{sites} {called} tolerate at most {most} dropouts in a round, {dropouts} were asked for: "
            f"fewer than {sites - most} that stay could not take the masks off the sum"
        )
