"""The canonical digest, SHA-256 over typed, length-prefixed items, spelt out."""

import hashlib
import struct


def encode(*fields: object) -> bytes:
    """item = tag ‖ u64be(length) ‖ payload, one after the other."""
    out = b""
    for field in fields:
        if isinstance(field, bool):
            raise TypeError("bool")
        if isinstance(field, str):
            tag, payload = b"s", field.encode("utf-8")
        elif isinstance(field, bytes):
            tag, payload = b"b", field
        elif isinstance(field, int):
            tag, payload = b"i", (field % 2**128).to_bytes(16, "big")
            if not -(2**127) <= field < 2**127:
                raise OverflowError(field)
        elif isinstance(field, float):
            tag, payload = b"f", struct.pack(">d", field)
        elif isinstance(field, list | tuple):
            tag, payload = b"l", struct.pack(">Q", len(field)) + encode(*field)
        else:
            raise TypeError(type(field))
        out += tag + struct.pack(">Q", len(payload)) + payload
    return out


def digest(domain: str, *fields: object) -> bytes:
    """SHA-256 of the domain and the fields."""
    return hashlib.sha256(encode(domain, *fields)).digest()
