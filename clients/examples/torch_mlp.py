"""A PyTorch network with batch normalisation over five hospitals, beside plain averaging and pooled training.

python clients/examples/torch_mlp.py
"""

import asyncio
from itertools import count

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from aggregator.local.trial import plain, try_out
from clients.adapters.torch import Torch
from clients.training import Trained

HOSPITALS, ROUNDS, EPOCHS, BATCH = 5, 10, 2, 16

x, y = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(StandardScaler().fit_transform(x), y, test_size=0.3, random_state=0)
x, x_test, y = (torch.tensor(array, dtype=torch.float32) for array in (x, x_test, y))


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
    mine, labels, rounds = x[hospital::HOSPITALS], y[hospital::HOSPITALS], count()
    return lambda model: Trained(fit(model, mine, labels, EPOCHS, seed=next(rounds)), len(labels))


def hospitals():
    return [at(hospital) for hospital in range(HOSPITALS)]


models = asyncio.run(try_out(Torch(), new, hospitals(), rounds=ROUNDS, clip=2.0, weight_max=100))
twin = plain(Torch(), new, hospitals(), rounds=ROUNDS)
pooled = fit(new(), x, y, ROUNDS * EPOCHS, seed=0)
for name, model in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    model.eval()
    with torch.no_grad():
        print(f"{name}: AUC {roc_auc_score(y_test, model(x_test)[:, 0]):.4f}")
