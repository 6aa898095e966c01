"""What is hashed and signed in a round, each under a domain of its own; both sides compute these alike."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from aggregator.crypto import merkle
from aggregator.crypto.canonical import digest, encode
from aggregator.wire.messages import Advert, Envelope, InputCommitment

ADVERT: Final = "advert"  # signature domains
DEALING: Final = "dealing"
SURVIVORS: Final = "survivors"
PUBLIC_KEY: Final = "public key"
INPUT: Final = "input"
FROZEN_LIST: Final = "frozen list"
SUM: Final = "sum"

SELF_SEED: Final = "self seed"  # the two secrets that are shared
MASK_KEY: Final = "mask key"


@dataclass(frozen=True, slots=True)
class Shares:
    """One holder's shares of one dealer's two secrets, 32 bytes each."""

    self_seed: bytes = field(repr=False)
    mask_key: bytes = field(repr=False)


def advert_hash(ctx0: bytes, client: int, advert: Advert) -> bytes:
    """Under which an advert stands in the frozen list; the signature is left out, since ECDSA has two for one."""
    return digest("sangam/v1/advert", ctx0, client, *advert_fields(advert))


def advert_fields(advert: Advert) -> tuple[bytes, bytes, bytes, bytes]:
    """What an advert says, without its signature."""
    return advert.mask_key, advert.share_key, advert.nonce, advert.self_seed_hash


def self_seed_hash(ctx0: bytes, client: int, self_seed: bytes) -> bytes:
    """H(b_u)."""
    return digest("sangam/v1/self-seed", ctx0, client, self_seed)


def share_hash(ctx1: bytes, dealer: int, holder: int, kind: str, share: bytes) -> bytes:
    """H(share); a share has 256 bits of entropy, so its hash gives nothing away."""
    return digest("sangam/v1/share", ctx1, dealer, holder, kind, share)


def envelope_leaf(holder: int, envelope: Envelope) -> bytes:
    """One leaf of the tree that the dealer signs."""
    hashes = envelope.self_seed_share_hash, envelope.mask_key_share_hash, sha256(envelope.ciphertext).digest()
    return encode(holder, *hashes)


def dealing_root(holders: Iterable[int], envelopes: Iterable[Envelope]) -> bytes:
    """The root that the dealer signs: one leaf per holder, in the holders' order."""
    return merkle.root([envelope_leaf(h, e) for h, e in zip(holders, envelopes, strict=True)])


def clients_hash(clients: Iterable[int]) -> bytes:
    """H(U2) or H(U)."""
    return digest("sangam/v1/clients", tuple(clients))


def input_leaf(client: int, commitment: InputCommitment) -> bytes:
    """One leaf of the list that the auditor freezes; the signature is left out, since ECDSA has two for one."""
    return encode(client, commitment.hash, commitment.minimum_cohort)
