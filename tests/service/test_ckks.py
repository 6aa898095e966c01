"""CKKS vectors over gRPC: TenSEAL encrypts, the service sums, TenSEAL decrypts; what is not a vector is refused."""

import asyncio
import logging
import re
import struct
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tenseal
import zstandard

import clients
from aggregator.crypto.certificates import Role
from aggregator.crypto.seal_format import (
    MAGIC,
    MAJOR,
    MINOR,
    ZSTD,
    read_ciphertext,
    split_vector,
    write_ciphertext,
    write_vector,
)
from aggregator.errors import (
    Disconnected,
    MessageError,
    NotAdmitted,
    NotOffered,
    Overloaded,
    ParameterError,
    StorageError,
)
from aggregator.protocol import ckks
from aggregator.service import ckks_service
from aggregator.storage.spool import MemorySpool
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.ckks_messages import CkksAnswer, CkksGoOn, CkksHeader, CkksMessage, CkksSum, CkksVector
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk
from tests.ciphertexts import CKKS_LEVEL, ckks_context
from tests.loopback import hub, issued, operator, raw, until

GUIDE = Path(__file__).parents[2] / "docs" / "ckks.md"
SUM = "/sangam.v1.Ckks/Sum"
MIB = 1 << 20


@cache
def values(client, entries):
    return np.random.default_rng(client).uniform(-8, 8, entries)


@cache
def vector(client, entries):
    return tenseal.ckks_vector(ckks_context(), values(client, entries)).serialize()


def decrypted(data):
    return np.array(tenseal.ckks_vector_from(ckks_context(), data).decrypt())


def close_to(data, clients, entries):
    want = np.sum([values(client, entries) for client in clients], axis=0)
    return np.abs(decrypted(data) - want).max() < 1e-6 * np.abs(want).max()


@pytest.mark.parametrize("entries", [1, 4_096, 40_000])
async def test_tenseal_decrypts_what_the_service_sums(tmp_path, capfd, entries):
    async with hub(tmp_path, 2, ckks=True) as h:
        total = await h.operator.sum_ckks(vector(client, entries) for client in range(3))
    assert close_to(total, range(3), entries)


async def test_the_guides_example(tmp_path, capfd):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    operator().save(tmp_path / "operator")
    async with hub(tmp_path, 2, ckks=True) as h:
        for old, new in {"aggregator:7443": h.address, "operator/": str(tmp_path / "operator")}.items():
            assert old in code
            code = code.replace(old, new)
        scope = {}
        exec(code, scope)
        found = await scope["encrypted_sum"]([vector(0, 8), vector(1, 8)], ckks_context())
    assert close_to(found.serialize(), range(2), 8)


async def test_sums_beside_each_other_and_without_asyncio(tmp_path, capfd):
    def blocking(address):
        with clients.operate_blocking(address, issued("other", Role.OPERATOR)) as leader:
            return leader.sum_ckks([vector(0, 5_000), vector(3, 5_000)])

    async with hub(tmp_path, 2, ckks=True) as h:
        one, two, three = await asyncio.gather(
            h.operator.sum_ckks([vector(0, 5_000), vector(1, 5_000)]),
            h.operator.sum_ckks([vector(2, 300)] * 5),
            asyncio.to_thread(blocking, h.address),
        )
    assert close_to(one, [0, 1], 5_000)
    assert close_to(two, [2] * 5, 300)
    assert close_to(three, [0, 3], 5_000)


def with_residue(entries, residue):
    """A vector whose last residue is another, compressed as TenSEAL does."""
    bad = read_ciphertext(split_vector(vector(0, entries), [entries], CKKS_LEVEL)[0], CKKS_LEVEL).copy()
    bad[-1, -1, -1] = residue
    return write_vector([bad], [entries], CKKS_LEVEL)


def bomb():
    """A gibibyte in 33 KB, which does not say so."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    frame = b"".join([*(compressor.compress(bytes(1 << 24)) for _ in range(64)), compressor.flush()])
    return enveloped(struct.pack("<HBBBBHQ", MAGIC, 16, MAJOR, MINOR, ZSTD, 0, 16 + len(frame)) + frame)


def enveloped(ciphertext):
    """A vector of 8 values around what stands for its ciphertext."""
    whole = write_vector([np.zeros(CKKS_LEVEL.shape, np.uint64)], [8], CKKS_LEVEL)
    honest = write_ciphertext(np.zeros(CKKS_LEVEL.shape, np.uint64), CKKS_LEVEL)
    start = whole[: whole.index(honest)]
    head, number, length = start[:4], bytearray(), len(ciphertext)
    while length > 0x7F:
        number.append(length & 0x7F | 0x80)
        length >>= 7
    return head + bytes([*number, length]) + ciphertext + whole[-9:]


def other_context():
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[50, 40, 40])
    context.global_scale = 2**40
    return tenseal.ckks_vector(context, [1.0] * 8).serialize()


MALFORMED = {
    "truncated": (lambda: vector(0, 8)[:-1], "vector 1: 8 bytes behind the last ciphertext are not its scale"),
    "truncated in its ciphertext": (lambda: vector(0, 8)[:5_000], "vector 1: ciphertext 0 of .* bytes, there are"),
    "surplus": (lambda: vector(0, 8) + b"\0", "vector 1: 10 bytes behind the last ciphertext are not its scale"),
    "another length": (lambda: vector(0, 9), "vector 1: its sizes are not those of 8 values in 1 ciphertexts"),
    "oversized": (lambda: bytes(ckks.vector_bytes_max(8) + 1), "vector 1: 2.* bytes, a vector of 8 values has at most"),
    "zip bomb": (bomb, "vector 1: ciphertext 0: ciphertext: not one zstd frame of 262241 bytes"),
    "wrong parameters": (
        other_context,
        "vector 1: ciphertext 0: ciphertext: of another parameters' hash",
    ),
    "residue": (lambda: with_residue(8, ckks.PARAMETERS.primes[1]), "vector 1: ciphertext 0: a residue is not below"),
    "largest residue": (lambda: with_residue(8, 2**64 - 1), "vector 1: ciphertext 0: a residue is not below"),
    "length that lies": (lambda: vector(0, 8)[:4] + b"\xff" * 12, "vector 1: a length without an end"),
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_vector_is_refused_by_its_index_and_the_server_lives(tmp_path, capfd, bad):
    make, says = bad
    async with hub(tmp_path, 2, ckks=True) as h:
        with pytest.raises(MessageError, match=says):
            await h.operator.sum_ckks([vector(0, 8), make(), vector(1, 8)])
        assert close_to(await h.operator.sum_ckks([vector(0, 8), vector(1, 8)]), range(2), 8)


GO_ON, END = object(), object()


async def said(channel, *steps):
    """Say bodies, wait for `GO_ON`, `END` the stream; then all that is still heard, up to the sum or an error."""
    async with channel.stream(SUM, CkksAnswer) as stream:
        for step in steps:
            if step is GO_ON:
                assert isinstance((await stream.receive()).body, CkksGoOn)
            elif step is END:
                await stream.done()
            else:
                await stream.send(CkksMessage(step))
        heard = [(await stream.receive()).body]
        while not isinstance(heard[-1], CkksSum):
            heard.append((await stream.receive()).body)
    return heard


GOOD = vector(0, 8)
BEGUN = (CkksHeader(8), GO_ON)
ADDED = (CkksVector(len(GOOD)), GO_ON, Chunk(0, GOOD), GO_ON)
SUMMED = (*BEGUN, *ADDED, END)
LIES = {
    "nothing": ((END,), "starts with its header"),
    "a vector before the header": ((CkksVector(9),), "starts with its header"),
    "no vectors": ((*BEGUN, END), "a sum of no vectors"),
    "two headers": ((*BEGUN, CkksHeader(8)), "vector 0: its length must come first"),
    "a chunk before its vector": ((*BEGUN, Chunk(0, GOOD)), "vector 0: its length must come first"),
    "a length too long": ((*BEGUN, CkksVector(1 << 20)), "vector 0: 1048576 bytes, a vector of 8 values"),
    "a length too short": (
        (*BEGUN, CkksVector(9), GO_ON, Chunk(0, GOOD)),
        r"vector 0: chunk 0 has \d+ bytes, expected 9",
    ),
    "the stream ends in a vector": ((*BEGUN, *ADDED, CkksVector(9), GO_ON, END), "vector 1: 0 of 1 chunks came"),
    "a vector in a vector": ((*BEGUN, CkksVector(9), GO_ON, CkksVector(9)), "vector 0: 0 of 1 chunks came"),
    "a surplus chunk": ((*BEGUN, *ADDED, Chunk(1, b"more")), "vector 1: its length must come first"),
    "not the next chunk": ((*BEGUN, CkksVector(9), GO_ON, Chunk(1, bytes(9))), "chunk 1 arrived, expected chunk 0"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_streams_that_lie(tmp_path, capfd, lie):
    steps, says = lie
    async with hub(tmp_path, 2, ckks=True) as h:
        with pytest.raises(MessageError, match=says):
            await said(h.calls, *steps)
        assert await said(h.calls, *SUMMED) == [CkksSum(1, ckks.sum_bytes(8))]


async def test_the_service_is_off_unless_switched_on(tmp_path):
    async with hub(tmp_path, 2) as h:
        with pytest.raises(
            NotOffered, match="does not sum CKKS vectors; whoever runs it can switch that on: sangam serve"
        ):
            await h.operator.sum_ckks([GOOD])


async def test_a_server_that_has_never_heard_of_it(tmp_path):
    async with hub(tmp_path, 2) as h, h.calls.stream("/sangam.v1.Ckks/Product", CkksAnswer) as stream:
        with pytest.raises(NotOffered, match="is of another version and does not know this call"):
            await stream.receive()


async def test_it_is_for_operators(tmp_path):
    async with hub(tmp_path, 2, ckks=True) as h, raw(h.address, h.consortium.identities[0]) as channel:
        with pytest.raises(NotAdmitted, match="certified as participant, this call is for operator"):
            await said(channel, CkksHeader(8))


async def test_a_sum_beyond_the_servers_memory_is_refused_before_it_is_allocated(tmp_path):
    async with hub(tmp_path, 2, ckks=True, ckks_bytes=MIB) as h:
        with pytest.raises(
            ParameterError, match=r"a sum of 1000000000 values takes 61035 MiB, this server has 1 \(ckks"
        ):
            await said(h.calls, CkksHeader(10**9))
        async with h.calls.stream(SUM, CkksAnswer) as stream:
            await stream.send(CkksMessage(CkksHeader(4 * ckks.SLOTS)))
            assert (await stream.receive()).body == CkksGoOn(0)  # it holds all that there is
            with pytest.raises(Overloaded, match="other CKKS sums hold 1 of 1 MiB"):
                await said(h.calls, CkksHeader(1))
        assert await again_until_there_is_room(h.calls) == [CkksSum(1, ckks.sum_bytes(8))]


async def again_until_there_is_room(channel):
    """A caller who left may not have been missed yet."""
    while True:
        try:
            return await said(channel, *SUMMED)
        except Overloaded:
            await asyncio.sleep(0)


class Stand:
    """The service without a line: one caller, whose messages a test writes."""

    def __init__(self, spool=None, budget_bytes=1 << 30, **options):
        self.spool = spool or MemorySpool()
        turns = ckks_service.Turns()
        self.service = ckks_service.CkksService(self.spool, turns, map, budget_bytes, **options)
        self.caller = issued("operator", Role.OPERATOR).certificate

    async def sum(self, messages):
        return [answer.body async for answer in self.service.sum(self.caller, messages)]


async def whole(data, vectors, entries):
    yield CkksMessage(CkksHeader(entries))
    for _ in range(vectors):
        yield CkksMessage(CkksVector(len(data)))
        for chunk in ChunkPlan(len(data), CHUNK_BYTES_MAX).cut(memoryview(data)):
            yield CkksMessage(chunk)


async def test_a_silent_caller_is_not_waited_for_for_ever():
    stand = Stand(idle_s=0.01)
    silent = asyncio.Event()

    async def messages():
        yield CkksMessage(CkksHeader(8))
        await silent.wait()

    with pytest.raises(Disconnected, match=r"nothing has come for 0\.01 s"):
        await stand.sum(messages())
    assert stand.service.held_bytes == 0


async def test_who_leaves_in_the_midst_leaves_nothing():
    stand = Stand()
    answers = stand.service.sum(stand.caller, whole(GOOD, 2, 8))
    assert [(await anext(answers)).body for _ in range(3)] == [CkksGoOn(0), CkksGoOn(0), CkksGoOn(1)]
    assert stand.service.held_bytes == ckks.memory_bytes(8)
    await answers.aclose()
    assert stand.service.held_bytes == stand.spool.held_bytes == 0


async def test_cancelled_while_it_adds_it_gives_memory_back_when_that_has_ended(monkeypatch):
    stand, begun = Stand(), asyncio.Event()
    loop, gate = asyncio.get_running_loop(), asyncio.Event()
    held = []

    def slow(self, source, size, each):
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        held.append(stand.service.held_bytes)

    monkeypatch.setattr(ckks.Total, "add_stored", slow)
    summing = asyncio.create_task(stand.sum(whole(GOOD, 1, 8)))
    await begun.wait()
    summing.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await summing
    assert held == [ckks.memory_bytes(8)]
    await until(lambda: stand.service.held_bytes == stand.spool.held_bytes == 0)


@pytest.mark.parametrize("staging_bytes", [0, 256 * MIB])
async def test_memory_is_the_sum_and_the_staging_budget(tmp_path, capfd, staging_bytes):
    """Eight vectors of 1 MiB of values each: the sum, one vector where it may stay in memory, and a little.

    What two threads hold of a vector at once depends on the other work of the machine: 4 MiB of eight were seen.
    """
    entries = 16 * ckks.SLOTS
    data, stand = vector(0, entries), Stand(MemorySpool(staging_bytes, tmp_path))
    await stand.sum(whole(GOOD, 1, 8))
    tracemalloc.start()
    try:
        async for answer in stand.service.sum(stand.caller, whole(data, 8, entries)):
            if isinstance(answer.body, CkksSum):
                assert stand.service.held_bytes == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    total = ckks.memory_bytes(entries)
    staged = ckks.sum_bytes(entries) if staging_bytes else 0
    assert total <= peak < total + staged + 5 * MIB
    assert stand.spool.held_bytes == 0


async def test_a_full_disk_ends_the_call_and_nothing_else():
    def full(_):
        raise OSError(28, "No space left on device")

    stand = Stand(MemorySpool(0, open_file=full))
    with pytest.raises(StorageError, match="No space left"):
        await stand.sum(whole(GOOD, 1, 8))
    assert stand.service.held_bytes == 0


async def test_a_full_disk_is_named_even_in_the_midst_of_a_vector(tmp_path, capfd):
    async with hub(tmp_path, 2, ckks=True, staging_bytes=0, staging_directory=tmp_path / "none") as h:
        with pytest.raises(StorageError, match="No such file or directory"):
            await h.operator.sum_ckks([vector(0, 40_000)])


async def test_vectors_without_end(monkeypatch):
    monkeypatch.setattr(ckks_service, "VECTORS_MAX", 2)
    with pytest.raises(MessageError, match="vector 2: one sum has at most 2 vectors"):
        await Stand().sum(whole(GOOD, 3, 8))


async def test_what_is_wrong_before_anything_is_sent(tmp_path):
    async with hub(tmp_path, 2, ckks=True) as h:
        for vectors, kind, says in (
            ([], ParameterError, "there are no vectors to sum"),
            ([b""], MessageError, "does not begin with its sizes"),
            ([b"\x12"], MessageError, "does not begin with its sizes"),
            ([b"\x0a\x05\x08"], MessageError, "sizes of 5 bytes, there are 1"),
            ([b"\x0a\x00"], MessageError, "CkksHeader.values: 0 is outside"),
            ([GOOD, b""], ParameterError, "vector 1 is empty"),
        ):
            with pytest.raises(kind, match=re.escape(says)):
                await h.operator.sum_ckks(vectors)


async def test_no_value_is_logged(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "aggregator")
    async with hub(tmp_path, 2, ckks=True) as h:
        with pytest.raises(MessageError):
            await h.operator.sum_ckks([GOOD, GOOD[:-1]])
    assert not [record for record in caplog.records if record.name.startswith("aggregator")]
