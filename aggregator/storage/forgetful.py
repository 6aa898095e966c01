"""Records that keep nothing: of a server that holds all in memory, and whose rounds end with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aggregator.storage.base import Fact, Octets, Spool, Staged, Stored
from aggregator.storage.spool import MemorySpool
from aggregator.wire.messages import ClientBody, ServerBody, Terms, UploadHeader
from aggregator.wire.operator_messages import RoundEvent, RoundRequest, RoundSummary, Task
from aggregator.wire.vocabulary import Step, SumState


@dataclass(frozen=True, slots=True)
class ForgetfulRound:
    """See `storage.base.RoundRecords`."""

    spool: Spool
    durable = False

    def opened(
        self, terms: Terms, roster: bytes, invited: frozenset[int] | None, attending: Mapping[int, bytes]
    ) -> None:
        """Keep nothing."""

    def began(self, step: Step, deadline_s: float) -> None:
        """Keep nothing."""

    def answered(self, step: Step, member: int, body: ClientBody) -> None:
        """Keep nothing."""

    async def persist(self, staged: Staged) -> None:
        """Keep nothing."""

    def arrived(self, step: Step, member: int, header: UploadHeader, staged: Staged) -> None:
        """Keep nothing."""

    def refused(self, step: Step, member: int) -> None:
        """Keep nothing."""

    def ended_step(self, step: Step, members: Iterable[int]) -> None:
        """Keep nothing."""

    async def keep_sum(self, step: Step, members: Iterable[int], octets: Sequence[Octets]) -> None:
        """Keep nothing."""

    def let_go(self, step: Step, members: Iterable[int]) -> None:
        """Keep nothing."""

    async def keep_result(self, terms: Terms, survivors: Sequence[int], words: Octets) -> None:
        """Keep nothing."""

    def noted(self, event: RoundEvent) -> None:
        """Keep nothing."""

    def ended(self, summary: RoundSummary, ending: ServerBody | None, told: Iterable[int]) -> None:
        """Keep nothing."""

    def decided(self, what: str, /, **facts: Fact) -> None:
        """Keep nothing."""

    async def written(self) -> None:
        """At once."""

    async def settled(self) -> None:
        """At once."""


@dataclass(frozen=True, slots=True)
class ForgetfulTask:
    """See `storage.base.TaskRecords`."""

    spool: Spool

    def begin(self, number: int, started_s: float, model_hash: bytes) -> ForgetfulRound:
        """Keep nothing."""
        return ForgetfulRound(self.spool)

    def forget(self, number: int) -> None:
        """Keep nothing."""

    def forget_events(self, number: int) -> None:
        """Keep nothing."""

    def drop_sum(self, number: int, state: SumState) -> None:
        """Keep nothing."""

    async def written(self) -> None:
        """At once."""

    async def settled(self) -> None:
        """At once."""


class Forgetful:
    """See `storage.base.Records`.

    Args:
        spool: where all rounds stage their uploads.
    """

    durable = False

    def __init__(self, spool: Spool | None = None) -> None:
        self._spool = spool or MemorySpool()
        self.stored = Stored()

    def create(self, spec: Task, owner: str, created_s: float) -> ForgetfulTask:
        """Keep nothing."""
        return ForgetfulTask(self._spool)

    def cancel(self, task: str) -> None:
        """Keep nothing."""

    def delete(self, task: str, owner: str) -> None:
        """Keep nothing."""

    def free_name(self, task: str) -> None:
        """Keep nothing."""

    def keep_key(self, operator: str, request: RoundRequest, number: int) -> None:
        """Keep nothing."""

    def decided(self, what: str, /, **facts: Fact) -> None:
        """Keep nothing."""

    async def written(self) -> None:
        """At once."""

    async def settled(self) -> None:
        """At once."""
