"""What one task, and each of its rounds, writes down; see `storage.base`. Statements go to the one writer, in order."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Final

from aggregator.errors import ParameterError
from aggregator.storage.base import Fact, Octets, Staged
from aggregator.storage.schema import ROUND_KEEPS, ROUND_NEEDS
from aggregator.storage.spool_directory import KeptUpload, RoundSpool
from aggregator.storage.writer import Writer
from aggregator.wire.codec import encode
from aggregator.wire.messages import (
    ClientBody,
    ClientMessage,
    ServerBody,
    ServerMessage,
    Terms,
    UploadHeader,
    UploadMessage,
)
from aggregator.wire.operator_messages import RoundEvent, RoundSummary
from aggregator.wire.vocabulary import RoundState, Step, SumState

SUM_PREFIX: Final = "sum-"
_DELETE_UPLOAD: Final = "DELETE FROM uploads WHERE task = ? AND number = ? AND step = ? AND member = ?"
_FORGET_FILE: Final = "UPDATE uploads SET file = '' WHERE task = ? AND number = ? AND step = ? AND member = ?"


@dataclass(frozen=True, slots=True)
class Desk:
    """What all records of one server share.

    Args:
        writer: of the database.
        spool: gives a round's, by task and number.
        results: where the task's sums are.
        decided: appends to the audit log.
        threads: in which uploads are forced to the disk.
        now: the wall clock, unix seconds.
    """

    writer: Writer = field(repr=False)
    spool: Callable[[str, int], RoundSpool] = field(repr=False)
    results: Callable[[str], RoundSpool] = field(repr=False)
    decided: Callable[[str, dict[str, Fact]], None] = field(repr=False)
    threads: Executor = field(repr=False)
    now: Callable[[], float] = field(repr=False)


class DurableRound:
    """See `storage.base.RoundRecords`.

    Args:
        desk: of the server.
        task: its name.
        number: the round's.
        events: how many are written down already.
        files: of the uploads that are kept, by step and member.
        sum_file: of the running sum.
        result: the file of its result.
    """

    durable = True

    def __init__(
        self,
        desk: Desk,
        task: str,
        number: int,
        *,
        events: int = 0,
        files: Mapping[tuple[Step, int], str] | None = None,
        sum_file: str = "",
        result: str = "",
    ) -> None:
        self._desk = desk
        self._key = (task, number)
        self._events = events
        self._files = dict(files or {})
        self._sum = sum_file
        self.result = result
        self._over = False
        self.number = number
        self.spool = desk.spool(task, number)
        self._results = desk.results(task)

    def opened(
        self, terms: Terms, roster: bytes, invited: frozenset[int] | None, attending: Mapping[int, bytes]
    ) -> None:
        """As `RoundRecords.opened`."""
        hashed = sha256(roster).digest()
        self._say("INSERT OR IGNORE INTO rosters VALUES (?, ?)", hashed, roster)
        whom = None if invited is None else numbers(invited)
        sql = "UPDATE rounds SET terms = ?, roster = ?, invited = ? WHERE task = ? AND number = ?"
        self._say(sql, encode(terms), hashed, whom, *self._key)
        for party, certificate in attending.items():
            self._say("INSERT OR REPLACE INTO parties VALUES (?, ?, ?, ?)", *self._key, party, certificate)

    def began(self, step: Step, deadline_s: float) -> None:
        """As `RoundRecords.began`."""
        self._say("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, NULL)", *self._key, step, deadline_s)

    def answered(self, step: Step, member: int, body: ClientBody) -> None:
        """As `RoundRecords.answered`."""
        message = encode(ClientMessage(self._key[1], body))
        self._say("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", *self._key, step, member, message)

    async def persist(self, staged: Staged) -> None:
        """As `RoundRecords.persist`."""
        await asyncio.get_running_loop().run_in_executor(self._desk.threads, staged.persist)

    def arrived(self, step: Step, member: int, header: UploadHeader, staged: Staged) -> None:
        """As `RoundRecords.arrived`."""
        if not isinstance(staged, KeptUpload):
            raise ParameterError("an upload that was staged elsewhere is not kept")
        kept = staged.kept
        if self._files.get((step, member)) != kept.name:
            self._destroy(step, member)
        self._files[step, member] = kept.name
        if self._over:
            self._destroy(step, member)
            return
        sql = "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self._say(sql, *self._key, step, member, encode(UploadMessage(header)), kept.name, kept.size, kept.checksum)

    def refused(self, step: Step, member: int) -> None:
        """As `RoundRecords.refused`."""
        self._say(_DELETE_UPLOAD, *self._key, step, member)
        self._destroy(step, member)

    def ended_step(self, step: Step, members: Iterable[int]) -> None:
        """As `RoundRecords.ended_step`."""
        sql = "UPDATE steps SET members = ? WHERE task = ? AND number = ? AND step = ?"
        counted = frozenset(members)
        self._say(sql, numbers(counted), *self._key, step)
        for other, member in tuple(self._files):
            if other == step and member not in counted:
                self.refused(step, member)

    async def keep_sum(self, step: Step, members: Iterable[int], octets: Sequence[Octets]) -> None:
        """As `RoundRecords.keep_sum`."""
        kept = await asyncio.to_thread(self.spool.write, SUM_PREFIX, octets)
        before, self._sum = self._sum, kept.name
        sql = "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._say(sql, *self._key, step, numbers(members), kept.name, kept.size, kept.checksum)
        if before:
            self._desk.writer.afterwards(partial(self.spool.remove, before))
        await self.written()

    def let_go(self, step: Step, members: Iterable[int]) -> None:
        """As `RoundRecords.let_go`: what was announced of them is kept, since their members have answered."""
        for member in members:
            if (step, member) in self._files:
                self._say(_FORGET_FILE, *self._key, step, member)
                self._destroy(step, member)

    async def keep_result(self, terms: Terms, survivors: Sequence[int], words: Octets) -> None:
        """As `RoundRecords.keep_result`."""
        if not self.result:
            kept = await asyncio.to_thread(self._results.write, f"{self._key[1]}-", (words,))
            digest = await asyncio.to_thread(sha256, words)
            row = (encode(terms), numbers(survivors), SumState.KEPT, kept.name, kept.size, kept.checksum)
            self._say("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *self._key, *row)
            self.result = kept.name
            self.decided("result", sha256=digest.hexdigest())
        await self.written()

    def noted(self, event: RoundEvent) -> None:
        """As `RoundRecords.noted`."""
        self._say("INSERT INTO events VALUES (?, ?, ?, ?)", *self._key, self._events, encode(event))
        self._events += 1

    def ended(self, summary: RoundSummary, ending: ServerBody | None, told: Iterable[int]) -> None:
        """As `RoundRecords.ended`."""
        self._over = True
        last = None if ending is None else encode(ServerMessage(self._key[1], ending))
        sql = "INSERT OR REPLACE INTO ends VALUES (?, ?, ?, ?, ?, ?)"
        self._say(sql, *self._key, encode(summary), self._desk.now(), last, numbers(told))
        for table in ROUND_NEEDS:
            self._say(f"DELETE FROM {table} WHERE task = ? AND number = ?", *self._key)  # noqa: S608 a name of ours
        if summary.state != RoundState.CLOSED:  # the disk took a result too late
            self._say("DELETE FROM results WHERE task = ? AND number = ?", *self._key)
            self.remove_result()
        self._desk.writer.afterwards(self.spool.destroy)

    def decided(self, what: str, /, **facts: Fact) -> None:
        """As `RoundRecords.decided`."""
        self._desk.decided(what, {"task": self._key[0], "round": self._key[1], **facts})

    async def written(self) -> None:
        """As `Settled.written`."""
        await self._desk.writer.written()

    async def settled(self) -> None:
        """As `Settled.settled`."""
        await self._desk.writer.settled()

    def remove_result(self) -> None:
        """Its file, once what was said before is on the disk."""
        if self.result:
            self._desk.writer.afterwards(partial(self._results.remove, self.result))
            self.result = ""

    def _destroy(self, step: Step, member: int) -> None:
        name = self._files.pop((step, member), "")
        if name:
            self._desk.writer.afterwards(partial(self.spool.remove, name))

    def _say(self, sql: str, *parameters: object) -> None:
        self._desk.writer.say(sql, *parameters)


class DurableTask:
    """See `storage.base.TaskRecords`.

    Args:
        desk: of the server.
        name: the task's.
        rounds: those that are there already.
    """

    def __init__(self, desk: Desk, name: str, rounds: Iterable[DurableRound] = ()) -> None:
        self._desk = desk
        self._name = name
        self._rounds = {one.number: one for one in rounds}

    def begin(self, number: int, started_s: float, model_hash: bytes) -> DurableRound:
        """As `TaskRecords.begin`."""
        self._say("INSERT INTO rounds VALUES (?, ?, ?, ?, NULL, NULL, NULL)", self._name, number, started_s, model_hash)
        self._say("UPDATE tasks SET started = started + 1 WHERE name = ?", self._name)
        self._rounds[number] = DurableRound(self._desk, self._name, number)
        return self._rounds[number]

    def forget(self, number: int) -> None:
        """As `TaskRecords.forget`."""
        for table in (*ROUND_NEEDS, *ROUND_KEEPS):
            self._say(f"DELETE FROM {table} WHERE task = ? AND number = ?", self._name, number)  # noqa: S608 ours
        self._say("DELETE FROM rosters WHERE hash NOT IN (SELECT roster FROM rounds WHERE roster IS NOT NULL)")
        self._rounds.pop(number).remove_result()

    def forget_events(self, number: int) -> None:
        """As `TaskRecords.forget_events`."""
        self._say("DELETE FROM events WHERE task = ? AND number = ?", self._name, number)

    def drop_sum(self, number: int, state: SumState) -> None:
        """As `TaskRecords.drop_sum`."""
        sql = "UPDATE results SET state = ?, file = '' WHERE task = ? AND number = ?"
        self._say(sql, state, self._name, number)
        self._rounds[number].remove_result()

    async def written(self) -> None:
        """As `Settled.written`."""
        await self._desk.writer.written()

    async def settled(self) -> None:
        """As `Settled.settled`."""
        await self._desk.writer.settled()

    def delete(self) -> None:
        """All of it."""
        for number in tuple(self._rounds):
            self.forget(number)
        self._desk.writer.afterwards(self._desk.results(self._name).destroy)

    def _say(self, sql: str, *parameters: object) -> None:
        self._desk.writer.say(sql, *parameters)


def numbers(members: Iterable[int]) -> str:
    """Members as the tables hold them: readable, ascending."""
    return json.dumps(sorted(members))
