"""w-bit words to bytes, least significant bit first: the whole vector as one big integer."""

from collections.abc import Sequence


def packed_bytes(count: int, width: int) -> int:
    return (count * width + 7) // 8


def pack(words: Sequence[int], width: int) -> bytes:
    number = 0
    for i, word in enumerate(words):
        if not 0 <= word < 2**width:
            raise ValueError(f"word {i} has more than {width} bits")
        number += word << (i * width)
    return number.to_bytes(packed_bytes(len(words), width), "little")


def unpack(raw: bytes, count: int, width: int) -> list[int]:
    if len(raw) != packed_bytes(count, width):
        raise ValueError("length")
    number = int.from_bytes(raw, "little")
    if number >> (count * width):
        raise ValueError("padding bits are not zero")
    return [(number >> (i * width)) % 2**width for i in range(count)]
