"""The example that a hospital runs, as a process of its own, three times, with an operator that is this test."""

import asyncio
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from aggregator.arrays import read_arrays, write_arrays
from aggregator.demo.data import deal
from aggregator.local.federation import federation
from clients.training import Experiment, Training

EXAMPLE = Path(__file__).parents[3] / "clients" / "examples" / "hospital.py"
FILE = """
task = "breast-cancer"
model = "first.npz"
rounds = 3
clip = 4.0
weight_max = 400
minimum_cohort = 3
enough = 3
metrics = {loss = 10.0}
"""


async def test_three_hospitals_train_one_model(tmp_path):
    study, stated = deal(3, seed=1), tmp_path / "lungs.toml"
    stated.write_text(FILE)
    write_arrays(tmp_path / "first.npz", {"coef": np.zeros((1, 30)), "intercept": np.zeros(1)})
    async with federation(3) as here, here.operator() as operator:
        training = Training(Experiment.load(stated), tmp_path / "lungs.run")
        await training.create(operator)
        hospitals = []
        for index, records in enumerate(study.shards):
            identity = here.members.site(index)
            records.save(identity / "records.npz")
            where = ["--address", here.address, "--identity", identity, "--experiment", stated]
            command = [sys.executable, EXAMPLE, *where, "--records", identity / "records.npz"]
            pipe = asyncio.subprocess.PIPE
            hospitals.append(await asyncio.create_subprocess_exec(*map(str, command), stderr=pipe))
        model = await training.conduct(operator)
        told = [await hospital.communicate() for hospital in hospitals]
        kept = [read_arrays(here.members.site(index) / "model.npz") for index in range(3)]
    assert [hospital.returncode for hospital in hospitals] == [0, 0, 0], told
    assert [said.decode().count(" closed with 3 sites, loss ") for _, said in told] == [3, 3, 3], told
    assert all(np.array_equal(one["coef"], model.tensors["coef"]) for one in kept)
    scores = study.held_out.features @ model.tensors["coef"][0] + model.tensors["intercept"]
    assert roc_auc_score(study.held_out.labels, scores) > 0.97
