"""Authenticated encryption of one short message under a key that is used once: ChaCha20-Poly1305, zero nonce.

A nonce keeps two messages under ONE key apart. Here every key seals exactly one message: it comes from two
ephemerals of this round, the round's context and the direction (agreement.share_info), and shares are never
dealt twice. So the nonce carries nothing, and a fixed one cannot repeat by a client's poor randomness. Whoever
gives this module a key for two messages loses both secrecy and authenticity.

Source: RFC 8439, section 2.8.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from aggregator.errors import MessageError, ParameterError

KEY_BYTES = 32
TAG_BYTES = 16
NONCE = bytes(12)


def seal(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Encrypt and authenticate; the result is TAG_BYTES longer. Run by the dealer of a share, once per key.

    Raises:
        ParameterError: the key is not 32 bytes.
    """
    return _cipher(key).encrypt(NONCE, plaintext, associated_data)


def unseal(key: bytes, sealed: bytes, associated_data: bytes) -> bytes:
    """Check and decrypt. Run by the holder of a share.

    Raises:
        ParameterError: the key is not 32 bytes.
        MessageError: another key, other associated data, or a changed, cut or lengthened message.
    """
    try:
        return _cipher(key).decrypt(NONCE, sealed, associated_data)
    except InvalidTag:
        raise MessageError(f"a sealed message of {len(sealed)} bytes does not authenticate") from None


def _cipher(key: bytes) -> ChaCha20Poly1305:
    if len(key) != KEY_BYTES:
        raise ParameterError(f"a sealing key of {len(key)} bytes, needs {KEY_BYTES}")
    return ChaCha20Poly1305(key)
