"""Small studies: records of a known rule, settings for them, and rounds without an engine between the halves."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clients.boosting import Records, Settings, State, advanced, contribution

FEATURES = ("age", "dose", "marker")


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {"sites_max": 5, "records_max": 200, "trees": 3, "max_depth": 3, "max_bin": 8}
    return Settings(**{"features": FEATURES, **fields, **changes})


def records(n: int = 200, seed: int = 0, missing: float = 0.1, *, classes: bool = True) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, len(FEATURES))) * [10.0, 1e-3, 1.0] + [50.0, 0.0, -2.0]
    values[:, 2] = np.round(values[:, 2])
    score = (values[:, 0] - 50.0) / 10.0 - 1e3 * values[:, 1] + rng.normal(size=n)
    values[rng.random(values.shape) < missing] = np.nan
    return values.astype(np.float32), (score > 0 if classes else score).astype(np.float32)


def dealt(values: Any, labels: Any, sites: int, seed: int = 1) -> list[Records]:
    order = np.random.default_rng(seed).permutation(len(labels))
    return [Records(values[part], labels[part]) for part in np.array_split(order, sites)]


def one_round(state: State, sites: Sequence[Records], number: int) -> State:
    updates = [contribution(state, one) for one in sites]
    mean = {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
    return advanced(state, mean, len(updates), number)


def run(state: State, present: Callable[[int], Sequence[Records]], until: int = 10**9) -> State:
    """Rounds until all trees are there; `present` says who is in the round of a number."""
    while not state.done and state.round < until:
        state = one_round(state, present(state.round + 1), state.round + 1)
    return state
