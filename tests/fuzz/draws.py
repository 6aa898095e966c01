"""Choices out of a fuzzer's bytes, so that a byte that it changes is a choice that changes."""


class Draws:
    """The bytes of one input, from the front; what is drawn beyond them is zero.

    Args:
        data: the input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not drawn yet."""
        return max(len(self._data) - self._at, 0)

    def take(self, size: int) -> bytes:
        """So many of them."""
        drawn = self._data[self._at : self._at + size]
        self._at += size
        return drawn.ljust(size, b"\0")

    def below(self, bound: int) -> int:
        """A number below `bound`, of one byte where that is enough."""
        return int.from_bytes(self.take(1 if bound <= 256 else 4), "big") % bound

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def damaged(self, valid: bytes) -> bytes:
        """Valid bytes with up to four bits of them flipped, or cut short, or longer."""
        if not valid:
            return self.take(1)
        how, changed = self.below(8), bytearray(valid)
        if how == 0:
            return valid[: self.below(len(valid))]
        if how == 1:
            return valid + self.take(1 + self.below(8))
        for _ in range(1 + how % 4):
            bit = self.below(8 * len(valid))
            changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


def tiled(pattern: bytes, size: int) -> bytes:
    """A pattern repeated to so many bytes: long inputs of which a fuzzer must not find every byte."""
    pattern = pattern or b"\0"
    return (pattern * (size // len(pattern) + 1))[:size]
