import asyncio

import pytest

from aggregator.service.admission import Admission


class Upload:
    """One upload that is read until the test says so."""

    def __init__(self, admission, size):
        self.reads, self._done = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(admission, size))

    async def _run(self, admission, size):
        async with admission.turn(size) as self.turn:
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
    admission = Admission(at_once_bytes=10, patience_s=60)
    uploads = [Upload(admission, size) for size in (4, 6, 5, 1, 5)]
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
    admission = Admission(at_once_bytes=10, patience_s=60)
    uploads = [Upload(admission, size) for size in (99, 1)]
    await settle()
    assert reading(uploads) == [True, False]
    await uploads[0].end()
    await settle()
    assert reading(uploads) == [True, True]
    await uploads[1].end()


async def test_a_slow_upload_holds_nobody_up_for_longer_than_their_patience():
    admission = Admission(at_once_bytes=10, patience_s=0.01)
    uploads = [Upload(admission, 10) for _ in range(3)]
    async with asyncio.timeout(20):
        for upload in uploads:
            await upload.reads.wait()
    for upload in uploads:
        await upload.end()


@pytest.mark.parametrize("leaves", [1, 2])
async def test_who_leaves_the_queue_blocks_nobody(leaves):
    admission = Admission(at_once_bytes=10, patience_s=60)
    uploads = [Upload(admission, size) for size in (8, 9, 2)]
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
    admission = Admission(at_once_bytes=10, idle_s=0.05, patience_s=60)
    silent, waits = Upload(admission, 10), Upload(admission, 10)
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
    third = Upload(admission, 10)
    await settle()
    assert not third.reads.is_set(), "a turn that ended twice would have given its room back twice"
    await waits.end()
    await third.reads.wait()
    await third.end()
