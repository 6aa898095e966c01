"""The client's steps of homomorphic mode: it commits to its ciphertexts, and uploads them once the list is frozen.

    accept_key ── commit_input ── check_frozen
      Keyed        Committed        Deposited

The server is not trusted: the key is the key holder's, the list is the auditor's, by certificates of the authority; and
each entry of the list is its client's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from aggregator.crypto import signing
from aggregator.crypto.certificates import Certificate
from aggregator.errors import Equivocation, MessageError, NotAdmitted, RoundAborted
from aggregator.protocol import commitments
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList, check_list, freeze, is_frozen
from aggregator.protocol.context import KeyTerms
from aggregator.protocol.keyholder import is_published
from aggregator.protocol.participant import Invited
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER, Audit, Parties, check_party
from aggregator.wire.messages import AnnouncedKey, FrozenList, InputCommitment


@dataclass(frozen=True, slots=True)
class Keyed:
    """A round whose terms and public key this client accepts; `auditor` is None where the server alone is trusted."""

    invited: Invited
    audit: Audit
    public_key: bytes = field(repr=False)
    key_holder: Certificate
    auditor: Certificate | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The ciphertexts are made, and their hash is signed."""

    keyed: Keyed
    commitment: InputCommitment


@dataclass(frozen=True, slots=True)
class Deposited:
    """The list is known, and the ciphertexts may leave; nothing else will ever leave in this round."""

    committed: Committed
    frozen: CommittedList


def accept_key(invited: Invited, announced: AnnouncedKey, authority: Certificate) -> Keyed:
    """Check the round's public key, and who holds and audits it. Run by the client, before it encrypts.

    Whether their certificates count now is for the caller, who has a clock.

    Raises:
        NotAdmitted: a party that is not the one in ctx0, not in its role, or not the authority's.
        Equivocation: another key than the one in ctx0, or one that the key holder did not sign for this round.
        MessageError: a round in another mode.
    """
    terms, parties = invited.terms, invited.terms.parameters.parties
    if terms.key is None or parties is None:
        raise MessageError(f"round {terms.round} is in {terms.parameters.mode} mode, which has no public key")
    key_holder = Certificate.from_der(announced.key_holder_certificate)
    check_party(key_holder, authority, parties, KEY_HOLDER, terms.key.key_holder)
    published = announced.published
    if sha256(published.public_key).digest() != terms.key.public_key:
        raise Equivocation(f"round {terms.round} names another public key than the one it shows")
    if not is_published(published, terms, key_holder):
        raise Equivocation(
            f"the public key of round {terms.round} is not signed by key holder {key_holder.name} for it"
        )
    auditor = _auditor(announced, terms.key, parties, authority)
    return Keyed(invited, parties.audit, published.public_key, key_holder, auditor)


def commit_input(keyed: Keyed, ciphertexts_hash: bytes) -> Committed:
    """Sign the hash of this client's ciphertexts, and its own minimum cohort. Run by the client, once per round."""
    invited = keyed.invited
    said = (invited.ctx0, invited.me, ciphertexts_hash, invited.minimum)
    signature = signing.sign(invited.signing_key, commitments.INPUT, *said)
    return Committed(keyed, InputCommitment(ciphertexts_hash, invited.minimum, signature))


def check_frozen(state: Committed, shown: FrozenList) -> Deposited:
    """Check the list before the ciphertexts leave. Run by the client; the caller makes ctx1 durable first.

    Raises:
        Equivocation: the auditor did not sign this list, or it does not hold this client's own commitment.
        RoundAborted: fewer clients than this site's minimum.
        NotAdmitted: the certificate of one of them has expired.
        MessageError, Equivocation, RoundAborted: as `check_list`.
    """
    keyed, invited = state.keyed, state.keyed.invited
    frozen = check_list(invited.terms, invited.roster, shown.commitments)
    if keyed.audit is not Audit.FROZEN or keyed.auditor is None:
        raise MessageError(f"round {invited.terms.round} is audited {keyed.audit}: nothing is frozen in it")
    if not is_frozen(frozen, shown.signature, keyed.auditor):
        raise Equivocation(f"auditor {keyed.auditor.name} did not freeze this list")
    mine = frozen.commitments.get(invited.me)
    if mine is None or (mine.hash, mine.minimum_cohort) != (state.commitment.hash, state.commitment.minimum_cohort):
        raise Equivocation(f"client {invited.me}: the frozen list does not hold this client's own commitment")
    _check_enough("freeze", len(frozen.commitments), invited.minimum)
    if late := invited.expired.intersection(frozen.commitments):
        raise NotAdmitted(f"the certificates of clients {sorted(late)} have expired")
    return Deposited(state, frozen)


def deposit_unseen(state: Committed) -> Deposited:
    """Go on without a list, where nothing is frozen. Run by the client, by its own choice (`Safeguards.audits`).

    Raises:
        MessageError: a round in which the list is frozen.
    """
    if state.keyed.audit is Audit.FROZEN:
        raise MessageError(f"round {state.keyed.invited.terms.round} freezes its list before anybody uploads")
    return Deposited(state, freeze(state.keyed.invited.terms, {state.keyed.invited.me: state.commitment}))


def check_closed(state: Deposited, survivors: Sequence[ClientId]) -> None:
    """Check over whom the round is said to have closed. Run by the client.

    Raises:
        Equivocation: somebody who is not in the frozen list, or not in the roster.
        RoundAborted: without this client, or fewer than its minimum.
    """
    invited = state.committed.keyed.invited
    frozen = state.committed.keyed.audit is Audit.FROZEN
    known = state.frozen.commitments.keys() if frozen else range(invited.terms.roster_size)
    if strangers := set(survivors).difference(known):
        raise Equivocation(f"U names clients {sorted(strangers)}, who are not in the list")
    if invited.me not in survivors:
        raise RoundAborted(f"upload: the round went on without client {invited.me}")
    _check_enough("upload", len(survivors), invited.minimum)


def _auditor(announced: AnnouncedKey, key: KeyTerms, parties: Parties, authority: Certificate) -> Certificate | None:
    if parties.audit is Audit.TRUST_SERVER:
        return None
    auditor = Certificate.from_der(announced.auditor_certificate)
    check_party(auditor, authority, parties, AUDITOR, key.auditor)
    return auditor


def _check_enough(step: str, have: int, need: int) -> None:
    if have < need:
        raise RoundAborted(f"{step}: {have} clients, this client needs {need}")
