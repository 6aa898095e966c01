"""A number for each tensor, spread over the row of all their entries; neighbours that share it are one run."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from aggregator.wire.messages import Tensor
from native.runs import Numbers, multiply


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Entries from ends[k - 1] (0 for the first run) to ends[k] share numbers[k]; one of each per run."""

    ends: tuple[int, ...]
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, tensors: Iterable[Tensor], numbers: Iterable[float], entries: int) -> "Runs":
        """One number per tensor; entries beyond the tensors, up to `entries`, count with the last."""
        ends: list[int] = []
        kept: list[float] = []
        end = 0
        for tensor, number in zip(tensors, numbers, strict=True):
            end += prod(tensor.shape)
            if kept and kept[-1] == number:
                ends[-1] = end
            else:
                ends.append(end)
                kept.append(number)
        ends[-1] = entries
        return cls(tuple(ends), tuple(kept))

    def shared(self, start: int, stop: int) -> float | None:
        """The number of all entries from start to stop, None where they have several."""
        k = bisect_right(self.ends, start)
        return self.numbers[k] if stop <= self.ends[k] else None

    def multiply(self, start: int, values: Numbers, out: npt.NDArray[np.float64]) -> None:
        """Write the values, which are the entries from `start` on, times their numbers into `out`; it may be they."""
        stop = start + values.size
        cut = slice(bisect_right(self.ends, start), bisect_left(self.ends, stop) + 1)
        ends = np.minimum(np.array(self.ends[cut], np.int64), stop) - start
        multiply(values, ends, np.array(self.numbers[cut], np.float64), out)
