"""The list of what clients committed to, in homomorphic mode: who may be in the sum, and with which ciphertexts.

Frozen by the auditor before anybody uploads, so that no client can choose its ciphertexts by others'. Where nothing is
frozen, it holds those whose uploads arrived. Auditor, key holder, clients and server all check it alike.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.crypto import merkle, signing
from aggregator.crypto.canonical import digest
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import Equivocation, MessageError, RoundAborted
from aggregator.protocol import commitments
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.parties import Audit
from aggregator.wire.messages import InputCommitment, NamedCommitment


@dataclass(frozen=True, slots=True)
class CommittedList:
    """Commitments by client, ascending, each signed by its author under the round's ctx0; made by `check_list`.

    Attributes:
        root: of the frozen list; that of an empty one where nothing is frozen, since clients upload before it is known.
        ctx1: the context that the auditor signs the sum under.
    """

    terms: RoundTerms
    commitments: Mapping[ClientId, InputCommitment] = field(repr=False)
    root: bytes
    ctx1: bytes

    @property
    def named(self) -> tuple[NamedCommitment, ...]:
        """As it travels."""
        return tuple(NamedCommitment(client, one) for client, one in self.commitments.items())

    def check_survivors(self, survivors: Sequence[ClientId]) -> None:
        """Whether a sum over these clients is one that all of them accept. Run by auditor and key holder.

        Raises:
            Equivocation: somebody who is not in the list, or twice.
            RoundAborted: fewer than the task's minimum cohort, or than one of them signed; more than the sum holds.
        """
        if strangers := set(survivors) - self.commitments.keys():
            raise Equivocation(f"U names clients {sorted(strangers)}, who are not in the list")
        if list(survivors) != sorted(set(survivors)):
            raise Equivocation("U names a client twice, or out of order")
        _check_size("U", len(survivors), self.terms)
        for client in survivors:
            least = self.commitments[client].minimum_cohort
            if len(survivors) < least:
                raise RoundAborted(f"U has {len(survivors)} clients, client {client} signed for at least {least}")


def check_list(terms: RoundTerms, roster: Roster, named: Iterable[NamedCommitment]) -> CommittedList:
    """Check a whole list. Run by all but who made it; 60 µs of a core for each client.

    Raises:
        MessageError: a client outside the roster.
        Equivocation: a commitment that its client did not sign for this round, or one hash under two names.
        RoundAborted: fewer clients than the task's minimum cohort, or more than the sum holds.
    """
    by_client = {item.client: item.commitment for item in named}
    _check_size("the list", len(by_client), terms)
    if max(by_client) >= terms.roster_size:
        raise MessageError(f"the list names client {max(by_client)}, the roster has {terms.roster_size}")
    authors: dict[bytes, ClientId] = {}
    for client, commitment in by_client.items():
        first = authors.setdefault(commitment.hash, client)
        if first != client:
            raise Equivocation(f"clients {first} and {client} committed to the same ciphertexts")
        if not is_signed(terms, roster, client, commitment):
            raise Equivocation(f"the commitment of client {client} is not signed by it for this round")
    return freeze(terms, by_client)


def freeze(terms: RoundTerms, by_client: Mapping[ClientId, InputCommitment]) -> CommittedList:
    """The list of commitments that have been checked one by one. Run by the server."""
    ordered = {client: by_client[client] for client in sorted(by_client)}
    frozen = terms.parameters.parties is not None and terms.parameters.parties.audit is Audit.FROZEN
    root = merkle.root([commitments.input_leaf(c, one) for c, one in ordered.items()] if frozen else [])
    return CommittedList(terms, ordered, root, digest("sangam/v1/ctx1", terms.ctx0, root))


def is_signed(terms: RoundTerms, roster: Roster, client: ClientId, commitment: InputCommitment) -> bool:
    """Whether the client signed this very commitment for this round."""
    said = (terms.ctx0, client, commitment.hash, commitment.minimum_cohort)
    return signing.verify(roster.verifying_key(client), commitment.signature, commitments.INPUT, *said)


def is_frozen(committed: CommittedList, signature: bytes, auditor: Certificate) -> bool:
    """Whether the auditor froze this list. Run by clients, server and key holder."""
    said = (committed.terms.ctx0, committed.root)
    return signing.verify(auditor.verifying_key, signature, commitments.FROZEN_LIST, *said)


def is_audited(
    committed: CommittedList, survivors: Sequence[ClientId], sum_hash: bytes, signature: bytes, auditor: Certificate
) -> bool:
    """Whether the auditor signed this sum over these clients. Run by server and key holder."""
    said = sum_fields(committed, survivors, sum_hash)
    return signing.verify(auditor.verifying_key, signature, commitments.SUM, *said)


def sum_fields(committed: CommittedList, survivors: Sequence[ClientId], sum_hash: bytes) -> tuple[bytes, bytes, bytes]:
    """What the auditor signs of a sum."""
    return committed.ctx1, commitments.clients_hash(survivors), sum_hash


def _check_size(what: str, size: int, terms: RoundTerms) -> None:
    least, most = terms.parameters.minimum_cohort, terms.parameters.clients_max
    if size < least:
        raise RoundAborted(f"{what} has {size} clients, the task needs at least {least}")
    if size > most:
        raise RoundAborted(f"{what} has {size} clients, the sum holds at most {most}")
