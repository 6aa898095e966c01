"""Who looks on a round is told of every event in order, of the work between them, and of what it cost."""

import asyncio
import dataclasses
from contextlib import contextmanager

from aggregator.protocol.context import hash_model
from aggregator.protocol.parameters import Mode
from tests.rounds.test_task import attend, finished, task_of


class Onlooker:
    """Keeps what it is told."""

    def __init__(self, *round_):
        self.of = round_
        self.told, self.cpu_seconds = [], []

    def happened(self, event):
        self.told.append(event)

    @contextmanager
    def working(self, part):
        self.told.append(part)
        yield
        self.told.append(f"{part}: done")

    def ended(self, cpu_seconds):
        self.cpu_seconds.append(cpu_seconds)


def observed(task):
    """The task, and those who look on its rounds."""
    onlookers = []

    def observe(*round_):
        onlookers.append(Onlooker(*round_))
        return onlookers[-1]

    task._host = dataclasses.replace(task._host, observe=observe, cpu_clock=iter(range(10**9)).__next__)
    return onlookers


async def test_a_round_from_its_first_event_to_its_cost():
    task = task_of()
    onlookers = observed(task)
    crowd = [asyncio.create_task(attend(task, client)) for client in range(4)]
    await asyncio.sleep(0)
    number = task.start_round(hash_model(None))
    await finished(task, number)
    await asyncio.gather(task._running)
    for waiting in crowd:
        waiting.cancel()

    (seen,) = onlookers
    assert seen.of == ("sepsis", number, Mode.PAIRWISE)
    events = [event async for event in task.history.events(number).follow()]
    assert [told for told in seen.told if not isinstance(told, str)] == events
    work = [told for told in seen.told if isinstance(told, str)]
    assert work[:2] == ["advertise_keys finish", "advertise_keys finish: done"]
    assert work.count("masked_input add: done") == 4
    assert work[-2:] == ["unmasking finish", "unmasking finish: done"]
    (cost,) = seen.cpu_seconds
    assert cost == task.cpu_seconds
    assert cost["masked_input add"] > 0


async def test_a_round_that_is_stopped_ends_once():
    task = task_of()
    onlookers = observed(task)
    task.start_round(hash_model(None))
    await asyncio.sleep(0)
    await task.close()
    (seen,) = onlookers
    assert [event.kind for event in seen.told] == ["step", "failed"]
    assert len(seen.cpu_seconds) == 1
