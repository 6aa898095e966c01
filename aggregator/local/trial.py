"""A training tried out on this machine: federated over secure rounds, and averaged in the open beside it.

models = asyncio.run(try_out(Linear(), new, trains, rounds=10, clip=2.0, weight_max=100))
twin = plain(Linear(), new, trains, rounds=10)
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aggregator.arrays import write_arrays
from aggregator.local.federation import federation
from aggregator.local.tolerance import minimum_cohort
from clients.adapters import Adapter, change, moved
from clients.training import Experiment, OperatorWatch, Trained

M = TypeVar("M")


async def try_out(
    adapter: Adapter[M],
    new: Callable[[], M],
    trains: Sequence[Callable[[M], Trained[M]]],
    *,
    rounds: int,
    clip: float,
    weight_max: int,
    metrics: Mapping[str, float] | None = None,
    watch: OperatorWatch | None = None,
    **stated: Any,
) -> list[M]:
    """Train over secure rounds, with a real server and real sites.

    Args:
        adapter: for the models' kind.
        new: makes the first model, the same each time.
        trains: each site's training.
        rounds: how many.
        clip: of what one round may change.
        weight_max: records of the largest site.
        metrics: the largest value of each.
        watch: is told how it goes.
        **stated: what else an `Experiment` may say.

    Returns:
        Each site's model; what is shared of them is the same.
    """
    sites = len(trains)
    with tempfile.TemporaryDirectory(prefix="sangam-") as name:
        first = Path(name) / "first.npz"
        write_arrays(first, adapter.flatten(new()))
        experiment = Experiment(
            task="trial",
            model=first,
            rounds=rounds,
            combine=adapter.combine,
            clip=clip,
            weight_max=weight_max,
            clients_max=sites,
            minimum_cohort=minimum_cohort(sites),
            enough=sites,
            metrics=dict(metrics or {}),
            **stated,
        )
        async with federation(sites) as here:
            return await here.train(experiment, adapter, [(new(), train) for train in trains], watch)


def plain(adapter: Adapter[M], new: Callable[[], M], trains: Sequence[Callable[[M], Trained[M]]], *, rounds: int) -> M:
    """The same training, with every update in the open and nothing quantised: plain federated averaging."""
    shared, models = dict(adapter.flatten(new())), [new() for _ in trains]
    for _ in range(rounds):
        trained = [train(adapter.unflatten(model, shared)) for train, model in zip(trains, models, strict=True)]
        models, weights = [one.model for one in trained], [one.records for one in trained]
        changes = [change(adapter.combine, shared, adapter.flatten(one.model), one.records) for one in trained]
        mean = {name: np.average([one[name] for one in changes], axis=0, weights=weights) for name in shared}
        shared = moved(adapter.combine, shared, mean, sum(weights))
    return adapter.unflatten(new(), shared)
