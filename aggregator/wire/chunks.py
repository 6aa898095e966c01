"""How a payload travels: chunks of about 1 MiB, each of which can be checked and added alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from aggregator.errors import MessageError, ParameterError
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Where a payload is cut: every chunk has `chunk_bytes`, but for the last, and for a head where there is one.

    Args:
        payload_bytes: of all chunks together, at least 1.
        chunk_bytes: of one chunk, at most 1 MiB.
        head_bytes: of a first chunk that is of another kind than the rest; 0 for none.
    """

    payload_bytes: int
    chunk_bytes: int
    head_bytes: int = 0

    @property
    def chunks(self) -> int:
        """How many chunks the payload makes."""
        return (self.head_bytes > 0) - (self.head_bytes - self.payload_bytes) // self.chunk_bytes

    def start(self, index: int) -> int:
        """Where chunk `index` begins, in bytes of the payload."""
        if not self.head_bytes:
            return index * self.chunk_bytes
        return self.head_bytes + (index - 1) * self.chunk_bytes if index else 0

    def size(self, index: int) -> int:
        """Bytes of chunk `index`."""
        whole = self.head_bytes if self.head_bytes and not index else self.chunk_bytes
        return min(whole, self.payload_bytes - self.start(index))

    def cut(self, payload: memoryview) -> Iterator[Chunk]:
        """Cut a payload into read-only views of it: it must not change while chunks are in use.

        Raises:
            ParameterError: the payload has not the plan's length.
        """
        if payload.nbytes != self.payload_bytes:
            raise ParameterError(f"a payload of {payload.nbytes} bytes, the plan has {self.payload_bytes}")
        octets = payload.toreadonly().cast("B")
        for index in range(self.chunks):
            start = self.start(index)
            yield Chunk(index, octets[start : start + self.size(index)])

    def check(self, expected_index: int, chunk: Chunk) -> None:
        """Refuse a chunk that is not the next one, whole.

        Raises:
            MessageError: surplus, out of order, or of another size than the plan gives.
        """
        if expected_index >= self.chunks:
            raise MessageError(f"chunk {chunk.index} is surplus: the payload has {self.chunks} chunks")
        if chunk.index != expected_index:
            raise MessageError(f"chunk {chunk.index} arrived, expected chunk {expected_index}")
        size = memoryview(chunk.data).nbytes
        if size != self.size(expected_index):
            raise MessageError(f"chunk {chunk.index} has {size} bytes, expected {self.size(expected_index)}")


@dataclass(frozen=True, slots=True)
class WordPlan(ChunkPlan):
    """The plan of a packed vector: every chunk holds whole words of `word_bits`; made by `of`."""

    word_bits: int = 0

    @classmethod
    def of(cls, entries: int, word_bits: int) -> "WordPlan":
        """The plan for `entries` packed words; 8 words fill `word_bits` whole bytes, hence the chunks' size."""
        return cls(-(-entries * word_bits // 8), CHUNK_BYTES_MAX // word_bits * word_bits, word_bits=word_bits)

    @property
    def chunk_words(self) -> int:
        """Words of every chunk but the last."""
        return self.chunk_bytes // self.word_bits * 8

    def words(self, index: int) -> slice:
        """Which words of the vector chunk `index` holds."""
        return slice(index * self.chunk_words, (index + 1) * self.chunk_words)
