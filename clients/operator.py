"""An operator's session: create a task, run rounds, fetch their results.

async with clients.operate("aggregator:7443", "operator/") as operator:
    await operator.create_task("diabetes", parameters)
    number = await operator.start_round("diabetes", base=model)
    async for event in operator.watch("diabetes", number): ...
    result = await operator.fetch_result("diabetes", number)
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final, TypeVar

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol.context import hash_model
from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from aggregator.wire import operator_messages as wire
from aggregator.wire.messages import ResultMessage, ResultRequest
from aggregator.wire.operator_messages import (
    Deadlines,
    Opening,
    Retention,
    RoundEvent,
    RoundSummary,
    SiteSummary,
    TaskDescription,
    TaskSummary,
)
from aggregator.wire.vocabulary import EventKind
from clients import ckks
from clients.download import Download
from clients.result import RoundResult, collect
from clients.retry import DEFAULT_PATIENCE_S, patiently
from clients.transport import KEEPALIVE_S, GrpcChannel
from clients.watching import follow

T = TypeVar("T")

KEY_STEP_S: Final = 120.0
LINE_BYTES_PER_S: Final = 125_000  # 1 Mbit/s upwards, the slowest hospital line that is waited for
RECONNECT_S: Final = 30.0
KEY_BYTES: Final = 16
KEY_EXPIRES_IN_S: Final = 7_200.0  # a clock that is an hour behind still makes keys that count
PAGE_SIZE: Final = 100


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

    def __init__(self, channel: GrpcChannel, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        self._channel = channel
        self._patience_s = patience_s

    async def create_task(
        self,
        name: str,
        parameters: Parameters,
        *,
        deadlines: Deadlines | None = None,
        opening: Opening | None = None,
        retention: Retention | None = None,
        starters: Iterable[str] = (),
        result_to_operator_only: bool = False,
    ) -> bool:
        """Create a task, which belongs to this operator; True when its very same one was there.

        Args:
            name: 1 to 63 of a-z, 0-9, '.', '_', '-'.
            parameters: how updates are encoded, and what the rounds must withstand.
            deadlines: how long each step waits; by default what makes sense on a hospital's line.
            opening: what a round waits for, and whom it invites; by default it opens at once, to the whole roster.
            retention: how many sums are kept, and how long; by default the last three.
            starters: operators who may use the task beside this one.
            result_to_operator_only: participants may not fetch results.

        Raises:
            NameTaken: there is, or was, another task of that name.
            NotAdmitted: this operator may not create tasks here.
            ParameterError: a malformed name, or this server's roster cannot meet the parameters or the opening.
            Overloaded: this operator has as many tasks as the server keeps for one.
        """
        task = wire.Task(
            name,
            parameters.to_message(),
            deadlines or default_deadlines(parameters),
            result_to_operator_only,
            opening or Opening(),
            retention or Retention(),
            tuple(sorted(set(starters))),
        )
        return (await self._call("CreateTask", task, wire.TaskCreated)).existed

    async def tasks(self, *, page_size: int = PAGE_SIZE) -> AsyncIterator[TaskSummary]:
        """The tasks that this operator may use, by name; `page_size` of them a call, 1 to 1,000."""
        after = ""
        while True:
            page = await self._call("ListTasks", wire.TaskPageRequest(page_size, after), wire.TaskPage)
            for task in page.tasks:
                yield task
            if not (after := page.next):
                return

    async def describe_task(self, task: str) -> TaskDescription:
        """One task, as it was created and as it stands.

        Raises:
            NotFound: no such task; Gone when it was deleted.
            NotAdmitted: it is another operator's.
        """
        return await self._call("DescribeTask", wire.TaskReference(task), TaskDescription)

    async def cancel_task(self, task: str) -> TaskDescription:
        """End a task: its running round is aborted, sites are told, results stay. Again is no error.

        Raises:
            NotFound, NotAdmitted: as `describe_task`; it is for the owner only.
        """
        return await self._call("CancelTask", wire.TaskReference(task), TaskDescription)

    async def delete_task(self, task: str) -> None:
        """Forget a cancelled task with its rounds and results.

        Raises:
            OutOfTurn: it is not cancelled.
            NotFound, NotAdmitted: as `describe_task`; it is for the owner only.
        """
        await self._call("DeleteTask", wire.TaskReference(task), wire.TaskDeleted)

    async def start_round(
        self, task: str, *, base: Update | None = None, key: str = "", key_expires_in_s: float = KEY_EXPIRES_IN_S
    ) -> int:
        """Start the next round of a task, for updates that start from `base`; its number.

        Args:
            task: its name.
            base: the model that every site must start from.
            key: at most 63 characters; the same again gives the same round, so a broken line is tried again for this
                session's patience. Without one a call is made once: a second might start a second round.
            key_expires_in_s: how long the key counts, seconds, at most a day; the server keeps 10,000 of an
                operator's.

        Raises:
            NotFound, NotAdmitted: as `describe_task`.
            OutOfTurn: a round of it is running, and this key did not start it.
            Cancelled: the task was cancelled.
            Expired: the key's time was over by the server's clock when it came.
            ParameterError: the key started a round of another model, or counts for too long.
            Overloaded: the server keeps too many keys.
        """
        expires_s = time() + key_expires_in_s if key else 0.0
        request = wire.RoundRequest(task, hash_model(base), key, expires_s)
        patience_s = self._patience_s if key else 0.0
        started: wire.RoundStarted = await patiently(patience_s)(self._call, "StartRound", request, wire.RoundStarted)
        return started.round

    async def abort_round(self, task: str, round_number: int, reason: str = "") -> RoundSummary:
        """End a running round without a sum; its participants are told the reason.

        Raises:
            OutOfTurn: it has ended already.
            NotFound, NotAdmitted: as `describe_task`; or there is no such round.
        """
        return await self._call("AbortRound", wire.AbortRequest(task, round_number, reason), RoundSummary)

    async def rounds(self, task: str, *, page_size: int = PAGE_SIZE) -> AsyncIterator[RoundSummary]:
        """The rounds of a task, newest first; `page_size` of them a call. Errors as `describe_task`."""
        before = 0
        while True:
            page = await self._call("ListRounds", wire.RoundPageRequest(task, page_size, before), wire.RoundPage)
            for summary in page.rounds:
                yield summary
            if not (before := page.next):
                return

    async def describe_round(self, task: str, round_number: int) -> RoundSummary:
        """One round as it stands. Errors as `describe_task`; NotFound also when there is no such round."""
        return await self._call("DescribeRound", wire.RoundReference(task, round_number), RoundSummary)

    def watch(self, task: str, round_number: int) -> AsyncGenerator[RoundEvent, None]:
        """The events of a round from its beginning until it ends, each once; a line that breaks is opened again.

        Raises:
            NotFound: no such round; Gone when its events are not kept any more.
            NotAdmitted: as `describe_task`.
            Disconnected: the line stayed broken for longer than this session's patience.
        """
        path, reference = "/sangam.v1.Operator/WatchRound", wire.RoundReference(task, round_number)
        return follow(lambda: self._channel.downward(path, reference, RoundEvent), self._patience_s)

    async def fetch_result(self, task: str, round_number: int = 0, *, base: Update | None = None) -> RoundResult:
        """The result of a closed round; 0 is the last one, over `base` where it is given.

        NotFound when there is none, Gone when it is no longer kept.

        A line that breaks meanwhile is gone on with where it broke. Memory: the words, 4 or 8 bytes each, and the mean
        in float64: of 10^9 entries 8 GB beside words of up to 8 GB.
        """

        def fetch(request: ResultRequest) -> AsyncIterator[ResultMessage]:
            return self._channel.downward("/sangam.v1.Operator/FetchResult", request, ResultMessage)

        wanted = Download(task, round_number, model_hash=b"" if base is None else hash_model(base))
        return await collect(fetch, wanted, self._patience_s)

    async def delete_result(self, task: str, round_number: int) -> RoundSummary:
        """Forget the sum of a closed round before its time.

        Raises:
            NotFound: the round has no sum; Gone when it was deleted already, or has expired.
            NotAdmitted: as `describe_task`.
        """
        return await self._call("DeleteResult", wire.RoundReference(task, round_number), RoundSummary)

    async def sites(self, task: str = "", *, page_size: int = PAGE_SIZE) -> AsyncIterator[SiteSummary]:
        """The participants of the roster, by name, and to how many of this operator's tasks each is connected.

        Args:
            task: counts only connections to this one; empty for any.
            page_size: how many a call, 1 to 1,000.
        """
        after = ""
        while True:
            page = await self._call("ListSites", wire.SitePageRequest(page_size, after, task), wire.SitePage)
            for site in page.sites:
                yield site
            if not (after := page.next):
                return

    async def sum_ckks(self, vectors: Iterable[bytes]) -> bytes:
        """The sum of TenSEAL's CKKS vectors, where the server offers that; docs/ckks.md says what it gives away.

        Args:
            vectors: `CKKSVector.serialize()` of each client, all of one length, as NVFlare configures it: degree 8192,
                primes of 60, 40 and 40 bits, scale 2^40. Each is asked for when the one before it is in the sum; the
                server waits five minutes for it.

        Returns:
            Bytes that `tenseal.ckks_vector_from` loads under a context of the platform's key. Not to be published in
            the clear beside its vectors: that gives the secret key away.

        Raises:
            NotOffered: this server has it switched off.
            MessageError: a vector that is not what it should be, by its index from 0; nothing is kept of the others.
            ParameterError: there are no vectors, or a sum of so many values is more than the server has memory for.
            Overloaded: other sums hold that memory now.
            Disconnected: the line broke; begin again.
        """
        return await ckks.sum_vectors(self._channel, vectors)

    async def run_round(
        self, task: str, *, base: Update | None = None, on_event: Callable[[RoundEvent], None] | None = None
    ) -> RoundResult:
        """Start a round, wait for its end, fetch its result; `on_event` is told what happens meanwhile.

        A line that breaks is opened again, and never starts a second round.

        Raises:
            RoundAborted: the round failed, for the reason given.
            SangamError: as `start_round`, `watch` and `fetch_result`.
        """
        number = await self.start_round(task, base=base, key=secrets.token_hex(KEY_BYTES))
        return await self.outcome(task, number, on_event=on_event)

    async def outcome(
        self, task: str, round_number: int, *, on_event: Callable[[RoundEvent], None] | None = None
    ) -> RoundResult:
        """Wait for the end of a round, and fetch its result; `on_event` is told what happens meanwhile.

        Raises:
            RoundAborted: the round failed, for the reason given.
            SangamError: as `watch` and `fetch_result`.
        """
        async with aclosing(self.watch(task, round_number)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if event.kind == EventKind.FAILED:
                    raise RoundAborted(f"round {round_number}: {event.detail}")
                if event.kind == EventKind.CLOSED:
                    return await self.fetch_result(task, round_number)
        raise MessageError(f"round {round_number} of {task}: its events ended before the round did")

    async def _call(self, method: str, request: object, response: type[T]) -> T:
        return await self._channel.unary(f"/sangam.v1.Operator/{method}", request, response)


@asynccontextmanager
async def operate(
    address: str,
    identity: Identity | Path | str,
    *,
    patience_s: float = DEFAULT_PATIENCE_S,
    proxy: str = "",
    keepalive_s: float = KEEPALIVE_S,
) -> AsyncIterator[Operator]:
    """Connect as an operator.

    Args:
        address: host:port of the aggregator; the host must stand in its certificate.
        identity: the operator's identity, or the directory that holds it.
        patience_s: how long a broken line is retried where that is safe, seconds.
        proxy: http://host:port of a proxy; by default what the environment says (https_proxy, no_proxy).
        keepalive_s: how long the line may be silent before it is tested, seconds.

    Raises:
        ParameterError: no such proxy, or too short a keepalive.
        NotAdmitted: the certificate has expired, or is of another role.
        StorageError: the identity cannot be read.
    """
    who = identity if isinstance(identity, Identity) else Identity.load(Path(identity))
    who.check(Role.OPERATOR, datetime.now(UTC))
    channel = GrpcChannel(address, who, proxy=proxy, keepalive_s=keepalive_s)
    try:
        yield Operator(channel, patience_s)
    finally:
        await channel.close()
