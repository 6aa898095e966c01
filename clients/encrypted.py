"""One client's part in a homomorphic round: commit to the ciphertexts, upload them once the list is frozen.

The ciphertexts are made once, of one seed in memory, before the commitment leaves. The journal is written before the
commitment and before the upload: from then on this site has contributed on that model, however the round ends.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from aggregator.crypto.agreement import Entropy
from aggregator.crypto.keystream import SEED_BYTES
from aggregator.errors import Equivocation, MessageError
from aggregator.protocol import homomorphic_participant as participant
from aggregator.protocol.encoding import Encoded
from aggregator.protocol.homomorphic import contribute, read_public_key
from aggregator.protocol.homomorphic_participant import Committed, Deposited, Keyed
from aggregator.protocol.parties import Audit
from aggregator.protocol.spread import Each
from aggregator.wire.messages import (
    UPLOAD_ID_BYTES,
    FrozenList,
    InputCommitment,
    RoundOpened,
    ServerBody,
    UploadHeader,
)
from aggregator.wire.vocabulary import Step
from clients.contribution import Answer, Contribution, Own
from clients.uploading import WholeUpload


@dataclass(frozen=True, slots=True, eq=False)
class Ciphertexts:
    """An update as it will travel, and its hash."""

    payload: memoryview = field(repr=False)
    hash: bytes


def encrypt(encoded: Encoded, keyed: Keyed, entropy: Entropy, each: Each) -> Ciphertexts:
    """Encrypt an update. Once per round: a second time would be another commitment."""
    layout = keyed.invited.terms.parameters.ciphertexts
    key = read_public_key(keyed.public_key, layout)
    seed, ctx0 = entropy(SEED_BYTES), keyed.invited.ctx0
    payload = contribute(encoded.words, key, layout, seed=seed, ctx0=ctx0, each=each)
    return Ciphertexts(payload.toreadonly(), sha256(payload).digest())


class EncryptedContribution(Contribution):
    """One round in homomorphic mode.

    Args:
        keyed: the round, its terms and public key already checked.
        encoded: the update as words of the ring.
        own: as `Contribution`.
        ciphertexts: the same as `encoded`, encrypted.
    """

    def __init__(self, keyed: Keyed, encoded: Encoded, own: Own, ciphertexts: Ciphertexts) -> None:
        super().__init__(keyed.invited, encoded, own)
        self._state: Keyed | Committed | Deposited | None = keyed
        self._ciphertexts: Ciphertexts | None = ciphertexts

    @property
    def bound(self) -> bool:
        """Whether the ciphertexts may have left."""
        return isinstance(self._state, Deposited)

    def check_closed(self, survivors: tuple[int, ...]) -> None:
        """As `Contribution.check_closed`."""
        if not isinstance(self._state, Deposited):
            raise Equivocation(f"round {self.round}: closed over other clients than this site agreed to")
        participant.check_closed(self._state, survivors)

    def forget(self) -> None:
        """Drop the ciphertexts."""
        super().forget()
        self._state, self._ciphertexts = None, None

    def _next(self, body: ServerBody) -> Answer:
        match body, self._state:
            case RoundOpened(), Keyed(audit=Audit.FROZEN) as keyed:
                return self._commit(keyed).commitment
            case RoundOpened(), Keyed() as keyed:
                committed = self._commit(keyed)
                return self._upload(participant.deposit_unseen(committed), (committed.commitment,))
            case FrozenList(), Committed() as committed:
                return self._upload(participant.check_frozen(committed, body), ())
        raise MessageError(f"round {self.round}: {type(body).__name__} came out of order")

    def _commit(self, keyed: Keyed) -> Committed:
        self._watch(Step.COMMIT_INPUT)
        self._enter()
        self._state = participant.commit_input(keyed, self._made().hash)
        return self._state

    def _upload(self, deposited: Deposited, commitment: tuple[InputCommitment, ...]) -> WholeUpload:
        self._watch(Step.UPLOAD)
        self._journal.fix_context(self._entered(), deposited.frozen.ctx1)
        self._record_answer()
        self._state = deposited
        payload = self._made().payload
        self._show(payload)
        terms, upload_id = self.invited.terms, self._entropy(UPLOAD_ID_BYTES)
        header = UploadHeader(terms.task, terms.round, len(payload), (), upload_id, commitment)
        return WholeUpload(header, payload, terms.parameters.upload_plan)

    def _made(self) -> Ciphertexts:
        if self._ciphertexts is None:
            raise MessageError(f"round {self.round} is over")
        return self._ciphertexts
