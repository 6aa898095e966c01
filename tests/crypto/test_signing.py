import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto import canonical, signing
from aggregator.errors import ParameterError

KEY = ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1())
PUBLIC = KEY.public_key()
FIELDS = (b"\x01" * 32, 7, "task", (1, 2, 3))
SIGNATURE = signing.sign(KEY, "advert", *FIELDS)


def test_signs_as_rfc6979_says():
    # RFC 6979, A.2.5, SHA-256, message "sample".
    r, s = decode_dss_signature(KEY.sign(b"sample", signing._SIGN))
    assert f"{r:064x}" == "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    assert f"{s:064x}" == "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"


def test_signs_the_pinned_message():
    assert len(SIGNATURE) == signing.SIGNATURE_BYTES == 64
    der = encode_dss_signature(int.from_bytes(SIGNATURE[:32], "big"), int.from_bytes(SIGNATURE[32:], "big"))
    PUBLIC.verify(der, canonical.encode("sangam/v1/advert", *FIELDS), ec.ECDSA(SHA256()))


def test_the_message_is_neither_der_nor_a_tls_signature():
    assert signing._message("advert", ())[0:1] == b"s"


def test_signing_again_gives_the_same_bytes():
    assert signing.sign(KEY, "advert", *FIELDS) == SIGNATURE


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.integers(-(2**127), 2**127 - 1), st.text(max_size=20)), max_size=5)
)
def test_verify_accepts_what_sign_made(fields):
    signature = signing.sign(KEY, "domain", *fields)
    assert len(signature) == 64
    assert signing.verify(PUBLIC, signature, "domain", *fields)
    assert not signing.verify(PUBLIC, signature, "domain", *fields, b"")


def test_other_domain_fields_or_key_do_not_verify():
    assert signing.verify(PUBLIC, SIGNATURE, "advert", *FIELDS)
    assert not signing.verify(PUBLIC, SIGNATURE, "survivors", *FIELDS)
    assert not signing.verify(PUBLIC, SIGNATURE, "advert", *FIELDS[:-1])
    assert not signing.verify(ec.generate_private_key(ec.SECP256R1()).public_key(), SIGNATURE, "advert", *FIELDS)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 511))
def test_any_changed_bit_does_not_verify(bit):
    changed = bytearray(SIGNATURE)
    changed[bit // 8] ^= 1 << bit % 8
    assert not signing.verify(PUBLIC, bytes(changed), "advert", *FIELDS)


@settings(deadline=None)
@given(st.binary(max_size=130))
def test_any_bytes_give_false_and_no_error(signature):
    assert signing.verify(PUBLIC, signature, "advert", *FIELDS) is False


R, S = SIGNATURE[:32], SIGNATURE[32:]
ORDER = signing.ORDER.to_bytes(32, "big")


@pytest.mark.parametrize(
    "signature",
    [b"", SIGNATURE[:63], SIGNATURE + b"\0", bytes(32) + S, R + bytes(32), ORDER + S, R + ORDER, b"\xff" * 64],
    ids=["empty", "cut", "surplus", "r=0", "s=0", "r=n", "s=n", "all ones"],
)
def test_wrong_length_and_range_give_false(signature):
    assert signing.verify(PUBLIC, signature, "advert", *FIELDS) is False


def test_s_beyond_the_order_is_refused_although_congruent():
    low = min(int.from_bytes(S, "big"), signing.ORDER - int.from_bytes(S, "big"))
    for s in (low, signing.ORDER - low):
        if s + signing.ORDER < 2**256:
            assert not signing.verify(PUBLIC, R + (s + signing.ORDER).to_bytes(32, "big"), "advert", *FIELDS)


def test_other_curves_are_refused():
    other = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(ParameterError, match="P-256"):
        signing.sign(other, "advert")
    assert not signing.verify(other.public_key(), SIGNATURE, "advert", *FIELDS)
