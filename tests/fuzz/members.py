"""Who takes part in a fuzzed round: clients of every mode, key holder and auditor, by the real steps.

Each answers a message of the server with one message, or with the header and the chunks of an upload. What takes long
and is the same in every sequence is made once: keys and ciphertexts.
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final, Generic, Protocol, TypeVar

from aggregator.crypto.certificates import Certificate
from aggregator.protocol import auditor, homomorphic, keyholder, participant
from aggregator.protocol import homomorphic_participant as encrypted
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.keyholder import Custody, RoundKey
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER, Audit
from aggregator.wire.messages import (
    AuditRequest,
    Chunk,
    CiphertextsRequest,
    DecryptionRequest,
    FreezeRequest,
    FrozenList,
    InputCommitment,
    KeyRequest,
    RoundOpened,
    Terms,
    UploadHeader,
)
from native.pack import pack
from native.ring import Words
from tests.consortium import Consortium, drbg
from tests.harness import Body, Player, _verified
from tests.parties import ANY_AUDIT, identity, site

T = TypeVar("T")

CUSTODY: Final = Custody(2, 3)

Fetch = Callable[[CiphertextsRequest], Iterator[Chunk]]


class Member(Protocol):
    """Whoever the server asks."""

    def react(self, body: Body) -> tuple[Body, ...]:
        """The answer to one message; SangamError where it refuses."""


def masked(consortium: Consortium, client: int, words: Words, number: int) -> Player:
    """A client of a masked round."""
    return Player(consortium.site(client), words, drbg("client", client, number))


class Encrypting:
    """A client of a homomorphic round."""

    def __init__(self, consortium: Consortium, client: int, words: Words) -> None:
        self._site = consortium.site(client, ANY_AUDIT)
        self._client = client
        self._words = words
        self._state: encrypted.Committed
        self._payload = b""

    def react(self, body: Body) -> tuple[Body, ...]:
        match body:
            case RoundOpened():
                return self._enter(body)
            case FrozenList():
                encrypted.check_frozen(self._state, body)
                return self._upload(())
        raise AssertionError(f"no step answers {type(body).__name__}")

    def _enter(self, opened: RoundOpened) -> tuple[Body, ...]:
        terms, authority = RoundTerms.from_message(opened.terms), self._site.authority
        invited = participant.enter(terms, _verified(opened.roster, authority), self._site)
        keyed = encrypted.accept_key(invited, opened.key[0], authority)
        self._payload = _ciphertexts(terms, self._client, self._words, keyed.public_key)
        self._state = encrypted.commit_input(keyed, sha256(self._payload).digest())
        if keyed.audit is Audit.FROZEN:
            return (self._state.commitment,)
        return self._upload((self._state.commitment,))

    def _upload(self, commitment: tuple[InputCommitment, ...]) -> tuple[Body, ...]:
        terms = self._state.keyed.invited.terms
        plan = terms.parameters.upload_plan
        header = UploadHeader(terms.task, terms.round, plan.payload_bytes, (), bytes(16), commitment)
        return header, *plan.cut(memoryview(self._payload))


class KeyHolder:
    """It makes keys, and decrypts what the auditor signed."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._site = site(identity(KEY_HOLDER))
        self._key: RoundKey

    def react(self, body: Body) -> tuple[Body, ...]:
        match body:
            case KeyRequest(terms):
                self._key = _key(terms)
                return (self._key.published,)
            case DecryptionRequest():
                return self._decrypt(body)
        raise AssertionError(f"no step answers {type(body).__name__}")

    def _decrypt(self, request: DecryptionRequest) -> tuple[Body, ...]:
        terms, roster = RoundTerms.from_message(request.terms), _verified(request.roster, self._site.authority)
        allowed = keyholder.check_decryption(request, terms, roster, self._key.ctx0, self._site)
        wanted = CiphertextsRequest(terms.task, terms.round, whole_sum=True)
        total = b"".join(bytes(chunk.data) for chunk in self._fetch(wanted))
        keyholder.check_sum(allowed, total)
        words = _WORDS.of(allowed.sum_hash, lambda: keyholder.decrypt(allowed, total, self._key.secret))
        packed = pack(words, terms.parameters.ring_bits)
        plan = terms.parameters.result_plan
        header = UploadHeader(terms.task, terms.round, plan.payload_bytes, (), bytes(16))
        return header, *plan.cut(packed.data)


class Auditor:
    """It freezes lists, and adds up again."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._site = site(identity(AUDITOR))

    def react(self, body: Body) -> tuple[Body, ...]:
        terms = RoundTerms.from_message(body.terms)
        roster = _verified(body.roster, self._site.authority)
        match body:
            case FreezeRequest():
                return (auditor.freeze(terms, roster, body.commitments, self._site)[1],)
            case AuditRequest():
                recount = auditor.Recount(terms, roster, body.commitments, body.survivors, self._site)
                for client in body.survivors:
                    wanted = CiphertextsRequest(terms.task, terms.round, whole_sum=False, client=client)
                    for chunk in self._fetch(wanted):
                        recount.take(chunk)
                return (recount.sign_sum(),)
        raise AssertionError(f"no step answers {type(body).__name__}")


def certificate(consortium: Consortium, number: int) -> Certificate:
    """A member's."""
    return identity(number).certificate if number < 0 else consortium.identities[number].certificate


class Kept(Generic[T]):
    """What takes long and comes again, the last of it.

    Args:
        most: so many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[object, T] = {}

    def of(self, key: object, make: Callable[[], T]) -> T:
        """What was made under this key, or is made now."""
        if key not in self._kept:
            while len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = make()
        return self._kept[key]


_KEYS: Final = Kept[RoundKey](30)
_CIPHERTEXTS: Final = Kept[bytes](120)
_WORDS: Final = Kept[Words](120)


def _key(terms: Terms) -> RoundKey:
    draft = RoundTerms.from_message(terms, draft=True)
    return _KEYS.of(draft.ctx0, lambda: keyholder.publish_key(draft, CUSTODY, site(identity(KEY_HOLDER))))


def _ciphertexts(terms: RoundTerms, client: int, words: Words, public_key: bytes) -> bytes:
    def make() -> bytes:
        layout, seed = terms.parameters.ciphertexts, drbg("ciphertexts", client)(32)
        key = homomorphic.read_public_key(public_key, layout)
        return bytes(homomorphic.contribute(words, key, layout, seed=seed, ctx0=terms.ctx0, each=map))

    return _CIPHERTEXTS.of((terms.ctx0, client), make)
