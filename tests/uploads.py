"""Uploads as tests will have them, beside honest ones: over streams that stay open, while the other clients wait."""

import threading

from aggregator.service import app
from aggregator.storage.spool import MemorySpool
from aggregator.wire.codec import encode
from aggregator.wire.messages import GO_ON_KEY
from aggregator.wire.vocabulary import Step
from tests.loopback import PATIENT, check_mean, hub, offers, parameters, until

UPLOAD = "/sangam.v1.Aggregation/Upload"
N, LAST = 3, 2
SHAPE = (1_500_000,)  # four chunks


class Uploading:
    """A transport whose client uploads as the test says: `act` gets the transport and the parts of an honest upload."""

    def __init__(self, inner, act):
        self.inner, self.act = inner, act
        self.control, self.fetch_result = inner.control, inner.fetch_result

    async def upload(self, parts):
        return await self.act(self.inner, list(parts))


def uploading(act):
    return {"wrap": lambda inner: Uploading(inner, act)}


class Gate:
    """Holds other clients back in a step, in the thread where they mask, until the test opens it."""

    def __init__(self):
        self._event = threading.Event()

    def open(self):
        self._event.set()

    def hold(self, name):
        if name == Step.MASKED_INPUT:
            assert self._event.wait(20)


async def begun(inner, parts, chunks):
    """An upload that has sent so many chunks; the stream stays open. Second, where the server told it to go on."""
    stream = inner._channel()._channel.stream_unary(UPLOAD)()
    await stream.write(encode(parts[0]))
    first = (await stream.initial_metadata())[GO_ON_KEY]
    for part in parts[1 + int(first) : 1 + chunks]:
        await stream.write(encode(part))
    return stream, first


async def play(tmp_path, monkeypatch, act):
    """A round in which the last client uploads as `act` says, while the others wait for it."""
    gate, spools = Gate(), []

    async def acting(inner, parts):
        try:
            return await act(inner, parts, spools[0])
        finally:
            gate.open()

    monkeypatch.setattr(app, "MemorySpool", lambda *args: spools.append(MemorySpool(*args)) or spools[-1])
    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    assert spec.upload_plan.chunks == 4
    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, calls=dict.fromkeys(range(LAST), gate.hold), how={LAST: uploading(acting)})
    assert not spools[0].held_bytes
    check_mean(run, offered, range(N), spec.ring_bits)
    return run


async def held(spool, parts):
    """Wait until the server holds these chunks."""
    size = sum(len(part.body.data) for part in parts)
    await until(lambda: spool.held_bytes >= size)
    assert spool.held_bytes == size
