"""Signatures by long-term identities: ECDSA over P-256 with SHA-256, 64 bytes r || s, one domain per meaning.

The same key serves TLS and X.509. Nothing signed here can be taken for those: our message starts with the
canonical tag "s", a certificate with 0x30 (DER sequence), a TLS 1.3 CertificateVerify with 64 spaces.
Nonces are deterministic (RFC 6979): signing again gives the same bytes, and no weak random source can leak the key.
(r, n - s) verifies as well, as in all plain ECDSA: never use a signature as an identifier.

Source: FIPS 186-5, RFC 6979.
"""

from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from aggregator.crypto import canonical
from aggregator.errors import ParameterError

SIGNATURE_BYTES = 64
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PREFIX = "sangam/v1/"

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey
VerifyingKey: TypeAlias = ec.EllipticCurvePublicKey

_SCALAR_BYTES = SIGNATURE_BYTES // 2
_SIGN = ec.ECDSA(SHA256(), deterministic_signing=True)
_VERIFY = ec.ECDSA(SHA256())


def sign(key: SigningKey, domain: str, *fields: canonical.Field) -> bytes:
    """Sign the domain and the fields; 64 bytes.

    Raises:
        ParameterError: the key is not on P-256, or a field has no canonical encoding.
    """
    if not isinstance(key.curve, ec.SECP256R1):
        raise ParameterError(f"signing needs a key on P-256, this one is on {key.curve.name}")
    r, s = decode_dss_signature(key.sign(_message(domain, fields), _SIGN))
    return r.to_bytes(_SCALAR_BYTES, "big") + s.to_bytes(_SCALAR_BYTES, "big")


def verify(key: VerifyingKey, signature: bytes, domain: str, *fields: canonical.Field) -> bool:
    """Whether `key` signed exactly these fields in this domain; False, never an error, for any other bytes.

    Raises:
        ParameterError: a field has no canonical encoding.
    """
    message = _message(domain, fields)
    if len(signature) != SIGNATURE_BYTES or not isinstance(key.curve, ec.SECP256R1):
        return False
    r = int.from_bytes(signature[:_SCALAR_BYTES], "big")
    s = int.from_bytes(signature[_SCALAR_BYTES:], "big")
    if not (0 < r < ORDER and 0 < s < ORDER):
        return False
    try:
        key.verify(encode_dss_signature(r, s), message, _VERIFY)
    except InvalidSignature:
        return False
    return True


def _message(domain: str, fields: tuple[canonical.Field, ...]) -> bytes:
    return canonical.encode(PREFIX + domain, *fields)
