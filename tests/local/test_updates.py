from pathlib import Path

import numpy as np
import pytest

from aggregator.local import updates
from aggregator.local.updates import Tally, Updates, WordSum, is_exact
from aggregator.wire.messages import CLIENTS_MAX

NAMES = ("client-01", "client-02", "client-03")


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


def test_float32_holds_the_sum_of_as_many_clients_as_a_round_may_have() -> None:
    assert CLIENTS_MAX * 2 ** (updates.BITS - 1) <= 2**24


def test_another_seed_gives_other_updates(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        updates.write(tmp_path / name, 100, 3, seed)
    a, again, b = (Updates(tmp_path / name, 100).of(0) for name in ("a", "again", "b"))
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)


@pytest.fixture(params=[np.uint32, np.uint64])
def left(tmp_path: Path, request: pytest.FixtureRequest):
    """Two processes' words, three clients in all, and their true sum."""
    dtype = request.param
    clients = [np.arange(50, dtype=dtype) * i + i for i in (1, 2, 3)]
    files = []
    for process, mine in enumerate((clients[:2], clients[2:])):
        total = WordSum(50, 8 * dtype().itemsize)
        for words in mine:
            Tally(total).vectors(words, memoryview(b""))
        files.append(tmp_path / f"{process}.npy")
        total.save(files[-1])
    return sum(clients), files


def test_the_true_sum_is_exact(left) -> None:
    words, files = left
    assert words.dtype in (np.uint32, np.uint64)
    assert is_exact(words, NAMES, NAMES, files)


@pytest.mark.parametrize("place", [0, 23, 49])
def test_a_server_that_lies_in_one_word_is_not_exact(left, place: int) -> None:
    words, files = left
    wrong = words.copy()
    wrong[place] += 1
    assert not is_exact(wrong, NAMES, NAMES, files)


def test_other_clients_or_fewer_words_are_not_exact(left) -> None:
    words, files = left
    assert not is_exact(words, NAMES[:2], NAMES, files)
    assert not is_exact(words, NAMES, NAMES, files[:1])
    assert not is_exact(words[:-1], NAMES, NAMES, files)
