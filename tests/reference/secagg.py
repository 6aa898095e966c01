"""The whole round on plain integers, complete graph: it masks, shares, drops, reconstructs and unmasks for real.

    advertise_keys -> share_keys -> masked_input -> consistency_check -> unmasking
         U1              U2              U            signers            answered

Client ids are indices in the roster. A client in `stops` vanishes BEFORE it answers the step named there.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.reference import graph, hkdf, keystream, shamir

STEPS = ("advertise_keys", "share_keys", "masked_input", "consistency_check", "unmasking")


@dataclass(frozen=True)
class Sum:
    total: list[int]
    survivors: tuple[int, ...]
    answered: tuple[int, ...]


@dataclass(frozen=True)
class Abort:
    step: str
    have: int
    need: int


@dataclass(frozen=True)
class Secrets:
    """One client's round secrets, and what it deals: shares by holder, of b_u and of its mask key."""

    self_seed: bytes
    mask_key: bytes
    self_shares: dict[int, bytes]
    mask_shares: dict[int, bytes]


def masked_vector(
    x: list[int], me: int, self_seed: bytes, pair_seeds: Mapping[int, bytes], ctx1: bytes, ring_bits: int
) -> list[int]:
    """x_u + PRG(b_u) + Σ_{h<u} PRG(s_uh) − Σ_{h>u} PRG(s_uh) mod 2^ring_bits; all of the vector is chunk 0."""
    y = [a + b for a, b in zip(x, keystream.words(self_seed, ctx1, "self", len(x), ring_bits), strict=True)]
    for other, seed in pair_seeds.items():
        if other == me:
            raise ValueError("its own neighbour")
        sign = 1 if other < me else -1
        y = [a + sign * b for a, b in zip(y, keystream.words(seed, ctx1, "pair", len(x), ring_bits), strict=True)]
    return [entry % 2**ring_bits for entry in y]


def unmask(
    total: list[int],
    self_seeds: Mapping[int, bytes],
    pair_seeds: Mapping[tuple[int, int], bytes],
    ctx1: bytes,
    ring_bits: int,
) -> list[int]:
    """Take from the masked total what does not cancel: PRG(b_u) of U, and s_ud by (u in U, d dropped after sharing)."""
    for seed in self_seeds.values():
        mask = keystream.words(seed, ctx1, "self", len(total), ring_bits)
        total = [a - b for a, b in zip(total, mask, strict=True)]
    for (survivor, dropped), seed in pair_seeds.items():
        sign = 1 if dropped < survivor else -1
        mask = keystream.words(seed, ctx1, "pair", len(total), ring_bits)
        total = [a - sign * b for a, b in zip(total, mask, strict=True)]
    return [entry % 2**ring_bits for entry in total]


def run(
    vectors: Mapping[int, list[int]],
    roster_size: int,
    stops: Mapping[int, str],
    minimum: int,
    seed: bytes,
    ring_bits: int,
    ctx1: bytes | None = None,
) -> Sum | Abort:
    """One round of those in `vectors`, at most 100; the rest of the roster never adverts."""
    ctx1 = hashlib.sha256(b"ctx1" + seed).digest() if ctx1 is None else ctx1
    u1, u2, u, signers, answered = _alive(vectors, roster_size, stops)
    t = graph.complete_threshold(len(u1), roster_size)
    # Below `reachable` t would exceed the number of holders: no secret can be shared at all.
    reachable = graph.fewest(roster_size)
    for step, have, need in (
        ("advertise_keys", u1, max(minimum, reachable)),
        ("share_keys", u2, max(t, minimum)),
        ("masked_input", u, max(t, minimum)),
        ("consistency_check", signers, t),
        ("unmasking", answered, t),
    ):
        if len(have) < need:
            return Abort(step, len(have), need)
    secrets = {client: _deal(client, u1, t, seed) for client in u2}
    masked = _masked(vectors, secrets, u, ctx1, ring_bits)
    total = [sum(column) for column in zip(*masked, strict=True)]
    total = unmask(total, *_recover(secrets, u, answered, ctx1), ctx1, ring_bits)
    return Sum(total, tuple(u), tuple(answered))


def pair_seed(mask_key: bytes, other_public: bytes, ctx1: bytes, u: int, v: int) -> bytes:
    """s_uv as one of the two sides derives it."""
    agreed = X25519PrivateKey.from_private_bytes(mask_key).exchange(X25519PublicKey.from_public_bytes(other_public))
    return hkdf.pairwise_seed(agreed, ctx1, u, v)


def public(mask_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(mask_key).public_key().public_bytes_raw()


def _alive(vectors: Mapping[int, list[int]], roster_size: int, stops: Mapping[int, str]) -> list[list[int]]:
    """Who answers each step, in order of the steps: U1, U2, U, the signers, the answerers."""
    if len(vectors) > 100 or not set(vectors) <= set(range(roster_size)) or not set(stops.values()) <= set(STEPS):
        raise ValueError("vectors, roster or stops")
    last = {client: STEPS.index(stops[client]) if client in stops else len(STEPS) for client in vectors}
    return [sorted(c for c in vectors if last[c] > step) for step in range(len(STEPS))]


def _deal(client: int, u1: Sequence[int], t: int, seed: bytes) -> Secrets:
    entropy = _entropy(seed, client)
    self_seed, mask_key = entropy(32), entropy(32)
    self_shares = shamir.split(self_seed, t, len(u1), entropy)
    mask_shares = shamir.split(mask_key, t, len(u1), entropy)
    return Secrets(
        self_seed, mask_key, dict(zip(u1, self_shares, strict=True)), dict(zip(u1, mask_shares, strict=True))
    )


def _masked(
    vectors: Mapping[int, list[int]], secrets: Mapping[int, Secrets], u: Sequence[int], ctx1: bytes, ring_bits: int
) -> list[list[int]]:
    """y_u of every client of U, masked over all of U2."""
    publics = {client: public(secrets[client].mask_key) for client in secrets}
    masked = []
    for me in u:
        mine = secrets[me]
        seeds = {v: pair_seed(mine.mask_key, publics[v], ctx1, me, v) for v in secrets if v != me}
        masked.append(masked_vector(vectors[me], me, mine.self_seed, seeds, ctx1, ring_bits))
    return masked


def _recover(
    secrets: Mapping[int, Secrets], u: Sequence[int], answered: Sequence[int], ctx1: bytes
) -> tuple[dict[int, bytes], dict[tuple[int, int], bytes]]:
    """From the answerers' shares alone: b of U, and the pair seeds between U and those of U2 that are not in it."""
    index = {holder: i for i, holder in enumerate(next(iter(secrets.values())).self_shares)}
    publics = {client: public(secrets[client].mask_key) for client in secrets}
    self_seeds = {c: shamir.combine({index[h]: secrets[c].self_shares[h] for h in answered}) for c in u}
    pair_seeds = {}
    for dropped in sorted(set(secrets) - set(u)):
        mask_key = shamir.combine({index[h]: secrets[dropped].mask_shares[h] for h in answered})
        if public(mask_key) != publics[dropped]:
            raise ValueError("the reconstructed key is not the advertised one")
        for survivor in u:
            pair_seeds[survivor, dropped] = pair_seed(mask_key, publics[survivor], ctx1, survivor, dropped)
    return self_seeds, pair_seeds


def _entropy(seed: bytes, client: int) -> Callable[[int], bytes]:
    """A deterministic os.urandom for one client."""
    taken = 0

    def draw(count: int) -> bytes:
        nonlocal taken
        taken += 1
        return hashlib.shake_256(seed + client.to_bytes(4, "big") + taken.to_bytes(4, "big")).digest(count)

    return draw
