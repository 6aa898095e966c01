"""Homomorphic step 6: the key holder reads the sum, checks what the auditor signed, and gives back the sum's words."""

import numpy as np

from aggregator.errors import MessageError, OutOfTurn
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER
from aggregator.rounds.asking import unanswered
from aggregator.rounds.ciphertexts import Sum
from aggregator.rounds.phase import Completed, Failed, Setting
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.wire.messages import Chunk, CiphertextsRequest, DecryptionRequest, UploadHeader
from aggregator.wire.vocabulary import Step
from native.pack import padding_is_zero, unpack
from native.ring import word_dtype


class Decrypt(Uploads[RingVector]):
    """Ask for the words of the sum, which come as an upload; the answer kept is the words."""

    step = Step.DECRYPT
    answer_type = type(None)  # no message of the control stream belongs here

    def __init__(self, setting: Setting, total: Sum, sum_signature: bytes) -> None:
        self._words = setting.terms.parameters.result_plan
        super().__init__(setting, {KEY_HOLDER}, self._words, self._check_padding)
        self._survivors = total.survivors
        self._total = total
        self._sum_plan = setting.terms.parameters.upload_plan
        self._refusal = ""
        auditor = setting.attending[AUDITOR].der if AUDITOR in setting.attending else b""
        self._request = DecryptionRequest(
            terms=setting.terms.to_message(),
            roster=setting.roster_bytes,
            auditor_certificate=auditor,
            commitments=total.committed.named,
            list_signature=total.list_signature,
            survivors=total.survivors,
            sum_hash=total.hash,
            sum_signature=sum_signature,
        )

    @property
    def standing(self) -> frozenset[ClientId]:
        """The clients that wait: U."""
        return frozenset(self._survivors)

    @property
    def survivors(self) -> frozenset[ClientId]:
        """U."""
        return self.standing

    @property
    def needed(self) -> int:
        """The one answer."""
        return 1

    def announcement(self, client: ClientId) -> DecryptionRequest:
        """All that the key holder checks, but for the sum itself."""
        return self._request

    def chunk(self, member: ClientId, request: CiphertextsRequest, index: int) -> Chunk:
        """A chunk of the sum, for the key holder alone."""
        if member != KEY_HOLDER or not request.whole_sum:
            raise OutOfTurn(f"{self.step}: the sum is for the key holder, and nothing else is")
        if index >= self._sum_plan.chunks:
            raise MessageError(f"there is no chunk {index} of the sum")
        start = self._sum_plan.start(index)
        return Chunk(index, self._total.octets[start : start + self._sum_plan.size(index)])

    def note_withdrawal(self, client: ClientId, reason: str) -> None:
        """It refuses."""
        self._refusal = reason

    def admit_header(self, client: ClientId, header: UploadHeader) -> None:
        """Nothing comes along."""
        if header.commitment or header.complaints:
            raise MessageError("the key holder commits to nothing, and complains of nobody")

    def take(self, upload: Upload) -> RingVector:
        """Unpack the words.

        Raises:
            MessageError: words that no sum of so many clients has.
        """
        parameters = self._setting.terms.parameters
        words: RingVector = np.empty(parameters.entries, word_dtype(parameters.ring_bits))
        for index in range(self._words.chunks):
            data = upload.staged.read(self._words.start(index), self._words.size(index))
            unpack(np.frombuffer(data, np.uint8), parameters.ring_bits, words[self._words.words(index)])
        if int(words.max()) > len(self._survivors) * ((1 << parameters.value_bits) - 1):
            raise MessageError(f"the key holder gave words that no sum of {len(self._survivors)} clients has")
        return words

    def finish(self) -> Completed | Failed:
        """The round's sum."""
        self.abandon_all()
        if not self.ready:
            return unanswered(self.step, self._setting.name(KEY_HOLDER), self._refusal)
        return Completed(self._setting, self._survivors, self.answers[KEY_HOLDER])

    def _check_padding(self, index: int, data: bytes | memoryview) -> None:
        entries = self._setting.terms.parameters.entries
        words = min(self._words.chunk_words, entries - index * self._words.chunk_words)
        if not padding_is_zero(np.frombuffer(data, np.uint8), words, self._words.word_bits):
            raise MessageError(f"chunk {index}: bits beyond the last word of the sum")
