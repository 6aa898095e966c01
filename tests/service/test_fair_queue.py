from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aggregator.service.fair_queue import FairQueue


def filled(items):
    queue = FairQueue()
    for number, task in enumerate(items):
        queue.add(task, (task, number))
    return queue


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_it_is_read_in_the_order_in_which_it_is_taken(items):
    queue = filled(items)
    shown, taken = list(queue), []
    while queue:
        first = queue.first
        taken.append(queue.take())
        assert first == taken[-1]
    assert taken == shown
    assert Counter(task for task, _ in taken) == Counter(items)
    for task in set(items):
        numbers = [number for name, number in taken if name == task]
        assert numbers == sorted(numbers), "each task in its own order"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_nobody_waits_for_more_than_one_of_each_other_task_per_item_before_it(items):
    order = list(filled(items))
    for place, (task, number) in enumerate(order):
        before = sum(name == task for name, other in order if name == task and other < number)
        assert place <= (before + 1) * len(set(items)) - 1


def test_who_leaves_is_forgotten():
    queue = filled("aab")
    queue.remove("b", ("b", 2))
    queue.remove("a", ("a", 0))
    assert list(queue) == [("a", 1)]
