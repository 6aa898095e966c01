import threading

import pytest

from aggregator.cores import Cores


@pytest.mark.parametrize("cores", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 2, 100])
def test_results_come_in_order_whoever_worked(cores, items):
    spread = Cores(cores)
    assert list(spread.each(lambda item: item * item, range(items))) == [item * item for item in range(items)]
    spread.close()


def test_the_caller_and_its_helpers_work_at_the_same_time():
    """Each of three items waits for the other two: with fewer threads this would never end."""
    together = threading.Barrier(3, timeout=20)
    spread = Cores(3)
    threads = set(spread.each(lambda _: (together.wait(), threading.get_ident())[1], range(3)))
    assert len(threads) == 3
    assert threading.get_ident() in threads
    spread.close()


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_an_error_is_raised_and_the_threads_can_be_used_again(bad):
    spread = Cores(2)

    def work(item):
        if item == bad:
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match=f"item {bad}"):
        spread.each(work, range(20))
    assert list(spread.each(work, range(20, 25))) == [20, 21, 22, 23, 24]
    spread.close()
