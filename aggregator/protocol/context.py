"""ctx0: the hash of all that is known when a round opens. Whoever signs under it has agreed to every field.

A server that tells two clients different things gives them two contexts: their signatures do not fit together, and
neither do their masks.

Source: Pasquini et al. 2022 (eprint 2021/1464) for the model hash; Bonawitz et al. 2017 for the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from aggregator.crypto.canonical import DIGEST_BYTES, Field, digest
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import Equivocation, MessageError, NotAdmitted
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire import messages
from aggregator.wire.messages import PROTOCOL_VERSION

SUITE = "P-256 ECDSA SHA-256; X25519; HKDF-SHA256; ChaCha20-Poly1305; AES-256-CTR; Shamir GF(2^16)"


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What ctx0 holds besides in homomorphic mode: SHA-256 of the public key, and of two certificates; 32 bytes each.

    `auditor` is empty where there is none, `public_key` in the draft that the key holder makes its key for.
    """

    public_key: bytes
    key_holder: bytes
    auditor: bytes

    def fields(self) -> tuple[Field, ...]:
        """In order."""
        return self.public_key, self.key_holder, self.auditor


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """What a round is about, fixed when it opens; `ctx0` is its hash, the context that adverts are signed under.

    `roster_root` and `authority_hash` are 32 bytes; `server_nonce` is 32 fresh bytes; `model_hash` is
    `hash_model` of the base that every participant starts from; `round` rises within the task and never comes
    twice, even after a restart of the server. `key` is there in homomorphic mode.
    """

    deployment: str
    task: str
    round: int
    server_nonce: bytes
    roster_size: int
    roster_root: bytes
    authority_hash: bytes
    model_hash: bytes
    parameters: Parameters
    key: KeyTerms | None = None
    ctx0: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ctx0", self._digest())  # once: with 1,000 tensors it takes 7 ms

    def _digest(self) -> bytes:
        return digest(
            "sangam/v1/ctx0",
            PROTOCOL_VERSION,
            SUITE,
            self.deployment,
            self.task,
            self.round,
            self.server_nonce,
            self.roster_size,
            self.roster_root,
            self.authority_hash,
            self.model_hash,
            self.parameters.fields(),
            *((self.key.fields(),) if self.key else ()),
        )

    def check_consortium(self, roster: Roster, certificate: Certificate, authority: Certificate) -> None:
        """Whether these are terms of one's own consortium, over this roster. Run by all that the server asks.

        Raises:
            NotAdmitted: another deployment or authority.
            Equivocation: the terms name another roster than the one shown.
        """
        if (self.deployment, self.authority_hash) != (certificate.deployment, authority.fingerprint):
            raise NotAdmitted(f"the round is of another consortium than {certificate.deployment!r}")
        if (self.roster_size, self.roster_root) != (len(roster), roster.root):
            raise Equivocation(f"round {self.round} names another roster than the one it shows")

    def to_message(self) -> messages.Terms:
        """The wire's form."""
        return messages.Terms(
            protocol_version=PROTOCOL_VERSION,
            deployment=self.deployment,
            task=self.task,
            round=self.round,
            server_nonce=self.server_nonce,
            roster_size=self.roster_size,
            roster_root=self.roster_root,
            authority_hash=self.authority_hash,
            model_hash=self.model_hash,
            parameters=self.parameters.to_message(),
            public_key_hash=self.key.public_key if self.key else b"",
            key_holder_hash=self.key.key_holder if self.key else b"",
            auditor_hash=self.key.auditor if self.key else b"",
        )

    def under(self, public_key: bytes) -> "RoundTerms":
        """A draft's terms with the key that was made for it; its ctx0 is what everybody signs under.

        Raises:
            MessageError: no draft.
        """
        if self.key is None or self.key.public_key:
            raise MessageError(f"round {self.round} awaits no public key")
        return replace(self, key=replace(self.key, public_key=sha256(public_key).digest()))

    @classmethod
    def from_message(cls, message: messages.Terms, *, draft: bool = False) -> "RoundTerms":
        """From the wire's form.

        Args:
            message: the terms.
            draft: whether they are those that a key holder is shown, without its key.

        Raises:
            MessageError: another protocol version, or other parties than the mode has.
            ParameterError: parameters that could overflow or under-protect.
        """
        if message.protocol_version != PROTOCOL_VERSION:
            raise MessageError(
                f"the round speaks protocol version {message.protocol_version}, this side speaks {PROTOCOL_VERSION}"
            )
        parameters = Parameters.from_message(message.parameters)
        return cls(
            deployment=message.deployment,
            task=message.task,
            round=message.round,
            server_nonce=message.server_nonce,
            roster_size=message.roster_size,
            roster_root=message.roster_root,
            authority_hash=message.authority_hash,
            model_hash=message.model_hash,
            parameters=parameters,
            key=_key_terms(message, parameters, draft=draft),
        )


def _key_terms(message: messages.Terms, parameters: Parameters, *, draft: bool) -> KeyTerms | None:
    found = (message.public_key_hash, message.key_holder_hash, message.auditor_hash)
    if parameters.parties is None:
        wanted = (0, 0, 0)
    else:
        audited = bool(parameters.parties.auditor)
        wanted = (0 if draft else DIGEST_BYTES, DIGEST_BYTES, DIGEST_BYTES if audited else 0)
    if tuple(map(len, found)) != wanted:
        raise MessageError(f"round {message.round}: its terms name other parties than {parameters.mode} mode has")
    return KeyTerms(*found) if parameters.mode is Mode.HOMOMORPHIC else None


def hash_model(base: Mapping[str, npt.ArrayLike] | None) -> bytes:
    """The digest of a base model, 32 bytes: names, dtypes, shapes and bytes, in order of names. None is no model.

    Run by operator and participants; the arrays must agree to the bit.
    """
    arrays = {name: np.asarray(array) for name, array in (base or {}).items()}
    return digest("sangam/v1/model", [_array_fields(name, arrays[name]) for name in sorted(arrays)])


def _array_fields(name: str, array: npt.NDArray[np.generic]) -> tuple[str, str, tuple[int, ...], bytes]:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return name, little.dtype.str, array.shape, np.ascontiguousarray(little).tobytes()
