"""The rounds, as the process that started everything runs and times them: its clock alone sees both ends."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from aggregator.bench import plain, server, signals, worker
from aggregator.bench.outcome import STREAMING, PlainRound, SecureRound, end_seconds
from aggregator.bench.settings import TASK, Kind, Settings
from aggregator.errors import RoundAborted
from aggregator.local.processes import Child
from aggregator.local.screen import Bar
from aggregator.local.steps import step_seconds
from aggregator.local.updates import Updates, is_exact
from aggregator.wire.messages import ResultMessage, ResultRequest
from aggregator.wire.operator_messages import RoundEvent, RoundReference
from aggregator.wire.vocabulary import EventKind
from clients.operator import Operator
from clients.transport import GrpcChannel

LONGEST_S = 6 * 3_600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Everybody else, running.

    Args:
        servers: the server's process for each kind of round.
        workers: those that hold the clients; `directories` of each, and how many `clients` it has.
    """

    servers: Mapping[Kind, Child]
    workers: Sequence[Child]
    directories: Sequence[Path]
    clients: Sequence[int]


@dataclass(frozen=True, slots=True)
class Finish:
    """A round's end as the starter saw it; `sent_bytes` is the most that a survivor sent."""

    stream_s: float
    events: Sequence[RoundEvent]
    sent_bytes: int


class Job:
    """All rounds of a run; what they measured are its attributes.

    Args:
        settings: the run.
        names: of the clients.
        operators: an open session with the server of each kind of secure round; its task exists.
        channel: the operator's, for the plain rounds.
        processes: everybody else.
        updates: what the clients contribute.
    """

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str],
        operators: Mapping[Kind, Operator],
        channel: GrpcChannel,
        *,
        processes: Processes,
        updates: Updates,
    ) -> None:
        self.plain: list[PlainRound] = []
        self.secure: dict[Kind, list[SecureRound]] = {Kind.SECURE: [], Kind.DURABLE: []}
        self._settings = settings
        self._survivors = [name for client, name in enumerate(names) if not settings.vanishes(client)]
        self._operators = operators
        self._channel = channel
        self._all = processes
        self._updates = updates

    async def run(self, bar: Bar) -> None:
        """Run them.

        Raises:
            RoundAborted: a round failed.
            Disconnected: a process ended that should not have.
        """
        for index, kind in enumerate(self._settings.rounds):
            await (self._plain(index, bar) if kind is Kind.PLAIN else self._secure(index, kind, bar))
            bar.advance()

    async def _plain(self, index: int, bar: Bar) -> None:
        number = index + 1
        bar.say("plain: preparing")
        await self._begin(index, Kind.PLAIN)
        events = self._channel.downward(plain.WATCH, RoundReference(TASK, number), RoundEvent)
        finish = await self._race(index, events, bar, "plain: streaming")
        cost = await self._end(index, Kind.PLAIN)
        del cost[server.WRITTEN]
        bar.say("plain: checking")
        parts = self._channel.downward(plain.FETCH, ResultRequest(TASK, number), ResultMessage)
        expected = self._updates.total(self._settings.survivors)
        exact = await plain.is_sum(parts, expected, self._settings.plain_plan)
        self.plain.append(PlainRound(finish.stream_s, exact, int(cost.pop(server.PEAK)), cost))

    async def _secure(self, index: int, kind: Kind, bar: Bar) -> None:
        bar.say(f"{kind}: sessions")
        await self._begin(index, kind)
        operator = self._operators[kind]
        number = await operator.start_round(TASK, base=worker.base(index))
        finish = await self._race(index, operator.watch(TASK, number), bar, f"{kind}: streaming")
        cost = await self._end(index, kind)
        bar.say(f"{kind}: checking")
        result = await operator.fetch_result(TASK, number)
        files = [worker.words_file(directory, index) for directory in self._all.directories]
        exact = is_exact(result.words, result.participants, self._survivors, files)
        for file in files:
            file.unlink()
        peak_bytes, written_bytes = int(cost.pop(server.PEAK)), int(cost.pop(server.WRITTEN))
        self.secure[kind].append(
            SecureRound(
                finish.stream_s,
                exact,
                peak_bytes,
                cost,
                end_seconds(finish.events),
                step_seconds(finish.events),
                finish.sent_bytes,
                written_bytes,
            )
        )

    async def _race(self, index: int, events: AsyncIterator[RoundEvent], bar: Bar, text: str) -> Finish:
        """Wait until all stand at the line, give the signal, follow the round to its end."""
        opened = asyncio.Event()
        watching = asyncio.create_task(_follow(events, opened, bar))
        try:
            await _unless(watching, self._lined_up(opened))
            bar.say(text)
            start = perf_counter()
            for one in self._all.workers:
                one.tell(signals.proceed(index))
            (seen, end), sent_bytes = await asyncio.gather(watching, self._done())
        finally:
            watching.cancel()
        if seen[-1].kind != EventKind.CLOSED:
            raise RoundAborted(seen[-1].detail)
        return Finish(end - start, seen, sent_bytes)

    async def _begin(self, index: int, kind: Kind) -> None:
        serving = self._all.servers[kind]
        serving.tell(signals.begin(index))
        await serving.expect("begun", LONGEST_S)
        for one in self._all.workers:
            one.tell(signals.begin(index))
        for one in self._all.workers:
            await one.expect("entered", LONGEST_S)

    async def _lined_up(self, opened: asyncio.Event) -> None:
        await opened.wait()
        for one, clients in zip(self._all.workers, self._all.clients, strict=True):
            for _ in range(clients):
                await one.expect("ready", LONGEST_S)

    async def _end(self, index: int, kind: Kind) -> dict[str, float]:
        self._all.servers[kind].tell(signals.proceed(index))
        return await self._all.servers[kind].expect(server.PEAK, LONGEST_S)

    async def _done(self) -> int:
        """The workers' last word on a round: the most bytes that a survivor sent."""
        return max([int((await one.expect("done", LONGEST_S))["sent_bytes"]) for one in self._all.workers])


async def _follow(events: AsyncIterator[RoundEvent], opened: asyncio.Event, bar: Bar) -> tuple[list[RoundEvent], float]:
    """All events of a round, and when the last one came; `opened` is set when uploads are taken."""
    seen = []
    async for event in events:
        seen.append(event)
        if event.kind == EventKind.STEP:
            bar.say(event.step.replace("_", " "))
            if event.step in STREAMING:
                opened.set()
    return seen, perf_counter()


async def _unless(watching: "asyncio.Task[Any]", work: Coroutine[Any, Any, None]) -> None:
    """Do the work; a round that ends before it has failed."""
    doing = asyncio.create_task(work)
    try:
        await asyncio.wait({watching, doing}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        seen, _ = watching.result()
        raise RoundAborted(seen[-1].detail)
    finally:
        doing.cancel()
