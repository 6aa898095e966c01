"""A PyTorch network with batch normalisation over five hospitals, beside plain averaging and pooled training.

python clients/examples/torch_mlp.py
"""

import asyncio
from itertools import count

import torch
from sklearn.metrics import roc_auc_score

from aggregator.demo.data import deal
from aggregator.local.trial import plain, try_out
from clients.adapters.torch import Torch
from clients.training import Trained

HOSPITALS, ROUNDS, EPOCHS, BATCH = 5, 10, 2, 16

study = deal(HOSPITALS, seed=1)  # real records, scaled by public constants, split unevenly; a quarter is held out
LARGEST = max(map(len, study.shards))


def tensors(records):
    return (torch.tensor(array, dtype=torch.float32) for array in (records.features, records.labels))


def new():
    """The first network, the same everywhere."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(30, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 1)
    return torch.nn.Sequential(*layers)


def fit(model, features, labels, epochs, seed):
    """A training loop like any other."""
    optimiser, order = torch.optim.SGD(model.parameters(), lr=0.05), torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=order).split(BATCH):
            if len(batch) > 1:
                optimiser.zero_grad()
                torch.nn.functional.binary_cross_entropy_with_logits(
                    model(features[batch])[:, 0], labels[batch]
                ).backward()
                optimiser.step()
    return model


def at(hospital):
    """A hospital's own training; each call is another round."""
    (mine, labels), rounds = tensors(study.shards[hospital]), count()
    return lambda model: Trained(fit(model, mine, labels, EPOCHS, seed=next(rounds)), len(labels))


def hospitals():
    return [at(hospital) for hospital in range(HOSPITALS)]


models = asyncio.run(try_out(Torch(), new, hospitals(), rounds=ROUNDS, clip=2.0, weight_max=LARGEST))
twin = plain(Torch(), new, hospitals(), rounds=ROUNDS)
pooled = fit(new(), *tensors(study.pooled), ROUNDS * EPOCHS, seed=0)
x_test, y_test = tensors(study.held_out)
for name, model in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    model.eval()
    with torch.no_grad():
        print(f"{name}: AUC {roc_auc_score(y_test, model(x_test)[:, 0]):.4f}")
