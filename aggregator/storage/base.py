"""The contracts of storage. Every implementation has the listed behaviour; rounds know no more than this file.

Spool      room for uploads that are half arrived
Records    what a server writes down, so that it can go on after it was killed: tasks, their rounds, and decisions
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from aggregator.wire.messages import ClientBody, ServerBody, Terms, UploadHeader
from aggregator.wire.operator_messages import RoundEvent, RoundRequest, RoundSummary, Task
from aggregator.wire.vocabulary import Step, SumState

Octets: TypeAlias = bytes | memoryview
Fact: TypeAlias = "str | int | float | Sequence[str]"


class Staged(Protocol):
    """The bytes of one upload on their way in.

    - `write` appends in order; `read(start, size)` gives bytes that were written, all of them or a StorageError.
    - When a `write` or `persist` fails, the upload is destroyed: what was written before is not readable as if it were
      whole.
    - After `persist` no more is written. Where the spool outlives the process, so do the bytes from then on: under
      `name`, until the records that name them let them go.
    - `close` destroys what was not persisted, and gives room back; it never fails, and may be called twice.
    - A closed or destroyed upload takes and gives nothing: StorageError.
    - Nothing is visible to any other upload, and nothing survives `close`.
    - Calls may come from several threads: a round ends in one while a chunk arrives in another.
    - Bytes need not be copied on their way in or out: what was written must not change afterwards, and what `read` gave
      is read-only, stays as it is, and keeps its memory until the reader drops it.
    """

    @property
    def name(self) -> str:
        """Under which it was persisted; empty for what goes with the process."""

    def write(self, data: Octets) -> None:
        """Append. StorageError when the disk refuses: the upload is lost, the round is not."""

    def read(self, start: int, size: int) -> Octets:
        """`size` bytes from `start`. StorageError when they were never written, or the disk fails."""

    def persist(self) -> None:
        """See that what was written is on the disk. StorageError as `write`."""

    def close(self) -> None:
        """Destroy."""


class Spool(Protocol):
    """Room for uploads that are half arrived.

    - At most the budget is held in memory, over all uploads together; what is beyond goes to disk.
    - A declared length allocates nothing: room is taken as bytes arrive.
    """

    def stage(self) -> Staged:
        """Room for one more upload."""


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """One upload that had arrived whole; `staged` is None where it is in the stored sum already, and destroyed."""

    member: int
    header: UploadHeader
    staged: Staged | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One step of a round as it was written down.

    Attributes:
        step: its name.
        deadline_s: the wall clock at its deadline, unix seconds.
        answers: by member.
        uploads: those that had arrived.
        ended_with: whose answers counted when it ended; None for the step that the round is in.
    """

    step: Step
    deadline_s: float
    answers: Mapping[int, ClientBody] = field(repr=False)
    uploads: tuple[StoredUpload, ...] = field(repr=False)
    ended_with: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class StoredSum:
    """The running sum of a step, with those in it; `octets` as the phase gave it."""

    step: Step
    members: frozenset[int]
    octets: Octets = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredOpening:
    """How a round opened: see `RoundRecords.opened`."""

    terms: Terms
    roster: bytes = field(repr=False)
    invited: frozenset[int] | None
    attending: Mapping[int, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredEnd:
    """How a round ended, and when by the wall clock: see `RoundRecords.ended`."""

    summary: RoundSummary
    ended_s: float
    ending: ServerBody | None = field(repr=False)
    told: frozenset[int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A round's sum: see `RoundRecords.keep_result`; `words` are None once it was dropped, as `state` says."""

    terms: Terms
    survivors: tuple[int, ...]
    state: SumState
    words: Octets | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredRound:
    """One round as it was written down; it had not opened without an `opening`, nor ended without an `end`."""

    number: int
    started_s: float
    model_hash: bytes
    events: tuple[RoundEvent, ...] | None = field(repr=False)  # None: forgotten
    opening: StoredOpening | None
    steps: tuple[StoredStep, ...]
    sum: StoredSum | None
    result: StoredResult | None
    end: StoredEnd | None
    records: "RoundRecords" = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredTask:
    """One task as it was written down; `started` counts its rounds, forgotten ones too."""

    spec: Task
    owner: str
    created_s: float
    cancelled: bool
    started: int
    rounds: tuple[StoredRound, ...]
    records: "TaskRecords" = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """All that was written down; `deleted` are names of deleted tasks with their owners, oldest first."""

    tasks: tuple[StoredTask, ...] = ()
    deleted: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, RoundRequest, int], ...] = ()


class Settled(Protocol):
    """Something that is written down."""

    async def written(self) -> None:
        """Wait until all that was said so far is on the disk. StorageError when it refuses; it is tried again."""

    async def settled(self) -> None:
        """As `written`, and until all is destroyed, too, that is needed no more by what was said."""


class RoundRecords(Settled, Protocol):
    """What one round writes down, in the order in which it is said; only what is awaited is on the disk afterwards."""

    @property
    def spool(self) -> Spool:
        """Where its uploads are staged."""

    @property
    def durable(self) -> bool:
        """Whether anything outlives the process."""

    def opened(
        self, terms: Terms, roster: bytes, invited: frozenset[int] | None, attending: Mapping[int, bytes]
    ) -> None:
        """It opened: under which terms, over which roster, to whom, and with which parties' certificates (DER)."""

    def began(self, step: Step, deadline_s: float) -> None:
        """A step began, and waits until this time of the wall clock."""

    def answered(self, step: Step, member: int, body: ClientBody) -> None:
        """An answer was accepted."""

    async def persist(self, staged: Staged) -> None:
        """See that a whole upload is on the disk. StorageError as `Staged.persist`."""

    def arrived(self, step: Step, member: int, header: UploadHeader, staged: Staged) -> None:
        """An upload has arrived whole, and is persisted."""

    def refused(self, step: Step, member: int) -> None:
        """What arrived of this member does not count."""

    def ended_step(self, step: Step, members: Iterable[int]) -> None:
        """A step ended with these members' answers, and no others'."""

    async def keep_sum(self, step: Step, members: Iterable[int], octets: Sequence[Octets]) -> None:
        """The running sum of a step, in pieces, with those in it; returns when it is on the disk.

        Raises:
            StorageError: the disk refuses; the sum that was kept before is.
        """

    def let_go(self, step: Step, members: Iterable[int]) -> None:
        """These members' uploads, which a kept sum holds, are destroyed."""

    async def keep_result(self, terms: Terms, survivors: Sequence[int], words: Octets) -> None:
        """The round's sum under its final terms, before anybody is told of it; returns when it is on the disk.

        Raises:
            StorageError: the disk refuses.
        """

    def noted(self, event: RoundEvent) -> None:
        """An event."""

    def ended(self, summary: RoundSummary, ending: ServerBody | None, told: Iterable[int]) -> None:
        """The round ended; `told` are to hear the ending. What it needed is destroyed, but for its result."""

    def decided(self, what: str, /, **facts: Fact) -> None:
        """As `Records.decided`, of this round."""


class TaskRecords(Settled, Protocol):
    """What one task writes down."""

    def begin(self, number: int, started_s: float, model_hash: bytes) -> RoundRecords:
        """A round started."""

    def forget(self, number: int) -> None:
        """A round, and all that was kept of it."""

    def forget_events(self, number: int) -> None:
        """A round's events."""

    def drop_sum(self, number: int, state: SumState) -> None:
        """A round's sum."""


class Records(Settled, Protocol):
    """What a server writes down."""

    @property
    def stored(self) -> Stored:
        """What was there at the start; to be asked once."""

    @property
    def durable(self) -> bool:
        """Whether anything outlives the process."""

    def create(self, spec: Task, owner: str, created_s: float) -> TaskRecords:
        """A task was created."""

    def cancel(self, task: str) -> None:
        """A task was cancelled."""

    def delete(self, task: str, owner: str) -> None:
        """A task was deleted, with its rounds; its name is remembered."""

    def free_name(self, task: str) -> None:
        """A deleted task's name is remembered no longer."""

    def keep_key(self, operator: str, request: RoundRequest, number: int) -> None:
        """An idempotency key started a round."""

    def decided(self, what: str, /, **facts: Fact) -> None:
        """Something was decided that an auditor may ask for later."""
