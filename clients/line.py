"""A participant's line: the control stream, opened again whenever it breaks, and the messages that came over it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import TypeAlias

from aggregator.crypto.certificates import check_name
from aggregator.errors import Disconnected, Equivocation, MessageError, NotAdmitted, VersionMismatch
from aggregator.wire.messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    ClientBody,
    ClientMessage,
    Excluded,
    Join,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    ServerMessage,
    Welcome,
)
from clients.credentials import Credentials
from clients.retry import WAIT_FIRST_S, patiently
from clients.rosters import OF_THIS_PROCESS, Rosters
from clients.transport import ControlStream, Transport

INBOX_MESSAGES_MAX = 64  # a round sends seven; of more, the oldest rounds are forgotten

Refusal: TypeAlias = Callable[[ServerMessage], ClientBody | None]


class Line:
    """Keeps one control stream open in the background.

    Args:
        transport: the way to the server.
        task: the task to join; empty for the server's only one.
        patience_s: how long a broken line is retried before it counts as dead, seconds.
        refuse: what to answer at once to a message that is not for this session; None for one that is.
        credentials: who joins; a site that the server no longer admits goes on when its renewed certificate is there.
        rosters: those that this process holds; the server need not send them again.
    """

    def __init__(
        self,
        transport: Transport,
        task: str,
        patience_s: float,
        refuse: Refusal,
        credentials: Credentials,
        *,
        rosters: Rosters = OF_THIS_PROCESS,
    ) -> None:
        self.task = task
        self.version = 0  # of the protocol, as the server chose it
        self._credentials = credentials
        self._rosters = rosters
        self._roster = b""  # the one that came last over this line, or that this site named when it joined
        self._refuse = refuse
        self._transport = transport
        self._patience_s = patience_s
        self._stream: ControlStream | None = None
        self._inbox: deque[ServerMessage] = deque(maxlen=INBOX_MESSAGES_MAX)
        self._arrived = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and wait for the server's welcome.

        Raises:
            SangamError: whatever the server names; Disconnected when patience ran out.
        """
        self._start()
        while not self._inbox:
            await self._wait()

    def reopen(self) -> None:
        """Hang up and join again, under the certificate that this site has now."""
        if self._keeper is not None:
            self._keeper.cancel()
        self._stream = None
        self._start()

    async def close(self) -> None:
        """End the stream."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def send(self, round_number: int, body: ClientBody) -> None:
        """Send one message; on a broken line it is dropped, since the server asks again when the line is back."""
        if self._stream is None:
            return
        try:
            await self._stream.send(ClientMessage(round_number, body))
        except Disconnected:
            return

    async def receive(self) -> ServerMessage:
        """The next message.

        Raises:
            SangamError: the line is dead, for the reason that the server named or because patience ran out.
        """
        while not self._inbox:
            await self._wait()
        return self._inbox.popleft()

    def put_back(self, message: ServerMessage) -> None:
        """Leave a message for the next reader."""
        self._inbox.appendleft(message)

    def skip_ended_rounds(self) -> None:
        """Forget what came while nobody listened, but for a round that is still open."""
        ended = {m.round for m in self._inbox if isinstance(m.body, RoundClosed | RoundFailed | Excluded)}
        opened = [m for m in self._inbox if isinstance(m.body, RoundOpened) and m.round not in ended]
        newest = max((m.round for m in opened), default=0)
        kept = [m for m in self._inbox if m.round == newest and newest]
        self._inbox = deque(kept, INBOX_MESSAGES_MAX)

    def _start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(lambda _: self._arrived.set())

    async def _wait(self) -> None:
        """Until something arrives; raises what ended the line, whatever it was."""
        if self._keeper is None or self._keeper.cancelled():
            raise Disconnected("this session is closed")
        if self._keeper.done():
            self._keeper.result()
        self._arrived.clear()
        await self._arrived.wait()

    async def _keep(self) -> None:
        while True:
            try:
                await patiently(self._patience_s)(self._run)
            except NotAdmitted as refusal:
                if not self.version:  # refused from the start
                    raise
                await self._credentials.renewed(refusal, self._patience_s)
            await asyncio.sleep(WAIT_FIRST_S)  # a server that welcomes and hangs up is not called in a hot loop

    async def _run(self) -> None:
        """One stream's life; returns when it breaks after the server's welcome."""
        self._credentials.check()
        async with self._transport.control() as stream:
            await stream.send(ClientMessage(0, self._join()))
            welcome = await stream.receive()
            self._welcomed(welcome)
            self._take(welcome)
            self._stream = stream
            try:
                while True:
                    message = self._with_roster(await stream.receive())
                    refusal = self._refuse(message)
                    if refusal is None:
                        self._take(message)
                    else:
                        await stream.send(ClientMessage(message.round, refusal))
            except Disconnected:
                return
            finally:
                self._stream = None

    def _join(self) -> Join:
        """A site without a roster names the empty one's hash: it, too, keeps what comes over the line."""
        self._roster = self._roster or self._rosters.newest(self._credentials.site.authority)
        return Join(OLDEST_VERSION, PROTOCOL_VERSION, self.task, sha256(self._roster).digest())

    def _with_roster(self, message: ServerMessage) -> ServerMessage:
        """A round's opening comes without its roster where this site holds it."""
        if not isinstance(message.body, RoundOpened):
            return message
        if not (message.body.roster or self._roster):
            raise MessageError(f"round {message.round}: the server left out a roster that this site never had")
        self._roster = self._rosters.shared(message.body.roster or self._roster)
        return replace(message, body=replace(message.body, roster=self._roster))

    def _welcomed(self, message: ServerMessage) -> None:
        """Learn the name of the server's only task, once: under another name it could ask for the same data again."""
        if not isinstance(message.body, Welcome):
            raise MessageError("the server did not answer Join with Welcome")
        self.version = message.body.protocol_version
        if not OLDEST_VERSION <= self.version <= PROTOCOL_VERSION:
            raise VersionMismatch(
                f"the server chose protocol version {self.version}, this site speaks {OLDEST_VERSION} to "
                f"{PROTOCOL_VERSION}"
            )
        check_name("task", message.body.task)
        if self.task and message.body.task != self.task:
            raise Equivocation(f"this session joined task {self.task}, the server says it is {message.body.task}")
        self.task = message.body.task

    def _take(self, message: ServerMessage) -> None:
        self._inbox.append(message)
        self._arrived.set()
