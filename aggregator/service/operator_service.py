"""What operators call: each method hands its message to a task and passes on what the task says."""

from collections.abc import AsyncIterator

import grpc

from aggregator.crypto.certificates import Certificate, Role, check_name
from aggregator.service.results import result_messages
from aggregator.service.rpc import Gate, downward, unary
from aggregator.service.tasks import Tasks
from aggregator.wire.messages import ResultMessage, ResultRequest
from aggregator.wire.operator_messages import RoundEvent, RoundReference, RoundRequest, RoundStarted, TaskCreated
from aggregator.wire.operator_messages import Task as TaskSpec


class OperatorService:
    """What operators call."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def handlers(self, gate: Gate) -> grpc.GenericRpcHandler:
        """The gRPC handlers, each behind the operator's role."""
        role = Role.OPERATOR
        methods = {
            "CreateTask": unary(gate, role, TaskSpec, self.create_task),
            "StartRound": unary(gate, role, RoundRequest, self.start_round),
            "WatchRound": downward(gate, role, RoundReference, self.watch_round),
            "FetchResult": downward(gate, role, ResultRequest, self.fetch_result),
        }
        return grpc.method_handlers_generic_handler("sangam.v1.Operator", methods)

    async def create_task(self, caller: Certificate, spec: TaskSpec) -> TaskCreated:
        """Create a task, or find the very same one."""
        check_name("task", spec.name)
        return TaskCreated(existed=self._tasks.create(spec))

    async def start_round(self, caller: Certificate, request: RoundRequest) -> RoundStarted:
        """Open the next round of a task."""
        return RoundStarted(self._tasks.find(request.task).start_round(request.model_hash), existed=False)

    async def watch_round(self, caller: Certificate, request: RoundReference) -> AsyncIterator[RoundEvent]:
        """The events of one round, from its beginning until it ends."""
        async for event in self._tasks.find(request.task).events(request.round).follow():
            yield event

    async def fetch_result(self, caller: Certificate, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """A closed round's sum."""
        for message in result_messages(self._tasks.find(request.task).result(request.round)):
            yield message
