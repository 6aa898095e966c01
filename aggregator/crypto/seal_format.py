"""The bytes of TenSEAL's vectors and of SEAL's ciphertexts: read with every length checked, written without SEAL.

SEAL's own loader is never handed what another party sent: it has known holes. What is read here is bounded before
anything is allocated, and every word that is not a residue has one allowed value.

    vector      protobuf {1: values in each ciphertext, packed varints; 2: ciphertext ...; 3: scale (CKKS), a double}
    ciphertext  header (16 bytes: 0xA15E, 16, version 4.x, compression, 0, bytes in all), then, perhaps as a zstd frame,
    content     parameters' hash (32) | transformed (1) | polynomials | n | primes | scale | correction | header | words
                and the residues, uint64, [polynomials, primes, n]; integers of 8 bytes; all little-endian

Sizes of a vector are its public length cut into ciphertexts, so a reader knows every count beforehand.

Source: SEAL's Serialization and Ciphertext::save_members, TenSEAL's tensors.proto; as TenSEAL 0.3.18 writes them.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import zstandard

from aggregator.crypto.seal_parameters import Scheme, SealParameters
from aggregator.errors import MessageError

Longs: TypeAlias = npt.NDArray[np.uint64]
Octets: TypeAlias = bytes | memoryview

MAGIC: Final = 0xA15E
MAJOR, MINOR = 4, 3
NO_COMPRESSION, ZSTD = 0, 2
POLYNOMIALS: Final = 2
WINDOW_BYTES_MAX: Final = 1 << 23  # SEAL's frames ask for 2 MiB
_SIZES_TAG, _CIPHERTEXT_TAG, _SCALE_TAG = 0x0A, 0x12, 0x19
_VARINT_BYTES_MAX: Final = 9  # of a length below 2^63
_HEADER: Final = struct.Struct("<HBBBBHQ")
_CONTENT: Final = struct.Struct("<32sBQQQdQ")
_WORDS: Final = struct.Struct("<Q")
HEAD_BYTES: Final = _CONTENT.size + _HEADER.size + _WORDS.size
ZSTD_SPARE_BYTES: Final = 1 << 10  # a frame of incompressible blocks is longer than its content by 3 bytes in 128 KiB


@dataclass(frozen=True)
class Level:
    """What all ciphertexts of one kind have in common: everything but their residues.

    Args:
        parameters: the set.
        primes: those of this level.
        transformed: whether polynomials are given by their values (keys, CKKS) and not by coefficients.
        scale: of CKKS, else 1.
    """

    parameters: SealParameters
    primes: tuple[int, ...]
    transformed: bool
    scale: float = 1.0

    @classmethod
    def of_ciphertexts(cls, parameters: SealParameters, scale: float = 1.0) -> "Level":
        """The level of fresh ciphertexts."""
        return cls(parameters, parameters.primes, parameters.scheme is Scheme.CKKS, scale)

    @classmethod
    def of_public_keys(cls, parameters: SealParameters) -> "Level":
        """The level of public keys."""
        return cls(parameters, parameters.key_primes, True)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[polynomials, primes, n]."""
        return POLYNOMIALS, len(self.primes), self.parameters.degree

    @property
    def content_bytes(self) -> int:
        """Of one ciphertext, without its header."""
        polynomials, primes, degree = self.shape
        return HEAD_BYTES + 8 * polynomials * primes * degree

    @property
    def ciphertext_bytes(self) -> int:
        """Of one ciphertext that is not compressed."""
        return _HEADER.size + self.content_bytes

    @property
    def ciphertext_bytes_max(self) -> int:
        """Of one ciphertext, compressed or not."""
        return self.ciphertext_bytes + ZSTD_SPARE_BYTES

    @cached_property
    def head(self) -> bytes:
        """What comes before the residues: the same bytes in every ciphertext of this level."""
        polynomials, primes, degree = self.shape
        words = polynomials * primes * degree
        fixed = _CONTENT.pack(
            self.parameters.parameters_id(self.primes), self.transformed, polynomials, degree, primes, self.scale, 1
        )
        return fixed + _header(NO_COMPRESSION, _HEADER.size + _WORDS.size + 8 * words) + _WORDS.pack(words)


def read_ciphertext(data: Octets, level: Level) -> Longs:
    """The residues of one ciphertext, uint64[2, primes, n], at any address; whether they are below is not looked at.

    Raises:
        MessageError: another length, version, compression or level, or a frame that does not hold just that much.
    """
    if not _HEADER.size <= len(data) <= level.ciphertext_bytes_max:
        raise MessageError(f"ciphertext: {len(data)} bytes, expected {_HEADER.size} to {level.ciphertext_bytes_max}")
    magic, header_bytes, major, minor, compression, reserved, total = _HEADER.unpack_from(data)
    if (magic, header_bytes, major, reserved) != (MAGIC, _HEADER.size, MAJOR, 0):
        raise MessageError(f"ciphertext: no header of SEAL {MAJOR} (magic {magic:#06x}, version {major}.{minor})")
    if total != len(data):
        raise MessageError(f"ciphertext: the header says {total} bytes, there are {len(data)}")
    if compression == ZSTD:
        content: Octets = _decompressed(memoryview(data)[_HEADER.size :], level.content_bytes)
    elif compression == NO_COMPRESSION:
        content = memoryview(data)[_HEADER.size :]
    else:
        raise MessageError(f"ciphertext: compression {compression} is not known here")
    _check_content(content, level)
    return np.frombuffer(content, np.dtype("<u8"), offset=HEAD_BYTES).reshape(level.shape)


def _decompressed(frame: memoryview, size: int) -> bytes:
    """At most `size` bytes are made, whatever the frame says of itself."""
    try:
        said = zstandard.get_frame_parameters(frame).content_size
        if said not in (zstandard.CONTENTSIZE_UNKNOWN, size):
            raise MessageError(f"ciphertext: the frame says that it holds {said} bytes, expected {size}")
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        return reader.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise MessageError(f"ciphertext: not one zstd frame of {size} bytes") from None


def _check_content(content: Octets, level: Level) -> None:
    """The head is known to the byte; what differs is named."""
    if len(content) != level.content_bytes:
        raise MessageError(f"ciphertext: {len(content)} bytes of content, expected {level.content_bytes}")
    if content[:HEAD_BYTES] == level.head:
        return
    found, wanted = _CONTENT.unpack_from(content), _CONTENT.unpack_from(level.head)
    names = ("parameters' hash", "form", "number of polynomials", "degree", "number of primes", "scale", "correction")
    for name, ours, theirs in zip(names, wanted, found, strict=True):
        if ours != theirs:
            raise MessageError(f"ciphertext: of another {name}")
    raise MessageError("ciphertext: of another number of residues")


def write_ciphertext(residues: Longs, level: Level) -> bytes:
    """One ciphertext, uncompressed, as SEAL loads it; residues uint64[2, primes, n]."""
    return b"".join(
        [_header(NO_COMPRESSION, level.ciphertext_bytes), level.head, np.ascontiguousarray(residues, "<u8").tobytes()]
    )


def _header(compression: int, total: int) -> bytes:
    return _HEADER.pack(MAGIC, _HEADER.size, MAJOR, MINOR, compression, 0, total)


class Source(Protocol):
    """Bytes that lie elsewhere, perhaps on disk, and that do not change; `storage.base.Staged` is one."""

    def read(self, start: int, size: int) -> Octets:
        """`size` bytes from `start`, all of which are there."""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes in memory as a source."""

    view: memoryview

    def read(self, start: int, size: int) -> memoryview:
        """A view; nothing is copied."""
        return self.view[start : start + size]


def find_ciphertexts(source: Source, size: int, sizes: Sequence[int], level: Level) -> list[range]:
    """Where a vector's ciphertexts lie, for `read_ciphertext`; none of them is longer than one can be.

    Args:
        source: the vector as `serialize()` gives it.
        size: its bytes.
        sizes: how many values each ciphertext holds; known beforehand.
        level: of the ciphertexts.

    Raises:
        MessageError: another number of values or ciphertexts, surplus bytes, or another scale.
    """
    start, found = _sizes_field(sizes), list[range]()
    if size < len(start) or source.read(0, len(start)) != start:
        raise MessageError(f"vector: its sizes are not those of {sum(sizes)} values in {len(sizes)} ciphertexts")
    at = len(start)
    for index in range(len(sizes)):
        head = memoryview(source.read(at, min(1 + _VARINT_BYTES_MAX, size - at)))
        if not head or head[0] != _CIPHERTEXT_TAG:
            raise MessageError(f"vector: {index} ciphertexts, expected {len(sizes)}")
        length, rest = _read_varint(head[1:])
        at += len(head) - len(rest)
        if length > min(size - at, level.ciphertext_bytes_max):
            raise MessageError(f"vector: ciphertext {index} of {length} bytes, there are {size - at}")
        found.append(range(at, at + length))
        at += length
    end = _end(level)
    if size - at != len(end) or source.read(at, len(end)) != end:
        raise MessageError(f"vector: {size - at} bytes behind the last ciphertext are not its scale")
    return found


def split_vector(data: Octets, sizes: Sequence[int], level: Level) -> list[memoryview]:
    """The ciphertexts of a vector in memory, as views; else as `find_ciphertexts`."""
    view = memoryview(data)
    return [view[found.start : found.stop] for found in find_ciphertexts(Held(view), len(view), sizes, level)]


def vector_values(data: Octets) -> int:
    """How many values a vector says that it has; no more of it is looked at.

    Raises:
        MessageError: it does not begin as a vector does.
    """
    view = memoryview(data)
    if not view or view[0] != _SIZES_TAG:
        raise MessageError("vector: it does not begin with its sizes")
    length, view = _read_varint(view[1:])
    if length > len(view):
        raise MessageError(f"vector: sizes of {length} bytes, there are {len(view)}")
    values, view = 0, view[:length]
    while view:
        size, view = _read_varint(view)
        values += size
    return values


def vector_bytes(sizes: Sequence[int], level: Level, ciphertext_bytes: int) -> int:
    """Bytes of a vector whose ciphertexts have so many each."""
    one = 1 + len(_varint(ciphertext_bytes)) + ciphertext_bytes
    return len(_sizes_field(sizes)) + len(sizes) * one + len(_end(level))


def vector_pieces(ciphertexts: Iterable[Longs], sizes: Sequence[int], level: Level) -> Iterator[bytes]:
    """A vector as TenSEAL loads it, uncompressed, piece by piece; residues uint64[2, primes, n] by ciphertext."""
    yield _sizes_field(sizes)
    for residues in ciphertexts:
        written = write_ciphertext(residues, level)
        yield bytes([_CIPHERTEXT_TAG]) + _varint(len(written))
        yield written
    yield _end(level)


def write_vector(ciphertexts: Iterable[Longs], sizes: Sequence[int], level: Level) -> bytes:
    """The same in one."""
    return b"".join(vector_pieces(ciphertexts, sizes, level))


def _sizes_field(sizes: Sequence[int]) -> bytes:
    packed = b"".join([_varint(size) for size in sizes])
    return bytes([_SIZES_TAG]) + _varint(len(packed)) + packed


def _end(level: Level) -> bytes:
    """What comes behind the ciphertexts: the scale, in CKKS."""
    return struct.pack("<Bd", _SCALE_TAG, level.scale) if level.parameters.scheme is Scheme.CKKS else b""


def read_field(data: Octets, number: int) -> memoryview:
    """The first length-delimited field of that number in a protobuf of TenSEAL's that this process made itself.

    Raises:
        MessageError: there is none.
    """
    view = memoryview(data)
    while view:
        tag, view = _read_varint(view)
        if tag & 7 != 2:
            break
        length, view = _read_varint(view)
        if tag >> 3 == number:
            return view[:length]
        view = view[length:]
    raise MessageError(f"context: no field {number}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(view: memoryview) -> tuple[int, memoryview]:
    """A length of up to 63 bits, and what follows it."""
    value = 0
    for place, octet in enumerate(view[:_VARINT_BYTES_MAX]):
        value |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:
            return value, view[place + 1 :]
    raise MessageError("vector: a length without an end")
