import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.crypto import merkle
from aggregator.errors import ParameterError
from tests.reference import merkle as reference

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "merkle.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTOR["leaves_hex"]]
LEAF = [f"leaf {i}".encode() for i in range(40)]


def test_roots_of_rfc_6962() -> None:
    assert [merkle.root(LEAVES[:size]).hex() for size in range(len(LEAVES) + 1)] == VECTOR["roots"]


def test_inclusion_proofs_of_rfc_6962() -> None:
    for case in VECTOR["inclusion"]:
        index, size = case["index"], case["size"]
        proof = merkle.Tree(LEAVES[:size]).proof(index)
        assert [node.hex() for node in proof] == case["proof"]
        assert merkle.includes(LEAVES[index], index, size, proof, bytes.fromhex(VECTOR["roots"][size]))


@pytest.mark.parametrize("size", range(1, 34))
def test_agrees_with_the_recursive_definition(size: int) -> None:
    tree = merkle.Tree(LEAF[:size])
    assert tree.root == merkle.root(LEAF[:size]) == reference.root(LEAF[:size])
    for index in range(size):
        proof = tree.proof(index)
        assert list(proof) == reference.path(LEAF[:size], index)
        assert proof == merkle.Tree(LEAF[:size]).proof(index)
        assert merkle.includes(LEAF[index], index, size, proof, tree.root)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_a_proof_holds_for_one_leaf_at_one_place_only(size: int) -> None:
    root = merkle.root(LEAF[:size])
    for index in range(size):
        proof = merkle.Tree(LEAF[:size]).proof(index)
        assert not merkle.includes(b"other", index, size, proof, root)
        assert not any(merkle.includes(LEAF[index], i, size, proof, root) for i in range(-1, size + 2) if i != index)
        assert not merkle.includes(LEAF[index], index, size, (*proof, root), root)
        assert not merkle.includes(LEAF[index], index, size, proof, bytes(32))
        for place in range(len(proof)):
            assert not merkle.includes(LEAF[index], index, size, proof[:place] + proof[place + 1 :], root)
            changed = (*proof[:place], bytes(32), *proof[place + 1 :])
            assert not merkle.includes(LEAF[index], index, size, changed, root)


def test_a_node_is_no_leaf() -> None:
    """Second preimage: the two children of a node, passed off as one leaf, give another hash."""
    left, right = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in LEAF[:2])
    assert merkle.root([left + right]) != merkle.root(LEAF[:2])


@given(
    index=st.integers(-3, 2**70),
    size=st.integers(-3, 2**70),
    proof=st.lists(st.binary(min_size=30, max_size=34), max_size=80),
    root=st.binary(max_size=40),
)
def test_anything_may_be_sent_as_a_proof(index: int, size: int, proof: list[bytes], root: bytes) -> None:
    assert merkle.includes(b"leaf", index, size, proof, root) is False


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_proof_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ParameterError, match="no leaf"):
        merkle.Tree(LEAF[:size]).proof(index)


def test_ten_thousand_leaves_need_no_recursion() -> None:
    leaves = [i.to_bytes(4, "big") for i in range(10_001)]
    tree = merkle.Tree(leaves)
    assert len(tree.proof(0)) == 14
    assert merkle.includes(leaves[10_000], 10_000, 10_001, tree.proof(10_000), tree.root)
