"""A site's line in a run: it writes down what leaves and what is acknowledged, and it repeats itself.

TLS lets nobody between double or reorder bytes, so whole messages are: an answer is sent twice, an old answer comes
again behind newer ones, an upload comes again when it has arrived, or two of it race.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Final

from aggregator.errors import SangamError
from aggregator.protocol.encoding import RingVector
from aggregator.wire.messages import (
    ClientMessage,
    ResultMessage,
    ResultRequest,
    ServerMessage,
    UploadHeader,
    UploadMessage,
    UploadReceipt,
)
from clients.contribution import Observer
from clients.transport import ControlStream, Transport
from tests.chaos.evidence import Evidence

TWICE: Final = 0.15
OLD_AGAIN: Final = 0.15
UPLOAD_AGAIN: Final = 0.15
UPLOADS_RACE: Final = 0.1
REMEMBERED: Final = 12  # answers, of two rounds and more


class Witness(Observer):
    """One site's transport in one task, and the observer of its contributions.

    Args:
        inner: the way to the server.
        evidence: where to write down.
        task: the task.
        site: this site's name.
        draws: what to repeat.
    """

    def __init__(self, inner: Transport, evidence: Evidence, task: str, site: str, draws: Random) -> None:
        self._inner = inner
        self._evidence = evidence
        self._task = task
        self._site = site
        self._draws = draws
        self._encoded: RingVector | None = None
        self._written = 0  # the round whose words are
        self._said: deque[ClientMessage] = deque(maxlen=REMEMBERED)

    def vectors(self, encoded: RingVector, payload: memoryview) -> None:
        """Keep the words until it is known in which round they leave."""
        self._encoded = encoded.copy()

    @asynccontextmanager
    async def control(self) -> AsyncIterator[ControlStream]:
        """Open a control stream."""
        async with self._inner.control() as stream:
            yield _Stream(stream, self)

    async def upload(self, parts: Iterable[UploadMessage]) -> UploadReceipt:
        """Send an upload; perhaps once more, or twice at once."""
        whole = list(parts)
        header = whole[0].body
        assert isinstance(header, UploadHeader)
        if self._written != header.round:
            assert self._encoded is not None
            await asyncio.to_thread(self._evidence.mask, self._task, header.round, self._site, self._encoded)
            self._written = header.round
        race = self._draws.random() < UPLOADS_RACE
        racing = [asyncio.create_task(self._again(whole, "upload raced"))] if race else []
        try:
            receipt = await self._inner.upload(iter(whole))
        finally:
            await asyncio.gather(*racing)
        self._evidence.acknowledge(self._task, header.round, self._site)
        if self._draws.random() < UPLOAD_AGAIN:
            await self._again(whole, "upload sent again")
        return receipt

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """Receive one result."""
        return self._inner.fetch_result(request)

    async def answer(self, stream: ControlStream, message: ClientMessage) -> None:
        """Send one message, perhaps twice, and perhaps an old one behind it."""
        await stream.send(message)
        if message.round == 0:  # joining
            return
        if self._draws.random() < TWICE:
            self._evidence.repeat(self._site, "answer sent twice")
            await stream.send(message)
        if self._said and self._draws.random() < OLD_AGAIN:
            self._evidence.repeat(self._site, "old answer sent again")
            await stream.send(self._draws.choice(self._said))
        self._said.append(message)

    async def _again(self, parts: list[UploadMessage], what: str) -> None:
        self._evidence.repeat(self._site, what)
        with suppress(SangamError):  # the round may be over, or the line broken: nobody asked for it
            await self._inner.upload(iter(parts))


class _Stream:
    def __init__(self, inner: ControlStream, witness: Witness) -> None:
        self._inner = inner
        self._witness = witness

    async def send(self, message: ClientMessage) -> None:
        await self._witness.answer(self._inner, message)

    async def receive(self) -> ServerMessage:
        return await self._inner.receive()
