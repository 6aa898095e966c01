"""The way to the server in memory: real sessions against a real task, every message through the codec; no gRPC.

    room = Room(tmp_path, 4)
    ends = await room.play(offers(4), lies={3: twice(Survivors, forged)})
    ends[c]                 what client c got: a RoundResult, or the error that ended it
    room.transports[c]      what it sent
    room.end                Completed | Failed, as the server sees it

A lie takes each message to one client and gives those that it hears instead.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeAlias

from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import Disconnected, SangamError
from aggregator.protocol.context import hash_model
from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Safeguards
from aggregator.rounds.lines import Line
from aggregator.rounds.phase import Completed
from aggregator.rounds.task import Host, Task
from aggregator.service.results import result_messages
from aggregator.storage.forgetful import Forgetful
from aggregator.wire import codec, messages, operator_messages
from aggregator.wire.messages import ClientMessage, ResultMessage, ServerMessage, UploadMessage
from clients.credentials import Credentials
from clients.journal import Journal
from clients.session import Session
from tests.consortium import ANY_COHORT, TASK, Consortium
from tests.loopback import BRISK, TOO_LONG_S, Offer, parameters

Lie: TypeAlias = Callable[[ServerMessage], Iterable[ServerMessage]]


def honest(message: ServerMessage) -> Iterable[ServerMessage]:
    """Pass everything on."""
    return (message,)


def carried(message: Any) -> Any:
    """A message as it arrives at the other side."""
    return codec.decode(type(message), codec.encode(message))


class MemoryTransport:
    """One client's transport; `sent` holds the bodies of all it said, `uploads` those of its uploads."""

    def __init__(self, task: Task, site: Certificate, lie: Lie = honest) -> None:
        self.sent: list[Any] = []
        self.uploads: list[list[bytes]] = []
        self.lie_about_ciphertexts: Callable[[ResultMessage], ResultMessage] = lambda message: message
        self.lie_about_result: Callable[[ResultMessage], ResultMessage] = lambda message: message
        self._task, self._site, self._lie = task, site, lie

    @asynccontextmanager
    async def control(self) -> AsyncIterator["MemoryTransport"]:
        self._heard: list[ServerMessage] = []
        self._line = Line(self._site.name)
        try:
            yield self
        finally:
            self._task.lines.disconnect(self._line)

    async def send(self, message: ClientMessage) -> None:
        message = carried(message)
        self.sent.append(message.body)
        if isinstance(message.body, messages.Join):
            self._line = self._task.join(self._site, roster_hash=message.body.roster_hash)
            return
        try:
            await self._task.deliver(self._site, message)
        except SangamError as error:
            self._line.close(error)

    async def receive(self) -> ServerMessage:
        while not self._heard:
            message = await self._line.receive()
            if message is None:
                raise self._line.error or Disconnected("the line was closed")
            self._heard = list(self._lie(carried(message)))
        return self._heard.pop(0)

    async def upload(self, parts: Iterable[UploadMessage]) -> messages.UploadReceipt:
        bodies = [carried(part).body for part in parts]
        self.uploads.append([codec.encode(UploadMessage(body)) for body in bodies])
        driver = self._task.driver(bodies[0].round)
        opened = await driver.open_upload(driver.client_of(self._site), bodies[0])
        if opened is None:
            return messages.UploadReceipt(already_accepted=True)
        for chunk in bodies[1 + opened[1].chunks :]:
            opened[0].receive(opened[1], chunk)
        await driver.close_upload(*opened)
        return messages.UploadReceipt(already_accepted=False)

    async def fetch_ciphertexts(self, request: messages.CiphertextsRequest) -> AsyncIterator[ResultMessage]:
        driver = self._task.driver(request.round)
        for index in range(request.first_chunk, driver.chunks):
            chunk = driver.chunk(driver.client_of(self._site), carried(request), index)
            yield carried(self.lie_about_ciphertexts(ResultMessage(chunk)))

    async def fetch_result(self, request: messages.ResultRequest) -> AsyncIterator[ResultMessage]:
        for message in result_messages(self._task.history.result(request.round), request.first_chunk):
            yield carried(self.lie_about_result(message))


class Room:
    """A task, its server in memory, and n sites with a journal each, in `directory`.

    A new room over the same directory is another server, or the same one restarted: its sites remember.
    """

    def __init__(
        self,
        directory: Path,
        n: int,
        *,
        spec: Parameters | None = None,
        roster: Roster | None = None,
        first_round: int = 1,
        deadlines: operator_messages.Deadlines = BRISK,
    ) -> None:
        self.consortium = Consortium.of(n)
        self.directory = directory
        self.spec = spec or parameters()
        host = Host(
            authority=self.consortium.authority.certificate,
            roster=lambda: roster or self.consortium.roster,
            records=Forgetful(),
            entropy=os.urandom,
            clock=monotonic,
            now=time,
            first_round=lambda: first_round,
        )
        stated = operator_messages.Task(TASK, self.spec.to_message(), deadlines, result_to_operator_only=False)
        self.task = Task(stated, host, host.records.create(stated, "operator", 0.0))
        self.transports: dict[int, MemoryTransport] = {}
        self.number = 0

    def journal(self, client: int) -> Path:
        """Where this client's journal is."""
        return self.directory / f"journal-{client}.sqlite"

    @property
    def end(self) -> Completed | str:
        """How the last round ended: its result, or why there is none."""
        last = self.task.history.events(self.number)._events[-1]
        return self.task.history.result(self.number) if last.kind == "closed" else last.detail

    @asynccontextmanager
    async def join(
        self, client: int, *, lie: Lie = honest, safeguards: Safeguards = ANY_COHORT, **options: Any
    ) -> AsyncIterator[Session]:
        """A session of one participant."""
        who = self.consortium.identities[client].certificate
        transport = self.transports[client] = MemoryTransport(self.task, who, lie)
        with Journal(self.journal(client)) as journal:
            site = self.consortium.site(client, safeguards)
            session = Session(transport, Credentials(site), journal, task=TASK, **options)
            try:
                async with asyncio.timeout(TOO_LONG_S):
                    await session.open()
                    yield session
            finally:
                await session.close()

    async def play(
        self,
        offered: Mapping[int, Offer],
        *,
        lies: Mapping[int, Lie] | None = None,
        base: Update | None = None,
        again: str = "",
        how: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> dict[int, Any]:
        """One round; by client, its result, or the error that ended it. `how` gives options of `join`."""
        joined = asyncio.Barrier(len(offered) + 1)

        async def take_part(client: int) -> Any:
            options = {"lie": (lies or {}).get(client, honest)} | dict((how or {}).get(client, {}))
            async with self.join(client, **options) as session:
                await joined.wait()
                update, weight = offered[client]
                return await session.contribute(update, weight=weight, base=base, again=again)

        async def lead() -> None:
            await joined.wait()
            self.number = self.task.start_round(hash_model(base))

        async with asyncio.timeout(TOO_LONG_S):
            ends = await asyncio.gather(lead(), *(take_part(c) for c in offered), return_exceptions=True)
        await self.task.close()
        return dict(zip(offered, ends[1:], strict=True))


def twice(kind: type, forge: Callable[[Any], Any]) -> Lie:
    """Each message of one kind is followed by a forged one."""

    def lie(message: ServerMessage) -> Iterable[ServerMessage]:
        yield message
        if isinstance(message.body, kind):
            yield ServerMessage(message.round, forge(message.body))

    return lie


def instead(kind: type, forge: Callable[[Any], Any]) -> Lie:
    """Each message of one kind is replaced by a forged one."""

    def lie(message: ServerMessage) -> Iterable[ServerMessage]:
        yield ServerMessage(message.round, forge(message.body)) if isinstance(message.body, kind) else message

    return lie
