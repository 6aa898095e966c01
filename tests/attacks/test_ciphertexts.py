"""Bytes that would harm whoever handed them to SEAL, or to a parser that believes what it is told."""

import struct
import tracemalloc

import numpy as np
import pytest
import tenseal
import zstandard

from aggregator.crypto.seal_format import (
    HEAD_BYTES,
    MAJOR,
    MINOR,
    WINDOW_BYTES_MAX,
    Level,
    read_ciphertext,
    split_vector,
    write_ciphertext,
)
from aggregator.crypto.seal_parameters import Scheme, SealParameters
from aggregator.errors import MessageError
from aggregator.protocol import ckks
from tests.ciphertexts import BFV, BFV_LEVEL, PLAIN, bfv_bytes, ckks_context

HEADER = struct.Struct("<HBBBBHQ")
RESIDUES = np.zeros(BFV_LEVEL.shape, np.uint64)
CONTENT = write_ciphertext(RESIDUES, BFV_LEVEL)[16:]


def sealed(body, *, compression=2, magic=0xA15E, header=16, major=MAJOR, reserved=0, total=None):
    size = 16 + len(body) if total is None else total
    return HEADER.pack(magic, header, major, MINOR, compression, reserved, size) + body


def frame(content, **options):
    return zstandard.ZstdCompressor(**options).compress(content)


def refused(data, says, level=BFV_LEVEL):
    with pytest.raises(MessageError, match=says):
        read_ciphertext(data, level)


def test_an_honest_ciphertext_is_read_compressed_or_not():
    for data in (sealed(frame(CONTENT)), sealed(CONTENT, compression=0)):
        assert np.array_equal(read_ciphertext(data, BFV_LEVEL), RESIDUES)


@pytest.mark.parametrize("said", [True, False])
def test_zip_bomb(said):
    """1 GiB in 100 KB, whether its frame says so or not: the reader makes no more than a ciphertext has."""
    compressor = zstandard.ZstdCompressor(write_content_size=said).compressobj(size=1 << 30 if said else -1)
    pieces = [compressor.compress(bytes(1 << 24)) for _ in range(64)]
    bomb = sealed(b"".join([*pieces, compressor.flush()]))
    assert len(bomb) < BFV_LEVEL.ciphertext_bytes_max
    tracemalloc.start()
    refused(bomb, "says that it holds 1073741824 bytes" if said else "not one zstd frame of 196705 bytes")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_window_of_a_gibibyte():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    large = compressor.compress(CONTENT) + compressor.flush()
    assert zstandard.get_frame_parameters(large).window_size > WINDOW_BYTES_MAX
    refused(sealed(large), "not one zstd frame")


def test_truncated_frames():
    whole = frame(CONTENT)
    for size in (*range(40), len(whole) - 1):
        refused(sealed(whole[:size]), "ciphertext: ")


def test_two_frames_and_surplus_bytes():
    for body in (frame(CONTENT) * 2, frame(CONTENT) + b"\0", frame(CONTENT[:-8]), frame(CONTENT + bytes(8))):
        refused(sealed(body), "ciphertext: ")
    refused(sealed(CONTENT + bytes(8), compression=0), "196713 bytes of content, expected 196705")
    refused(sealed(CONTENT[:-8], compression=0), "196697 bytes of content")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"magic": 0xA15F}, "no header of SEAL 4"),
        ({"header": 17}, "no header of SEAL 4"),
        ({"major": 3}, "version 3"),
        ({"reserved": 1}, "no header of SEAL 4"),
        ({"compression": 1}, "compression 1 is not known"),
        ({"compression": 255}, "compression 255 is not known"),
        ({"total": 2**63}, f"says {2**63} bytes, there are"),
        ({"total": 16}, "says 16 bytes, there are"),
    ],
)
def test_headers_that_lie(changes, says):
    refused(sealed(frame(CONTENT), **changes), says)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (0, "parameters' hash"),
        (31, "parameters' hash"),
        (32, "form"),
        (33, "number of polynomials"),
        (41, "degree"),
        (49, "number of primes"),
        (63, "scale"),
        (65, "correction"),
        (73, "number of residues"),
        (89, "number of residues"),
        (96, "number of residues"),
    ],
)
def test_a_head_of_another_kind_is_named(place, name):
    """Counts that SEAL would allocate by, and the form: here no byte of the 97 is believed."""
    assert HEAD_BYTES == 97
    bad = CONTENT[:place] + bytes([CONTENT[place] ^ 0x41]) + CONTENT[place + 1 :]
    refused(sealed(bad, compression=0), f"of another {name}")
    refused(sealed(frame(bad)), f"of another {name}")


def test_wrong_modulus_and_wrong_parameters_id():
    """Ciphertexts of other primes, of another plain modulus, and of another scheme."""
    for other in (
        SealParameters(Scheme.BFV, 4096, (24, 24, 22, 19), PLAIN),
        SealParameters(Scheme.BFV, 4096, (24, 23, 23, 19), 1_032_193),
        SealParameters(Scheme.CKKS, 4096, (24, 23, 23, 19)),
    ):
        data = write_ciphertext(RESIDUES, Level.of_ciphertexts(other))
        refused(data, "another parameters' hash")
    refused(write_ciphertext(np.zeros((2, 4, 4096), np.uint64), Level.of_public_keys(BFV)), "expected 16 to")


def test_oversized_messages_and_lengths():
    refused(sealed(bytes(BFV_LEVEL.ciphertext_bytes_max)), "expected 16 to")
    start = b"\x0a\x01\x03"
    for length in (b"\xff" * 8 + b"\x7f", b"\xff\xff\xff\x7f"):
        with pytest.raises(MessageError, match="ciphertext 0 of"):
            split_vector(start + b"\x12" + length + b"\0" * 50, [3], BFV_LEVEL)
    with pytest.raises(MessageError, match="a length without an end"):
        split_vector(start + b"\x12" + b"\xff" * 20, [3], BFV_LEVEL)
    with pytest.raises(MessageError, match="not those of 4096 values in 1 ciphertexts"):
        split_vector(bfv_bytes(), [4096], BFV_LEVEL)
    with pytest.raises(MessageError, match="0 ciphertexts, expected 1"):
        split_vector(start, [3], BFV_LEVEL)
    with pytest.raises(MessageError, match="behind the last ciphertext"):
        split_vector(bfv_bytes() + b"\x12\x00", [3], BFV_LEVEL)


def test_residue_not_below_its_prime_in_ckks_changes_nothing():
    """A bad ciphertext at the end of a vector: what was added before it is taken back."""
    sizes = [4096, 4096, 8]
    honest = tenseal.ckks_vector(ckks_context(), [0.5] * sum(sizes)).serialize()
    total = ckks.Total(sum(sizes))
    total.add(honest, map)
    before = total.serialize()
    level = Level.of_ciphertexts(ckks.PARAMETERS, ckks.SCALE)
    parts = split_vector(honest, sizes, level)
    for index, wrong in ((2, ckks.PARAMETERS.primes[1]), (0, 2**64 - 1)):
        bad = read_ciphertext(parts[index], level).copy()
        bad[1, 1, 8191] = wrong
        forged = rebuilt(parts, index, write_ciphertext(bad, level), honest)
        with pytest.raises(MessageError, match=f"ciphertext {index}: a residue is not below its prime"):
            total.add(forged, map)
        assert total.serialize() == before
    with pytest.raises(MessageError, match="ciphertext 1: ciphertext: "):
        total.add(rebuilt(parts, 1, bytes(parts[1])[:-1] + b"", honest), map)
    assert total.serialize() == before


def rebuilt(parts, index, replacement, honest):
    """The vector with one ciphertext replaced."""
    chosen = [bytes(part) for part in parts]
    chosen[index] = replacement
    start = honest[: honest.index(b"\x12", 1)]
    return start + b"".join(b"\x12" + varint(len(part)) + part for part in chosen) + honest[-9:]


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
