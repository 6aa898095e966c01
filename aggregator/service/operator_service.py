"""What operators call: each method finds the caller's task, hands the message to it, and passes on what it says."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable

import grpc

from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import Disconnected
from aggregator.rounds.task import Task
from aggregator.service.results import result_messages
from aggregator.service.rpc import Gate, downward, unary
from aggregator.service.start_keys import StartKeys
from aggregator.service.tasks import Tasks, page_by_name
from aggregator.wire.messages import ResultMessage, ResultRequest
from aggregator.wire.operator_messages import (
    AbortRequest,
    RoundEvent,
    RoundPage,
    RoundPageRequest,
    RoundReference,
    RoundRequest,
    RoundStarted,
    RoundSummary,
    SitePage,
    SitePageRequest,
    SiteSummary,
    TaskCreated,
    TaskDeleted,
    TaskDescription,
    TaskPage,
    TaskPageRequest,
    TaskReference,
)
from aggregator.wire.operator_messages import Task as TaskSpec


class OperatorService:
    """What operators call. A task's owner and its starters may use it; its owner alone may end it.

    Args:
        tasks: of this server.
        keys: idempotency keys that it knew before it was started again.
    """

    def __init__(self, tasks: Tasks, keys: Iterable[tuple[str, RoundRequest, int]] = ()) -> None:
        self._tasks = tasks
        self._records = tasks.host.records
        self._keys = StartKeys(tasks.host.now, stored=keys)

    def handlers(self, gate: Gate) -> grpc.GenericRpcHandler:
        """The gRPC handlers, each behind the operator's role."""
        role = Role.OPERATOR

        async def list_sites(caller: Certificate, request: SitePageRequest) -> SitePage:
            return self.list_sites(caller, request, gate.revoked())

        methods = {
            "CreateTask": unary(gate, role, TaskSpec, self.create_task),
            "ListTasks": unary(gate, role, TaskPageRequest, self.list_tasks),
            "DescribeTask": unary(gate, role, TaskReference, self.describe_task),
            "CancelTask": unary(gate, role, TaskReference, self.cancel_task),
            "DeleteTask": unary(gate, role, TaskReference, self.delete_task),
            "StartRound": unary(gate, role, RoundRequest, self.start_round),
            "AbortRound": unary(gate, role, AbortRequest, self.abort_round),
            "ListRounds": unary(gate, role, RoundPageRequest, self.list_rounds),
            "DescribeRound": unary(gate, role, RoundReference, self.describe_round),
            "WatchRound": downward(gate, role, RoundReference, self.watch_round),
            "FetchResult": downward(gate, role, ResultRequest, self.fetch_result),
            "DeleteResult": unary(gate, role, RoundReference, self.delete_result),
            "ListSites": unary(gate, role, SitePageRequest, list_sites),
        }
        return grpc.method_handlers_generic_handler("sangam.v1.Operator", methods)

    async def create_task(self, caller: Certificate, spec: TaskSpec) -> TaskCreated:
        """Create a task, or find the very same one."""
        existed = self._tasks.create(caller.name, spec)
        await self._records.settled()
        return TaskCreated(existed)

    async def list_tasks(self, caller: Certificate, request: TaskPageRequest) -> TaskPage:
        """The caller's tasks, by name."""
        found, following = self._tasks.page(caller.name, request.size, request.after)
        return TaskPage(tuple(owned.summary() for owned in found), following)

    async def describe_task(self, caller: Certificate, request: TaskReference) -> TaskDescription:
        """One task, as it was created and as it stands."""
        return self._tasks.used_by(caller.name, request.task).description()

    async def cancel_task(self, caller: Certificate, request: TaskReference) -> TaskDescription:
        """End a task; its results stay."""
        found = await self._tasks.cancel(caller.name, request.task)
        await self._records.settled()
        return found.description()

    async def delete_task(self, caller: Certificate, request: TaskReference) -> TaskDeleted:
        """Forget a cancelled task."""
        await self._records.written()
        await self._tasks.delete(caller.name, request.task)
        self._keys.forget(request.task)
        await self._records.settled()
        return TaskDeleted()

    async def start_round(self, caller: Certificate, request: RoundRequest) -> RoundStarted:
        """Start the next round of a task, once per key."""
        started = self._started(caller, request)
        await self._records.written()
        return started

    async def abort_round(self, caller: Certificate, request: AbortRequest) -> RoundSummary:
        """End a running round without a sum."""
        await self._records.written()  # of what was done and refused before, nothing is acknowledged now
        task = self._task(caller, request.task)
        by = f"operator {caller.name} aborted the round"
        await task.abort_round(request.round, f"{by}: {request.reason}" if request.reason else by)
        await self._records.settled()
        return task.history.find(request.round).summary()

    async def list_rounds(self, caller: Certificate, request: RoundPageRequest) -> RoundPage:
        """The rounds of a task, newest first."""
        return RoundPage(*self._task(caller, request.task).history.page(request.size, request.before))

    async def describe_round(self, caller: Certificate, request: RoundReference) -> RoundSummary:
        """One round as it stands."""
        return self._task(caller, request.task).history.find(request.round).summary()

    async def watch_round(self, caller: Certificate, request: RoundReference) -> AsyncGenerator[RoundEvent, None]:
        """The events of one round, from its beginning until it ends; none that a killed server could forget."""
        async for event in self._task(caller, request.task).history.events(request.round).follow():
            await self._records.written()
            yield event

    async def fetch_result(self, caller: Certificate, request: ResultRequest) -> AsyncGenerator[ResultMessage, None]:
        """A closed round's sum. A stream that has begun goes on even if the sum is deleted meanwhile."""
        result = self._task(caller, request.task).history.result(request.round, request.model_hash)
        for message in result_messages(result, request.first_chunk):
            yield message

    async def delete_result(self, caller: Certificate, request: RoundReference) -> RoundSummary:
        """Forget the sum of a closed round."""
        await self._records.written()
        summary = self._task(caller, request.task).history.delete_result(request.round)
        self._records.decided("result deleted", task=request.task, round=request.round, operator=caller.name)
        await self._records.settled()
        return summary

    def list_sites(self, caller: Certificate, request: SitePageRequest, revoked: frozenset[int]) -> SitePage:
        """The participants of the present roster, by name, and to how many of the caller's tasks each is connected."""
        asked = (self._tasks.used_by(caller.name, request.task),) if request.task else self._tasks.all_of(caller.name)
        connected = Counter(site for owned in asked for site in owned.task.lines.connected)
        roster = self._tasks.host.roster()
        page, following = page_by_name(roster.certificates, lambda site: site.name, request.size, request.after)
        sites = tuple(_site(site, site.serial in revoked, connected[site.name]) for site in page)
        return SitePage(sites, following, roster.version)

    def _started(self, caller: Certificate, request: RoundRequest) -> RoundStarted:
        """Nothing awaits here: two requests cannot both find no round."""
        if self._tasks.draining:
            raise Disconnected("this server is stopping: its rounds go on when it is back")
        owned = self._tasks.used_by(caller.name, request.task)
        known = self._keys.round_of(caller.name, request) if request.idempotency_key else None
        if known is not None:
            return RoundStarted(known, existed=True)
        self._tasks.check_rounds(owned)
        number = owned.task.start_round(request.model_hash, caller.name)
        if request.idempotency_key:
            self._keys.keep(caller.name, request, number)
            self._records.keep_key(caller.name, request, number)
        return RoundStarted(number, existed=False)

    def _task(self, caller: Certificate, name: str) -> Task:
        return self._tasks.used_by(caller.name, name).task


def _site(certificate: Certificate, revoked: bool, connected: int) -> SiteSummary:
    expires_s = certificate.not_after.timestamp()
    return SiteSummary(certificate.name, f"{certificate.serial:x}", expires_s, revoked, connected)
