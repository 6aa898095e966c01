"""An operator's session: create a task, run rounds, fetch their results.

async with clients.operate("aggregator:7443", "operator/") as operator:
    await operator.create_task("diabetes", parameters)
    number = await operator.start_round("diabetes", base=model)
    async for event in operator.watch("diabetes", number): ...
    result = await operator.fetch_result("diabetes", number)
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol.context import hash_model
from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from aggregator.wire.messages import ResultMessage, ResultRequest
from aggregator.wire.operator_messages import (
    Deadlines,
    RoundEvent,
    RoundReference,
    RoundRequest,
    RoundStarted,
    Task,
    TaskCreated,
)
from aggregator.wire.vocabulary import EventKind
from clients.result import RoundResult, collect
from clients.transport import GrpcChannel

KEY_STEP_S: Final = 120.0
LINE_BYTES_PER_S: Final = 125_000  # 1 Mbit/s upwards, the slowest hospital line that is waited for
RECONNECT_S: Final = 30.0


def default_deadlines(parameters: Parameters) -> Deadlines:
    """Deadlines for a hospital's line: two minutes a step, an hour to gather, and the upload at 1 Mbit/s."""
    upload_s = parameters.upload_plan.payload_bytes / LINE_BYTES_PER_S
    return Deadlines(
        advertise_keys_s=3_600.0,
        share_keys_s=KEY_STEP_S,
        masked_input_s=KEY_STEP_S + upload_s,
        consistency_check_s=KEY_STEP_S,
        unmasking_s=KEY_STEP_S,
        reconnect_s=RECONNECT_S,
    )


class Operator:
    """An operator's calls over one channel. Made by `operate`."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel

    async def create_task(
        self,
        name: str,
        parameters: Parameters,
        *,
        deadlines: Deadlines | None = None,
        result_to_operator_only: bool = False,
    ) -> bool:
        """Create a task; True when the very same one was there.

        Args:
            name: 1 to 63 of a-z, 0-9, '.', '_', '-'.
            parameters: how updates are encoded, and what the rounds must withstand.
            deadlines: how long each step waits; by default what makes sense on a hospital's line.
            result_to_operator_only: participants may not fetch results.

        Raises:
            ParameterError: the name is taken by another task, or this server's roster cannot meet the parameters.
        """
        task = Task(name, parameters.to_message(), deadlines or default_deadlines(parameters), result_to_operator_only)
        return (await self._channel.unary("/sangam.v1.Operator/CreateTask", task, TaskCreated)).existed

    async def start_round(self, task: str, *, base: Update | None = None) -> int:
        """Open the next round of a task, for updates that start from `base`; its number.

        Raises:
            NotFound: no such task.
            OutOfTurn: a round of it is running.
        """
        request = RoundRequest(task, hash_model(base))
        return (await self._channel.unary("/sangam.v1.Operator/StartRound", request, RoundStarted)).round

    def watch(self, task: str, round_number: int) -> AsyncIterator[RoundEvent]:
        """The events of a round, from its beginning until it ends. NotFound when there is none."""
        reference = RoundReference(task, round_number)
        return self._channel.downward("/sangam.v1.Operator/WatchRound", reference, RoundEvent)

    async def fetch_result(self, task: str, round_number: int = 0) -> RoundResult:
        """The result of a closed round; 0 is the last one. NotFound when there is none, or it is no longer kept."""
        request = ResultRequest(task, round_number)
        parts = self._channel.downward("/sangam.v1.Operator/FetchResult", request, ResultMessage)
        return await collect(parts)

    async def run_round(
        self, task: str, *, base: Update | None = None, on_event: Callable[[RoundEvent], None] | None = None
    ) -> RoundResult:
        """Start a round, wait for its end, fetch its result; `on_event` is told what happens meanwhile.

        Raises:
            RoundAborted: the round failed, for the reason given.
        """
        number = await self.start_round(task, base=base)
        async for event in self.watch(task, number):
            if on_event is not None:
                on_event(event)
            if event.kind == EventKind.FAILED:
                raise RoundAborted(f"round {number}: {event.detail}")
            if event.kind == EventKind.CLOSED:
                return await self.fetch_result(task, number)
        raise MessageError(f"round {number}: its events ended before the round did")


@asynccontextmanager
async def operate(address: str, identity: Identity | Path | str) -> AsyncIterator[Operator]:
    """Connect as an operator.

    Args:
        address: host:port of the aggregator; the host must stand in its certificate.
        identity: the operator's identity, or the directory that holds it.

    Raises:
        NotAdmitted: the certificate has expired, or is of another role.
        StorageError: the identity cannot be read.
    """
    who = identity if isinstance(identity, Identity) else Identity.load(Path(identity))
    who.check(Role.OPERATOR, datetime.now(UTC))
    channel = GrpcChannel(address, who)
    try:
        yield Operator(channel)
    finally:
        await channel.close()
