"""Trainings of the demo over real data that ships inside Python packages: one kind of model a file.

| pipeline | data | sites | model |
|---|---|---|---|
| `mlp` | scikit-survival's flchain: 7,874 people | the years of their samples, 9 | scikit-learn's perceptron |
| `xgboost` | the same | the same | XGBoost's boosted trees |
| `visits` | statsmodels' randhie: 20,190 person-years | dealt out, 10 | scikit-learn's Poisson regression |
| `survival` | lifelines' lung: 227 patients | the real institutions, 18 | Cox regression, stratified by site |

Each is a module with a function `pipeline`; see `contract`. `logistic` is the demo itself.
"""

from importlib import import_module
from typing import Any, Final

from aggregator.demo.pipelines.contract import Pipeline
from aggregator.errors import ParameterError

MODULES: Final = {"mlp": "mlp", "xgboost": "trees", "visits": "visits", "survival": "survival"}


def named(name: str) -> Pipeline[Any]:
    """A pipeline by its name.

    Raises:
        ParameterError: there is none, or what it needs is not installed.
    """
    if name not in MODULES:
        raise ParameterError(f"--pipeline {name}: there are logistic, {', '.join(MODULES)}")
    try:
        found: Pipeline[Any] = import_module(f"{__name__}.{MODULES[name]}").pipeline()
    except ModuleNotFoundError as missing:
        raise ParameterError(f"this pipeline needs {missing.name}: pip install 'sangam[pipelines]'") from None
    return found
