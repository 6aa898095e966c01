"""Free light chains: 7,874 people of Olmsted County, what was measured in their blood, and who died within five years.

The people of one year's samples are one site, so sites differ in size by a hundredfold, and in who they see. Who left
the study alive within the five years is left out; of the others a share is held out.

Source: scikit-survival's copy of R's flchain, Dispenzieri et al. 2012.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from sksurv.datasets import load_flchain

from aggregator.local.draws import Floats, Indices, shuffled

FIVE_YEARS: Final = 5 * 365.25
HELD_OUT: Final = 0.3
FEATURES: Final = ("age", "female", "kappa", "lambda", "creatinine")


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Values, shape (n, 5), in FEATURES' order, NaN where a creatinine was not measured; labels, 1.0 for a death."""

    values: Floats = field(repr=False)
    labels: Floats = field(repr=False)
    sites: tuple[str, ...]
    groups: tuple[Indices, ...] = field(repr=False)
    held_out: Indices = field(repr=False)

    @property
    def rest(self) -> Indices:
        """All that sites hold."""
        return np.concatenate(self.groups)

    @property
    def largest(self) -> int:
        """People of the largest site."""
        return max(map(len, self.groups))


def people() -> People:
    """Who there is; the same each time."""
    table, ends = load_flchain()
    died, days = np.array([end[0] for end in ends]), np.array([end[1] for end in ends])
    known = (died & (days <= FIVE_YEARS)) | (days > FIVE_YEARS)
    columns = table["age"], table["sex"] == "F", table["kappa"], table["lambda"], table["creatinine"]
    values = np.column_stack([np.asarray(column, np.float64) for column in columns])[known]
    years = np.asarray(table["sample.yr"].astype(int))[known]
    held_out, rest = np.split(order := shuffled(1, "held out", len(values)), [round(HELD_OUT * len(order))])
    return People(
        values=values,
        labels=(died & (days <= FIVE_YEARS)).astype(np.float64)[known],
        sites=tuple(f"samples of {year}" for year in np.unique(years)),
        groups=tuple(rest[years[rest] == year] for year in np.unique(years)),
        held_out=held_out,
    )
