"""The server's steps of homomorphic mode: the other side of `homomorphic_participant`, `auditor` and `keyholder`.

    admit_key              check the key holder's answer       announced_key     what clients are told of it
    admit_commitment       check one client's commitment       served            whom the sum can hold
    admit_list_signature   check the auditor's answers
    admit_sum_signature

Nothing here protects anybody: each client, the auditor and the key holder check for themselves. It finds out early, and
names, who answers falsely.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList, is_audited, is_frozen, is_signed
from aggregator.protocol.context import KeyTerms, RoundTerms
from aggregator.protocol.keyholder import is_published
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER
from aggregator.wire.messages import AnnouncedKey, InputCommitment, ListSignature, PublishedKey, SumSignature


def admit_key(terms: RoundTerms, key_holder: Certificate, published: PublishedKey) -> None:
    """Check a public key. Run by the server on receipt.

    Raises:
        MessageError: the key holder did not sign it for this round; or `terms` are no draft.
    """
    if not is_published(published, terms.under(published.public_key), key_holder):
        raise MessageError(f"the public key is not signed by key holder {key_holder.name} for round {terms.round}")


def announced_key(attending: Mapping[int, Certificate], published: PublishedKey) -> AnnouncedKey:
    """A public key for the clients, with the certificates that they check it by."""
    auditor = attending[AUDITOR].der if AUDITOR in attending else b""
    return AnnouncedKey(published, attending[KEY_HOLDER].der, auditor)


def draft(terms: RoundTerms, attending: Mapping[int, Certificate]) -> RoundTerms:
    """The terms for which the key holder makes its key."""
    auditor = attending[AUDITOR].fingerprint if AUDITOR in attending else b""
    return replace(terms, key=KeyTerms(b"", attending[KEY_HOLDER].fingerprint, auditor))


def admit_commitment(
    terms: RoundTerms, roster: Roster, client: ClientId, commitment: InputCommitment, others: Iterable[InputCommitment]
) -> None:
    """Check one client's commitment. Run by the server on receipt.

    Raises:
        MessageError: not signed by the client for this round, to ciphertexts that another one committed to, or with a
            minimum that no round of this task reaches.
    """
    most = min(terms.roster_size, terms.parameters.clients_max)
    if commitment.minimum_cohort > most:
        raise MessageError(f"client {client} insists on {commitment.minimum_cohort} clients, there are at most {most}")
    if any(other.hash == commitment.hash for other in others):
        raise MessageError(f"client {client} committed to ciphertexts that another client committed to before")
    if not is_signed(terms, roster, client, commitment):
        raise MessageError(f"the commitment of client {client} is not signed by it for round {terms.round}")


def admit_list_signature(committed: CommittedList, auditor: Certificate, answer: ListSignature) -> None:
    """Check that the auditor froze this list; MessageError when it did not."""
    if not is_frozen(committed, answer.signature, auditor):
        raise MessageError(f"auditor {auditor.name} signed another list than it was shown")


def admit_sum_signature(
    committed: CommittedList,
    survivors: tuple[ClientId, ...],
    sum_hash: bytes,
    auditor: Certificate,
    answer: SumSignature,
) -> None:
    """Check that the auditor signed the sum that this server has made; MessageError when it did not."""
    if answer.hash != sum_hash:
        raise MessageError(f"auditor {auditor.name} came to another sum than this server")
    if not is_audited(committed, survivors, sum_hash, answer.signature, auditor):
        raise MessageError(f"auditor {auditor.name} signed another sum than it was shown")


def served(uploaded: Mapping[ClientId, InputCommitment]) -> tuple[ClientId, ...]:
    """Of those whose ciphertexts arrived, the most whose own minima all are met; ascending.

    A minimum that is not met costs its own client only: the rest goes on without it, as if it had dropped.
    """
    left = sorted(uploaded, key=lambda client: (uploaded[client].minimum_cohort, client))
    while left and uploaded[left[-1]].minimum_cohort > len(left):
        left.pop()
    return tuple(sorted(left))
