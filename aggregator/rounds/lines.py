"""Who is connected: one line per site of a task, whatever transport it came over.

Lines go by the site's name, which outlives its certificate and its place in the roster.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from aggregator.errors import OutOfTurn, Overloaded, SangamError
from aggregator.wire.messages import RoundOpened, ServerBody, ServerMessage

OUTBOX_MESSAGES_MAX = 64  # a round sends seven; a client that reads none for nine rounds is not there


class Line:
    """One site's open control stream, as seen by the round: a queue of messages to it.

    `roster_hash` is the SHA-256 of the roster that the client holds; empty for a client that keeps none. `error` says
    why a closed line was closed, where the client should know.
    """

    def __init__(self, site: str, roster_hash: bytes = b"") -> None:
        self.site = site
        self.roster_hash = roster_hash
        self.error: SangamError | None = None
        self._outbox: asyncio.Queue[ServerMessage | None] = asyncio.Queue(OUTBOX_MESSAGES_MAX)

    def send(self, round_number: int, body: ServerBody) -> None:
        """Queue one message. Overloaded when the client does not read."""
        try:
            self._outbox.put_nowait(ServerMessage(round_number, body))
        except asyncio.QueueFull:
            raise Overloaded(f"{self.site} does not read its messages") from None

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
        self._lines: dict[str, Line] = {}
        self._lost_at: dict[str, float] = {}
        self._roster, self._roster_hash = b"", b""  # the one that was announced last
        self.changed = asyncio.Event()

    def connect(self, site: str, roster_hash: bytes = b"") -> Line:
        """A new line; an older one of the same site is closed, since its stream is dead or a double.

        A double is told, so that two sessions of one site don't take the line from each other for ever.
        """
        if site in self._lines:
            self._lines[site].close(OutOfTurn(f"{site} opened a newer line"))
        line = self._lines[site] = Line(site, roster_hash)
        self._lost_at.pop(site, None)
        self.changed.set()
        return line

    def disconnect(self, line: Line) -> None:
        """The stream of this line broke; nothing happens when a newer line took its place."""
        if self._lines.get(line.site) is line:
            del self._lines[line.site]
            self._lost_at[line.site] = self._clock()
            self.changed.set()

    def close(self, error: SangamError | None = None) -> None:
        """End every line after what is queued on it, with this error."""
        for line in self._lines.values():
            line.close(error)

    def send(self, site: str, round_number: int, body: ServerBody) -> None:
        """Queue one message; a site that is away gets it when it comes back, a site that reads nothing is cut."""
        line = self._lines.get(site)
        if line is None:
            return
        try:
            line.send(round_number, self._abridged(line, body) if isinstance(body, RoundOpened) else body)
        except Overloaded as error:
            line.close(error)
            self.disconnect(line)

    def _abridged(self, line: Line, opened: RoundOpened) -> RoundOpened:
        """Without the roster for a client that holds it: with 1,000 sites it takes 0.7 MB, for each of them."""
        if opened.roster is not self._roster:
            self._roster, self._roster_hash = opened.roster, sha256(opened.roster).digest()
        if line.roster_hash == self._roster_hash:
            return replace(opened, roster=b"")
        if line.roster_hash:
            line.roster_hash = self._roster_hash  # from here on it holds this one
        return opened

    @property
    def connected(self) -> frozenset[str]:
        """The sites whose lines are open."""
        return frozenset(self._lines)

    def is_connected(self, site: str) -> bool:
        """Whether the site's line is open."""
        return site in self._lines

    def away_since(self, site: str) -> float:
        """When a site that is away was last there, on the clock; the task's start if it never was."""
        return self._lost_at.get(site, self._start)
