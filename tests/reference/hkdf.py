"""HKDF-SHA256 (RFC 5869) by hand, and the two derivations of the protocol that use it."""

import hashlib
import hmac
import struct


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()


def expand(key: bytes, info: bytes, length: int = 32) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


def hkdf(secret: bytes, info: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    return expand(extract(salt, secret), info, length)


def pairwise_seed(agreed: bytes, ctx1: bytes, u: int, v: int) -> bytes:
    """s_uv from the X25519 secret of the two mask keys; the same for both."""
    return hkdf(agreed, ctx1 + b"pair" + struct.pack(">II", min(u, v), max(u, v)))


def share_key(agreed: bytes, ctx1: bytes, dealer: int, holder: int) -> bytes:
    """The key of the one message from dealer to holder, from the X25519 secret of the two encryption keys."""
    return hkdf(agreed, ctx1 + b"share" + struct.pack(">II", dealer, holder))
