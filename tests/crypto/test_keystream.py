import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from aggregator.crypto.keystream import CHUNK_BYTES, PIECE_BYTES, Mask, apply_masks, pieces, words
from aggregator.errors import ParameterError
from native.ring import word_dtype
from tests.reference import keystream as reference

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "aes_ctr_sp800_38a.json").read_text())
SEED, CONTEXT = bytes(range(32)), bytes(range(100, 132))
MEBI = CHUNK_BYTES // 4  # uint32 words in one PRG chunk
PIECE = PIECE_BYTES // 4


def twin(purpose: str, entries: int, ring_bits: int, vector_chunk: int = 0, first_chunk: int = 0) -> np.ndarray:
    """Words of the reference's stream."""
    dtype, skipped = word_dtype(ring_bits), first_chunk * CHUNK_BYTES
    size = skipped + entries * dtype.itemsize
    stream = reference.stream(SEED, CONTEXT, purpose, size, vector_chunk)
    return np.frombuffer(stream[skipped:], dtype) & dtype.type(2**ring_bits - 1)


def test_nist_sp_800_38a_f_5_5() -> None:
    """The cipher as configured here (AES-256, CTR, update_into), at the standard's own counter."""
    key, counter, plain, expected = (
        bytes.fromhex(VECTOR[name]) for name in ("key", "initial_counter", "plaintext", "ciphertext")
    )
    cipher, out = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor(), bytearray(len(plain) + 16)
    assert cipher.update_into(plain[:16], out) == 16
    cipher.update_into(plain[16:], memoryview(out)[16:])
    assert out[: len(plain)] == expected


def test_the_keystream_is_aes_of_a_counter_from_zero() -> None:
    """Block i of the stream is AES_k(i), i as 16 bytes, big-endian; one block of CBC over zeros is AES_k of its IV."""
    key = reference.chunk_key(SEED, CONTEXT, "self", 0, 0, 0)
    counters = [modes.CBC(i.to_bytes(16, "big")) for i in range(20)]
    expected = b"".join(Cipher(algorithms.AES(key), mode).encryptor().update(bytes(16)) for mode in counters)
    assert words(SEED, CONTEXT, "self", 80, 32).tobytes() == expected


@given(
    entries=st.integers(0, 60),
    ring_bits=st.integers(1, 64),
    purpose=st.sampled_from(["self", "pair", "rounding", "rotation", "A"]),
)
def test_words_agree_with_the_twin(entries: int, ring_bits: int, purpose: str) -> None:
    made = words(SEED, CONTEXT, purpose, entries, ring_bits)
    assert made.dtype == word_dtype(ring_bits)
    assert made.tolist() == reference.words(SEED, CONTEXT, purpose, entries, ring_bits)


@given(ring_bits=st.integers(1, 64), vector_chunk=st.integers(0, 2**64 - 1))
def test_the_chunks_of_a_vector_agree_with_the_twin(ring_bits: int, vector_chunk: int) -> None:
    (made,) = pieces(SEED, CONTEXT, "A", 60, ring_bits, piece_entries=64, vector_chunk=vector_chunk)
    assert made.tolist() == reference.words(SEED, CONTEXT, "A", 60, ring_bits, vector_chunk)


@pytest.mark.parametrize("entries", [PIECE - 1, PIECE, PIECE + 1, MEBI - 1, MEBI, MEBI + 1, 2 * MEBI + PIECE + 3])
def test_long_streams_agree_with_the_twin(entries: int) -> None:
    expected = reference.stream(SEED, CONTEXT, "self", 4 * entries)
    assert words(SEED, CONTEXT, "self", entries, 32).tobytes() == expected


@pytest.mark.parametrize("entries", [0, 1, PIECE - 1, PIECE, PIECE + 1, MEBI + 5])
@pytest.mark.parametrize(("ring_bits", "piece_entries"), [(32, PIECE), (26, PIECE // 4), (64, MEBI // 2), (1, 4096)])
def test_pieces_are_the_words_one_after_the_other(entries: int, ring_bits: int, piece_entries: int) -> None:
    named = {"vector_chunk": 3, "first_chunk": 2}
    whole = twin("rounding", entries, ring_bits, **named)
    made = pieces(SEED, CONTEXT, "rounding", entries, ring_bits, piece_entries=piece_entries, **named)
    copies = [piece.copy() for piece in made]
    assert [copy.size for copy in copies[:-1]] == [piece_entries] * (len(copies) - 1)
    assert b"".join(copy.tobytes() for copy in copies) == whole.tobytes()


def test_pieces_of_any_length_cut_one_chunk() -> None:
    made = [piece.copy() for piece in pieces(SEED, CONTEXT, "A", MEBI, 30, piece_entries=1000, first_chunk=1)]
    assert (np.concatenate(made) == twin("A", MEBI, 30, first_chunk=1)).all()
    assert len(made[-1]) == MEBI % 1000


def test_pieces_take_the_memory_of_one() -> None:
    made = list(pieces(SEED, CONTEXT, "A", 3 * PIECE, 32, piece_entries=PIECE))
    assert all(np.shares_memory(made[0], piece) for piece in made)


@pytest.mark.parametrize("piece_entries", [0, -1, 3, 1000, 2 * MEBI])
def test_pieces_that_do_not_divide_chunks_are_refused(piece_entries: int) -> None:
    with pytest.raises(ParameterError, match="pieces of"):
        next(pieces(SEED, CONTEXT, "self", MEBI + 1, 32, piece_entries=piece_entries))


def test_every_label_gives_another_stream() -> None:
    streams = [
        words(SEED, CONTEXT, "self", 8, 32),
        words(SEED, CONTEXT, "pair", 8, 32),
        *pieces(SEED, CONTEXT, "self", 8, 32, piece_entries=8, vector_chunk=1),
        *pieces(SEED, CONTEXT, "self", 8, 32, piece_entries=8, first_chunk=1),
        words(SEED, SEED, "self", 8, 32),
        words(CONTEXT, CONTEXT, "self", 8, 32),
    ]
    assert len({stream.tobytes() for stream in streams}) == len(streams)


def plain_masked(x: list[int], masks: list[Mask], ring_bits: int) -> list[int]:
    """y = x + Σ sign·PRG, one integer after the other."""
    for mask in masks:
        stream = reference.words(mask.seed, CONTEXT, mask.purpose, len(x), ring_bits)
        x = [(a + mask.sign * b) % 2**ring_bits for a, b in zip(x, stream, strict=True)]
    return x


masks = st.lists(
    st.builds(Mask, st.binary(min_size=32, max_size=32), st.sampled_from(["self", "pair"]), st.sampled_from([1, -1])),
    max_size=4,
)


@given(masks=masks, ring_bits=st.integers(1, 64), entries=st.integers(0, 40), start=st.integers(0, 2**64 - 1))
def test_masks_agree_with_plain_integers(masks: list[Mask], ring_bits: int, entries: int, start: int) -> None:
    x = [(start + i) % 2**ring_bits for i in range(entries)]
    vector = np.array(x, word_dtype(ring_bits))
    apply_masks(vector, masks, CONTEXT, ring_bits)
    assert vector.tolist() == plain_masked(x, masks, ring_bits)


@pytest.mark.parametrize("entries", [PIECE, PIECE + 5, MEBI, MEBI + PIECE + 5])
@pytest.mark.parametrize("ring_bits", [26, 48])
def test_long_masks_are_sums_of_streams(entries: int, ring_bits: int) -> None:
    chosen = [Mask(SEED, "self", 1), Mask(CONTEXT, "pair", -1)]
    vector = np.zeros(entries, word_dtype(ring_bits))
    apply_masks(vector, chosen, CONTEXT, ring_bits)
    expected = words(SEED, CONTEXT, "self", entries, ring_bits) - words(CONTEXT, CONTEXT, "pair", entries, ring_bits)
    assert (vector == expected & (2**ring_bits - 1)).all()


def test_opposite_masks_cancel() -> None:
    vector = np.arange(MEBI + 9, dtype=np.uint32)
    apply_masks(vector, [Mask(SEED, "pair", 1)], CONTEXT, 32)
    assert (vector != np.arange(MEBI + 9)).mean() > 0.999
    apply_masks(vector, [Mask(SEED, "pair", -1)], CONTEXT, 32)
    assert (vector == np.arange(MEBI + 9)).all()


def test_a_seed_is_never_shown() -> None:
    assert "seed" not in repr(Mask(b"S" * 32, "self", 1))
    assert "SSS" not in repr(Mask(b"S" * 32, "self", 1))


@pytest.mark.parametrize(("seed", "sign"), [(b"x" * 31, 1), (b"x" * 33, 1), (SEED, 0), (SEED, 2)])
def test_impossible_masks_are_refused(seed: bytes, sign: int) -> None:
    with pytest.raises(ParameterError):
        Mask(seed, "self", sign)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": b"x" * 16},
        {"context": b"x" * 31},
        {"purpose": "é"},
        {"purpose": "x" * 256},
        {"entries": -1},
        {"ring_bits": 0},
        {"ring_bits": 65},
    ],
)
def test_impossible_streams_are_refused(wrong: dict[str, object]) -> None:
    right = {"seed": SEED, "context": CONTEXT, "purpose": "self", "entries": 3, "ring_bits": 26}
    with pytest.raises(ParameterError):
        words(**(right | wrong))
    with pytest.raises(ParameterError):
        next(pieces(**(right | wrong), piece_entries=PIECE // 2))


@pytest.mark.parametrize("wrong", [{"vector_chunk": -1}, {"vector_chunk": 2**64}, {"first_chunk": -1}])
def test_impossible_chunks_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ParameterError):
        next(pieces(SEED, CONTEXT, "self", 3, 26, piece_entries=PIECE, **wrong))


@pytest.mark.parametrize(
    "vector",
    [np.zeros(4, np.uint64), np.zeros(8, np.uint32)[::2], np.zeros((2, 2), np.uint32), np.zeros(4, np.int32)],
)
def test_other_vectors_are_refused(vector: np.ndarray) -> None:
    with pytest.raises(ParameterError):
        apply_masks(vector, [Mask(SEED, "self", 1)], CONTEXT, 26)


def test_a_read_only_vector_is_refused() -> None:
    vector = np.frombuffer(bytes(16), np.uint32)
    with pytest.raises(ParameterError):
        apply_masks(vector, [], CONTEXT, 26)
