"""What of NVFlare's messages takes part in a sum: a model's float arrays by name, and metrics as scalars."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from nvflare.apis.dxo import DataKind, MetaKey, from_shareable
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from aggregator.errors import ParameterError
from clients.adapters.contract import with_metrics

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

RECEIPT = "sangam.round"
"""The one parameter of a reply that NVFlare's server sees: the number of the round that has the update."""


def read(shareable: Shareable) -> FLModel:
    """A model, or an update of one, in the clear.

    Raises:
        ParameterError: it is something else, or a filter has encrypted or quantised it.
    """
    dxo = from_shareable(shareable)
    if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
        raise ParameterError(f"{dxo.data_kind} cannot be summed, only weights and differences of weights")
    if algorithm := dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM):
        raise ParameterError(f"a filter has made {algorithm} of the weights: remove it, Sangam encodes them itself")
    return FLModelUtils.from_shareable(shareable)


def floats(model: FLModel) -> Arrays:
    """Copies of the parameters of float dtype; counters and other integers stay at each site.

    Raises:
        ParameterError: a parameter is no array.
    """
    arrays = {name: np.array(value) for name, value in model.params.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise ParameterError(f"parameter {name!r} is {array.dtype}, not an array of numbers")
    return {name: array for name, array in arrays.items() if array.dtype.kind == "f"}


def update(result: FLModel, base: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """What a site contributes: how far training moved each array from the base, and the metrics.

    Raises:
        ParameterError: the result lacks an array of the base, or a metric is no number.
    """
    after = floats(result)
    if missing := sorted(set(base) - set(after)):
        raise ParameterError(
            f"the result lacks {', '.join(missing)}: no filter before this one may take parameters out"
        )
    full = result.params_type == ParamsType.FULL
    moved: Arrays = {}
    for name, start in base.items():
        moved[name] = np.asarray(after[name] - np.float64(start) if full else after[name], np.float64)
    return dict(with_metrics(moved, {name: _number(name, value) for name, value in (result.metrics or {}).items()}))


def _number(name: str, value: Any) -> float:
    number = np.asarray(value)
    if number.shape or number.dtype.kind not in "fiu":
        raise ParameterError(f"metric {name!r} is not a number, and cannot be summed: report it elsewhere")
    return float(number)
