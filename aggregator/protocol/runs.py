"""A number for each tensor, spread over the row of all their entries; neighbours that share it are one run."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.wire.messages import Tensor
from native.runs import multiply


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Entries from ends[k - 1] (0 for the first run) to ends[k] share numbers[k]; int64 and float64, one per run."""

    ends: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], numbers: npt.NDArray[np.float64], entries: int) -> "Runs":
        """One number per tensor; entries beyond the tensors, up to `entries`, count with the last."""
        ends = np.array([*accumulate([prod(tensor.shape) for tensor in tensors])], np.int64)
        ends[-1] = entries
        lasts = np.append(numbers[1:] != numbers[:-1], True)
        return cls(ends[lasts], numbers[lasts])

    def shared(self, start: int, stop: int) -> float | None:
        """The number of all entries from start to stop, None where they have several."""
        k = bisect_right(self.ends, start)
        return float(self.numbers[k]) if stop <= self.ends[k] else None

    def multiply(self, start: int, values: npt.NDArray[Any], out: npt.NDArray[np.float64]) -> None:
        """Write the values, which are the entries from start on, times their numbers into `out`, which may be they."""
        stop = start + values.size
        number = self.shared(start, stop)
        if number is not None:
            np.multiply(values, number, out=out, dtype=np.float64)
            return
        first, last = bisect_right(self.ends, start), bisect_left(self.ends, stop)
        np.copyto(out, values)
        multiply(out, np.minimum(self.ends[first : last + 1], stop) - start, self.numbers[first : last + 1])
