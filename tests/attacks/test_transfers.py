"""Uploads and results over several streams: sites that keep what is no longer theirs, and streams out of order."""

import asyncio
import gc
import weakref
from contextlib import suppress
from time import monotonic

import grpc
import numpy as np
import pytest

from aggregator.errors import Gone, MessageError, NotAdmitted
from aggregator.service import app
from aggregator.service.admission import Admission
from aggregator.service.aggregation_service import AggregationService
from aggregator.service.turns import Turns
from aggregator.storage.spool import MemorySpool
from aggregator.wire.messages import Chunk, ResultHeader, ResultRequest
from aggregator.wire.operator_messages import Retention
from aggregator.wire.vocabulary import Step
from tests.harness import short_round
from tests.loopback import BRISK, PATIENT, check_mean, hub, offers, parameters
from tests.uploads import SHAPE, Gate, begun, held, play, uploading

N, CHEAT = 3, 2


async def test_a_dead_stream_whose_header_arrives_late_costs_an_honest_site_nothing(tmp_path, monkeypatch):
    """A network may deliver what an abandoned connection still held: it takes the live stream's place, and dies."""
    attempts = []

    async def act(inner, parts, spool):
        attempts.append(1)
        if len(attempts) > 1:
            return await inner.upload(parts)
        live, _ = await begun(inner, parts, 2)
        await held(spool, parts[1:3])
        late, _ = await begun(inner, parts, 0)
        late.cancel()
        with inner._channel().errors():
            return await live

    await play(tmp_path, monkeypatch, act)
    assert len(attempts) == 2, "the site's own patience tried again"


def test_a_refused_upload_leaves_a_name_and_no_chunk_in_memory():
    """A third of the sites, each with an upload that lies: what is remembered of each is a sentence."""
    outcome = short_round(N, until=Step.MASKED_INPUT)
    phase, player = outcome.end, outcome.players[CHEAT]
    header, *_ = player.react(phase.announcement(CHEAT))
    upload = phase.begin(CHEAT, header)

    def handler():
        data = np.zeros(44, np.uint8)
        try:
            phase.receive(upload, Chunk(0, memoryview(data)))
        except MessageError as error:
            phase.refuse(upload, error)
        return weakref.ref(data)

    seen = handler()
    gc.collect()
    assert seen() is None
    with pytest.raises(MessageError, match="chunk 0 has 44 bytes"):
        phase.begin(CHEAT, header)


async def test_a_site_revoked_before_the_end_of_its_upload_is_not_in_the_sum(tmp_path, monkeypatch):
    """All its chunks came while it was admitted; their end did not."""
    gate, spools, ends, revoked = Gate(), [], [], tmp_path / "revoked"
    monkeypatch.setattr(app, "MemorySpool", lambda *args: spools.append(MemorySpool(*args)) or spools[-1])
    revoked.write_text("")
    offered, spec = offers(4, SHAPE), parameters(SHAPE)
    async with hub(tmp_path, 4, revoked=revoked, reload_s=0) as h:

        async def act(inner, parts):
            try:
                stream, _ = await begun(inner, parts, 4)
                await held(spools[0], parts[1:])
                revoked.write_text(f"{h.consortium.identities[3].certificate.serial:#x}\n")
                await h.running.reload()
                with suppress(asyncio.InvalidStateError):
                    await stream.done_writing()
                ends.extend(await asyncio.gather(stream, return_exceptions=True))
                with inner._channel().errors():
                    raise ends[0]
            finally:
                gate.open()

        await h.create(spec, BRISK)
        run = await h.run_round(offered, calls=dict.fromkeys(range(3), gate.hold), how={3: uploading(act)})
    assert ends[0].code() is grpc.StatusCode.PERMISSION_DENIED
    assert isinstance(run.results[3], NotAdmitted)
    check_mean(run, offered, range(3), spec.ring_bits)
    assert not spools[0].held_bytes


async def test_a_reader_that_takes_no_chunks_keeps_no_sum_that_has_expired(tmp_path):
    """A site may have 32 streams; were each to keep its sum, one site could hold 32 vectors in the server's memory."""
    offered, spec = offers(N), parameters()
    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT, retention=Retention(results=1))
        first = await h.run_round(offered)
        service = AggregationService(h.running.tasks, Turns(), Admission(0, monotonic))
        total = weakref.ref(h.running.tasks.find("sepsis").history.result(0).total)
        stream = service.fetch_result(h.consortium.identities[0].certificate, ResultRequest("sepsis", 0))
        assert isinstance((await anext(stream)).body, ResultHeader)
        await h.run_round(offered, base=first.operator.mean)
        gc.collect()
        assert total() is None
        with pytest.raises(Gone, match=f"no result of round {first.number} any more: it has expired"):
            await anext(stream)
