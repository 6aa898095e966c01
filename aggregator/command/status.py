"""`sangam status`: what all tasks of an operator do, now and from now on."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer
from rich.console import Console
from rich.live import Live

from aggregator.command.options import AsJson, OperatorIdentity
from aggregator.command.overview import Overview
from aggregator.command.progress import Board
from aggregator.errors import Disconnected, NotFound, Overloaded, SangamError, StorageError

if TYPE_CHECKING:
    from aggregator.wire.operator_messages import RoundSummary, TaskSummary
    from clients.operator import Operator

ROUNDS_ASKED: Final = 8  # of each task, the newest
FOLLOWED_MAX: Final = 16  # rounds; a connection has room for 32 calls, and so has a certificate
SETTLED_S: Final = 0.25  # --once: a round whose events pause for so long has told what there is
HEALS: Final = (Disconnected, Overloaded, StorageError)

Key: TypeAlias = tuple[str, int]


def status(
    address: Annotated[str, typer.Argument(envvar="SANGAM_ADDRESS", help="The aggregator, host:port.")],
    identity: OperatorIdentity,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and leave.")] = False,
    every_s: Annotated[float, typer.Option(min=0.2, help="Seconds between two questions to the aggregator.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Show all tasks that this operator may use, their rounds as they happen, and those that ended last.

    It goes on until Ctrl-C, where somebody looks on; where its output is kept, it prints them once. An aggregator that
    is away is asked again until it is back.

    Example: [bold]sangam status hub:7443 --identity operator[/bold]
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(address, identity, once=once, every_s=every_s, as_json=as_json))


async def _run(address: str, identity: Path, *, once: bool, every_s: float, as_json: bool) -> None:
    from clients.operator import operate

    async with operate(address, identity) as operator:
        looking, console = Looking(address, operator), Console()
        try:
            if once or not (as_json or console.is_terminal):
                _print(await looking.settled(), as_json=as_json)
            elif as_json:
                await _repeat(looking, every_s, lambda seen: _print(seen, as_json=True))
            else:
                with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
                    await _repeat(looking, every_s, lambda seen: live.update(seen, refresh=True))
        finally:
            await looking.close()


async def _repeat(looking: "Looking", every_s: float, show: Callable[[Overview], None]) -> None:
    while True:
        show(await looking.look_or_say_why())
        await asyncio.sleep(every_s)


def _print(seen: Overview, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(seen.as_json()))
    else:
        Console().print(seen)


class Looking:
    """Asks the aggregator for everything again and again, and follows the rounds that run."""

    def __init__(self, address: str, operator: "Operator") -> None:
        self._operator = operator
        self._last = Overview(address, time())
        self._boards: dict[Key, Board] = {}
        self._feeding: dict[Key, asyncio.Task[None]] = {}
        self._events = 0

    async def look_or_say_why(self) -> Overview:
        """As `look`; where the aggregator cannot be asked, what it said last, and why."""
        try:
            return await self.look()
        except HEALS as error:
            last = self._last
            return Overview(last.address, time(), last.tasks, last.rounds, last.boards, away=str(error))

    async def look(self) -> Overview:
        """How everything stands.

        Raises:
            SangamError: as the operator's session names it.
        """
        tasks = [task async for task in self._operator.tasks()]
        rounds = {task.name: await self._rounds(task) for task in tasks if task.rounds}
        running = [(task.name, task.running_round) for task in tasks if task.running_round]
        self._follow(running[:FOLLOWED_MAX])
        boards = {task: board for (task, _), board in self._boards.items()}
        self._last = Overview(self._last.address, time(), tasks, rounds, boards)
        return self._last

    async def settled(self) -> Overview:
        """How everything stands, once the running rounds have told what happened in them so far."""
        seen, told = await self.look(), -1
        while self._feeding and told != self._events:
            told = self._events
            await asyncio.sleep(SETTLED_S)
        return seen

    async def close(self) -> None:
        """Follow no round any more."""
        self._follow([])
        await asyncio.sleep(0)

    async def _rounds(self, task: "TaskSummary") -> "list[RoundSummary]":
        """The newest rounds of a task, asked for when there is something new to hear."""
        before = {known.name: known for known in self._last.tasks}.get(task.name)
        if before is not None and not (task.running_round or before.running_round) and before.rounds == task.rounds:
            return list(self._last.rounds[task.name])
        found: list[RoundSummary] = []
        with suppress(NotFound):  # deleted since it was listed
            async for one in self._operator.rounds(task.name, page_size=ROUNDS_ASKED):
                found.append(one)
                if len(found) == ROUNDS_ASKED:
                    break
        return found

    def _follow(self, running: list[Key]) -> None:
        for key in self._feeding.keys() - set(running):
            self._feeding.pop(key).cancel()
            self._boards.pop(key, None)
        for key in running:
            if key not in self._feeding:
                self._boards[key] = Board(monotonic)
                self._feeding[key] = asyncio.create_task(self._feed(key))

    async def _feed(self, key: Key) -> None:
        """Take the events of one round as they come; when they cannot be had, the next look begins anew."""
        board = self._boards[key]
        try:
            async for event in self._operator.watch(*key):
                self._events += 1
                board.take(event)
        except SangamError:
            self._feeding.pop(key, None)
            self._boards.pop(key, None)
