import numpy as np
import pytest

from aggregator.wire.messages import Chunk, UploadMessage

SAME = [b"words", memoryview(b"words"), memoryview(b"12words")[2:], memoryview(bytearray(b"words"))]
ARRAY = memoryview(np.frombuffer(b"words", np.uint8))


@pytest.mark.parametrize("data", [*SAME, ARRAY])
def test_a_chunk_is_what_its_bytes_are(data: bytes | memoryview) -> None:
    chunk, other = Chunk(3, b"words"), Chunk(3, data)
    assert chunk == other
    assert other == chunk
    assert hash(chunk) == hash(other)
    assert {UploadMessage(chunk)} == {UploadMessage(other)}
    assert Chunk(3, b"word_") != other
    assert Chunk(4, b"words") != other


@pytest.mark.parametrize("data", SAME)
def test_a_chunk_shows_where_it_belongs_and_not_a_mebibyte(data: bytes | memoryview) -> None:
    assert repr(Chunk(3, data)) == "Chunk(index=3)"
