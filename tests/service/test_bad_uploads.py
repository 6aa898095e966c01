"""Uploads that lie, break off, come twice, come late, or find the disk full: the sum holds whole inputs, each once."""

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from tempfile import TemporaryFile

import pytest

from aggregator.errors import Disconnected, MessageError, NotFound, OutOfTurn, StorageError
from aggregator.protocol.parameters import Mode
from aggregator.service import app
from aggregator.storage.spool import MemorySpool
from aggregator.wire.codec import encode
from aggregator.wire.messages import Chunk, Complaint, UploadHeader, UploadMessage, UploadReceipt
from tests.loopback import PATIENT, check_mean, hub, offers, parameters, raw, until
from tests.uploads import UPLOAD, Gate, uploading

N, CHEAT = 4, 3
SHAPE = (500_000,)  # two chunks
MIB = 1 << 20


def forging(forge):
    """Upload other parts."""
    return uploading(lambda inner, parts: inner.upload(forge(parts)))


def reheaded(parts, **changes):
    return [UploadMessage(replace(parts[0].body, **changes)), *parts[1:]]


def spilled(parts):
    """The three bits after the last word are set."""
    last = parts[-1].body
    return [*parts[:-1], UploadMessage(replace(last, data=bytes([*last.data[:-1], last.data[-1] | 0xE0])))]


def shortened(parts):
    last = parts[-1].body
    return [*parts[:-1], UploadMessage(replace(last, data=last.data[:-1]))]


SURPLUS = UploadMessage(Chunk(2, b"surplus"))
FORGERIES = {
    "too short a length": (lambda p: reheaded(p, payload_bytes=p[0].body.payload_bytes - 1), "client 3 announces"),
    "too great a length": (lambda p: reheaded(p, payload_bytes=10**9), "client 3 announces 1000000000 bytes"),
    "a chunk missing": (lambda p: p[:-1], "client 3 sent 1 of 2 chunks"),
    "all chunks missing": (lambda p: p[:1], "client 3 sent 0 of 2 chunks"),
    "a chunk too many": (lambda p: [*p, SURPLUS], "chunk 2 is surplus: the payload has 2 chunks"),
    "chunks swapped": (lambda p: [p[0], p[2], p[1]], "chunk 1 arrived, expected chunk 0"),
    "a chunk twice": (lambda p: [p[0], p[1], p[1], p[2]], "chunk 0 arrived, expected chunk 1"),
    "a chunk cut short": (shortened, "chunk 1 has"),
    "bits beyond the ring": (spilled, "client 3: chunk 1: bits beyond the last word of the ring"),
    "no header": (lambda p: p[1:], "an upload starts with its header"),
    "two headers": (lambda p: [p[0], p[0], *p[1:]], "an upload has one header, then chunks"),
    "a false complaint": (
        lambda p: reheaded(p, complaints=(Complaint(0, bytes(80)),)),
        "client 3 complains of a share that client 0 did not send",
    ),
    "a complaint of a stranger": (
        lambda p: reheaded(p, complaints=(Complaint(99, bytes(80)),)),
        "client 3 complains of client 99, who dealt nothing to it",
    ),
}


def unreduced(parts):
    """The residues of the last lane are all ones, which no prime is."""
    last = parts[-1].body
    return [*parts[:-1], UploadMessage(replace(last, data=bytes(last.data[:-4]) + b"\xff" * 4))]


LATTICE_FORGERIES = {
    "the key alone": (lambda p: p[:2], "client 3 sent 1 of 4 chunks"),
    "no key": (lambda p: [p[0], *p[2:]], "chunk 1 arrived, expected chunk 0"),
    "a residue that is not below its prime": (unreduced, "client 3: chunk 3: a residue is not below its prime"),
}


@pytest.mark.parametrize("lie", LATTICE_FORGERIES)
async def test_a_lattice_upload_that_lies_is_named_and_the_round_goes_on_without_it(tmp_path, lie):
    forge, named = LATTICE_FORGERIES[lie]
    offered, spec = offers(N, SHAPE), parameters(SHAPE, mode=Mode.LATTICE, clients_max=20)
    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how={CHEAT: forging(forge)})
    assert type(run.results[CHEAT]) is MessageError, run.results[CHEAT]
    assert named in str(run.results[CHEAT])
    check_mean(run, offered, range(CHEAT), spec.ring_bits)


@pytest.mark.parametrize("lie", FORGERIES)
async def test_an_upload_that_lies_is_named_and_the_round_goes_on_without_it(tmp_path, lie):
    """Of 21 bits a word, so that the last byte has room to spare; the client withdraws, so nobody waits."""
    forge, named = FORGERIES[lie]
    offered, spec = offers(N, SHAPE), parameters(SHAPE, clients_max=20)
    assert (spec.ring_bits, spec.entries * spec.ring_bits % 8) == (21, 5)
    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how={CHEAT: forging(forge)})
        assert type(run.results[CHEAT]) is MessageError, run.results[CHEAT]
        assert named in str(run.results[CHEAT])
        assert ("site-0003", "masked_input") in run.told("withdrew")
        check_mean(run, offered, range(N - 1), spec.ring_bits)


async def test_an_upload_repeated_after_it_was_accepted_counts_once(tmp_path):
    """And sends nothing but its header: a server that has its answer asks for no chunks."""
    gate, receipts, rest = Gate(), [], []

    async def twice(inner, parts):
        try:
            receipts.append(await inner.upload(parts))
            again = iter(parts)
            receipts.append(await inner.upload(again))
            rest.extend(again)
            receipts.append(await inner.upload(parts[:1]))
        finally:
            gate.open()
        return receipts[-1]

    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        run = await h.run_round(offered, calls={0: gate.hold}, how={CHEAT: uploading(twice)})
    assert receipts == [UploadReceipt(already_accepted=repeated) for repeated in (False, True, True)]
    assert len(rest) >= 1  # the second part is taken before the answer is known, and is not sent
    check_mean(run, offered, range(N), spec.ring_bits)


async def half_an_upload(inner, parts):
    """Header and first chunk; the stream stays open."""
    stream = inner._channel()._channel.stream_unary(UPLOAD)()
    for part in parts[:2]:
        await stream.write(encode(part))
    return stream


async def the_rest(stream, parts):
    """The last chunk; the server may have ended the call at any moment before."""
    with suppress(asyncio.InvalidStateError):
        await stream.write(encode(parts[2]))
        await stream.done_writing()


async def test_of_two_uploads_at_once_the_later_counts(tmp_path):
    gate, ends = Gate(), []

    async def both(inner, parts):
        try:
            first = await half_an_upload(inner, parts)
            receipt = await inner.upload(parts)
            await the_rest(first, parts)
            ends.append(await asyncio.gather(first, return_exceptions=True))
        finally:
            gate.open()
        return receipt

    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        run = await h.run_round(offered, calls={0: gate.hold}, how={CHEAT: uploading(both)})
        check_mean(run, offered, range(N), spec.ring_bits)
        error = h.calls.named(ends[0][0])
        assert isinstance(error, Disconnected)


async def test_a_half_arrived_upload_never_touches_the_sum_and_its_late_rest_is_refused(tmp_path):
    """late_input_destroyed: the rest comes when the round has gone on without it."""
    streams, spool = [], []

    async def half(inner, parts):
        stream = await half_an_upload(inner, parts)
        await until(lambda: spool[0].held_bytes >= len(parts[1].body.data))  # the server has staged the chunk
        streams.append((stream, parts))
        raise OutOfTurn("the test takes over")

    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "MemorySpool", lambda *args: spool.append(MemorySpool(*args)) or spool[-1])
        async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[CHEAT]) as own:
            await h.create(spec, replace(PATIENT, masked_input_s=2.0))

            async def over_its_own_line(_, parts):
                return await half(type("Line", (), {"_channel": lambda _: own})(), parts)

            run = await h.run_round(offered, how={CHEAT: uploading(over_its_own_line)})
            assert "went on without this client" in str(run.results[CHEAT])
            check_mean(run, offered, range(N - 1), spec.ring_bits)
            assert ("site-0003", "masked_input") in run.told("dropped")
            assert spool[0].held_bytes == 0, "its staging was destroyed"
            stream, parts = streams[0]
            await the_rest(stream, parts)
            (error,) = await asyncio.gather(stream, return_exceptions=True)
            assert isinstance(own.named(error), OutOfTurn)
            for header in (parts[0], UploadMessage(replace(parts[0].body, round=run.number + 1))):
                with pytest.raises(OutOfTurn):
                    await own.upward(UPLOAD, [header], UploadReceipt)
            lungs = UploadMessage(replace(parts[0].body, task="lungs"))
            with pytest.raises(NotFound, match="there is no task 'lungs' here"):
                await own.upward(UPLOAD, [lungs], UploadReceipt)


async def test_an_upload_before_any_round(tmp_path):
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as own:
        await h.create(parameters())
        with pytest.raises(OutOfTurn, match="round 1 is not the current one"):
            await own.upward(UPLOAD, [UploadMessage(UploadHeader("sepsis", 1, 12, (), bytes(16)))], UploadReceipt)


class SlowDisk(MemorySpool):
    """The first reading of an upload waits until the test lets it go on."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reading, self.go_on = threading.Event(), threading.Event()

    def stage(self):
        staged = super().stage()
        whole = staged.read

        def read(start, size):
            self.reading.set()
            assert self.go_on.wait(20)
            return whole(start, size)

        staged.read = read
        return staged


async def test_an_upload_whose_caller_leaves_while_it_is_added_counts_once(tmp_path, monkeypatch):
    """The stream breaks after the last chunk, in the midst of the addition; the upload comes again meanwhile."""
    gate, spools, receipts = Gate(), [], []

    async def leave(inner, parts):
        try:
            stream = await half_an_upload(inner, parts)
            await stream.write(encode(parts[2]))
            await stream.done_writing()
            await until(spools[0].reading.is_set)
            stream.cancel()
            again = asyncio.create_task(inner.upload(parts))
            await asyncio.wait([again], timeout=0.2)  # long enough to do harm, if the addition were not guarded
            spools[0].go_on.set()
            receipts.append(await again)
        finally:
            spools[0].go_on.set()
            gate.open()
        return receipts[0]

    monkeypatch.setattr(app, "MemorySpool", lambda *args: spools.append(SlowDisk(*args)) or spools[-1])
    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    hold = dict.fromkeys(range(CHEAT), gate.hold)
    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, calls=hold, how={CHEAT: uploading(leave)})
    assert receipts == [UploadReceipt(already_accepted=True)]
    assert run.told("answered").count(("site-0003", "masked_input")) == 1
    check_mean(run, offered, range(N), spec.ring_bits)


def full_disk(_):
    return open("/dev/full", "wb", buffering=0)


async def test_a_full_disk_is_named_to_its_client_and_the_round_goes_on(tmp_path, monkeypatch):
    """The memory for uploads is taken while the last site uploads, and the disk is full; the others come later."""
    gate, spools = Gate(), []

    def spool(budget, directory):
        spools.append(MemorySpool(budget, directory, open_file=full_disk))
        return spools[-1]

    async def crowded(inner, parts):
        assert spools[0].take(8 * MIB)
        try:
            return await inner.upload(parts)
        finally:
            spools[0].give_back(8 * MIB)
            gate.open()

    monkeypatch.setattr(app, "MemorySpool", spool)
    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    hold = dict.fromkeys(range(CHEAT), gate.hold)
    async with hub(tmp_path, N, staging_bytes=8 * MIB) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, calls=hold, how={CHEAT: uploading(crowded) | {"patience_s": 0.0}})
        assert isinstance(run.results[CHEAT], StorageError)
        assert str(run.results[CHEAT]) == "staging an upload: No space left on device"
        withdrawn = [event.detail for event in run.events if event.kind == "withdrew"]
        assert withdrawn == ["the site's input could not be delivered"]
        check_mean(run, offered, range(N - 1), spec.ring_bits)
        assert spools[0].held_bytes == 0
        again = await h.run_round(offered, base=run.operator.mean)
        check_mean(again, offered, range(N), spec.ring_bits)


async def test_a_disk_that_is_full_for_a_moment_costs_nothing(tmp_path, monkeypatch):
    """The first two files fail, later ones don't: the SDK tries again, and every input is in the sum once."""
    fails = [full_disk, full_disk]

    def open_file(directory):
        return fails.pop()(directory) if fails else TemporaryFile(dir=directory, buffering=0)

    monkeypatch.setattr(app, "MemorySpool", partial(MemorySpool, open_file=open_file))
    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    async with hub(tmp_path, N, staging_bytes=0) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered)
    assert not fails
    check_mean(run, offered, range(N), spec.ring_bits)
