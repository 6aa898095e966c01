"""Step 3: whole masked inputs are summed as they arrive. U = those whose last chunk was accepted.

A half-arrived upload lies in the spool and never touches the sum. When its stream breaks it waits for another one
that goes on with it; when the step ends, it is destroyed.
"""

from collections.abc import Mapping

from aggregator.errors import Disconnected, Equivocation, MessageError, OutOfTurn
from aggregator.protocol import coordinator, modes
from aggregator.protocol.cohort import ClientId, Cohort
from aggregator.rounds.consistency_check import ConsistencyCheck
from aggregator.rounds.phase import Failed, Phase, Setting
from aggregator.storage.base import Staged
from aggregator.wire.messages import Advert, Chunk, Complaint, Dealing, ShareList, UploadHeader
from aggregator.wire.vocabulary import Step


class Upload:
    """One client's masked input on its way in, over one stream; `chunks` are held, and the next one has that index."""

    def __init__(self, client: ClientId, header: UploadHeader, staged: Staged, chunks: int = 0) -> None:
        self.client = client
        self.header = header
        self.staged = staged
        self.chunks = chunks


class MaskedInput(Phase[tuple[Complaint, ...]]):
    """Sum blinded updates as they arrive; the answer kept of each is its complaints."""

    step = Step.MASKED_INPUT
    answer_type = tuple  # of complaints; no message of the control stream belongs here

    def __init__(
        self,
        setting: Setting,
        cohort: Cohort,
        adverts: Mapping[ClientId, Advert],
        dealings: Mapping[ClientId, Dealing],
    ) -> None:
        super().__init__(dealings.keys())
        self._setting = setting
        self._cohort = cohort
        self._adverts = adverts
        self._dealings = dealings
        self._shares = coordinator.share_lists(cohort, dealings)
        self._plan = setting.terms.parameters.upload_plan
        self._total = modes.new_total(setting.terms.parameters)
        self._open: dict[ClientId, Upload] = {}
        self._refused: dict[ClientId, tuple[bytes, MessageError]] = {}  # the last upload's id, and why
        self._damage = ""

    @property
    def needed(self) -> int:
        """As many as must survive."""
        return self._cohort.survivors_least

    def announcement(self, client: ClientId) -> ShareList:
        """U2, and the shares addressed to this client."""
        return self._shares[client]

    def check(self, client: ClientId, answer: tuple[Complaint, ...]) -> None:
        """Nothing is left to check: inputs come as uploads, and `begin` has seen the complaints."""

    def begin(self, client: ClientId, header: UploadHeader) -> Upload | None:
        """Open an upload, or go on with the one that this client began; None when one has already arrived whole.

        One that goes on takes the earlier stream's place: what may still come over that is refused.

        Raises:
            OutOfTurn: a stranger.
            MessageError: a length that the round's parameters don't give, false complaints, or the upload that was
                refused before: the same id means the same bytes, so it is refused for the same reason.
            Equivocation: the upload that this client began, under another header.
        """
        if client not in self.members:
            raise OutOfTurn(f"{self.step}: client {client} is not in this step of the round")
        if header.payload_bytes != self._plan.payload_bytes:
            raise MessageError(
                f"client {client} announces {header.payload_bytes} bytes, this round's input has "
                f"{self._plan.payload_bytes}"
            )
        coordinator.admit_complaints(self._cohort, self._dealings, client, header.complaints)
        if client in self.answers:
            return None
        upload = self._open[client] = self._begun(client, header)
        return upload

    def bytes_left(self, upload: Upload) -> int:
        """What is still to come of an upload, in bytes."""
        return self._plan.payload_bytes - min(self._plan.start(upload.chunks), self._plan.payload_bytes)

    def receive(self, upload: Upload, chunk: Chunk) -> None:
        """Stage one chunk.

        Raises:
            MessageError: not the next chunk whole, words outside the ring, or the step is over.
            Disconnected: a newer stream goes on with this upload.
            StorageError: no room; the upload is lost, the round goes on.
        """
        self._require_open(upload)
        self._plan.check(upload.chunks, chunk)
        try:
            self._total.check(chunk.index, chunk.data)
        except MessageError as error:
            raise MessageError(f"client {upload.client}: {error}") from None
        upload.staged.write(chunk.data)
        upload.chunks += 1

    def commit(self, upload: Upload) -> None:
        """Add a whole upload to the sum and free its staging.

        Raises:
            MessageError: chunks are missing. They may follow: a stream that broke may look like one that ended.
            OutOfTurn: the step is over.
            Disconnected: a newer stream goes on with this upload.
        """
        self._require_open(upload)
        if upload.chunks != self._plan.chunks:
            raise MessageError(f"client {upload.client} sent {upload.chunks} of {self._plan.chunks} chunks")
        try:
            self._add(upload)
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

    def finish(self) -> ConsistencyCheck | Failed:
        """Fix U; whatever is still on its way is destroyed."""
        self.abandon_all()
        if self._damage:
            return Failed(self.step, f"masked input: {self._damage}")
        if not self.ready:
            return self.too_few("clients")
        survivors = tuple(sorted(self.answers))
        view = coordinator.View(self._cohort, self._adverts, self._dealings, survivors)
        return ConsistencyCheck(self._setting, view, self._total)

    def _begun(self, client: ClientId, header: UploadHeader) -> Upload:
        """A new upload, or the one that is half arrived, with what is held of it."""
        upload_id, error = self._refused.get(client, (b"", None))
        if error is not None and upload_id == header.upload_id:
            raise type(error)(str(error))
        held = self._open.get(client)
        if held is not None and held.header == header:
            return Upload(client, header, held.staged, held.chunks)
        if held is not None and held.header.upload_id == header.upload_id:
            raise Equivocation(f"client {client} goes on with its upload under another header")
        if held is not None:
            self.abandon(held)
        return Upload(client, header, self._setting.spool.stage())

    def _is_open(self, upload: Upload) -> bool:
        return self._open.get(upload.client) is upload

    def _require_open(self, upload: Upload) -> None:
        if self._is_open(upload):
            return
        if upload.client in self._open:
            raise Disconnected(f"client {upload.client}: a newer stream takes this upload's place")
        raise OutOfTurn(f"client {upload.client}: this step of the round is over")

    def _add(self, upload: Upload) -> None:
        """Read back and add chunk by chunk. Whatever fails half-way spoils the sum, and so the round."""
        try:
            for index in range(self._plan.chunks):
                self._total.add(index, upload.staged.read(self._plan.start(index), self._plan.size(index)))
        except Exception as error:
            self._damage = f"the input of client {upload.client} was only half added: {error}"
            raise
        self.answers[upload.client] = upload.header.complaints
