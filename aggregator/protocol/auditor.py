"""The auditor's steps, in homomorphic mode: it holds no key, and signs what the key holder may decrypt.

    freeze       check and sign the list of commitments, before anybody uploads
    Recount      read the ciphertexts of U, compare each with its commitment, add them up
    sign_sum     sign (ctx1, U, hash of the sum)

The caller remembers on disk what was signed for each (task, round), before the signature leaves: one list, one sum.
"""

from collections.abc import Sequence
from hashlib import sha256

from aggregator.crypto import signing
from aggregator.crypto.roster import Roster
from aggregator.errors import Equivocation, MessageError, NotAdmitted, ParameterError
from aggregator.protocol import commitments, homomorphic
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList, check_list, sum_fields
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.participant import Site
from aggregator.protocol.parties import Audit
from aggregator.wire.messages import Chunk, ListSignature, NamedCommitment, SumSignature


def freeze(
    terms: RoundTerms, roster: Roster, named: Sequence[NamedCommitment], site: Site
) -> tuple[CommittedList, ListSignature]:
    """Check the commitments that came, and sign their list. Run by the auditor; once for each (task, round).

    `roster` must have been verified against the site's authority.

    Raises:
        NotAdmitted: another consortium's round, or one that names another auditor.
        ParameterError: a round in which nothing is frozen.
        Equivocation, MessageError, RoundAborted: as `check_list`.
    """
    audit = _check_mine(terms, roster, site)
    if audit is not Audit.FROZEN:
        raise ParameterError(f"round {terms.round} is audited {audit}: nothing is frozen in it")
    committed = check_list(terms, roster, named)
    said = (terms.ctx0, committed.root)
    return committed, ListSignature(signing.sign(site.signing_key, commitments.FROZEN_LIST, *said))


class Recount:
    """The auditor's own sum over U, chunk by chunk, one client after the other. Memory: the sum, and one chunk.

    Raises:
        NotAdmitted: another consortium's round, or one that names another auditor.
        Equivocation, MessageError, RoundAborted: as `check_list` and `CommittedList.check_survivors`.
    """

    def __init__(
        self,
        terms: RoundTerms,
        roster: Roster,
        named: Sequence[NamedCommitment],
        survivors: Sequence[ClientId],
        site: Site,
    ) -> None:
        self.audit = _check_mine(terms, roster, site)
        self.committed = check_list(terms, roster, named)
        self.committed.check_survivors(survivors)
        self.survivors = tuple(survivors)
        self._site = site
        self._layout = terms.parameters.ciphertexts
        self._plan = self._layout.plan
        self._total = homomorphic.Total(self._layout)
        self._left = list(reversed(survivors))
        self._hash = sha256()
        self.chunks = 0  # of the next client, that have been read

    @property
    def next_client(self) -> ClientId | None:
        """Whose ciphertexts are read next, from chunk `chunks` on; None when all are added."""
        return self._left[-1] if self._left else None

    def take(self, chunk: Chunk) -> None:
        """Check and add the next chunk of the next client; the last one must complete what it committed to.

        Raises:
            MessageError: not the next chunk whole, or residues that are not below their primes.
            Equivocation: these are not the ciphertexts that the client committed to.
        """
        client = self._left[-1]
        self._plan.check(self.chunks, chunk)
        try:
            self._total.check(chunk.index, chunk.data)
        except MessageError as error:
            raise MessageError(f"client {client}: {error}") from None
        self._hash.update(chunk.data)
        self._total.add(chunk.index, chunk.data)
        self.chunks += 1
        if self.chunks == self._plan.chunks:
            self._close(client)

    def sign_sum(self) -> SumSignature:
        """Sign the sum. Run by the auditor; once for each (task, round).

        Raises:
            MessageError: ciphertexts are missing.
        """
        if self._left:
            raise MessageError(f"{len(self._left)} of {len(self.survivors)} clients' ciphertexts are not added yet")
        total = sha256(self._total.packed()).digest()
        said = sum_fields(self.committed, self.survivors, total)
        return SumSignature(total, signing.sign(self._site.signing_key, commitments.SUM, *said))

    def _close(self, client: ClientId) -> None:
        if self._hash.digest() != self.committed.commitments[client].hash:
            raise Equivocation(f"the ciphertexts of client {client} are not those that it committed to")
        self._left.pop()
        self._hash, self.chunks = sha256(), 0


def _check_mine(terms: RoundTerms, roster: Roster, site: Site) -> Audit:
    terms.check_consortium(roster, site.certificate, site.authority)
    parties = terms.parameters.parties
    if terms.key is None or parties is None or terms.key.auditor != site.certificate.fingerprint:
        raise NotAdmitted(f"round {terms.round} does not name {site.certificate.name} as its auditor")
    return parties.audit
