"""Cox regression at the eighteen real institutions of a lung cancer trial, beside plain averaging and pooled records.

python clients/examples/survival.py        (needs lifelines and statsmodels)
"""

import asyncio

import numpy as np
from lifelines.datasets import load_lung
from lifelines.utils import concordance_index
from statsmodels.duration.hazard_regression import PHReg

from aggregator.local.trial import plain, try_out
from clients.adapters.arrays import Arrays
from clients.training import Trained

ROUNDS = 20

table = load_lung().dropna(subset=["inst", "ph.ecog"])
places, days, died = (np.asarray(table[name], float) for name in ("inst", "time", "status"))
x = (np.asarray(table[["age", "sex", "ph.ecog"]], float) - [62, 1.4, 1]) / [9, 0.5, 0.7]  # public constants


def new():
    """The first model: no factor matters."""
    return {"log hazard ratios": np.zeros(3)}


def at(place):
    """One step up an institution's own partial likelihood; risk sets never cross institutions."""
    here = places == place
    mine, ends, deaths = x[here], days[here], died[here]
    at_risk = ends[None, :] >= ends[:, None]

    def train(model):
        risks = np.exp(mine @ model["log hazard ratios"])
        expected = (at_risk * risks) @ mine / (at_risk @ risks)[:, None]
        step = deaths @ (mine - expected) / len(ends)
        return Trained({"log hazard ratios": model["log hazard ratios"] + step}, len(ends))

    return train


trains = [at(place) for place in np.unique(places)]
largest = int(np.unique(places, return_counts=True)[1].max())
models = asyncio.run(try_out(Arrays(), new, trains, rounds=ROUNDS, clip=1.0, weight_max=largest, value_bits=24))
pooled = {"log hazard ratios": PHReg(days, x, status=died, strata=places, ties="breslow").fit().params}
found = {"Sangam": models[0], "plain averaging": plain(Arrays(), new, trains, rounds=ROUNDS), "pooled": pooled}
for name, model in found.items():
    ratios = model["log hazard ratios"]
    print(
        f"{name}: concordance {concordance_index(days, -(x @ ratios), died):.4f}, log hazard ratios {ratios.round(4)}"
    )
