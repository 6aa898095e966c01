"""Which tensors of a model are summed, by shell-style patterns of their names; the others stay at each site.

chosen = clients.Selection(exclude=("*.running_*", "head.*"))
parameters = clients.Parameters(chosen.tensors(model), ...)                         # the operator
result = await session.contribute(chosen.of(update), weight=569, base=chosen.of(model))    # a site
model = chosen.merged(model, result.mean)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError
from aggregator.protocol.encoding import Update
from aggregator.wire.messages import Tensor


@dataclass(frozen=True, slots=True)
class Selection:
    """The tensors that some pattern of `include` matches, and none of `exclude`; in the model's order.

    Patterns are the shell's, case counts: `*` is any text, `?` any character, `[ab]` one of these, so that a bracket in
    a name is written `[[]`. A pattern that matches nothing is refused: a layer that was renamed would travel, or stay,
    unnoticed.

    Args:
        include: patterns of names; all by default.
        exclude: patterns of names that stay out, whatever includes them.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for patterns in (self.include, self.exclude):
            if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
                raise ParameterError(f"patterns are given as a tuple of texts, not as {patterns!r}")

    def tensors(self, model: Update, clips: Mapping[str, float] | None = None) -> tuple[Tensor, ...]:
        """Names and shapes of the selected tensors, for `Parameters`.

        Args:
            model: arrays by tensor name.
            clips: of single tensors, where they differ from the parameters' clip.

        Raises:
            ParameterError: as `names`; or a clip is for a tensor that is not selected.
        """
        own, selected = clips or {}, self.of(model)
        if strangers := own.keys() - selected.keys():
            raise ParameterError(f"a clip for {min(strangers)!r}: there is no such tensor among those selected")
        return tuple(Tensor(name, np.shape(array), own.get(name, 0.0)) for name, array in selected.items())

    def names(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those that are selected, in their order.

        Raises:
            ParameterError: a pattern matches nothing, or nothing is selected.
        """
        known = tuple(names)
        for pattern in (*self.include, *self.exclude):
            if not any(fnmatchcase(name, pattern) for name in known):
                raise ParameterError(f"the pattern {pattern!r} matches none of {len(known)} tensors: {_some(known)}")
        selected = tuple(name for name in known if self._selects(name))
        if not selected:
            raise ParameterError(f"of {len(known)} tensors none is selected: {_some(known)}")
        return selected

    def of(self, update: Update) -> dict[str, npt.ArrayLike]:
        """The selected part of an update or a model; arrays are not copied. Errors as `names`."""
        return {name: update[name] for name in self.names(update)}

    def merged(self, model: Update, mean: Update) -> dict[str, npt.ArrayLike]:
        """The model with its selected tensors replaced by a round's mean, which is float64; no array is copied.

        Raises:
            ParameterError: as `names`; or the mean is of other tensors, or shapes, than those selected.
        """
        selected = self.of(model)
        if selected.keys() != mean.keys():
            missing, surplus = sorted(selected.keys() - mean.keys()), sorted(mean.keys() - selected.keys())
            raise ParameterError(f"the mean is not of the selected tensors: missing {missing}, surplus {surplus}")
        for name, array in selected.items():
            if np.shape(array) != np.shape(mean[name]):
                raise ParameterError(f"tensor {name!r} is {np.shape(array)}, its mean is {np.shape(mean[name])}")
        return {**model, **mean}

    def _selects(self, name: str) -> bool:
        included = any(fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in self.exclude)


def _some(names: Sequence[str], most: int = 5) -> str:
    """Enough of them to see what they look like."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
