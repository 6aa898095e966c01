"""Merkle trees of RFC 6962, section 2.1, over SHA-256: one hash for a list, and short proofs that it holds an entry.

A leaf is H(0x00 || data), a node H(0x01 || left || right); a tree of n leaves splits at the largest power of two below
n; the empty tree's root is H(""). A proof lists the siblings from the leaf upwards.
"""

import hashlib
import hmac
from collections.abc import Sequence

from aggregator.errors import ParameterError

HASH_BYTES = 32


class Tree:
    """A whole tree, for whoever hands out many proofs: each then costs a look at every level, no hashing.

    A level is one string, since a hash that is an object of its own takes 80 bytes instead of 32.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaves: Sequence[bytes]) -> None:
        level = [_leaf(leaf) for leaf in leaves]
        self._levels = [b"".join(level)]
        while len(level) > 1:
            level = _parents(level)
            self._levels.append(b"".join(level))

    @property
    def root(self) -> bytes:
        """32 bytes; of an empty tree, the hash of nothing."""
        return self._levels[-1] or hashlib.sha256().digest()

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The audit path of leaf `index`, from its sibling upwards.

        Raises:
            ParameterError: there is no leaf `index`.
        """
        size = len(self._levels[0]) // HASH_BYTES
        if not 0 <= index < size:
            raise ParameterError(f"merkle: no leaf {index} among {size}")
        starts = [((index >> height) ^ 1) * HASH_BYTES for height in range(len(self._levels))]
        siblings = (level[at : at + HASH_BYTES] for level, at in zip(self._levels, starts, strict=True))
        return tuple(node for node in siblings if node)  # a last odd node has none


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over `leaves`, 32 bytes."""
    return Tree(leaves).root


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that leaf `index` of the tree of `size` leaves with this root is `leaf`.

    Run by whoever holds the root only. Whatever the other side sent as index, size and proof, the answer is a bool.
    """
    if not 0 <= index < size or any(len(node) != HASH_BYTES for node in proof):
        return False
    node, last, siblings = _leaf(leaf), size - 1, iter(proof)
    while last > 0:
        # A last node without a sibling goes up as it is, and takes nothing from the proof.
        if index % 2 == 1 or index < last:
            sibling = next(siblings, None)
            if sibling is None:
                return False
            node = _node(sibling, node) if index % 2 == 1 else _node(node, sibling)
        index, last = index // 2, last // 2
    return next(siblings, None) is None and hmac.compare_digest(node, root)


def _parents(level: list[bytes]) -> list[bytes]:
    """The next level: pairs hashed, a last odd node carried up, which is RFC 6962's split at a power of two."""
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[-1:] if len(level) % 2 else pairs


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
