"""Seeded draws, for the split of data and the plan of dropouts: equal on every machine, never for secrets."""

from collections.abc import Sequence
from hashlib import shake_256
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.wire.vocabulary import MASKED_STEPS, Step

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]


def uniforms(seed: int, purpose: str, count: int) -> Floats:
    """`count` numbers in [0, 1) from SHAKE-256 of seed and purpose, 53 bits each."""
    stream = shake_256(f"sangam demo/{purpose}/{seed}".encode()).digest(8 * count)
    draws = np.frombuffer(stream, "<u8") >> np.uint64(11)
    return draws.astype(np.float64) * 2.0**-53


def shuffled(seed: int, purpose: str, count: int) -> Indices:
    """The numbers 0 to count - 1 in a drawn order."""
    return np.argsort(uniforms(seed, purpose, count), kind="stable")


def departures(
    seed: int, number: int, sites: int, count: int, steps: Sequence[Step] = MASKED_STEPS
) -> tuple[tuple[int, Step], ...]:
    """Which sites vanish in round `number`, and at which step each: another one; beyond five, steps repeat evenly."""
    who = shuffled(seed, f"sites of round {number}", sites)
    where = shuffled(seed, f"steps of round {number}", len(steps))
    return tuple((int(site), steps[where[i % len(steps)]]) for i, site in enumerate(who[:count]))
