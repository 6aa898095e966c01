"""Rounds back to back, as an operator runs them, each judged at its end."""

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Final

from aggregator.errors import NotFound, SangamError
from aggregator.local.consortium import PARTIES
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind
from clients.operator import Operator
from clients.result import RoundResult
from clients.retry import patiently
from tests.chaos.evidence import Evidence, digest
from tests.chaos.judge import faults_of_sum
from tests.chaos.recovery import Recovery
from tests.chaos.tally import NUMBER, Tally
from tests.chaos.work import PATIENCE_S, STUCK_AFTER_S, Study

ASKED_TWICE: Final = 0.3
KEYS_ASKED: Final = 3  # of each task, when all has ended
LEFT: Final = frozenset({EventKind.DROPPED, EventKind.WITHDREW, EventKind.REFUSED})
RIGHTFUL: Final = re.compile(r", need \d+| did not (answer|come)$")
KEYLESS: Final = "has no key here"  # of a key holder that was killed while it decrypted: a key serves once for ever


@dataclass
class Told:
    """What the operator was told of one task's rounds: participants and sum of those that closed, None of others."""

    rounds: dict[int, tuple[frozenset[str], str] | None] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)


class Lane:
    """The rounds of some tasks in turn.

    Args:
        operator: an open session.
        studies: whose rounds.
        evidence: of the sites.
        tally: where to count.
        recovery: told of events.
        draws: when to ask again.
        said: told what goes on, for people.
    """

    def __init__(
        self,
        operator: Operator,
        studies: Sequence[Study],
        evidence: Evidence,
        tally: Tally,
        recovery: Recovery,
        draws: Random,
        said: Callable[[str], None],
    ) -> None:
        self.told = {study.name: Told() for study in studies}
        self.fallen: set[str] = set()  # who was killed in the present round, but for the server
        self._operator = operator
        self._studies = studies
        self._evidence = evidence
        self._tally = tally
        self._recovery = recovery
        self._draws = draws
        self._said = said

    async def run(self, enough: Callable[[], bool]) -> None:
        """Round after round, until it is enough; the last ones end before this returns."""
        for study in cycle(self._studies):
            try:
                await self._round(study)
            except SangamError as error:
                self._tally.stuck.append(f"{study.name}: {type(error).__name__}: {error}")
            if enough():
                return

    async def _round(self, study: Study) -> None:
        task = study.name
        self.fallen.clear()
        number = await self._start(task, self.told[task])
        self._tally.rounds += 1
        try:
            async with asyncio.timeout(STUCK_AFTER_S):
                end = await self._end(task, number)
        except TimeoutError:
            self._tally.stuck.append(f"{task}, round {number}: no end after {STUCK_AFTER_S:.0f} s")
            await self._operator.abort_round(task, number, "stuck")
        except NotFound as error:
            self._tally.lost.append(f"{task}, round {number}: the operator was told of it, and now: {error}")
        else:
            self.told[task].rounds[number] = None
            if end.kind == EventKind.FAILED:
                self._note_failure(task, number, end.detail)
            else:
                await self._judge(study, number)

    def _note_failure(self, task: str, number: int, reason: str) -> None:
        """A round may fail since too few were left of those who take part; never since something was lost."""
        self._tally.aborted[NUMBER.sub("N", reason)] += 1
        keyless = reason.endswith(KEYLESS) and PARTIES.key_holder in self.fallen
        if not keyless and not RIGHTFUL.search(reason):
            acknowledged = len(self._evidence.named(task, number, "ack"))
            self._tally.lost.append(f"{task}, round {number}, with {acknowledged} acknowledged uploads: {reason}")

    async def _start(self, task: str, told: Told) -> int:
        """Start a round, and perhaps ask for it once more by the same key."""
        key = secrets.token_hex(16)
        number = told.keys[key] = await self._operator.start_round(task, key=key)
        if self._draws.random() < ASKED_TWICE:
            self._tally.faults["round asked for twice"] += 1
            await self._ask_again(task, key, number)
        return number

    async def _ask_again(self, task: str, key: str, number: int) -> None:
        """The same key gives the same round, whether it still runs or has ended."""
        try:
            again = await self._operator.start_round(task, key=key)
        except SangamError as error:
            self._tally.lost.append(f"{task}: the key of round {number} is not known any more: {error}")
            return
        if again != number:
            self._tally.lost.append(f"{task}: one key started rounds {number} and {again}")

    async def _end(self, task: str, number: int) -> RoundEvent:
        last: RoundEvent | None = None
        async for event in self._operator.watch(task, number):
            self._recovery.heard(event)
            if event.kind in LEFT:
                self._tally.left_rounds[NUMBER.sub("N", f"{event.kind}: {event.detail}")] += 1
            self._said(f"{task} {event.step}")
            last = event
        assert last is not None
        if last.kind not in {EventKind.CLOSED, EventKind.FAILED}:
            raise SangamError(f"{task}, round {number}: its events ended with {last.kind}")
        return last

    async def _judge(self, study: Study, number: int) -> None:
        task, where = study.name, f"{study.name}, round {number}"
        try:
            result = await self._operator.fetch_result(task, number)
        except NotFound as error:
            self._tally.lost.append(f"{where}: it closed, and its sum is gone: {error}")
            return
        bits = result.terms.parameters.ring_bits
        wrong = await asyncio.to_thread(
            faults_of_sum, self._evidence, task, number, result.participants, result.words, bits
        )
        if wrong:
            self._tally.wrong.append(f"{where}: {wrong}")
        self._tally.completed += 1
        self._tally.by_mode[study.mode] += 1
        self.told[task].rounds[number] = (frozenset(result.participants), digest(result.words))
        self._evidence.drop_words(task, number)

    async def look_again(self) -> None:
        """When all rounds have ended: whether the server still knows what it said of them."""
        for task, told in self.told.items():
            await self._look_at_rounds(task, told)
            for key, number in list(told.keys.items())[-KEYS_ASKED:]:
                await self._ask_again(task, key, number)
            for number, closed in told.rounds.items():
                if closed is not None:
                    self._look_at_sites(task, number, *closed)

    async def _look_at_rounds(self, task: str, told: Told) -> None:
        listed: frozenset[int] = await patiently(PATIENCE_S)(self._listed, task)
        if odd := sorted(listed ^ frozenset(told.keys.values())):
            self._tally.lost.append(f"{task}: rounds {odd} are known to the server only, or to the operator only")
        closed = [(number, end) for number, end in told.rounds.items() if end is not None]
        for number, (participants, sum_digest) in closed[-1:]:
            result: RoundResult | None = None
            try:
                result = await self._operator.fetch_result(task, number)
            except NotFound as error:
                self._tally.lost.append(f"{task}, round {number}: its sum is gone: {error}")
            if result and (digest(result.words), frozenset(result.participants)) != (sum_digest, participants):
                self._tally.wrong.append(f"{task}, round {number}: another sum than before")

    async def _listed(self, task: str) -> frozenset[int]:
        return frozenset([summary.round async for summary in self._operator.rounds(task)])

    def _look_at_sites(self, task: str, number: int, participants: frozenset[str], sum_digest: str) -> None:
        missing = sorted(self._evidence.named(task, number, "ack") - participants)
        if missing:
            self._tally.lost.append(f"{task}, round {number}: acknowledged, not in the sum: {', '.join(missing)}")
        for site, seen in self._evidence.given(task, number).items():
            if seen != sum_digest:
                self._tally.wrong.append(f"{task}, round {number}: {site} was given another sum")
