"""PyTorch through the adapter: what travels, what stays, and what comes back."""

import numpy as np
import pytest
import torch

from clients.adapters.torch import Torch

X = torch.linspace(-1, 1, 60).reshape(12, 5)


def network(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model.register_buffer("mask", torch.ones(3, dtype=torch.bool))
    model(X + seed)  # statistics of its own
    return model.eval()


def test_a_network_predicts_the_same_after_a_journey_and_keeps_its_counters():
    there, here = network(0), network(1)
    here[1].num_batches_tracked += 41
    tensors = Torch().flatten(there)
    assert list(tensors) == [
        *("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "3.weight", "3.bias"),
    ]
    assert not torch.equal(there(X), here(X))
    weight = here[0].weight
    assert Torch().unflatten(here, tensors) is here
    assert torch.equal(there(X), here(X))
    assert here[0].weight is weight, "an optimiser holds it"
    assert here[1].num_batches_tracked.item() == 42


def test_flattened_arrays_are_copies():
    model = network(0)
    before = model(X)
    for array in Torch().flatten(model).values():
        array[...] = 7
    assert torch.equal(model(X), before)


@pytest.mark.parametrize(
    ("dtype", "travels_as"),
    [
        (torch.float16, np.float32),
        (torch.bfloat16, np.float32),
        (torch.float32, np.float32),
        (torch.float64, np.float64),
    ],
)
def test_other_floats_come_back_as_they_were(dtype, travels_as):
    model = torch.nn.Linear(3, 2).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = Torch().flatten(model)
    assert {array.dtype for array in tensors.values()} == {np.dtype(travels_as)}
    torch.nn.init.zeros_(model.weight)
    Torch().unflatten(model, tensors)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.weight.dtype is dtype


def test_an_optimiser_goes_on_from_the_mean():
    model = network(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    Torch().unflatten(model, Torch().flatten(network(1)))
    before = Torch().flatten(model)
    model(X).sum().backward()
    optimiser.step()
    assert not np.array_equal(Torch().flatten(model)["3.bias"], before["3.bias"])
