"""A row of residues as it travels: 32 of them to a lane, each lane one long integer, words of 32 bits side by side."""

import struct
from collections.abc import Sequence

LANE = 32


def pack(row: Sequence[int], bits: int) -> bytes:
    """Lane l is the integer of residues l, l + lanes, …; word by word, all lanes side by side."""
    lanes = len(row) // LANE
    streams = [sum(row[lane + lanes * k] << bits * k for k in range(LANE)) for lane in range(lanes)]
    return b"".join(struct.pack("<I", stream >> 32 * word & 0xFFFFFFFF) for word in range(bits) for stream in streams)


def unpack(data: bytes, bits: int) -> list[int]:
    """Back again."""
    lanes, words = len(data) // (4 * bits), struct.unpack(f"<{len(data) // 4}I", data)
    streams = [sum(words[lanes * word + lane] << 32 * word for word in range(bits)) for lane in range(lanes)]
    return [stream >> bits * k & 2**bits - 1 for k in range(LANE) for stream in streams]
