"""What one hospital runs: its own records, its own training loop, and a training that all of them share.

python clients/examples/hospital.py --address hub:7443 --identity site/ --experiment lungs.toml --records records.npz

The experiment's file is the operator's, who runs `sangam run lungs.toml`; its first model has `coef`, shape (1, f), and
`intercept`, shape (1,), as `clients.adapters.sklearn.Linear` flattens them. Killed, the same command goes on.
"""

import argparse
import asyncio
from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

import clients
from clients.adapters.sklearn import Linear
from clients.training import Bars, Experiment, Trained, learn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--address", required=True, help="the aggregator, host:port")
parser.add_argument("--identity", required=True, type=Path, help="this hospital's directory: key.pem and identity.pem")
parser.add_argument("--experiment", required=True, type=Path, help="what is trained, the same file everywhere")
parser.add_argument("--records", required=True, type=Path, help="features, shape (n, f), scaled alike, and labels")
asked = parser.parse_args()

with np.load(asked.records) as file:
    features, labels = file["features"], file["labels"]


def train(model):
    """The loop as it always was; and how good the model was that came in."""
    loss = log_loss(labels, model.predict_proba(features), labels=[0.0, 1.0])
    return Trained(model.partial_fit(features, labels), len(labels), {"loss": loss})


async def main():
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)
    model.partial_fit(features, labels, classes=[0.0, 1.0])
    experiment, checkpoint = Experiment.load(asked.experiment), asked.identity / "model.npz"
    async with clients.connect(asked.address, asked.identity, task=experiment.task) as session:
        with Bars(experiment.rounds) as bars:
            await learn(session, Linear(), model, train, experiment, checkpoint=checkpoint, watch=bars)


asyncio.run(main())
