"""Uploads on their way in, of whatever phase: staged, gone on with after a broken line, counted once they are whole.

A half-arrived upload lies in the spool. When its stream breaks it waits for another one that goes on with it; when the
step ends, it is destroyed. An upload that was refused for its bytes is refused again.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from aggregator.errors import Disconnected, Equivocation, MessageError, OutOfTurn, StorageError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.parties import who
from aggregator.rounds.phase import Answer, Phase, Setting
from aggregator.storage.base import Octets, Staged
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import Chunk, UploadHeader

TIMES_MAX: Final = 8  # the payload; a line that breaks costs an honest client no byte that was staged


class Upload:
    """One member's upload on its way in, over one stream; `chunks` are held, and the next one has that index."""

    def __init__(self, client: ClientId, header: UploadHeader, staged: Staged, chunks: int = 0) -> None:
        self.client = client
        self.header = header
        self.staged = staged
        self.chunks = chunks


class Check(Protocol):
    """Looks at one chunk on receipt; MessageError when its values cannot be."""

    def __call__(self, index: int, data: bytes | memoryview, /) -> None:
        """Refuse it, or not."""


class Uploads(Phase[Answer]):
    """A phase whose answers come as uploads.

    Args:
        setting: of the round.
        members: who may upload.
        plan: how each upload is cut.
        check: of each chunk.
    """

    def __init__(self, setting: Setting, members: AbstractSet[ClientId], plan: ChunkPlan, check: Check) -> None:
        super().__init__(members)
        self._setting = setting
        self._plan = plan
        self._check = check
        self._open: dict[ClientId, Upload] = {}
        self._sent_bytes: Counter[ClientId] = Counter()  # over all uploads of a member, those that broke off included
        self._refused: dict[ClientId, tuple[bytes, MessageError]] = {}  # the last upload's id, and why

    @abstractmethod
    def admit_header(self, client: ClientId, header: UploadHeader) -> None:
        """Check what an upload announces beside its length.

        Raises:
            MessageError: it does not fit the round.
        """

    @abstractmethod
    def take(self, upload: Upload) -> Answer:
        """Use a whole upload; its answer. Its staging is destroyed afterwards, unless `keeps` says otherwise."""

    def keeps(self, upload: Upload) -> bool:
        """Whether a whole upload that was taken stays staged."""
        return False

    def check(self, client: ClientId, answer: Answer) -> None:
        """Nothing is left to check: what comes are uploads, and `begin` has seen their headers."""

    def begin(self, client: ClientId, header: UploadHeader) -> Upload | None:
        """Open an upload, or go on with the one that this member began; None when one has already arrived whole.

        One that goes on takes the earlier stream's place: what may still come over that is refused.

        Raises:
            OutOfTurn: a stranger.
            MessageError: a length that the round's parameters don't give, or as `admit_header`; or the upload that was
                refused before: the same id means the same bytes, so it is refused for the same reason.
            Equivocation: the upload that this member began, under another header.
        """
        if client not in self.members:
            raise OutOfTurn(f"{self.step}: {who(client)} is not in this step of the round")
        if header.payload_bytes != self._plan.payload_bytes:
            raise MessageError(
                f"{who(client)} announces {header.payload_bytes} bytes, this round's input has "
                f"{self._plan.payload_bytes}"
            )
        self.admit_header(client, header)
        if client in self.answers:
            return None
        upload = self._open[client] = self._begun(client, header)
        return upload

    def restore(self, client: ClientId, header: UploadHeader, staged: Staged) -> None:
        """Take an upload that had arrived whole before the server started again.

        Raises:
            MessageError: it would not be taken.
            StorageError: it cannot be read.
        """
        self.admit_header(client, header)
        upload = self._open[client] = Upload(client, header, staged, self._plan.chunks)
        self.commit(upload)

    @property
    def sum_octets(self) -> Sequence[Octets]:
        """The sum so far, in pieces, for a process that goes on with it; it must not change while they are in use."""
        return ()

    def restore_sum(self, octets: Octets, headers: Mapping[ClientId, UploadHeader]) -> None:
        """Go on with a sum of these members' uploads. StorageError: it is none of this round's."""
        raise StorageError(f"{self.step}: this step has no sum")

    def check_whole(self, upload: Upload) -> None:
        """Whether all of it has come; errors as `commit`."""
        self._require_open(upload)
        if upload.chunks != self._plan.chunks:
            raise MessageError(f"{who(upload.client)} sent {upload.chunks} of {self._plan.chunks} chunks")

    def bytes_left(self, upload: Upload) -> int:
        """What is still to come of an upload, in bytes."""
        return self._plan.payload_bytes - min(self._plan.start(upload.chunks), self._plan.payload_bytes)

    def holds(self, upload: Upload) -> bool:
        """Whether this upload, or a newer stream's, is half arrived."""
        return upload.client in self._open

    def receive(self, upload: Upload, chunk: Chunk) -> None:
        """Stage one chunk.

        Raises:
            MessageError: not the next chunk whole, values that cannot be, the step is over, or this member has sent
                its payload `TIMES_MAX` times and never to its end.
            Disconnected: a newer stream goes on with this upload.
            StorageError: no room; the upload is lost, the round goes on.
        """
        self._require_open(upload)
        self._count(upload, len(chunk.data))
        self._plan.check(upload.chunks, chunk)
        try:
            self._check(chunk.index, chunk.data)
        except MessageError as error:
            raise MessageError(f"{who(upload.client)}: {error}") from None
        upload.staged.write(chunk.data)
        upload.chunks += 1

    def commit(self, upload: Upload) -> None:
        """Take a whole upload, and free its staging unless the phase keeps it.

        Raises:
            MessageError: chunks are missing. They may follow: a stream that broke may look like one that ended.
            OutOfTurn: the step is over.
            Disconnected: a newer stream goes on with this upload.
        """
        self.check_whole(upload)
        try:
            self.answers[upload.client] = self.take(upload)
            if self.keeps(upload):
                self._open.pop(upload.client, None)
        finally:
            self.abandon(upload)

    def abandon(self, upload: Upload) -> None:
        """Destroy an upload, unless a newer stream goes on with it; may be called twice."""
        if self._is_open(upload):
            self._open.pop(upload.client, None)  # the end of the step may have been first, in another thread
            upload.staged.close()

    def refuse(self, upload: Upload, error: MessageError) -> None:
        """Destroy an upload that lies, and refuse it whenever it comes again."""
        if self._is_open(upload):
            plain = type(error)(str(error))  # the error itself holds on to its frames, and they to the chunk
            self._refused[upload.client] = upload.header.upload_id, plain
        self.abandon(upload)

    def abandon_all(self) -> None:
        """Destroy all that is half arrived: the step is over."""
        for upload in tuple(self._open.values()):
            self.abandon(upload)

    def close(self) -> None:
        """Destroy what is staged."""
        self.abandon_all()

    def _count(self, upload: Upload, size: int) -> None:
        """Who sends nearly all of its payload, and begins again for ever, is stopped."""
        self._sent_bytes[upload.client] += size
        if self._sent_bytes[upload.client] > TIMES_MAX * self._plan.payload_bytes:
            raise MessageError(
                f"{who(upload.client)} has sent {self._plan.payload_bytes} bytes {TIMES_MAX} times, and never to their "
                f"end: nothing more of it is taken in this round"
            )

    def _begun(self, client: ClientId, header: UploadHeader) -> Upload:
        """A new upload, or the one that is half arrived, with what is held of it."""
        upload_id, error = self._refused.get(client, (b"", None))
        if error is not None and upload_id == header.upload_id:
            raise type(error)(str(error))
        held = self._open.get(client)
        if held is not None and held.header == header:
            return Upload(client, header, held.staged, held.chunks)
        if held is not None and held.header.upload_id == header.upload_id:
            raise Equivocation(f"{who(client)} goes on with its upload under another header")
        if held is not None:
            self.abandon(held)
        return Upload(client, header, self._setting.spool.stage())

    def _is_open(self, upload: Upload) -> bool:
        return self._open.get(upload.client) is upload

    def _require_open(self, upload: Upload) -> None:
        if self._is_open(upload):
            return
        if upload.client in self._open:
            raise Disconnected(f"{who(upload.client)}: a newer stream takes this upload's place")
        raise OutOfTurn(f"{who(upload.client)}: this step of the round is over")
