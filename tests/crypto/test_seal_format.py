import contextlib

import numpy as np
import pytest
import tenseal
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto import seal_format
from aggregator.crypto.seal_format import Level, read_ciphertext, read_field, split_vector, write_vector
from aggregator.errors import MessageError
from tests.ciphertexts import BFV, BFV_LEVEL, CKKS_LEVEL, PLAIN, bfv_bytes, bfv_context, ckks_context

SIZES = [3]


def residues(data, sizes, level):
    return [read_ciphertext(one, level) for one in split_vector(data, sizes, level)]


def test_bfv_vectors_come_back_to_tenseal_uncompressed():
    values = [0, 1, PLAIN // 2, *range(4093)]
    vector = tenseal.bfv_vector(bfv_context(), values)
    read = residues(vector.serialize(), [4096], BFV_LEVEL)
    assert (read[0] < np.array(BFV.primes, np.uint64)[:, None]).all()
    written = write_vector(read, [4096], BFV_LEVEL)
    assert tenseal.bfv_vector_from(bfv_context(), written).decrypt() == values
    assert np.array_equal(residues(written, [4096], BFV_LEVEL)[0], read[0])


def test_ckks_vectors_of_several_ciphertexts_come_back_to_tenseal(capfd):
    values = np.linspace(-1, 1, 5000)
    read = residues(tenseal.ckks_vector(ckks_context(), values).serialize(), [4096, 904], CKKS_LEVEL)
    written = write_vector(read, [4096, 904], CKKS_LEVEL)
    found = tenseal.ckks_vector_from(ckks_context(), written).decrypt()
    assert np.abs(np.array(found) - values).max() < 1e-6


def test_the_sum_of_residues_is_the_sum():
    left, right = (residues(bfv_bytes(values), SIZES, BFV_LEVEL)[0] for values in ((1, 2, 3), (40, 50, 60)))
    total = (left + right) % np.array(BFV.primes, np.uint64)[:, None]
    written = write_vector([total], SIZES, BFV_LEVEL)
    assert tenseal.bfv_vector_from(bfv_context(), written).decrypt() == [41, 52, 63]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_mutation_gets_past_the_reader_but_in_residues(data):
    """Truncated, longer or changed anywhere: a MessageError, or residues of the only shape there is."""
    whole = bfv_bytes()
    kind = data.draw(st.sampled_from(["cut", "surplus", "flip", "splice"]))
    place = data.draw(st.integers(0, 150) | st.integers(0, len(whole) - 1))
    if kind == "cut":
        bad = whole[:place]
    elif kind == "surplus":
        bad = whole + data.draw(st.binary(min_size=1, max_size=20))
    elif kind == "flip":
        bad = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    else:
        bad = whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:]
    if kind in ("cut", "surplus"):
        with pytest.raises(MessageError):
            residues(bad, SIZES, BFV_LEVEL)
        return
    with contextlib.suppress(MessageError):
        assert [one.shape for one in residues(bad, SIZES, BFV_LEVEL)] == [BFV_LEVEL.shape]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw):
    for read in (lambda: split_vector(raw, SIZES, BFV_LEVEL), lambda: read_ciphertext(raw, BFV_LEVEL)):
        with pytest.raises(MessageError):
            read()


def test_fields_of_a_protobuf():
    assert bytes(read_field(b"\x0a\x01A\x12\x02BC", 2)) == b"BC"
    for bad in (b"", b"\x0a\x01A", b"\x08\x01\x12\x01A", b"\x8a" * 12):
        with pytest.raises(MessageError):
            read_field(bad, 2)


def test_public_keys_have_a_level_of_their_own():
    saved = bfv_context().serialize(
        save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    key = read_ciphertext(read_field(read_field(saved, 2), 1), Level.of_public_keys(BFV))
    assert key.shape == (2, 4, 4096)
    assert (key < np.array(BFV.key_primes, np.uint64)[:, None]).all()


def test_the_head_is_97_bytes_and_what_seal_writes():
    assert seal_format.HEAD_BYTES == 97
    whole = bfv_bytes()
    written = write_vector(residues(whole, SIZES, BFV_LEVEL), SIZES, BFV_LEVEL)
    start = written.index(b"\x5e\xa1")
    assert whole[whole.index(b"\x5e\xa1") :][:5] == written[start : start + 5]  # magic, header, version
