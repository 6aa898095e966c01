from pathlib import Path

import numpy as np

from aggregator.bench import updates
from aggregator.bench.updates import Updates


def test_clients_differ_share_memory_and_add_up_exactly_in_float32(tmp_path: Path) -> None:
    updates.write(tmp_path / "u.npy", 100_000, 100)
    shared = Updates(tmp_path / "u.npy", 100_000)
    views = [shared.of(client) for client in range(100)]
    assert all(view.shape == (100_000,) and view.dtype == np.float32 for view in views)
    assert len({view.tobytes() for view in views}) == 100
    assert np.shares_memory(views[0], views[1])
    assert np.abs(views[0]).max() <= 1
    assert 0.5 < np.abs(views[0]).mean() * 2 < 1.5
    assert np.array_equal(shared.total(97), np.sum(views[:97], axis=0, dtype=np.float64))
    assert np.array_equal(np.sum(views, axis=0, dtype=np.float32), np.sum(views, axis=0, dtype=np.float64))
