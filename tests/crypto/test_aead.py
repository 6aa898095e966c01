import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto import aead
from aggregator.errors import MessageError, ParameterError

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "rfc8439.json").read_text())["aead"]
CASE = {name: bytes.fromhex(text) for name, text in VECTOR.items()}


def test_cipher_is_rfc8439():
    sealed = aead._cipher(CASE["key"]).encrypt(CASE["nonce"], CASE["plaintext"], CASE["associated_data"])
    assert sealed == CASE["ciphertext"] + CASE["tag"]


def test_seal_uses_the_zero_nonce():
    expected = ChaCha20Poly1305(CASE["key"]).encrypt(bytes(12), CASE["plaintext"], CASE["associated_data"])
    assert aead.seal(CASE["key"], CASE["plaintext"], CASE["associated_data"]) == expected
    assert len(expected) == len(CASE["plaintext"]) + aead.TAG_BYTES


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.binary(max_size=64))
def test_unseal_inverts_seal(key, plaintext, associated_data):
    assert aead.unseal(key, aead.seal(key, plaintext, associated_data), associated_data) == plaintext


@settings(deadline=None)
@given(st.data())
def test_any_changed_bit_is_refused(data):
    sealed = bytearray(aead.seal(CASE["key"], b"share" * 12, b"ctx"))
    position = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[position // 8] ^= 1 << position % 8
    with pytest.raises(MessageError, match="76 bytes does not authenticate"):
        aead.unseal(CASE["key"], bytes(sealed), b"ctx")


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 75])
def test_a_cut_message_is_refused(cut):
    sealed = aead.seal(CASE["key"], b"share" * 12, b"ctx")
    with pytest.raises(MessageError):
        aead.unseal(CASE["key"], sealed[:cut], b"ctx")


def test_surplus_other_key_and_other_context_are_refused():
    sealed = aead.seal(CASE["key"], b"share", b"ctx")
    for key, message, context in [
        (CASE["key"], sealed + b"\0", b"ctx"),
        (bytes(32), sealed, b"ctx"),
        (CASE["key"], sealed, b"cty"),
    ]:
        with pytest.raises(MessageError):
            aead.unseal(key, message, context)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_wrong_key_length_is_refused(size):
    with pytest.raises(ParameterError, match=f"{size} bytes"):
        aead.seal(bytes(size), b"", b"")
    with pytest.raises(ParameterError, match=f"{size} bytes"):
        aead.unseal(bytes(size), bytes(16), b"")
