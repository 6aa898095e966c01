"""Key agreement for one round: X25519, then HKDF-SHA256 with an info that names the round and the two parties.

Source: RFC 7748 (X25519), RFC 5869 (HKDF); labels from Bonawitz et al. 2017, Fig. 4, Round 2.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aggregator.errors import MessageError, ParameterError

KEY_BYTES = 32
CLIENT_IDS = 2**32

Entropy: TypeAlias = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 key pair, 32 bytes each, made for one round and never written to disk."""

    private: bytes = field(repr=False, compare=False)
    public: bytes


def generate(entropy: Entropy) -> KeyPair:
    """Make a fresh pair from 32 bytes of `entropy`. Run by the client before it advertises its keys.

    Raises:
        ParameterError: the source gave another number of bytes.
    """
    private = entropy(KEY_BYTES)
    if len(private) != KEY_BYTES:
        raise ParameterError(f"the entropy source gave {len(private)} bytes, a private key needs {KEY_BYTES}")
    return KeyPair(private, public_key(private))


def public_key(private: bytes) -> bytes:
    """The 32-byte public half of `private`. Run by the client, and by the server on a reconstructed mask key.

    Raises:
        MessageError: `private` is not 32 bytes.
    """
    return _load_private(private).public_key().public_bytes_raw()


def check_public(public: bytes) -> None:
    """Refuse a public key that no honest client would advertise. Run by the server on receipt.

    Raises:
        MessageError: not 32 bytes, or a low-order point.
    """
    agree(b"\x01" * KEY_BYTES, public, b"check")  # every clamped scalar takes a low-order point to zero


def agree(private: bytes, peer_public: bytes, info: bytes) -> bytes:
    """The 32-byte secret that only these two parties can compute; other `info`, independent secret.

    Raises:
        MessageError: a key is not 32 bytes, or the peer's is a low-order point, which would make the
            "secret" the same for everybody (RFC 7748, section 6.1).
    """
    return agreeing(private)(peer_public, info)


def agreeing(private: bytes) -> Callable[[bytes, bytes], bytes]:
    """`agree` for one private key and many peers: loading it takes as long as an agreement, so it is loaded once.

    Raises:
        MessageError: `private` is not 32 bytes; in each call, as `agree`.
    """
    return partial(_agree, _load_private(private))


def _agree(own: X25519PrivateKey, peer_public: bytes, info: bytes) -> bytes:
    if len(peer_public) != KEY_BYTES:
        raise MessageError(f"X25519: a public key of {len(peer_public)} bytes, needs {KEY_BYTES}")
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError:
        raise MessageError("X25519: the peer's public key is a low-order point") from None
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(shared)


def pair_info(ctx1: bytes, u: int, h: int) -> bytes:
    """Info of the pairwise mask seed s_uh; the same bytes whichever side computes it.

    Raises:
        ParameterError: ctx1 is not 32 bytes, an id is out of range, or u is h.
    """
    return _info(ctx1, b"pair", min(u, h), max(u, h))


def share_info(ctx1: bytes, dealer: int, holder: int) -> bytes:
    """Info of the key that seals the dealer's share for one holder; directional, so each key has one message.

    Raises:
        ParameterError: ctx1 is not 32 bytes, an id is out of range, or dealer is holder.
    """
    return _info(ctx1, b"share", dealer, holder)


def _info(ctx1: bytes, label: bytes, first: int, second: int) -> bytes:
    if len(ctx1) != KEY_BYTES:
        raise ParameterError(f"a context of {len(ctx1)} bytes, needs {KEY_BYTES}")
    if first == second:
        raise ParameterError(f"client {first} agrees on no key with itself")
    if not (0 <= first < CLIENT_IDS and 0 <= second < CLIENT_IDS):
        raise ParameterError(f"client ids {first} and {second} must lie in [0, 2^32)")
    return ctx1 + label + first.to_bytes(4, "big") + second.to_bytes(4, "big")


def _load_private(private: bytes) -> X25519PrivateKey:
    if len(private) != KEY_BYTES:
        raise MessageError(f"X25519: a private key of {len(private)} bytes, needs {KEY_BYTES}")
    return X25519PrivateKey.from_private_bytes(private)
