from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import MessageError, ParameterError
from aggregator.wire.chunks import ChunkPlan, WordPlan
from aggregator.wire.codec import decode, encode
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk, ResultRequest, UploadHeader, UploadMessage

BITS = st.integers(1, 64)
WORDS_OF_THREE_CHUNKS = 3 * (1 << 20) * 8 // 64  # at 64 bits; fewer bits make fewer chunks of them


def payload_of(plan: ChunkPlan) -> bytes:
    """Every byte tells its place, so that a swapped or shifted one shows."""
    pattern = bytes(range(251))
    return (pattern * (plan.payload_bytes // 251 + 1))[: plan.payload_bytes]


def three_chunks() -> tuple[ChunkPlan, list[Chunk]]:
    plan = WordPlan.of(WORDS_OF_THREE_CHUNKS - 1000, 64)
    return plan, list(plan.cut(memoryview(payload_of(plan))))


def receive(plan: ChunkPlan, chunks: list[Chunk]) -> bytes:
    for expected, chunk in enumerate(chunks):
        plan.check(expected, chunk)
    assert len(chunks) == plan.chunks
    return b"".join(chunk.data for chunk in chunks)


@settings(deadline=None, max_examples=60)
@given(entries=st.integers(1, WORDS_OF_THREE_CHUNKS), bits=BITS)
def test_cut_check_and_join_give_the_payload(entries: int, bits: int) -> None:
    plan = WordPlan.of(entries, bits)
    assert (plan.payload_bytes - 1) * 8 < entries * bits <= plan.payload_bytes * 8
    payload = payload_of(plan)
    assert receive(plan, list(plan.cut(memoryview(payload)))) == payload


@given(bits=BITS, chunks=st.integers(1, 8), spare=st.integers(-1, 1))
def test_whole_chunks_and_their_neighbours(bits: int, chunks: int, spare: int) -> None:
    words = WordPlan.of(1, bits).chunk_words * chunks + spare
    assert WordPlan.of(words, bits).chunks == chunks + (spare > 0)


@given(entries=st.integers(1, 10**9), bits=BITS)
def test_chunks_hold_whole_words_and_are_near_the_limit(entries: int, bits: int) -> None:
    plan = WordPlan.of(entries, bits)
    assert plan.chunk_bytes * 8 == plan.chunk_words * bits
    assert CHUNK_BYTES_MAX - 64 < plan.chunk_bytes <= CHUNK_BYTES_MAX
    sizes = [plan.size(index) for index in range(plan.chunks)]
    assert sum(sizes) == plan.payload_bytes
    assert set(sizes[:-1]) <= {plan.chunk_bytes}
    assert 0 < sizes[-1] <= plan.chunk_bytes


@pytest.mark.parametrize("item", ["B", "I", "Q"])
def test_a_payload_is_measured_in_bytes_whatever_its_items(item: Literal["B", "I", "Q"]) -> None:
    plan = WordPlan.of(400_000, 32)
    payload = payload_of(plan)
    assert receive(plan, list(plan.cut(memoryview(payload).cast(item)))) == payload


def test_a_payload_is_cut_without_copies_and_no_chunk_can_change_it() -> None:
    plan = WordPlan.of(400_000, 32)
    payload = bytearray(payload_of(plan))
    for chunk in plan.cut(memoryview(payload)):
        assert isinstance(chunk.data, memoryview)
        assert chunk.data.obj is payload
        assert chunk.data.readonly


def test_a_chunk_is_measured_in_bytes_whatever_its_items() -> None:
    plan = WordPlan.of(2, 32)
    plan.check(0, Chunk(0, memoryview(bytes(8)).cast("I")))
    with pytest.raises(MessageError, match="chunk 0 has 32 bytes, expected 8"):
        plan.check(0, Chunk(0, memoryview(bytes(32)).cast("I")))


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_payload_of_another_length_is_not_cut(difference: int) -> None:
    plan = WordPlan.of(100, 26)
    with pytest.raises(ParameterError, match=f"{325 + difference} bytes, the plan has 325"):
        next(plan.cut(memoryview(bytes(325 + difference))))


def test_surplus_chunk() -> None:
    plan, chunks = three_chunks()
    with pytest.raises(MessageError, match="chunk 3 is surplus: the payload has 3 chunks"):
        receive(plan, [*chunks, Chunk(3, b"x")])


def test_missing_chunk() -> None:
    plan, chunks = three_chunks()
    with pytest.raises(MessageError, match="chunk 2 arrived, expected chunk 1"):
        receive(plan, [chunks[0], chunks[2]])


def test_reordered_chunks() -> None:
    plan, chunks = three_chunks()
    with pytest.raises(MessageError, match="chunk 1 arrived, expected chunk 0"):
        receive(plan, [chunks[1], chunks[0], chunks[2]])


def test_repeated_chunk() -> None:
    plan, chunks = three_chunks()
    with pytest.raises(MessageError, match="chunk 0 arrived, expected chunk 1"):
        receive(plan, [chunks[0], *chunks])


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("difference", [-1, 1])
def test_short_and_long_chunks(index: int, difference: int) -> None:
    plan, chunks = three_chunks()
    size = plan.size(index)
    chunks[index] = Chunk(index, bytes(size + difference))
    with pytest.raises(MessageError, match=f"chunk {index} has {size + difference} bytes, expected {size}"):
        receive(plan, chunks)


LONGEST = [WordPlan.of(10**9, 64), ChunkPlan(12 * 10**9 + 16_384, 21 * 49_152, head_bytes=16_384)]


@pytest.mark.parametrize("plan", LONGEST)
def test_a_payload_of_gigabytes_is_counted_to_its_end(plan: ChunkPlan) -> None:
    """The longest of both modes: 8 and 12 GB; offsets and lengths are beyond 32 bits, and so are those on the wire."""
    last = plan.chunks - 1
    assert plan.start(last) + plan.size(last) == plan.payload_bytes > 2**32
    assert plan.start(last // 2) + plan.size(last // 2) == plan.start(last // 2 + 1)
    header = UploadHeader("sepsis", 1, plan.payload_bytes, (), bytes(16))
    assert decode(UploadMessage, encode(UploadMessage(header))).body == header
    assert decode(ResultRequest, encode(ResultRequest("sepsis", 1, plan.chunks))).first_chunk == plan.chunks
