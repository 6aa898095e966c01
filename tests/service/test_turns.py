import asyncio

import pytest

from aggregator.service.turns import Turns


class Upload:
    """One upload that is read until the test says so."""

    def __init__(self, turns, size, task="sepsis"):
        self.reads, self._done = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(turns, task, size))

    async def _run(self, turns, task, size):
        async with turns.turn(task, size) as self.turn:
            self.reads.set()
            await self._done.wait()

    async def end(self):
        self._done.set()
        await self.task


async def settle():
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def reading(uploads):
    return [upload.reads.is_set() for upload in uploads]


async def test_uploads_are_read_in_order_and_as_many_as_fit():
    turns = Turns(at_once_bytes=10, patience_s=60)
    uploads = [Upload(turns, size) for size in (4, 6, 5, 1, 5)]
    await settle()
    assert reading(uploads) == [True, True, False, False, False]
    await uploads[0].end()
    await settle()
    assert reading(uploads) == [True, True, False, False, False], "4 bytes are free, and nobody overtakes"
    await uploads[1].end()
    await settle()
    assert reading(uploads) == [True, True, True, True, False]
    await uploads[2].end()
    await settle()
    assert reading(uploads)[4]
    for upload in uploads[3:]:
        await upload.end()


async def test_one_that_is_larger_than_all_room_is_read_alone():
    turns = Turns(at_once_bytes=10, patience_s=60)
    uploads = [Upload(turns, size) for size in (99, 1)]
    await settle()
    assert reading(uploads) == [True, False]
    await uploads[0].end()
    await settle()
    assert reading(uploads) == [True, True]
    await uploads[1].end()


async def test_a_slow_upload_holds_nobody_up_for_longer_than_their_patience():
    turns = Turns(at_once_bytes=10, patience_s=0.01)
    uploads = [Upload(turns, 10) for _ in range(3)]
    async with asyncio.timeout(20):
        for upload in uploads:
            await upload.reads.wait()
    for upload in uploads:
        await upload.end()


@pytest.mark.parametrize("leaves", [1, 2])
async def test_who_leaves_the_queue_blocks_nobody(leaves):
    turns = Turns(at_once_bytes=10, patience_s=60)
    uploads = [Upload(turns, size) for size in (8, 9, 2)]
    await settle()
    uploads[leaves].task.cancel()
    await asyncio.gather(uploads[leaves].task, return_exceptions=True)
    await settle()
    assert reading(uploads) == [True, False, leaves == 1]
    await uploads[0].end()
    await settle()
    rest = uploads[3 - leaves]
    assert rest.reads.is_set()
    await rest.end()


async def test_a_turn_ends_when_its_upload_falls_silent_and_not_before():
    turns = Turns(at_once_bytes=10, idle_s=0.05, patience_s=60)
    silent, waits = Upload(turns, 10), Upload(turns, 10)
    loop = asyncio.get_running_loop()
    await silent.reads.wait()
    spoke = loop.time()
    while loop.time() < spoke + 0.2:
        silent.turn.progress()
        await asyncio.sleep(0.005)
        assert not waits.reads.is_set()
    last = loop.time()
    async with asyncio.timeout(20):
        await waits.reads.wait()
    assert loop.time() - last > 0.03
    await silent.end()
    await settle()
    third = Upload(turns, 10)
    await settle()
    assert not third.reads.is_set(), "a turn that ended twice would have given its room back twice"
    await waits.end()
    await third.reads.wait()
    await third.end()


async def test_a_task_of_three_waits_for_at_most_one_turn_of_a_task_of_a_thousand():
    turns, order = Turns(at_once_bytes=10, patience_s=60), []

    async def upload(task, number):
        async with turns.turn(task, 10):
            order.append((task, number))
            await asyncio.sleep(0)

    crowd = [asyncio.create_task(upload("crowd", number)) for number in range(1_000)]
    await asyncio.sleep(0)
    few = [asyncio.create_task(upload("few", number)) for number in range(3)]
    await asyncio.gather(*crowd, *few)
    assert [task for task, _ in order[:8]] == ["crowd", "crowd", *["crowd", "few"] * 3], "two were there before it came"
    for task, count in (("crowd", 1_000), ("few", 3)):
        assert [number for name, number in order if name == task] == list(range(count)), "each in its own order"


async def test_three_tasks_take_turns_also_when_one_of_their_uploads_leaves():
    turns = Turns(at_once_bytes=10, patience_s=60)
    first = Upload(turns, 10, "a")
    await settle()
    names = ["a", "a", "b", "c", "c"]
    waiting = [Upload(turns, 10, name) for name in names]
    await settle()
    waiting[2].task.cancel()  # the only one of its task
    await asyncio.gather(waiting[2].task, return_exceptions=True)
    called = []
    previous = first
    for _ in range(4):
        await previous.end()
        await settle()
        (number,) = (n for n, upload in enumerate(waiting) if upload.reads.is_set() and n not in called)
        called.append(number)
        previous = waiting[number]
    assert called == [0, 3, 1, 4]
    await previous.end()


async def test_who_leaves_when_it_has_just_been_called_gives_its_room_back():
    turns = Turns(at_once_bytes=10, patience_s=60)
    first, second, third = (Upload(turns, 10) for _ in range(3))
    await settle()
    first._done.set()
    await first.task  # the second is called, and has not run yet
    second.task.cancel()
    await asyncio.gather(second.task, return_exceptions=True)
    await settle()
    assert third.reads.is_set()
    await third.end()
