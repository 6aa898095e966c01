"""Homomorphic step 4: ciphertexts arrive, and are summed as they do. U = those whose ciphertexts have their hash.

Each waits in the spool until the auditor has read it; memory holds the sum only. Who drops out costs nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aggregator.errors import MessageError, StorageError
from aggregator.protocol import homomorphic
from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList, freeze
from aggregator.protocol.parties import AUDITOR
from aggregator.rounds.audit import Audit
from aggregator.rounds.ciphertexts import Ciphertexts, Sum
from aggregator.rounds.decrypt import Decrypt
from aggregator.rounds.phase import Failed, Setting
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.storage.base import Octets, Staged
from aggregator.wire.messages import Chunk, FrozenList, InputCommitment, RoundOpened, UploadHeader
from aggregator.wire.vocabulary import Step


@dataclass(frozen=True, slots=True)
class Frozen:
    """A list that the auditor has frozen, and its signature."""

    committed: CommittedList
    signature: bytes


class UploadCiphertexts(Uploads[InputCommitment]):
    """Take the ciphertexts of the list's clients; where nothing is frozen, each with its commitment.

    The answer kept of each is its commitment.
    """

    step = Step.UPLOAD
    keeps_sum = True
    answer_type = type(None)  # no message of the control stream belongs here

    def __init__(self, setting: Setting, clients: AbstractSet[ClientId], frozen: Frozen | None) -> None:
        self._layout = setting.terms.parameters.ciphertexts
        self._total = homomorphic.Total(self._layout)
        super().__init__(setting, clients, self._layout.plan, self._total.check)
        self._frozen = frozen
        self.takes_in = frozen is None
        self._digests: dict[ClientId, Any] = {}
        self._kept: dict[ClientId, Staged] = {}
        # Whose ciphertexts the sum holds; None where it holds half of somebody's.
        self._summed: frozenset[ClientId] | None = frozenset()
        self._survivors: tuple[ClientId, ...] | None = None
        self._shown: FrozenList | RoundOpened = (
            setting.opened() if frozen is None else FrozenList(frozen.committed.named, frozen.signature)
        )

    @property
    def needed(self) -> int:
        """The minimum cohort."""
        return self._setting.terms.parameters.minimum_cohort

    @property
    def counted(self) -> frozenset[ClientId]:
        """U, once it is fixed."""
        return super().counted if self._survivors is None else frozenset(self._survivors)

    @property
    def sum_octets(self) -> Sequence[Octets]:
        """The ciphertexts of the sum."""
        return (self._total.packed(),)

    def restore(self, client: ClientId, header: UploadHeader, staged: Staged) -> None:
        """As `Uploads.restore`."""
        self._digests[client] = sha256()
        for index in range(self._plan.chunks):
            self._digests[client].update(staged.read(self._plan.start(index), self._plan.size(index)))
        super().restore(client, header, staged)

    def restore_sum(self, octets: Octets, headers: Mapping[ClientId, UploadHeader]) -> None:
        """As `Uploads.restore_sum`: a sum has the form of an upload."""
        octets, plan = memoryview(octets), self._plan
        if octets.nbytes != plan.payload_bytes:
            raise StorageError(f"a kept sum of {octets.nbytes} bytes, expected {plan.payload_bytes}")
        for index in range(plan.chunks):
            self._total.add(index, octets[plan.start(index) : plan.start(index) + plan.size(index)])
        self._summed = frozenset(headers)
        self.answers.update({client: self._commitment(client, header) for client, header in headers.items()})

    def keep(self, client: ClientId, staged: Staged) -> None:
        """What a kept sum holds, and the auditor has yet to read."""
        self._kept[client] = staged

    def announcement(self, client: ClientId) -> FrozenList | RoundOpened:
        """The frozen list; where nothing is frozen, the round's opening."""
        return self._shown

    def admit_header(self, client: ClientId, header: UploadHeader) -> None:
        """Where nothing is frozen, a commitment comes along."""
        if self._frozen is not None:
            if header.commitment:
                raise MessageError(f"client {client} commits to its ciphertexts a second time")
        elif not header.commitment:
            raise MessageError(f"client {client} does not commit to its ciphertexts")
        else:
            others = (other for author, other in self.answers.items() if author != client)
            terms, roster = self._setting.terms, self._setting.roster
            coordinator.admit_commitment(terms, roster, client, header.commitment[0], others)

    def begin(self, client: ClientId, header: UploadHeader) -> Upload | None:
        """As `Uploads.begin`."""
        upload = super().begin(client, header)
        if upload is not None and not upload.chunks:
            self._digests[client] = sha256()
        return upload

    def receive(self, upload: Upload, chunk: Chunk) -> None:
        """As `Uploads.receive`."""
        super().receive(upload, chunk)
        self._digests[upload.client].update(chunk.data)

    def take(self, upload: Upload) -> InputCommitment:
        """Compare the ciphertexts with their hash, and add them.

        Raises:
            MessageError: they are others than the client committed to.
        """
        commitment = self._commitment(upload.client, upload.header)
        if self._digests.pop(upload.client).digest() != commitment.hash:
            error = MessageError(f"client {upload.client} uploaded other ciphertexts than it committed to")
            self.refuse(upload, error)
            raise error
        self._kept[upload.client] = upload.staged
        summed, self._summed = self._summed, None  # until all of it is added
        self._add(upload.staged)
        self._summed = None if summed is None else summed | {upload.client}
        return commitment

    def keeps(self, upload: Upload) -> bool:
        """The auditor will read it."""
        return True

    def close(self) -> None:
        """Destroy all that is staged, whole or not."""
        super().close()
        for staged in self._kept.values():
            staged.close()

    def finish(self) -> Audit | Decrypt | Failed:
        """Fix U."""
        self.abandon_all()
        if not self.ready:
            self.close()
            return self.too_few("clients")
        survivors = coordinator.served(self.answers)
        if len(survivors) < self.needed:
            self.close()
            left = f"{len(survivors)} of {len(self.answers)} clients are left"
            return Failed(self.step, f"upload: {left} by the minima that they signed, need {self.needed}")
        for client in self._kept.keys() - set(survivors):
            self._kept.pop(client).close()
        if self._summed != frozenset(survivors):
            self._sum_again(self._kept[client] for client in survivors)
        self._survivors = survivors
        total = Sum.of(*self._list(survivors), survivors, self._total.packed())
        if AUDITOR not in self._setting.attending:
            self.close()
            return Decrypt(self._setting, total, b"")
        return Audit(self._setting, total, Ciphertexts(self._kept, self._plan))

    def _commitment(self, client: ClientId, header: UploadHeader) -> InputCommitment:
        if self._frozen is not None:
            return self._frozen.committed.commitments[client]
        return header.commitment[0]

    def _list(self, survivors: tuple[ClientId, ...]) -> tuple[CommittedList, bytes]:
        if self._frozen is not None:
            return self._frozen.committed, self._frozen.signature
        return freeze(self._setting.terms, {client: self.answers[client] for client in survivors}), b""

    def _sum_again(self, kept: Iterable[Staged]) -> None:
        """Without those whose minimum is not met, or after a failure of the disk half-way."""
        self._total = homomorphic.Total(self._layout)
        for staged in kept:
            self._add(staged)

    def _add(self, staged: Staged) -> None:
        for index in range(self._plan.chunks):
            self._total.add(index, staged.read(self._plan.start(index), self._plan.size(index)))
