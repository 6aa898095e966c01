import numpy as np
import pytest

from aggregator.protocol.runs import Runs
from aggregator.wire.messages import Tensor

TENSORS = (Tensor("a", (3,)), Tensor("b", ()), Tensor("c", (2, 2)), Tensor("d", (1,)))  # entries 0-2, 3, 4-7, 8


def runs(*numbers, entries=9):
    return Runs.of(TENSORS, numbers, entries)


def test_neighbours_that_share_a_number_are_one_run():
    assert runs(5, 5, 5, 5).ends == (9,)
    made = runs(5, 5, 7, 5)
    assert (made.ends, made.numbers) == ((4, 8, 9), (5, 7, 5))


def test_what_pads_the_row_counts_with_the_last_tensor():
    assert runs(5, 6, 7, 8, entries=16).ends == (3, 4, 8, 16)


@pytest.mark.parametrize("start", range(9))
def test_any_cut_of_the_row_has_the_numbers_of_its_tensors(start):
    made, numbers = runs(5, 6, 6, 8), [5, 5, 5, 6, 6, 6, 6, 6, 8]
    for stop in range(start + 1, 10):
        own = numbers[start:stop]
        assert made.shared(start, stop) == (own[0] if len(set(own)) == 1 else None)
        out = np.zeros(stop - start)
        made.multiply(start, np.full(stop - start, 2.0), out)
        assert out.tolist() == [2.0 * number for number in own]
