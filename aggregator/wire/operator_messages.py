"""What operators and the aggregator say, as frozen values with the bounds that the codec enforces.

Names, fields, units and meaning are those of proto/sangam/v1/operator.proto.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from aggregator.wire.bounds import Ascending, Between, Count, Length, Printable
from aggregator.wire.messages import (
    CLIENTS_MAX,
    ENTRIES_MAX,
    NAME_BYTES_MAX,
    REASON_BYTES_MAX,
    Bytes32,
    Counted,
    Moment,
    Name,
    NameOrNone,
    Parameters,
    Reason,
    RoundNumber,
    RoundOrNone,
)

WEEK_S = 604_800.0
PAGE_MAX = 1_000
STARTERS_MAX = 100
RESULTS_KEPT_MAX = 100

Word: TypeAlias = Annotated[str, Length(1, 32), Printable()]
WordOrNone: TypeAlias = Annotated[str, Length(0, 32), Printable()]
Told: TypeAlias = Annotated[str, Length(0, REASON_BYTES_MAX), Printable()]
ClientCount: TypeAlias = Annotated[int, Between(0, CLIENTS_MAX)]
PageSize: TypeAlias = Annotated[int, Between(1, PAGE_MAX)]
Seconds: TypeAlias = Annotated[float, Between(1e-3, WEEK_S)]
Elapsed: TypeAlias = Annotated[float, Between(0.0, 1e12)]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step waits, in seconds."""

    advertise_keys_s: Seconds
    share_keys_s: Seconds
    masked_input_s: Seconds
    consistency_check_s: Seconds
    unmasking_s: Seconds
    reconnect_s: Annotated[float, Between(0.0, WEEK_S)]
    party_s: Annotated[float, Between(0.0, WEEK_S)] = 3_600.0


@dataclass(frozen=True, slots=True)
class Opening:
    """When a round opens, and to whom; by default at once, to the whole roster."""

    enough: ClientCount = 0
    gather_s: Annotated[float, Between(0.0, WEEK_S)] = 3_600.0
    sample: ClientCount = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of a task's rounds."""

    results: Annotated[int, Between(1, RESULTS_KEPT_MAX)] = 3
    age_s: Elapsed = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """A task as its operator states it."""

    name: Name
    parameters: Parameters
    deadlines: Deadlines
    result_to_operator_only: bool
    opening: Opening = Opening()
    retention: Retention = Retention()
    starters: Annotated[
        tuple[str, ...], Count(0, STARTERS_MAX), Length(1, NAME_BYTES_MAX), Printable(), Ascending()
    ] = ()


@dataclass(frozen=True, slots=True)
class TaskCreated:
    """The task is there."""

    existed: bool


@dataclass(frozen=True, slots=True)
class TaskReference:
    """One task."""

    task: Name


@dataclass(frozen=True, slots=True)
class TaskPageRequest:
    """Some of the caller's tasks."""

    size: PageSize
    after: NameOrNone


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """How a task stands."""

    name: Name
    owner: Name
    state: Word
    mode: Word
    entries: Annotated[int, Between(1, ENTRIES_MAX)]
    rounds: Counted
    running_round: RoundOrNone
    last_round: RoundOrNone
    connected: ClientCount
    created_s: Moment


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks by name, and where the next page begins."""

    tasks: Annotated[tuple[TaskSummary, ...], Count(0, PAGE_MAX), Ascending("name")]
    next: NameOrNone


@dataclass(frozen=True, slots=True)
class TaskDescription:
    """A task as it was created and as it stands."""

    task: Task
    summary: TaskSummary


@dataclass(frozen=True, slots=True)
class TaskDeleted:
    """The task is gone, and its rounds and results with it."""


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """Start the next round of a task, once per key where there is one."""

    task: Name
    model_hash: Bytes32
    idempotency_key: NameOrNone = ""
    key_expires_s: Moment = 0.0


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """The number that the round got."""

    round: RoundNumber
    existed: bool


@dataclass(frozen=True, slots=True)
class RoundReference:
    """One round of one task."""

    task: Name
    round: RoundNumber


@dataclass(frozen=True, slots=True)
class AbortRequest:
    """End a running round without a sum."""

    task: Name
    round: RoundNumber
    reason: Reason


@dataclass(frozen=True, slots=True)
class RoundPageRequest:
    """Some of a task's rounds."""

    task: Name
    size: PageSize
    before: RoundOrNone


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """How a round stands, or ended."""

    round: RoundNumber
    state: Word
    step: WordOrNone
    clients: ClientCount
    reason: Told
    started_s: Moment
    seconds: Elapsed
    result: Word
    result_bytes: Counted


@dataclass(frozen=True, slots=True)
class RoundPage:
    """Rounds, newest first, and where the next page begins."""

    rounds: Annotated[tuple[RoundSummary, ...], Count(0, PAGE_MAX)]
    next: RoundOrNone


@dataclass(frozen=True, slots=True)
class RoundEvent:
    """One thing that happened in a round."""

    seconds: Elapsed
    kind: Word
    step: WordOrNone
    client: NameOrNone
    detail: Told
    clients: ClientCount


@dataclass(frozen=True, slots=True)
class SitePageRequest:
    """Some of the roster's participants."""

    size: PageSize
    after: NameOrNone
    task: NameOrNone


@dataclass(frozen=True, slots=True)
class SiteSummary:
    """A participant of the roster."""

    name: Name
    serial: Annotated[str, Length(1, 40), Printable()]
    expires_s: Moment
    revoked: bool
    connected: Annotated[int, Between(0, PAGE_MAX)]


@dataclass(frozen=True, slots=True)
class SitePage:
    """Participants by name, and where the next page begins."""

    sites: Annotated[tuple[SiteSummary, ...], Count(0, PAGE_MAX), Ascending("name")]
    next: NameOrNone
    roster_version: Counted
