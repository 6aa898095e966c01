"""Who dies within five years of a blood sample, by boosted trees: XGBoost's, grown from sums over nine sites.

A creatinine that was not measured stays missing. The twin grows the trees from all records in one place; pooled is
stock XGBoost on its own quantiles, and it is stock XGBoost that reads and scores each model.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xgboost
from sklearn.metrics import roc_auc_score

from aggregator.demo.pipelines.contract import Pipeline
from aggregator.demo.pipelines.flchain import FEATURES, people
from aggregator.local.draws import Floats, Indices
from aggregator.local.federation import federation
from clients.adapters.xgboost import conduct, create, train
from clients.boosting import Records, Settings, State, advanced, contribution, to_xgboost_json
from clients.training import OperatorWatch

TASK, TREES, DEPTH, BINS = "free-light-chains", 20, 3, 32


def pipeline() -> Pipeline[xgboost.Booster]:
    """See the module."""
    known = people()
    sites = len(known.groups)
    settings = Settings(FEATURES, sites, known.largest, trees=TREES, max_depth=DEPTH, max_bin=BINS)

    def records(group: Indices) -> Records:
        return Records(known.values[group], known.labels[group])

    def matrix(group: Indices, labels: Floats | None = None) -> xgboost.DMatrix:
        return xgboost.DMatrix(known.values[group].astype(np.float32), labels, feature_names=list(FEATURES))

    async def federated(watch: OperatorWatch) -> xgboost.Booster:
        return _booster(await _grown(settings, [records(group) for group in known.groups], watch))

    def pooled() -> xgboost.Booster:
        stated = {"objective": settings.objective, "tree_method": "hist", "max_depth": DEPTH, "max_bin": BINS}
        return xgboost.train(stated, matrix(known.rest, known.labels[known.rest]), TREES)

    return Pipeline(
        about="Death within five years by age, sex, light chains and creatinine; boosted trees of XGBoost's kind.",
        sites=known.sites,
        rounds=settings.sketch_rounds + TREES * DEPTH,
        federated=federated,
        twin=lambda: _booster(_alone(settings, [records(group) for group in known.groups])),
        pooled=pooled,
        score=lambda model: float(roc_auc_score(known.labels[known.held_out], model.predict(matrix(known.held_out)))),
        scored="AUC on people that no site trained on",
        within=1e-6,
        twin_is="the same trees without an engine",
    )


async def _grown(settings: Settings, sites: Sequence[Records], watch: OperatorWatch) -> State:
    with tempfile.TemporaryDirectory(prefix="sangam-") as name:
        directory = Path(name)
        async with federation(len(sites)) as here, here.operator() as operator:

            async def hospital(index: int) -> State:
                async with here.site(index, TASK) as session:
                    return await train(session, sites[index], settings, directory / f"site-{index}.json")

            await create(operator, TASK, settings)
            async with asyncio.TaskGroup() as group:
                for index in range(len(sites)):
                    group.create_task(hospital(index))
                return await conduct(operator, TASK, settings, directory / "operator.json", watch=watch)


def _alone(settings: Settings, sites: Sequence[Records]) -> State:
    state = State.start(settings)
    while not state.done:
        updates = [contribution(state, records) for records in sites]
        mean = {name: np.mean([update[name] for update in updates], axis=0) for name in updates[0]}
        state = advanced(state, mean, len(sites), state.round + 1)
    return state


def _booster(state: State) -> xgboost.Booster:
    return xgboost.Booster(model_file=bytearray(to_xgboost_json(state).encode()))
