"""Boosted trees over five hospitals, beside stock XGBoost on their pooled records, on its own quantiles.

python clients/examples/xgboost_breast_cancer.py        (needs xgboost, for the comparison only)
"""

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from aggregator.local.federation import federation
from clients.adapters.xgboost import conduct, create, train
from clients.boosting import Records, Settings, to_xgboost_json

HOSPITALS, TASK = 5, "breast-cancer"

data = load_breast_cancer()
x, x_test, y, y_test = train_test_split(data.data, data.target, test_size=0.3, random_state=0)
shards = [Records(x[site::HOSPITALS], y[site::HOSPITALS]) for site in range(HOSPITALS)]
settings = Settings(tuple(data.feature_names), HOSPITALS, records_max=200, trees=20, max_depth=3, max_bin=32)


async def hospital(here, site, directory):
    """What one hospital runs: it holds its own records, and no others."""
    async with here.site(site, TASK) as session:
        return await train(session, shards[site], settings, directory / f"hospital-{site}.json")


async def main():
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with federation(HOSPITALS) as here, here.operator() as operator:
            await create(operator, TASK, settings)
            started = time.perf_counter()
            sites = [hospital(here, site, directory) for site in range(HOSPITALS)]
            ours, *theirs = await asyncio.gather(conduct(operator, TASK, settings, directory / "operator.json"), *sites)
            print(f"{len(ours.trees)} trees in {time.perf_counter() - started:.1f} s")
        model = directory / "model.json"
        model.write_text(to_xgboost_json(ours))
        booster = xgboost.Booster(model_file=model)
    names = list(settings.features)
    tested = xgboost.DMatrix(x_test, feature_names=names)
    parameters = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 3, "max_bin": 32}
    pooled = xgboost.train(parameters, xgboost.DMatrix(x, y, feature_names=names), settings.trees)
    for name, one in (("Sangam", booster), ("pooled", pooled)):
        print(f"{name}: AUC {roc_auc_score(y_test, one.predict(tested)):.4f}")
    print("every hospital has the same trees:", all(one.to_json() == ours.to_json() for one in theirs))
    print("stock XGBoost's predictions, apart by:", np.abs(ours.predict(x_test) - booster.predict(tested)).max())


asyncio.run(main())
