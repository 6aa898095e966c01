"""How long patients with advanced lung cancer live, by Cox regression, at their real institutions.

Risk sets never cross sites: the model is Cox's, stratified by institution, with Breslow's ties. The partial likelihood
of all is then the sum of the sites' own, so the mean of their gradient steps is the step of pooled records, and the
training comes to the very coefficients that pooled, stratified regression gives. Patients without institution or
performance score are left out.

Source: lifelines' lung, from Loprinzi et al. 1994 (North Central Cancer Treatment Group).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from lifelines.datasets import load_lung
from lifelines.utils import concordance_index
from statsmodels.duration.hazard_regression import PHReg

from aggregator.demo.pipelines.contract import Averaging, Pipeline
from aggregator.local.draws import Floats
from clients.adapters.arrays import Arrays
from clients.adapters.contract import Array
from clients.training import Trained

Model: TypeAlias = dict[str, Array]

ROUNDS, RATE = 20, 1.0
FACTORS = ("age", "sex", "ph.ecog")
CENTRES, UNITS = np.array([62.0, 1.4, 1.0]), np.array([9.0, 0.5, 0.7])  # public roundings of the published ones


def pipeline() -> Pipeline[Model]:
    """See the module."""
    table = load_lung().dropna(subset=["inst", "ph.ecog"])
    places = np.asarray(table["inst"], np.int64)
    features = (np.asarray(table[list(FACTORS)], np.float64) - CENTRES) / UNITS
    days, died = np.asarray(table["time"], np.float64), np.asarray(table["status"], np.float64)
    groups = [places == place for place in np.unique(places)]

    def trains() -> list[Callable[[Model], Trained[Model]]]:
        return [_training(features[group], days[group], died[group]) for group in groups]

    def pooled() -> Model:
        found = PHReg(days, features, status=died, strata=places, ties="breslow").fit()
        return {"log hazard ratios": np.asarray(found.params)}

    training = Averaging(
        adapter=Arrays(),
        new=lambda: {"log hazard ratios": np.zeros(len(FACTORS))},
        trains=trains,
        rounds=ROUNDS,
        clip=1.0,
        weight_max=int(max(group.sum() for group in groups)),
        metrics={"negative log likelihood": 10.0},
    )
    return Pipeline(
        about="Survival with lung cancer by age, sex and performance score; Cox regression, stratified by site.",
        sites=tuple(f"institution {place}" for place in np.unique(places)),
        rounds=ROUNDS,
        federated=training.federated,
        twin=training.plain,
        pooled=pooled,
        score=lambda model: float(concordance_index(days, -(features @ model["log hazard ratios"]), died)),
        scored="concordance, on all patients",
    )


def _training(features: Floats, days: Floats, died: Floats) -> Callable[[Model], Trained[Model]]:
    at_risk = days[None, :] >= days[:, None]  # row: a death; column: who was still there

    def train(model: Model) -> Trained[Model]:
        risks = np.exp(features @ model["log hazard ratios"])
        totals = at_risk @ risks
        expected = (at_risk * risks) @ features / totals[:, None]
        gradient = died @ (features - expected)
        likelihood = died @ (np.log(risks) - np.log(totals))
        after = model["log hazard ratios"] + RATE * gradient / len(days)
        return Trained({"log hazard ratios": after}, len(days), {"negative log likelihood": -likelihood / len(days)})

    return train
