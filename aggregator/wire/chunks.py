"""How a packed vector travels: chunks of about 1 MiB that each hold whole words, so that each can be added alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from aggregator.errors import MessageError, ParameterError
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Where a payload is cut: every chunk but the last has `chunk_bytes`."""

    payload_bytes: int
    word_bits: int

    @classmethod
    def of_words(cls, entries: int, word_bits: int) -> "ChunkPlan":
        """The plan for `entries` packed words; 8 words fill `word_bits` whole bytes, hence the size."""
        return cls(-(-entries * word_bits // 8), word_bits)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of every chunk but the last, at most 1 MiB."""
        return CHUNK_BYTES_MAX // self.word_bits * self.word_bits

    @property
    def chunk_words(self) -> int:
        """Words of every chunk but the last."""
        return self.chunk_bytes // self.word_bits * 8

    @property
    def chunks(self) -> int:
        """How many chunks the payload makes."""
        return -(-self.payload_bytes // self.chunk_bytes)

    def words(self, index: int) -> slice:
        """Which words of the vector chunk `index` holds."""
        return slice(index * self.chunk_words, (index + 1) * self.chunk_words)

    def size(self, index: int) -> int:
        """Bytes of chunk `index`."""
        return min(self.chunk_bytes, self.payload_bytes - index * self.chunk_bytes)

    def cut(self, payload: memoryview) -> Iterator[Chunk]:
        """Cut a payload; the bytes are copied chunk by chunk.

        Raises:
            ParameterError: the payload has not the plan's length.
        """
        if payload.nbytes != self.payload_bytes:
            raise ParameterError(f"a payload of {payload.nbytes} bytes, the plan has {self.payload_bytes}")
        octets = payload.cast("B")
        for index in range(self.chunks):
            start = index * self.chunk_bytes
            yield Chunk(index, bytes(octets[start : start + self.size(index)]))

    def check(self, expected_index: int, chunk: Chunk) -> None:
        """Refuse a chunk that is not the next one, whole.

        Raises:
            MessageError: surplus, out of order, or of another size than the plan gives.
        """
        if expected_index >= self.chunks:
            raise MessageError(f"chunk {chunk.index} is surplus: the payload has {self.chunks} chunks")
        if chunk.index != expected_index:
            raise MessageError(f"chunk {chunk.index} arrived, expected chunk {expected_index}")
        if len(chunk.data) != self.size(expected_index):
            raise MessageError(f"chunk {chunk.index} has {len(chunk.data)} bytes, expected {self.size(expected_index)}")
