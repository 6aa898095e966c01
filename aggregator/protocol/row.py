"""An update's tensors as one row of entries, read piece by piece and never copied as a whole."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError
from aggregator.wire.messages import Tensor
from native.quantize import Values

AS_THEY_ARE = (np.dtype(np.float32), np.dtype(np.float64))  # what kernels read; other types become float64


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Entry `starts[k] + i` of the row is entry i of tensor k in C order; `starts` ends with the number of entries.

    Arrays of one dimension are what the row is read from; others are not contiguous and are read through an iterator.
    """

    tensors: tuple[Tensor, ...]
    arrays: tuple[npt.NDArray[Any], ...] = field(repr=False)
    starts: tuple[int, ...]

    @classmethod
    def of(cls, update: Mapping[str, npt.ArrayLike], tensors: tuple[Tensor, ...]) -> "Row":
        """Lay out an update.

        Raises:
            ParameterError: a name, a shape or a kind of number does not fit.
        """
        wanted = {tensor.name for tensor in tensors}
        if not all(isinstance(name, str) for name in update):
            raise ParameterError("the update's names are not all text")
        if set(update) != wanted:
            missing, surplus = sorted(wanted - set(update)), sorted(set(update) - wanted)
            raise ParameterError(f"the update's tensors do not fit the task: missing {missing}, surplus {surplus}")
        arrays = tuple([_real(tensor.name, tensor.shape, update[tensor.name]) for tensor in tensors])
        return cls(tensors, arrays, tuple(accumulate([array.size for array in arrays], initial=0)))

    def read(self, start: int, stop: int, room: npt.NDArray[np.float64]) -> Values:
        """Entries start to stop, zeros beyond the last one.

        They are a view of the one tensor that holds them all, if kernels read its type, or else are gathered in `room`,
        which has at least as many entries.
        """
        k = bisect_right(self.starts, start) - 1
        array, first = self.arrays[k], self.starts[k]
        if stop <= self.starts[k + 1] and _as_kernels_read(array):
            return array[start - first : stop - first]
        gathered = room[: stop - start]
        gathered[max(self.starts[-1] - start, 0) :] = 0.0
        while k < len(self.arrays) and self.starts[k] < stop:
            low, high = max(start, self.starts[k]), min(stop, self.starts[k + 1])
            gathered[low - start : high - start] = _cut(self.arrays[k], low - self.starts[k], high - self.starts[k])
            k += 1
        return gathered

    def locate(self, index: int) -> tuple[str, tuple[int, ...]]:
        """Which tensor's which entry that is."""
        k = bisect_right(self.starts, index) - 1
        place = np.unravel_index(index - self.starts[k], self.tensors[k].shape)
        return self.tensors[k].name, tuple(int(i) for i in place)


def _real(name: str, shape: tuple[int, ...], values: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ParameterError(f"tensor {name!r} is not a regular array of numbers") from None
    if array.dtype.kind not in "fiub":
        raise ParameterError(f"tensor {name!r} holds {array.dtype}, expected real numbers")
    if array.shape != shape:
        raise ParameterError(f"tensor {name!r} has shape {array.shape}, the task expects {shape}")
    return array.reshape(-1) if array.flags.c_contiguous else array


def _as_kernels_read(array: npt.NDArray[Any]) -> bool:
    flags = array.flags
    return array.ndim == 1 and array.dtype in AS_THEY_ARE and flags.c_contiguous and flags.aligned


def _cut(array: npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
    """Entries in C order; an iterator of its own for each call, since threads may read one array at once."""
    return array[start:stop] if array.ndim == 1 else array.flat[start:stop]
