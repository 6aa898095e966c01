"""A TCP proxy before a server: tests cut it, let it carry only so many bytes, or have it behave as a firewall.

async with hub(tmp_path, 4) as h, Cable(h.port) as cable:
    ...                            clients come to cable.port
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class Cable:
    """A TCP proxy to a server's port; used as an async context.

    Args:
        port: the server's.
        connect: be a proxy that a client has to ask for its server (HTTP CONNECT).
        idle_s: cut a connection over which nothing went for so long; 0 is never.

    Attributes:
        target: the server's port; a server that was started anew may have another.
        hold_s: how long what arrives is held before it goes on, seconds.
    """

    def __init__(self, port: int, *, connect: bool = False, idle_s: float = 0.0) -> None:
        self.target = port
        self.hold_s: Callable[[], float] = lambda: 0.0
        self._connect = connect
        self._idle_s = idle_s
        self._ends: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.upward_bytes = 0
        self.downward_bytes = 0
        self.upward_cuts: deque[int] = deque()  # each time so many bytes have gone up, the line breaks
        self.downward_cuts: deque[int] = deque()
        self.cuts = 0
        self.asked: list[str] = []  # for which server
        self.heads: list[str] = []  # in which words
        self.answer = "200 OK"  # to those; any other status refuses
        self.refusing = False
        self.refused = asyncio.Event()
        self.idled = asyncio.Event()

    async def __aenter__(self) -> "Cable":
        self._server = await asyncio.start_server(self._carry, "localhost", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection that runs over this cable; new ones work."""
        self.cuts += 1
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connect and not await self._may_connect(reader, writer):
            return
        if self.refusing:
            writer.transport.abort()
            self.refused.set()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("localhost", self.target)
        except OSError:  # the server is away
            writer.transport.abort()
            return
        self._ends |= {writer, far_writer}
        line = _Idle(self._idle_s, self._cut_idle)
        for pump in (self._pump(reader, far_writer, line, up=True), self._pump(far_reader, writer, line, up=False)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _may_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer an HTTP CONNECT; what it asks for is written down, and it gets the one server behind this cable."""
        with suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            request = self.heads[-1].split()
            self.asked.append(request[1] if request[0] == "CONNECT" else "")
            answer = "403 Forbidden" if self.refusing else self.answer
            writer.write(f"HTTP/1.1 {answer}\r\nProxy-Agent: hospital\r\n\r\n".encode())
            await writer.drain()
            if answer.startswith("200 "):
                return True
            self.refused.set()
        writer.close()
        return False

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: "_Idle", *, up: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                line.moved()
                if self._breaks_after(len(data), up):
                    self.cut()
                    return
                if hold_s := self.hold_s():
                    await asyncio.sleep(hold_s)
                writer.write(data)
                await writer.drain()
        line.end()
        writer.close()

    def _breaks_after(self, size: int, up: bool) -> bool:
        if up:
            self.upward_bytes += size
        else:
            self.downward_bytes += size
        cuts, gone = (self.upward_cuts, self.upward_bytes) if up else (self.downward_cuts, self.downward_bytes)
        if not cuts or gone < cuts[0]:
            return False
        cuts.popleft()
        return True

    def _cut_idle(self) -> None:
        self.idled.set()
        self.cut()


class _Idle:
    """Calls `cut` when nothing has moved for `idle_s`."""

    def __init__(self, idle_s: float, cut: Callable[[], None]) -> None:
        self._idle_s = idle_s
        self._cut = cut
        self._watch: asyncio.TimerHandle | None = None
        self.moved()

    def moved(self) -> None:
        self.end()
        if self._idle_s:
            self._watch = asyncio.get_running_loop().call_later(self._idle_s, self._cut)

    def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
