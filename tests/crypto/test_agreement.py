import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto import agreement
from aggregator.errors import MessageError, ParameterError

VECTORS = Path(__file__).parents[1] / "vectors"
RFC7748 = json.loads((VECTORS / "rfc7748.json").read_text())
RFC5869 = json.loads((VECTORS / "rfc5869.json").read_text())
DH = {name: bytes.fromhex(text) for name, text in RFC7748["agreement"].items()}
CTX1 = bytes(range(32))
INFO = agreement.pair_info(CTX1, 3, 7)

# The points of small order and their aliases above the prime: https://cr.yp.to/ecdh.html, "validate".
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def hkdf(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 in plain hmac, the oracle below."""
    prk = hmac.digest(salt or bytes(32), ikm, "sha256")
    block, out = b"", b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        out += block
    return out[:length]


@pytest.mark.parametrize("case", RFC5869["cases"])
def test_oracle_matches_rfc5869(case):
    ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
    assert hkdf(ikm, salt, info, case["length"]).hex() == case["okm"]


@pytest.mark.parametrize("case", RFC7748["scalar_multiplication"])
def test_agree_is_rfc7748_then_rfc5869(case):
    scalar, u = bytes.fromhex(case["scalar"]), bytes.fromhex(case["u"])
    assert (
        X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(u)).hex()
        == case["result"]
    )
    assert agreement.agree(scalar, u, INFO) == hkdf(bytes.fromhex(case["result"]), b"", INFO, 32)


def test_both_sides_agree_on_the_rfc7748_secret():
    assert agreement.public_key(DH["alice_private"]) == DH["alice_public"]
    assert agreement.public_key(DH["bob_private"]) == DH["bob_public"]
    expected = hkdf(DH["shared"], b"", INFO, 32)
    assert agreement.agree(DH["alice_private"], DH["bob_public"], INFO) == expected
    assert agreement.agree(DH["bob_private"], DH["alice_public"], INFO) == expected


@settings(deadline=None, max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(max_size=80))
def test_agreement_is_symmetric(a, b, info):
    ours, theirs = agreement.agree(a, agreement.public_key(b), info), agreement.agree(b, agreement.public_key(a), info)
    assert ours == theirs
    assert len(ours) == 32


def test_generate_uses_the_given_entropy_once():
    asked = []
    pair = agreement.generate(lambda size: asked.append(size) or DH["alice_private"])
    assert asked == [32]
    assert (pair.private, pair.public) == (DH["alice_private"], DH["alice_public"])


def test_short_entropy_is_refused():
    with pytest.raises(ParameterError, match="31 bytes"):
        agreement.generate(lambda size: bytes(size - 1))


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("top_bit", [0, 0x80])
def test_low_order_point_is_refused(point, top_bit):
    raw = bytearray.fromhex(point)
    raw[31] |= top_bit
    with pytest.raises(MessageError, match="low-order"):
        agreement.agree(os.urandom(32), bytes(raw), INFO)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_wrong_lengths_are_refused(size):
    with pytest.raises(MessageError, match=f"public key of {size} bytes"):
        agreement.agree(DH["alice_private"], bytes(size), INFO)
    with pytest.raises(MessageError, match=f"private key of {size} bytes"):
        agreement.agree(bytes(size), DH["bob_public"], INFO)
    with pytest.raises(MessageError, match=f"private key of {size} bytes"):
        agreement.public_key(bytes(size))


def test_infos_are_the_pinned_bytes():
    assert agreement.pair_info(CTX1, 258, 2) == CTX1 + b"pair" + bytes([0, 0, 0, 2, 0, 0, 1, 2])
    assert agreement.pair_info(CTX1, 2, 258) == agreement.pair_info(CTX1, 258, 2)
    assert agreement.share_info(CTX1, 258, 2) == CTX1 + b"share" + bytes([0, 0, 1, 2, 0, 0, 0, 2])
    assert agreement.share_info(CTX1, 2, 258) != agreement.share_info(CTX1, 258, 2)


@pytest.mark.parametrize("info", [agreement.pair_info, agreement.share_info])
@pytest.mark.parametrize("ids", [(1, 1), (-1, 2), (0, 2**32)])
def test_infos_refuse_bad_ids(info, ids):
    with pytest.raises(ParameterError):
        info(CTX1, *ids)


def test_infos_refuse_a_cut_context():
    with pytest.raises(ParameterError, match="31 bytes"):
        agreement.pair_info(CTX1[:31], 0, 1)


def test_private_key_is_in_no_repr():
    pair = agreement.generate(lambda _: hashlib.sha256(b"seed").digest())
    for text in (repr(pair), str(pair)):
        assert repr(pair.private)[2:-1] not in text
        assert pair.private.hex() not in text
        assert "private" not in text


def test_check_public_refuses_what_agree_would():
    agreement.check_public(DH["bob_public"])
    for bad in (*map(bytes.fromhex, LOW_ORDER), DH["bob_public"][:31]):
        with pytest.raises(MessageError):
            agreement.check_public(bad)
