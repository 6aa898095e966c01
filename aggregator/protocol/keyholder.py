"""The key holder's steps, in homomorphic mode: it never sees one client's ciphertexts, and decrypts one sum a round.

    publish_key        a fresh key pair; the public half signed
    check_decryption   whether the auditor signed for a sum of this round
    check_sum          whether these bytes are that sum
    decrypt            once

The caller keeps the wrapped secret and remembers on disk which sum of each (task, round) it decrypts, before it does;
then it destroys the secret.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from aggregator.crypto import signing
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import Equivocation, NotAdmitted, ParameterError
from aggregator.protocol import commitments, homomorphic
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList, check_list, is_audited, is_frozen
from aggregator.protocol.context import KeyTerms, RoundTerms
from aggregator.protocol.contribution import Octets
from aggregator.protocol.participant import Site
from aggregator.protocol.parties import AUDITOR, Audit, Parties, check_party
from aggregator.wire.messages import DecryptionRequest, PublishedKey
from native.ring import Words


@dataclass(frozen=True, slots=True)
class Custody:
    """Under how many custodians a key holder keeps its secrets: `threshold` of `custodians` files open them."""

    threshold: int
    custodians: int


@dataclass(frozen=True, slots=True)
class RoundKey:
    """What the key holder has of one round until it is over; the secret goes to disk under its wrapping only.

    The key is for the round of this ctx0, and for no other: a second context of one round, weaker in whatever it says
    of auditor, cohort or numbers, is refused when it asks for a decryption.
    """

    published: PublishedKey
    ctx0: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Decryption:
    """A sum that may be decrypted once its bytes have this hash."""

    terms: RoundTerms
    survivors: tuple[ClientId, ...]
    sum_hash: bytes


def publish_key(draft: RoundTerms, custody: Custody, site: Site) -> RoundKey:
    """Make a round's key pair, and sign its public half. Run by the key holder, once for each (task, round).

    Args:
        draft: the round's terms, but for the key's own hash.
        custody: of the secret.
        site: who the key holder is.

    Raises:
        NotAdmitted: another consortium's round, or one that names another key holder.
        ParameterError: no task in homomorphic mode.
    """
    _check_mine(draft, site)
    keys = homomorphic.new_keys(draft.parameters.ciphertexts)
    ctx0 = draft.under(keys.public).ctx0
    signature = signing.sign(site.signing_key, commitments.PUBLIC_KEY, ctx0, custody.threshold, custody.custodians)
    return RoundKey(PublishedKey(keys.public, custody.threshold, custody.custodians, signature), ctx0, keys.secret)


def is_published(published: PublishedKey, terms: RoundTerms, key_holder: Certificate) -> bool:
    """Whether the key holder signed the public key of these terms for them. Run by server and clients."""
    said = (terms.ctx0, published.custody_threshold, published.custodians)
    return signing.verify(key_holder.verifying_key, published.signature, commitments.PUBLIC_KEY, *said)


def check_decryption(
    request: DecryptionRequest, terms: RoundTerms, roster: Roster, ctx0: bytes, site: Site
) -> Decryption:
    """Check all that the auditor signed, and the sizes that clients signed for. Run by the key holder.

    Args:
        request: as the server sent it.
        terms: in it.
        roster: in it, verified against the site's authority.
        ctx0: of the terms for which this key holder made the round's key.
        site: who the key holder is.

    Raises:
        NotAdmitted: another consortium's round or key holder, other terms than the key was made for, or an auditor who
            is not the round's.
        Equivocation: a signature that is not the auditor's over this very list or sum; as `check_list`.
        MessageError, RoundAborted: as `check_list` and `CommittedList.check_survivors`.
    """
    terms.check_consortium(roster, site.certificate, site.authority)
    key, parties = _check_mine(terms, site)
    if terms.ctx0 != ctx0:
        raise NotAdmitted(f"round {terms.round} has other terms than those that its key was made for")
    committed = check_list(terms, roster, request.commitments)
    committed.check_survivors(request.survivors)
    if parties.audit is not Audit.TRUST_SERVER:
        _check_audited(request, committed, parties, key.auditor, site.authority)
    return Decryption(terms, request.survivors, request.sum_hash)


def check_sum(decryption: Decryption, total: Octets) -> None:
    """Whether these bytes are the sum that was audited. Run by the key holder, before it writes down that it decrypts.

    Raises:
        Equivocation: they are not.
    """
    if sha256(total).digest() != decryption.sum_hash:
        raise Equivocation(f"round {decryption.terms.round}: the bytes of the sum are not those that were audited")


def decrypt(decryption: Decryption, total: Octets, secret: bytes) -> Words:
    """The sum's words, shape (L,). Run by the key holder, once for each (task, round), after it has written that down.

    Raises:
        MessageError: as `homomorphic.decrypt`: one of the clients lied.
    """
    parameters = decryption.terms.parameters
    return homomorphic.decrypt(total, secret, parameters.ciphertexts, clients=len(decryption.survivors))


def _check_mine(terms: RoundTerms, site: Site) -> tuple[KeyTerms, Parties]:
    """Whether this key holder is the one that a round of its own consortium names."""
    me, parties = site.certificate, terms.parameters.parties
    if terms.key is None or parties is None:
        raise ParameterError(f"task {terms.task} is in {terms.parameters.mode} mode, which has no keys to hold")
    if (terms.deployment, terms.authority_hash) != (me.deployment, site.authority.fingerprint):
        raise NotAdmitted(f"round {terms.round} is of another consortium than {me.deployment!r}")
    if (parties.key_holder, terms.key.key_holder) != (me.name, me.fingerprint):
        raise NotAdmitted(f"round {terms.round} does not name {me.name} as its key holder")
    return terms.key, parties


def _check_audited(
    request: DecryptionRequest, committed: CommittedList, parties: Parties, who: bytes, authority: Certificate
) -> None:
    auditor = Certificate.from_der(request.auditor_certificate)
    check_party(auditor, authority, parties, AUDITOR, who)
    if parties.audit is Audit.FROZEN and not is_frozen(committed, request.list_signature, auditor):
        raise Equivocation(f"auditor {auditor.name} did not freeze this list")
    if not is_audited(committed, request.survivors, request.sum_hash, request.sum_signature, auditor):
        raise Equivocation(f"auditor {auditor.name} did not sign this sum over these clients")
