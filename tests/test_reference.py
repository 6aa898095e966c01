"""The slow twin's own sanity: it must be right before anything is measured against it."""

import ast
import hashlib
import itertools
import json
import sys
from pathlib import Path

import pytest

from tests.reference import digest, graph, hkdf, keystream, merkle, packing, quantize, secagg, shamir
from tests.reference.secagg import STEPS, Abort, Sum

TWIN = Path(__file__).parent / "reference"
SEED = b"twin"
RING_BITS = 26
VECTORS = {client: [(7919 * (client + 1) * (i + 3)) % 2**RING_BITS for i in range(3)] for client in range(4)}


def plain_sum(clients: tuple[int, ...], vectors: dict[int, list[int]] = VECTORS) -> list[int]:
    return [sum(column) % 2**RING_BITS for column in zip(*(vectors[c] for c in clients), strict=True)]


def expected(last: tuple[int, ...], minimum: int) -> tuple[str, int, int] | tuple[int, ...]:
    """The rule spelt out apart: how many outlast each step, against what that step needs, on a roster of four."""
    n = sum(step > 0 for step in last)
    t = {0: 1, 1: 2, 2: 2, 3: 3, 4: 3}[n]
    needs = (max(minimum, 2), max(t, minimum), max(t, minimum), t, t)
    for step, (name, need) in enumerate(zip(STEPS, needs, strict=True)):
        have = sum(stopped > step for stopped in last)
        if have < need:
            return name, have, need
    return tuple(c for c, stopped in enumerate(last) if stopped > STEPS.index("masked_input"))


@pytest.mark.parametrize("minimum", [1, 3, 4])
def test_sum_equals_the_plain_sum_for_every_dropout_pattern_of_four(minimum: int) -> None:
    sums = 0
    for last in itertools.product(range(len(STEPS) + 1), repeat=4):
        stops = {c: STEPS[step] for c, step in enumerate(last) if step < len(STEPS)}
        outcome, want = secagg.run(VECTORS, 4, stops, minimum, SEED, RING_BITS), expected(last, minimum)
        if isinstance(outcome, Abort):
            assert (outcome.step, outcome.have, outcome.need) == want
        else:
            sums += 1
            assert outcome.survivors == want
            assert outcome.total == plain_sum(outcome.survivors)
    assert sums == {1: 27, 3: 21, 4: 9}[minimum]


@pytest.mark.parametrize("ring_bits", [8, 32, 33, 64])
def test_ten_clients_lose_three_in_every_ring(ring_bits: int) -> None:
    vectors = {c: [(c + 1) ** 9 * (i + 1) % 2**ring_bits for i in range(5)] for c in range(10)}
    stops = {1: "share_keys", 4: "masked_input", 9: "unmasking"}
    outcome = secagg.run(vectors, 10, stops, 6, SEED, ring_bits)
    survivors = (0, 2, 3, 5, 6, 7, 8, 9)
    want = [sum(vectors[c][i] for c in survivors) % 2**ring_bits for i in range(5)]
    assert outcome == Sum(want, survivors, (0, 2, 3, 5, 6, 7, 8))
    assert secagg.run(vectors, 10, {**stops, 8: "unmasking"}, 6, SEED, ring_bits) == Abort("unmasking", 6, 7)


def test_a_shrunk_roster_raises_the_threshold() -> None:
    vectors = {c: [c] for c in range(10)}
    assert secagg.run(vectors, 10, {0: "unmasking"}, 2, SEED, 8) == Sum([45], tuple(range(10)), tuple(range(1, 10)))
    assert secagg.run(vectors, 30, {0: "unmasking"}, 2, SEED, 8) == Abort("unmasking", 9, 10)
    assert secagg.run(vectors, 31, {}, 2, SEED, 8) == Abort("advertise_keys", 10, 11)


def test_a_masked_vector_alone_is_not_the_vector() -> None:
    x, seed, pair, ctx1 = [5] * 64, b"s" * 32, b"p" * 32, b"c" * 32
    y = secagg.masked_vector(x, 1, seed, {0: pair}, ctx1, 32)
    only_self = secagg.masked_vector(x, 1, seed, {}, ctx1, 32)
    only_pair = secagg.unmask(y, {1: seed}, {}, ctx1, 32)
    for vector in (y, only_self, only_pair):
        assert all(a != b for a, b in zip(vector, x, strict=True))
    assert len(set(y)) == 64
    assert secagg.unmask(y, {1: seed}, {(1, 0): pair}, ctx1, 32) == x


def test_a_pair_of_masks_cancels_and_ctx1_changes_them() -> None:
    zero, seed = [0] * 8, b"p" * 32
    first = [secagg.masked_vector(zero, me, b"s" * 32, {1 - me: seed}, b"c" * 32, 20) for me in (0, 1)]
    both = [2 * m % 2**20 for m in secagg.masked_vector(zero, 0, b"s" * 32, {}, b"c" * 32, 20)]
    assert [(a + b) % 2**20 for a, b in zip(*first, strict=True)] == both
    assert secagg.masked_vector(zero, 0, b"s" * 32, {1: seed}, b"d" * 32, 20) != first[0]


def test_pairwise_seeds_agree_from_both_sides() -> None:
    a, b = b"\x11" * 32, b"\x22" * 32
    assert secagg.pair_seed(a, secagg.public(b), b"c" * 32, 3, 7) == secagg.pair_seed(
        b, secagg.public(a), b"c" * 32, 7, 3
    )
    assert hkdf.share_key(b"k" * 32, b"c" * 32, 3, 7) != hkdf.share_key(b"k" * 32, b"c" * 32, 7, 3)


def test_shamir_needs_t_shares() -> None:
    secret = bytes(range(32))
    shares = shamir.split(secret, 3, 5, secagg._entropy(SEED, 0))
    for holders in itertools.combinations(range(5), 3):
        assert shamir.combine({h: shares[h] for h in holders}) == secret
    assert all(shamir.combine({h: shares[h] for h in two}) != secret for two in itertools.combinations(range(5), 2))


def test_hkdf_matches_rfc_5869_case_1() -> None:
    out = hkdf.hkdf(b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42, salt=bytes(range(13)))
    assert out.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def test_hkdf_matches_rfc_5869_case_3_without_salt() -> None:
    out = hkdf.hkdf(b"\x0b" * 22, b"", 42)
    assert out.hex() == ("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")


def test_keystream_changes_key_at_every_mebibyte_and_with_every_label() -> None:
    seed, context = b"s" * 32, b"c" * 32
    long = keystream.stream(seed, context, "self", keystream.CHUNK_BYTES + 32)
    assert long[:32] == keystream.stream(seed, context, "self", 32)
    assert long[-32:] != long[:32]
    labels = [("self", 0, 0), ("pair", 0, 0), ("self", 1, 0), ("self", 0, 1)]
    assert len({keystream.stream(seed, context, *label[:1], 32, *label[1:]) for label in labels}) == 4
    assert keystream.words(seed, context, "self", 2, 20) == [
        int.from_bytes(long[i : i + 4], "little") & 0xFFFFF for i in (0, 4)
    ]
    assert keystream.words(seed, context, "self", 1, 40) == [int.from_bytes(long[:8], "little") & (2**40 - 1)]


def test_merkle_matches_rfc_6962() -> None:
    """The tree of certificate-transparency's own test vectors."""
    leaves = [bytes.fromhex(h) for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    assert merkle.root([]) == hashlib.sha256(b"").digest()
    assert merkle.root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert merkle.root(leaves).hex() == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"
    for count in range(1, 8):
        for i in range(count):
            path = merkle.path(leaves[:count], i)
            assert merkle.root_from_path(leaves[i], i, count, path) == merkle.root(leaves[:count])
            assert merkle.root_from_path(b"other", i, count, path) != merkle.root(leaves[:count])


def test_packing_goes_there_and_back() -> None:
    assert packing.pack([1, 2, 3], 4) == b"\x21\x03"
    assert packing.pack([0x155, 0x0AA], 9) == bytes([0x55, 0x55, 0x01])
    for width in range(1, 65):
        words = [(i * 0x9E3779B97F4A7C15) % 2**width for i in range(11)]
        assert packing.unpack(packing.pack(words, width), 11, width) == words
    with pytest.raises(ValueError, match="padding"):
        packing.unpack(b"\x01\x10", 3, 4)


def test_quantize_rounds_up_as_often_as_the_fraction_says() -> None:
    z, clip, value = quantize.zero_point(4), 7.0, 2.25  # scale 1, so y is exact
    draws = [(i << 58) for i in range(64)]
    assert quantize.quantize([value] * 64, clip, 4, draws) == [z + 3] * 16 + [z + 2] * 48
    assert quantize.quantize([9.0, -9.0, 1.0, -1.0, 0.0], 1.0, 4, [0] * 5) == [14, 0, 14, 0, 7]


def test_quantized_sums_come_back_within_one_step_each() -> None:
    clip, bits = 0.7, 12
    draws = [keystream.draws(SEED * 8, b"c" * 32, 100, client) for client in range(5)]
    rows = [[(2 * draw / 2**64 - 1) * clip for draw in drawn[:50]] for drawn in draws]
    total = [0] * 50
    for row, drawn in zip(rows, draws, strict=True):
        entries = quantize.quantize(row, clip, bits, drawn[50:])
        total = [a + b for a, b in zip(total, entries, strict=True)]
    step = clip / quantize.zero_point(bits)
    for got, column in zip(quantize.dequantize_sum(total, 5, clip, bits), zip(*rows, strict=True), strict=True):
        assert abs(got - sum(column)) <= 5 * step * (1 + 1e-9)


def test_digest_items_are_typed_and_length_prefixed() -> None:
    assert digest.encode("ab") == b"s" + bytes(7) + b"\x02" + b"ab"
    assert digest.encode(-1) == b"i" + bytes(7) + b"\x10" + b"\xff" * 16
    assert digest.encode([b"x"]) == b"l" + bytes(7) + b"\x12" + bytes(7) + b"\x01" + b"b" + bytes(7) + b"\x01x"
    spelt = [digest.encode(*f) for f in (("a", "b"), ("ab",), (b"ab",), (["a", "b"],), (["a"], "b"), (1,), (1.0,))]
    assert len(set(spelt)) == len(spelt)
    with pytest.raises(TypeError):
        digest.encode(True)


def test_exact_degrees_match_the_known_answers() -> None:
    cases = json.loads((TWIN.parent / "vectors" / "secagg_graph.json").read_text())["cases"]
    for case in (c for c in cases if c["k"] < 200):
        malicious, sigma = case["model"] == "malicious", case.get("sigma", 40)
        found = graph.sparse(
            case["n"], case["n"], str(case["gamma"]), str(case["delta"]), malicious, sigma, case.get("eta", 20)
        )
        assert found == (case["k"], case["t"])


def test_the_twin_imports_nothing_of_ours() -> None:
    files = sorted(TWIN.rglob("*.py"))
    assert len(files) >= 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name} imports relatively"
                names = [node.module or ""]
            for name in names:
                root = name.split(".")[0]
                twin = (name + ".").startswith("tests.reference.")
                allowed = root in sys.stdlib_module_names or root == "cryptography" or twin
                assert allowed, f"{file.name} imports {name}"
            if isinstance(node, ast.Name):
                assert node.id not in {"__import__", "import_module", "eval", "exec"}, file.name
