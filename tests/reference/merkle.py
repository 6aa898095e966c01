"""RFC 6962 Merkle trees, by its recursive definition."""

import hashlib
from collections.abc import Sequence


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _left(count: int) -> int:
    """The largest power of two smaller than `count`."""
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return _hash(b"")
    if len(leaves) == 1:
        return _hash(b"\x00" + leaves[0])
    k = _left(len(leaves))
    return _hash(b"\x01" + root(leaves[:k]) + root(leaves[k:]))


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of one leaf, from the leaf upwards."""
    if len(leaves) <= 1:
        return []
    k = _left(len(leaves))
    if index < k:
        return [*path(leaves[:k], index), root(leaves[k:])]
    return [*path(leaves[k:], index - k), root(leaves[:k])]


def root_from_path(leaf: bytes, index: int, count: int, siblings: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to, by the same recursion as `path`."""
    if count <= 1:
        return _hash(b"\x00" + leaf)
    k, sibling = _left(count), siblings[-1]
    if index < k:
        return _hash(b"\x01" + root_from_path(leaf, index, k, siblings[:-1]) + sibling)
    return _hash(b"\x01" + sibling + root_from_path(leaf, index - k, count - k, siblings[:-1]))
