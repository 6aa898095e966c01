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
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.contribution import Octets
from aggregator.protocol.parameters import Parameters
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
    """What the key holder has of one round until it is over; the secret goes to disk under its wrapping only."""

    published: PublishedKey
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Decryption:
    """A sum that may be decrypted once its bytes have this hash."""

    terms: RoundTerms
    survivors: tuple[ClientId, ...]
    sum_hash: bytes


def publish_key(where: tuple[str, str, int], parameters: Parameters, custody: Custody, site: Site) -> RoundKey:
    """Make a round's key pair, and sign its public half. Run by the key holder, once for each (task, round).

    Args:
        where: deployment, task, round.
        parameters: of the task.
        custody: of the secret.
        site: who the key holder is.

    Raises:
        NotAdmitted: the task names another key holder.
        ParameterError: no task in homomorphic mode.
    """
    if parameters.parties is None:
        raise ParameterError(f"task {where[1]} is in {parameters.mode} mode, which has no keys to hold")
    if parameters.parties.key_holder != site.certificate.name:
        raise NotAdmitted(f"task {where[1]} names {parameters.parties.key_holder} as its key holder")
    keys = homomorphic.new_keys(parameters.ciphertexts)
    terms = (custody.threshold, custody.custodians)
    said = commitments.key_fields(where, parameters.hash, keys.public, terms)
    signature = signing.sign(site.signing_key, commitments.PUBLIC_KEY, *said)
    return RoundKey(PublishedKey(keys.public, *terms, signature), keys.secret)


def is_published(
    published: PublishedKey, where: tuple[str, str, int], parameters: Parameters, key_holder: Certificate
) -> bool:
    """Whether the key holder signed this public key for this round. Run by server and clients."""
    custody = (published.custody_threshold, published.custodians)
    said = commitments.key_fields(where, parameters.hash, published.public_key, custody)
    return signing.verify(key_holder.verifying_key, published.signature, commitments.PUBLIC_KEY, *said)


def check_decryption(
    request: DecryptionRequest, terms: RoundTerms, roster: Roster, public_key_hash: bytes, site: Site
) -> Decryption:
    """Check all that the auditor signed, and the sizes that clients signed for. Run by the key holder.

    Args:
        request: as the server sent it.
        terms: in it.
        roster: in it, verified against the site's authority.
        public_key_hash: of the key that this key holder made for the round.
        site: who the key holder is.

    Raises:
        NotAdmitted: another consortium's round, key or key holder, or an auditor who is not the round's.
        Equivocation: a signature that is not the auditor's over this very list or sum; as `check_list`.
        MessageError, RoundAborted: as `check_list` and `CommittedList.check_survivors`.
    """
    terms.check_consortium(roster, site.certificate, site.authority)
    parties = terms.parameters.parties
    if terms.key is None or parties is None or terms.key.key_holder != site.certificate.fingerprint:
        raise NotAdmitted(f"round {terms.round} does not name {site.certificate.name} as its key holder")
    if terms.key.public_key != public_key_hash:
        raise NotAdmitted(f"round {terms.round} is under another key than the one that was published for it")
    committed = check_list(terms, roster, request.commitments)
    committed.check_survivors(request.survivors)
    if parties.audit is not Audit.TRUST_SERVER:
        _check_audited(request, committed, parties, terms.key.auditor, site.authority)
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


def _check_audited(
    request: DecryptionRequest, committed: CommittedList, parties: Parties, who: bytes, authority: Certificate
) -> None:
    auditor = Certificate.from_der(request.auditor_certificate)
    check_party(auditor, authority, parties, AUDITOR, who)
    if parties.audit is Audit.FROZEN and not is_frozen(committed, request.list_signature, auditor):
        raise Equivocation(f"auditor {auditor.name} did not freeze this list")
    if not is_audited(committed, request.survivors, request.sum_hash, request.sum_signature, auditor):
        raise Equivocation(f"auditor {auditor.name} did not sign this sum over these clients")
