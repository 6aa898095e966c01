"""A server that has room for one upload at a time: the others are told when to come back, and do."""

import asyncio
from dataclasses import replace

from aggregator.errors import MessageError, Overloaded
from aggregator.service import admission
from aggregator.service.admission import WAIT_LEAST_S, WAIT_MOST_S
from aggregator.wire.messages import UPLOAD_ID_BYTES, UploadMessage
from tests.loopback import PATIENT, check_mean, hub, offers, parameters
from tests.uploads import Uploading, begun, uploading

N, LAST = 4, 3
SHAPE = (500_000,)  # two chunks
ONE = {"staging_bytes": 1 << 20, "spool_bytes": 0}  # one upload alone is larger


class Counted(Uploading):
    """A transport that notes each refusal."""

    def __init__(self, inner, refusals):
        super().__init__(inner, None)
        self.refusals = refusals

    async def upload(self, parts):
        try:
            return await self.inner.upload(parts)
        except Overloaded as error:
            self.refusals.append(error)
            raise


def counted(refusals):
    return {"wrap": lambda inner: Counted(inner, refusals)}


async def test_who_finds_no_room_comes_back_when_told_and_all_are_summed(tmp_path):
    refusals, offered, spec = [], offers(N, SHAPE), parameters(SHAPE)
    async with hub(tmp_path, N, **ONE) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how=dict.fromkeys(range(N), counted(refusals)))
    check_mean(run, offered, range(N), spec.ring_bits)
    assert refusals  # how many depends on who comes while another one is on its way
    assert all(WAIT_LEAST_S <= error.retry_after_s <= WAIT_MOST_S for error in refusals)
    assert all("s, the place is kept" in str(error) for error in refusals)


async def test_an_upload_that_stands_still_gives_its_room_to_others_and_comes_last(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "SLOW_S", 0.2)
    refusals, ends, order = [], [], []

    async def stands_still(inner, parts):
        stream, _ = await begun(inner, parts, chunks=1)
        has_room.set()
        ends.extend(await asyncio.gather(stream, return_exceptions=True))
        with inner._channel().errors():
            raise ends[0]

    async def acts(inner, parts):
        if not ends:
            return await stands_still(inner, parts)
        receipt = await inner.upload(parts)
        order.append("slow")
        return receipt

    async def comes_second(inner, parts):
        await has_room.wait()
        receipt = await Counted(inner, refusals).upload(parts)
        order.append("honest")
        return receipt

    has_room, offered, spec = asyncio.Event(), offers(N, SHAPE), parameters(SHAPE)
    how = {**dict.fromkeys(range(LAST), uploading(comes_second)), LAST: uploading(acts)}
    async with hub(tmp_path, N, **ONE) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how=how)
        error = h.calls.named(ends[0])
    check_mean(run, offered, range(N), spec.ring_bits)
    assert type(error) is Overloaded
    assert "this upload brought no chunk within 0.2 s while others waited" in str(error)
    assert error.retry_after_s is not None
    assert refusals
    assert order[-1] == "slow"


async def test_who_sends_nearly_everything_and_begins_again_for_ever_is_stopped(tmp_path):
    """Each time under another id, since what is half arrived would be gone on with."""
    attempts, offered, spec = [], offers(N, SHAPE), parameters(SHAPE)

    async def begins_again(inner, parts):
        for number in range(100):
            attempts.append(number)
            header = replace(parts[0].body, upload_id=number.to_bytes(UPLOAD_ID_BYTES, "big"))
            try:
                await inner.upload([UploadMessage(header), *parts[1:-1]])
            except MessageError as error:
                if "sent 1 of 2 chunks" not in str(error):
                    raise
        raise AssertionError

    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how={LAST: uploading(begins_again)})
    assert type(run.results[LAST]) is MessageError
    assert "8 times, and never to their end" in str(run.results[LAST])
    assert 8 <= len(attempts) <= 16, "a chunk is more than half of the payload"
    check_mean(run, offered, range(LAST), spec.ring_bits)
