"""What the demo does to a hospital's own line: it counts what leaves, keeps the words, and lets the hospital vanish."""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aggregator.demo.plan import UPLOADING, Absence, Exit
from aggregator.local.counting import CountingTransport
from aggregator.protocol.encoding import RingVector
from aggregator.wire.messages import Chunk, UploadMessage, UploadReceipt
from clients.contribution import Observer
from clients.transport import Transport
from native.pack import packed_bytes, unpack


class Vanished(Exception):
    """This hospital drops its connections, as planned, in `round`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"vanished from round {number}")
        self.round = number


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """One hospital's vector in one round: encoded, words of the ring; and masked and packed, as it was to leave."""

    encoded: RingVector = field(repr=False)
    payload: npt.NDArray[np.uint8] = field(repr=False)

    def masked(self, ring_bits: int) -> RingVector:
        """What left, read as words of the ring; of ciphertexts, as much as the words would be."""
        words = np.empty_like(self.encoded)
        unpack(self.payload[: packed_bytes(words.size, ring_bits)], ring_bits, words)
        return words

    @staticmethod
    def path(evidence: Path, number: int, hospital: str) -> Path:
        """The file of one hospital in one round."""
        return evidence / f"round-{number:04}-{hospital}.npz"

    def save(self, path: Path) -> None:
        """Write to one file."""
        np.savez(path, encoded=self.encoded, payload=self.payload)

    @classmethod
    def load(cls, path: Path) -> "Words":
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file["encoded"], file["payload"])


class Witness(Observer):
    """The observer of one hospital's contributions, which makes it vanish where the plan says.

    Args:
        hospital: its name.
        evidence: the demo's directory for the words of all hospitals. No real site has such a thing.
        absences: this hospital's own, by round.
    """

    def __init__(self, hospital: str, evidence: Path, absences: dict[int, Absence]) -> None:
        self.sent_bytes = 0
        self._hospital = hospital
        self._evidence = evidence
        self._absences = absences
        self._round = 0

    def enter(self, number: int) -> None:
        """A new round; its bytes count from zero."""
        self._round = number
        self.sent_bytes = 0

    def step(self, name: str) -> None:
        """Vanish before this step's answer; the masked input leaves in parts, so there `uploading` decides."""
        if name not in UPLOADING:
            self._vanish_at(name)

    def vectors(self, encoded: RingVector, payload: memoryview) -> None:
        """Keep the words, for the comparison at the end of the round."""
        Words(encoded, np.frombuffer(payload, np.uint8)).save(Words.path(self._evidence, self._round, self._hospital))

    def uploading(self) -> None:
        """Vanish in the middle of an upload: the header has left, the last chunk has not."""
        for step in UPLOADING:
            self._vanish_at(step)

    def _vanish_at(self, step: str) -> None:
        absence = self._absences.get(self._round)
        if absence is None or absence.step != step:
            return
        if absence.exit is Exit.PROCESS:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Vanished(self._round)


class WitnessedTransport(CountingTransport):
    """A participant's transport under the eyes of a witness."""

    def __init__(self, inner: Transport, witness: Witness) -> None:
        super().__init__(inner, witness)
        self._witness = witness

    async def upload(self, parts: Iterable[UploadMessage]) -> UploadReceipt:
        """Send one upload, or as much of it as the plan says."""
        return await super().upload(self._watched(parts))

    def _watched(self, parts: Iterable[UploadMessage]) -> Iterator[UploadMessage]:
        for part in parts:
            if isinstance(part.body, Chunk):
                self._witness.uploading()
            yield part
