"""The server's side of one round: the phases of the real server, told of answers that came through pipes.

What the network's server has beyond that (deadlines, broken lines, events) is left out; see `rounds.driver`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from aggregator.errors import MessageError
from aggregator.local.processes import Child
from aggregator.local.screen import Bar
from aggregator.rounds.advertise_keys import AdvertiseKeys
from aggregator.rounds.masked_input import MaskedInput
from aggregator.rounds.phase import Completed, Failed, Phase, Setting
from aggregator.simulate.frames import NOBODY, Frame
from aggregator.wire import codec
from aggregator.wire.messages import Chunk, ClientMessage, ServerMessage, UploadHeader, UploadMessage

AHEAD = 2  # messages that wait in each process: one that is answered, one that comes next
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process of clients, and which they are."""

    child: Child
    clients: Sequence[int]

    async def hear(self) -> Frame:
        """The next answer. Disconnected: the process has ended, or says nothing for too long."""
        try:
            return Frame.from_bytes(await self.child.receive(LONGEST_S))
        except EOFError:
            raise self.child.ended() from None


class Round:
    """One round from its opening to its sum.

    Attributes:
        step_s: seconds of every step.
        sent_bytes: by client, all that it has sent.
    """

    def __init__(self, setting: Setting, processes: Sequence[Process], bar: Bar) -> None:
        self.step_s: dict[str, float] = {}
        self.sent_bytes: Counter[int] = Counter()
        self._setting = setting
        self._number = setting.terms.round
        self._processes = processes
        self._bar = bar

    async def run(self) -> Completed | Failed:
        """Run all phases.

        Raises:
            SangamError: a client was refused, or a process ended.
        """
        phase: Phase[Any] | Completed | Failed = AdvertiseKeys(self._setting)
        while isinstance(phase, Phase):
            start, step = perf_counter(), phase.step
            self._bar.say(f"round {self._number}: {step.replace('_', ' ')}")
            awaited = phase.awaited
            shares = [[client for client in one.clients if client in awaited] for one in self._processes]
            together = zip(self._processes, shares, strict=True)
            await asyncio.gather(*(self._collect(phase, process, mine) for process, mine in together))
            phase = await asyncio.to_thread(phase.finish)
            self.step_s[step] = perf_counter() - start
        for process in self._processes:
            process.child.send(Frame(NOBODY, ()).to_bytes())
            await process.hear()
        return phase

    async def _collect(self, phase: Phase[Any], process: Process, clients: Sequence[int]) -> None:
        """Announce the phase to the clients of one process, and take their answers."""
        todo = iter(clients)

        def announce() -> None:
            for client in todo:
                message = codec.encode(ServerMessage(self._number, phase.announcement(client)))
                process.child.send(Frame(client, (message,)).to_bytes())
                return

        for _ in range(AHEAD):
            announce()
        for _ in clients:
            frame = await process.hear()
            announce()
            self._take(phase, frame)
            self._bar.advance()

    def _take(self, phase: Phase[Any], frame: Frame) -> None:
        self.sent_bytes[frame.client] += sum(map(len, frame.parts))
        if isinstance(phase, MaskedInput):
            self._upload(phase, frame)
            return
        for part in frame.parts:
            phase.accept(frame.client, codec.decode(ClientMessage, part).body)

    def _upload(self, phase: MaskedInput, frame: Frame) -> None:
        """Stage what came; what is not whole never touches the sum."""
        bodies = (codec.decode(UploadMessage, part).body for part in frame.parts)
        header = next(bodies, None)
        if header is None:
            return
        upload = phase.begin(frame.client, header) if isinstance(header, UploadHeader) else None
        if upload is None:
            raise MessageError(f"client {frame.client}: an upload starts with its header, once")
        for body in bodies:
            if not isinstance(body, Chunk):
                raise MessageError(f"client {frame.client}: an upload has one header, then chunks")
            phase.receive(upload, body)
        if frame.whole:
            phase.commit(upload)


def sent_most(sent_bytes: Mapping[int, int], clients: Sequence[int]) -> int:
    """The most that any of these clients sent."""
    return max((sent_bytes.get(client, 0) for client in clients), default=0)
