"""Homomorphic step 4: ciphertexts arrive, and are summed as they do. U = those whose ciphertexts have their hash.

Each waits in the spool until the auditor has read it; memory holds the sum only. Who drops out costs nothing.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aggregator.errors import MessageError
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
from aggregator.storage.base import Staged
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
    answer_type = type(None)  # no message of the control stream belongs here

    def __init__(self, setting: Setting, clients: AbstractSet[ClientId], frozen: Frozen | None) -> None:
        self._layout = setting.terms.parameters.ciphertexts
        self._total = homomorphic.Total(self._layout)
        super().__init__(setting, clients, self._layout.plan, self._total.check)
        self._frozen = frozen
        self.takes_in = frozen is None
        self._digests: dict[ClientId, Any] = {}
        self._kept: dict[ClientId, Staged] = {}
        self._whole = True  # whether the sum is that of all that is kept
        self._shown: FrozenList | RoundOpened = (
            setting.opened() if frozen is None else FrozenList(frozen.committed.named, frozen.signature)
        )

    @property
    def needed(self) -> int:
        """The minimum cohort."""
        return self._setting.terms.parameters.minimum_cohort

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
        commitment = self._commitment(upload)
        if self._digests.pop(upload.client).digest() != commitment.hash:
            error = MessageError(f"client {upload.client} uploaded other ciphertexts than it committed to")
            self.refuse(upload, error)
            raise error
        self._kept[upload.client] = upload.staged
        whole, self._whole = self._whole, False  # until all of it is added
        self._add(upload.staged)
        self._whole = whole
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
            self._kept[client].close()
        if not self._whole or len(survivors) < len(self._kept):
            self._sum_again(self._kept[client] for client in survivors)
        total = Sum.of(*self._list(survivors), survivors, self._total.packed())
        if AUDITOR not in self._setting.attending:
            self.close()
            return Decrypt(self._setting, total, b"")
        kept = Ciphertexts({client: self._kept[client] for client in survivors}, self._plan)
        return Audit(self._setting, total, kept)

    def _commitment(self, upload: Upload) -> InputCommitment:
        if self._frozen is not None:
            return self._frozen.committed.commitments[upload.client]
        return upload.header.commitment[0]

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
