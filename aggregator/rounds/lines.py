"""Who is connected: one line per participant of a task, whatever transport it came over."""

import asyncio
from collections.abc import Callable

from aggregator.errors import OutOfTurn, Overloaded, SangamError
from aggregator.protocol.cohort import ClientId
from aggregator.wire.messages import ServerBody, ServerMessage

OUTBOX_MESSAGES_MAX = 64  # a round sends seven; a client that reads none for nine rounds is not there


class Line:
    """One participant's open control stream, as seen by the round: a queue of messages to it.

    `error` says why a closed line was closed, where the client should know.
    """

    def __init__(self, client: ClientId) -> None:
        self.client = client
        self.error: SangamError | None = None
        self._outbox: asyncio.Queue[ServerMessage | None] = asyncio.Queue(OUTBOX_MESSAGES_MAX)

    def send(self, round_number: int, body: ServerBody) -> None:
        """Queue one message. Overloaded when the client does not read."""
        try:
            self._outbox.put_nowait(ServerMessage(round_number, body))
        except asyncio.QueueFull:
            raise Overloaded(f"client {self.client} does not read its messages") from None

    def close(self, error: SangamError | None = None) -> None:
        """End the stream after what is queued, with this error; what does not fit is lost with it."""
        self.error = self.error or error
        while self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    async def receive(self) -> ServerMessage | None:
        """The next message for the client; None when the line was closed."""
        return await self._outbox.get()


class Lines:
    """The lines of one task, and since when a broken one is gone.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._lines: dict[ClientId, Line] = {}
        self._lost_at: dict[ClientId, float] = {}
        self.changed = asyncio.Event()

    def connect(self, client: ClientId) -> Line:
        """A new line; an older one of the same client is closed, since its stream is dead or a double.

        A double is told, so that two sessions of one site don't take the line from each other for ever.
        """
        if client in self._lines:
            self._lines[client].close(OutOfTurn(f"client {client} opened a newer line"))
        line = self._lines[client] = Line(client)
        self._lost_at.pop(client, None)
        self.changed.set()
        return line

    def disconnect(self, line: Line) -> None:
        """The stream of this line broke; nothing happens when a newer line took its place."""
        if self._lines.get(line.client) is line:
            del self._lines[line.client]
            self._lost_at[line.client] = self._clock()
            self.changed.set()

    def close(self) -> None:
        """End every line after what is queued on it."""
        for line in self._lines.values():
            line.close()

    def send(self, client: ClientId, round_number: int, body: ServerBody) -> None:
        """Queue one message; a client that is away gets it when it comes back, a client that reads nothing is cut."""
        line = self._lines.get(client)
        if line is None:
            return
        try:
            line.send(round_number, body)
        except Overloaded as error:
            line.close(error)
            self.disconnect(line)

    def is_connected(self, client: ClientId) -> bool:
        """Whether the client's line is open."""
        return client in self._lines

    def away_since(self, client: ClientId) -> float:
        """When a client that is away was last there, on the clock; the task's start if it never was."""
        return self._lost_at.get(client, self._start)
