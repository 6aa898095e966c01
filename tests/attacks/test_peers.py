"""Faults seen in other systems, by what they are: each must be absent here."""

import ast
import asyncio
import dataclasses
import itertools
import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from aggregator.crypto import keystream
from aggregator.crypto.canonical import encode
from aggregator.errors import Equivocation, ParameterError
from aggregator.protocol import encoding, pairwise
from aggregator.rounds.phase import Completed, Failed
from aggregator.wire.messages import Advert, Chunk, Unmasking
from aggregator.wire.vocabulary import MASKED_STEPS, Step
from tests.consortium import Consortium, drbg
from tests.harness import (
    encode_all,
    never_both_secrets,
    no_secret_on_the_wire,
    parameters,
    plain_sum,
    play,
    ring_words,
    short_round,
)

ROOT = Path(__file__).parents[2]
SOURCES = [path for name in ("native", "aggregator", "clients") for path in sorted((ROOT / name).rglob("*.py"))]
CTX = bytes(range(32))
SEED = drbg("seed")(32)


def stream(seed=SEED, context=CTX, purpose="pair", **where):
    (words,) = keystream.pieces(seed, context, purpose, 64, 32, piece_entries=64, **where)
    return words.tobytes()


def folded(seed):
    """Flower's SecAgg+: a 256-bit key is XORed down to 32 bits."""
    return reduce(lambda a, b: a ^ b, (int.from_bytes(seed[i : i + 4], "big") for i in range(0, 32, 4)))


def test_key_folded_to_32_bits():
    """Every one of the 256 bits matters, and two seeds that fold to the same 32 bits have nothing in common."""
    flipped = [(int.from_bytes(SEED, "big") ^ (1 << bit)).to_bytes(32, "big") for bit in range(256)]
    assert len({stream(seed) for seed in (SEED, *flipped)}) == 257
    twin = SEED[4:8] + SEED[:4] + SEED[8:]
    assert folded(twin) == folded(SEED)
    x = np.zeros(64, np.uint32)
    masked = [pairwise.mask_input(x, SEED, {1: seed}, 0, ctx1=CTX, ring_bits=32) for seed in (SEED, twin)]
    assert (masked[0] == masked[1]).sum() <= 1


def test_both_share_types_given():
    """Whoever drops, wherever: from no holder does the server get both, and each answer has one share per neighbour."""
    for step in MASKED_STEPS:
        outcome = short_round(7, stops={3: step, 6: Step.MASKED_INPUT})
        assert isinstance(outcome.end, Completed)
        never_both_secrets(outcome)
        for answer in outcome.said(Unmasking):
            seeds, keys = ({s.client for s in given} for given in (answer.self_seed_shares, answer.mask_key_shares))
            assert not seeds & keys
            assert seeds == set(outcome.end.survivors)


def test_unsigned_keys():
    """An advert without a signature, or with another's, is refused by the server and by every neighbour."""
    for signer in (None, 4):

        def strip(step, client, body, signer=signer):
            if not isinstance(body, Advert) or client != 1:
                return body
            prepared = short_round(5, until=Step.SHARE_KEYS)
            others = {s.client: s.body.signature for s in prepared.transcript if isinstance(s.body, Advert)}
            return dataclasses.replace(body, signature=bytes(64) if signer is None else others[signer])

        outcome = short_round(5, cheat=strip)
        assert str(outcome.refusals[1]) == "the advert of client 1 is not signed by it for round 1"
        assert outcome.end.survivors == (0, 2, 3, 4)

    def unsign(step, client, body):
        if step is not Step.SHARE_KEYS or client != 0:
            return body
        first = body.neighbours[0]
        naked = dataclasses.replace(first, advert=dataclasses.replace(first.advert, signature=bytes(64)))
        return dataclasses.replace(body, neighbours=(naked, *body.neighbours[1:]))

    outcome = short_round(5, lie=unsign)
    assert isinstance(outcome.errors[0], Equivocation)
    assert outcome.end.survivors == (1, 2, 3, 4)


@pytest.mark.parametrize("step", [Step.ADVERTISE_KEYS, Step.SHARE_KEYS])
def test_a_drop_during_set_up_does_not_abort(step):
    outcome = short_round(7, stops={2: step, 5: step})
    assert isinstance(outcome.end, Completed), outcome.end
    assert outcome.end.survivors == (0, 1, 3, 4, 6)
    assert outcome.total == plain_sum(outcome, outcome.end.survivors)


def test_eight_bytes_per_value_on_the_wire():
    """A 16-bit value of 64 clients travels in 2.75 bytes, and everything else does not grow with the vector."""
    consortium = Consortium.of(4)
    sizes = {}
    for entries in (8_000, 80_000):
        terms = consortium.terms(parameters(64, entries, weight_max=1))
        outcome = play(consortium, terms, ring_words(terms, range(4)))
        assert terms.parameters.ring_bits == 22
        uploaded = {
            c: sum(len(s.raw) for s in outcome.transcript if s.client == c and isinstance(s.body, Chunk))
            for c in range(4)
        }
        assert all(2.75 * entries < size < 2.75 * entries + 100 for size in uploaded.values())
        sizes[entries] = sum(len(s.raw) for s in outcome.transcript if not isinstance(s.body, Chunk))
    assert abs(sizes[8_000] - sizes[80_000]) < 50


def weighted(weights, entries=2_000):
    """A round of five with these weights on the same updates and the same entropy."""
    consortium = Consortium.of(5)
    terms = consortium.terms(parameters(5, entries, weight_max=10_000))
    update = {"x": np.zeros(entries)}
    encoded = encode_all(terms, {c: (update, weight) for c, weight in enumerate(weights)})
    outcome = play(consortium, terms, {c: each.words for c, each in encoded.items()})
    return outcome, encoding.decode(outcome.end.total, 5, terms.parameters, terms.ctx0).total_weight


def test_counts_in_clear():
    """Only the weights differ: every message but the masked vectors is the same to the byte, and those tell nothing.

    Nobody can find a weight in the masked vectors: the words that hold it differ from any guess by uniform masks.
    """
    weights = [(17, 4321, 99, 1234, 9876), (9999, 1, 1, 1, 1)]
    (first, total), (second, other_total) = (weighted(each) for each in weights)
    assert (total, other_total) == (sum(weights[0]), sum(weights[1]))
    for a, b in zip(first.transcript, second.transcript, strict=True):
        assert (a.step, a.client, a.to_server, type(a.body), len(a.raw)) == (
            (b.step, b.client, b.to_server, type(b.body), len(b.raw))
        )
        assert isinstance(a.body, Chunk) or a.raw == b.raw
    for client, weight in enumerate(weights[0]):
        *_, word = first.masked(client)
        assert word != weight
        assert encode(weight) not in b"".join(said.raw for said in first.transcript)


def test_counts_in_clear_by_the_position_of_the_masks():
    """The words of the weight are masked like all others: over 300 rounds' worth of masks they are spread evenly."""
    words = []
    for i in range(300):
        x = np.array([0, 77], np.uint32)
        words.append(int(pairwise.mask_input(x, drbg(i)(32), {1: drbg(i, 1)(32)}, 0, ctx1=CTX, ring_bits=22)[1]))
    thirds = np.bincount([word * 3 >> 22 for word in words], minlength=3)
    assert thirds.min() > 60
    assert len(set(words)) > 295


def test_overflow_only_warns():
    """Parameters that could overflow are refused; those that just fit hold every client's largest value and weight."""
    with pytest.raises(ParameterError, match="need 65 bits"):
        parameters(2_049, value_bits=53)
    consortium = Consortium.of(5)
    for value_bits in (2, 16, 29, 30, 54):
        terms = consortium.terms(parameters(5, value_bits=value_bits, weight_max=2**53))
        encoded = encode_all(terms, {c: ({"x": [1.0, -1.0, 1e9, -1e9]}, 2**53) for c in range(5)})
        outcome = play(consortium, terms, {c: each.words for c, each in encoded.items()})
        decoded = encoding.decode(outcome.end.total, 5, terms.parameters, terms.ctx0)
        assert decoded.total_weight == 5 * 2**53
        np.testing.assert_allclose(decoded.mean["x"], [1, -1, 1, -1], rtol=1e-12)


def test_keystream_reused_for_several_vectors():
    """Every seed, purpose, vector chunk, PRG chunk and round has a keystream of its own."""
    labels = [
        {},
        {"seed": drbg("other")(32)},
        {"context": bytes(32)},
        *({"purpose": purpose} for purpose in ("self", "rounding", "rotation", "A", "key", "error", "noise")),
        {"vector_chunk": 1},
        {"first_chunk": 1},
    ]
    blocks = [stream(**label)[i : i + 16] for label in labels for i in range(0, 256, 16)]
    assert len(set(blocks)) == len(blocks)


def test_keystream_reused_within_one_vector():
    """Two PRG chunks and a little: no block of 16 bytes comes twice, nor at the seams."""
    words = keystream.words(SEED, CTX, "pair", (2 * keystream.CHUNK_BYTES + 4096) // 4, 32)
    blocks = words.view("V16")
    assert len(np.unique(blocks)) == len(blocks)


def test_keystream_reused_in_a_restored_client():
    """A machine restored from a snapshot draws the same secrets again. Another ctx1 still gives other masks."""
    consortium = Consortium.of(4)
    zero = dict.fromkeys(range(4), np.zeros(66, np.uint32))
    rounds = [play(consortium, consortium.terms(parameters(4, 64), round=number), zero) for number in (1, 2)]
    assert rounds[0].players[1].secrets == rounds[1].players[1].secrets
    masked = [set(outcome.masked(1)) for outcome in rounds]
    assert len(masked[0] & masked[1]) <= 1


def test_keystream_reused_between_clients_of_a_round():
    outcome = short_round(5, 64)
    seen = [outcome.masked(c)[i] for c in range(5) for i in range(64)]
    assert len(set(seen)) > 5 * 64 - 5
    differences = [
        sum(a == b for a, b in zip(outcome.masked(u), outcome.masked(v), strict=True))
        for u, v in itertools.combinations(range(5), 2)
    ]
    assert max(differences) <= 2


FORBIDDEN = {"random", "numpy.random", "uuid", "torch", "jax"}


def random_sources(tree):
    """Imports and attributes through which a source could draw from a generator that is not cryptographic."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name in FORBIDDEN or a.name.startswith("numpy.random")]
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [n for n in names if node.module in FORBIDDEN or n.startswith("numpy.random")]
        if isinstance(node, ast.Attribute) and node.attr in {"random", "default_rng", "RandomState", "SystemRandom"}:
            found.append(ast.unparse(node))
    return found


def test_masks_from_generators_that_are_not_cryptographic():
    """No module that handles secrets does. Demo and examples shuffle public data; an adapter imports its framework."""
    assert len(SOURCES) > 30
    for path in SOURCES:
        parts = path.relative_to(ROOT).parts
        if {"demo", "examples"}.isdisjoint(parts) and path.stem != "demo":
            framework = {path.stem} if parts[:2] == ("clients", "adapters") else set()
            assert set(random_sources(ast.parse(path.read_text()))) <= framework, path.relative_to(ROOT)
    for bad in (
        "import random",
        "import numpy.random as r",
        "from numpy import random",
        "from numpy.random import default_rng",
        "from random import Random",
        "import numpy as np\nnp.random.seed(1)",
    ):
        assert random_sources(ast.parse(bad)), bad


PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


async def test_private_key_committed_in_the_repository():
    assert PRIVATE_KEY.search(Consortium.of(4).identities[0].key_pem), "the search finds a key where there is one"
    git = await asyncio.create_subprocess_exec(
        "git", "ls-files", "-z", cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    listed, _ = await git.communicate()
    if git.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    assert len(files) > 50
    for path in files:
        if path.is_file():
            assert not PRIVATE_KEY.search(path.read_bytes()), path
            assert path.suffix not in {".pem", ".key", ".p12", ".pfx", ".der"}, path


def test_float_masks():
    """At 64 bits a float mask would lose the low bits of the sum, or leave its own: here every bit comes back."""
    consortium = Consortium.of(5)
    terms = consortium.terms(parameters(1024, value_bits=54, weight_max=1))
    assert terms.parameters.ring_bits == 64
    words = ring_words(terms, range(5))
    words[0][:] = 2**64 - 1
    words[1][:] = 1
    outcome = play(consortium, terms, words, stops={4: Step.MASKED_INPUT})
    assert outcome.total == plain_sum(outcome, (0, 1, 2, 3))
    assert outcome.end.total.dtype == np.uint64
    for player in outcome.players.values():
        assert player.words.dtype == np.uint64


def test_predictable_masks():
    """Whatever was public before unmasking, used as a seed in the place of b_u or s_uv, does not take a mask off."""
    consortium = Consortium.of(3)
    terms = consortium.terms(parameters(3, 64))
    zero = dict.fromkeys(range(3), np.zeros(66, np.uint32))
    outcome = play(consortium, terms, zero)
    ctx1 = outcome.players[0].states[Step.SHARE_KEYS].cohort.ctx1
    early = b"".join(said.raw for said in outcome.transcript if said.step in {Step.ADVERTISE_KEYS, Step.SHARE_KEYS})
    public = {early[i : i + 32] for i in range(len(early) - 31)} | {ctx1, terms.ctx0, bytes(32)}
    secret = outcome.players[0].secrets["self seed"]
    assert secret not in public
    bits = terms.parameters.ring_bits
    y = np.array(outcome.masked(0), np.uint32)[:4]
    for seed in public:
        for purpose in ("self", "pair"):
            mask = keystream.words(seed, ctx1, purpose, 4, bits)
            assert not np.array_equal(mask, y)
    assert len(public) > 500


def test_predictable_masks_from_one_source_of_entropy():
    """Another seed of entropy, all else the same: no word of the masks is the same but by chance."""
    consortium = Consortium.of(4)
    terms = consortium.terms(parameters(4, 64))
    zero = dict.fromkeys(range(4), np.zeros(66, np.uint32))
    outcomes = [play(consortium, terms, zero, seed=seed) for seed in ("a", "b", "a")]
    ys = [outcome.masked(2) for outcome in outcomes]
    assert ys[0] == ys[2]
    assert sum(a == b for a, b in zip(ys[0], ys[1], strict=True)) <= 1
    assert all(outcome.total == [0] * 66 for outcome in outcomes)
    no_secret_on_the_wire(outcomes[0])


def test_an_aborted_round_gives_no_share_away():
    """A round that fails at any step up to the signatures has revealed no share at all."""
    for step in MASKED_STEPS[1:]:
        outcome = short_round(5, stops={1: step, 3: step, 4: step})
        assert isinstance(outcome.end, Failed)
        if step is not Step.UNMASKING:
            assert not list(outcome.said(Unmasking))
        never_both_secrets(outcome)
