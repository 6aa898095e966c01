"""The one encoding under every hash and signature: typed, length-prefixed, so that no two values collide.

item = tag (1 byte) || length (u64, big-endian) || payload; a sequence's payload is its count and its items.
Source: design of the round's context; the same idea as TupleHash in NIST SP 800-185.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import TypeAlias

from aggregator.errors import ParameterError

DIGEST_BYTES = 32

Field: TypeAlias = "bytes | str | int | float | Sequence[Field]"


def encode(*fields: Field) -> bytes:
    """Concatenate the canonical items of `fields`. Run by both sides.

    Raises:
        ParameterError: a field's type has no encoding, or an integer needs more than 16 bytes.
    """
    return b"".join(_item(field) for field in fields)


def digest(domain: str, *fields: Field) -> bytes:
    """SHA-256 of the domain and the fields, 32 bytes. A domain is used for one meaning only."""
    return hashlib.sha256(encode(domain, *fields)).digest()


def _item(field: Field) -> bytes:
    tag, payload = _payload(field)
    return tag + struct.pack(">Q", len(payload)) + payload


def _payload(field: Field) -> tuple[bytes, bytes]:
    match field:
        case bool():
            raise ParameterError("canonical encoding has no booleans: name the two cases instead")
        case bytes():
            return b"b", field
        case str():
            return b"s", field.encode()
        case int():
            return b"i", _signed(field)
        case float():
            return b"f", struct.pack(">d", field)
        case Sequence():
            return b"l", struct.pack(">Q", len(field)) + encode(*field)
    raise ParameterError(f"canonical encoding has no rule for {type(field).__name__}")


def _signed(value: int) -> bytes:
    try:
        return value.to_bytes(16, "big", signed=True)
    except OverflowError:
        raise ParameterError("canonical encoding holds integers of up to 16 bytes") from None
