"""How often somebody sees a doctor in a year, by Poisson regression: the RAND Health Insurance Experiment.

Ten sites get person-years as they were dealt; each round a site takes a few steps of its own optimiser. The score is
D^2, the share of the deviance that the model explains, on person-years that no site trained on.

Source: statsmodels' randhie, from Cameron and Trivedi 2005.
"""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance
from statsmodels.datasets import randhie

from aggregator.demo.pipelines.contract import Averaging, Pipeline
from aggregator.local.draws import Floats, shuffled
from clients.adapters.sklearn import Linear
from clients.training import Trained

SITES, ROUNDS, STEPS = 10, 12, 4
HELD_OUT = 0.3
CENTRES = np.array([1.8, 0.25, 4.7, 4.0, 0.12, 11.0, 0.35, 0.08, 0.015])
UNITS = np.array([2.0, 0.5, 2.5, 3.5, 0.3, 7.0, 0.5, 0.3, 0.12])  # public roundings of the published means and spreads


def pipeline() -> Pipeline[PoissonRegressor]:
    """See the module."""
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # a few steps a round are what is meant
    table = randhie.load_pandas().data
    visits = np.asarray(table["mdvis"], np.float64)
    features = (np.asarray(table.drop(columns="mdvis"), np.float64) - CENTRES) / UNITS
    order = shuffled(1, "held out", len(visits))
    held_out, rest = np.split(order, [round(HELD_OUT * len(visits))])
    groups = np.array_split(rest, SITES)

    def trains() -> list[Callable[[PoissonRegressor], Trained[PoissonRegressor]]]:
        return [_training(features[group], visits[group]) for group in groups]

    training = Averaging(
        adapter=Linear(),
        new=_new,
        trains=trains,
        rounds=ROUNDS,
        clip=4.0,
        weight_max=max(map(len, groups)),
        metrics={"deviance": 100.0},
    )
    return Pipeline(
        about="Doctor visits in a year by insurance and health; a Poisson regression of scikit-learn.",
        sites=tuple(f"site {number + 1}" for number in range(SITES)),
        rounds=ROUNDS,
        federated=training.federated,
        twin=training.plain,
        pooled=lambda: PoissonRegressor(alpha=0.0, max_iter=1_000).fit(features[rest], visits[rest]),
        score=lambda model: float(model.score(features[held_out], visits[held_out])),
        scored="share of the deviance explained, on person-years that no site trained on",
    )


def _new() -> PoissonRegressor:
    model = PoissonRegressor(alpha=0.0, max_iter=STEPS, warm_start=True)
    model.fit(np.zeros((2, len(UNITS))), np.ones(2))
    model.coef_, model.intercept_ = np.zeros(len(UNITS)), np.zeros(())
    return model


def _training(features: Floats, visits: Floats) -> Callable[[PoissonRegressor], Trained[PoissonRegressor]]:
    def train(model: PoissonRegressor) -> Trained[PoissonRegressor]:
        deviance = mean_poisson_deviance(visits, model.predict(features))
        return Trained(model.fit(features, visits), len(visits), {"deviance": deviance})

    return train
