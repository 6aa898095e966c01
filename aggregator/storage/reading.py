"""What a server finds in its records when it starts."""

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from aggregator.errors import StorageError
from aggregator.storage.base import (
    Stored,
    StoredEnd,
    StoredOpening,
    StoredResult,
    StoredRound,
    StoredStep,
    StoredSum,
    StoredTask,
    StoredUpload,
)
from aggregator.storage.round_records import Desk, DurableRound, DurableTask
from aggregator.storage.spool_directory import FoundUpload, KeptFile, RoundSpool
from aggregator.wire.codec import decode
from aggregator.wire.messages import ClientMessage, ServerMessage, Terms, UploadHeader, UploadMessage
from aggregator.wire.operator_messages import RoundEvent, RoundRequest, RoundSummary, Task
from aggregator.wire.vocabulary import Step, SumState

_LOG = logging.getLogger(__name__)


def read_pending(database: sqlite3.Connection) -> list[str]:
    """The audit lines that the records hold, oldest first."""
    return [line for (line,) in database.execute("SELECT line FROM audit ORDER BY seq")]


def read_all(database: sqlite3.Connection, desk: Desk) -> tuple[Stored, dict[str, DurableTask]]:
    """Everything but the audit lines, and the tasks' records by name. Destroys files that no record names.

    Raises:
        StorageError: the database cannot be read.
        MessageError: a row does not hold what it should.
    """
    names: dict[str, DurableTask] = {}
    rosters: dict[bytes, bytes] = {}
    stored = []
    for name, owner, spec, created_s, cancelled, started in database.execute("SELECT * FROM tasks ORDER BY created_s"):
        rows = _rounds(database, name)
        read = [_Reader(database, desk, name, row, rosters, last=row is rows[-1]).round() for row in rows]
        names[name] = DurableTask(desk, name, (records for _, records in read))
        desk.results(name).keep_only(frozenset(records.result for _, records in read))
        rounds = tuple(one for one, _ in read)
        stored.append(StoredTask(decode(Task, spec), owner, created_s, bool(cancelled), started, rounds, names[name]))
    deleted = tuple(database.execute("SELECT name, owner FROM deleted ORDER BY place"))
    keys = database.execute("SELECT operator, request, round FROM keys")
    found = tuple((operator, decode(RoundRequest, request), number) for operator, request, number in keys)
    return Stored(tuple(stored), deleted, found), names


def _rounds(database: sqlite3.Connection, task: str) -> list[tuple[Any, ...]]:
    sql = "SELECT number, started_s, model_hash, terms, roster, invited FROM rounds WHERE task = ? ORDER BY number"
    return database.execute(sql, (task,)).fetchall()


class _Reader:
    """Reads one round."""

    def __init__(
        self,
        database: sqlite3.Connection,
        desk: Desk,
        task: str,
        row: tuple[Any, ...],
        rosters: dict[bytes, bytes],
        *,
        last: bool,
    ) -> None:
        self._rosters = rosters  # each once: of a thousand rounds most have the same
        self._last = last
        self._number, started_s, model_hash, terms, roster, invited = row
        self._database = database
        self._desk = desk
        self._key = (task, self._number)
        self._spool = desk.spool(task, self._number)
        self._results = desk.results(task)
        self._start = started_s, model_hash
        self._opened = terms, roster, invited

    def round(self) -> tuple[StoredRound, DurableRound]:
        """The round, and its records."""
        events = tuple(decode(RoundEvent, event) for (event,) in self._select("event", "events", "place"))
        files = {
            (Step(step), member): KeptFile(*kept)
            for step, member, *kept in self._select("step, member, file, size, checksum", "uploads", "step, member")
        }
        total, sum_file = self._sum()
        result, result_file = self._result()
        end = self._end()
        names = frozenset[str]() if end is not None else frozenset([sum_file, *(kept.name for kept in files.values())])
        self._spool.keep_only(names)
        records = DurableRound(
            self._desk,
            *self._key,
            events=len(events),
            files={where: kept.name for where, kept in files.items() if kept.name},
            sum_file=sum_file,
            result=result_file,
        )
        steps = tuple(self._steps(files))
        past = events or None
        opening = self._opening(needed=result is not None and result.words is not None)
        return StoredRound(self._number, *self._start, past, opening, steps, total, result, end, records), records

    def _opening(self, needed: bool) -> StoredOpening | None:
        """How it opened: of the last round, and of those whose sum is kept."""
        terms, roster, invited = self._opened
        if terms is None or not (needed or self._last):
            return None
        if roster not in self._rosters:
            found = self._database.execute("SELECT octets FROM rosters WHERE hash = ?", (roster,)).fetchone()
            if found is None:
                raise StorageError(f"round {self._number} of task {self._key[0]}: its roster is not in the records")
            self._rosters[roster] = found[0]
        whom = None if invited is None else frozenset(json.loads(invited))
        attending = dict(self._select("party, certificate", "parties", "party"))
        return StoredOpening(decode(Terms, terms), self._rosters[roster], whom, attending)

    def _steps(self, files: Mapping[tuple[Step, int], KeptFile]) -> Iterator[StoredStep]:
        answers: defaultdict[str, dict[int, Any]] = defaultdict(dict)
        for step, member, message in self._select("step, member, message", "answers", "member"):
            answers[step][member] = decode(ClientMessage, message).body
        uploads: defaultdict[str, list[StoredUpload]] = defaultdict(list)
        for step, member, header in self._select("step, member, header", "uploads", "member"):
            uploads[step].extend(self._upload(files[Step(step), member], member, header))
        found = self._select("step, deadline_s, members", "steps", "step")
        for step, deadline_s, members in sorted(found, key=lambda row: tuple(Step).index(row[0])):
            ended_with = None if members is None else frozenset(json.loads(members))
            yield StoredStep(Step(step), deadline_s, answers[step], tuple(uploads[step]), ended_with)

    def _upload(self, kept: KeptFile, member: int, header: bytes) -> Iterator[StoredUpload]:
        """The upload; nothing where the disk has changed it, so that its member is asked for it again."""
        announced = decode(UploadMessage, header).body
        if not isinstance(announced, UploadHeader):
            raise StorageError(f"round {self._number}: an upload's row has no header")
        if not kept.name:
            yield StoredUpload(member, announced, None)
        elif (octets := self._whole(self._spool, kept)) is not None:
            yield StoredUpload(member, announced, FoundUpload(octets, kept.name))

    def _sum(self) -> tuple[StoredSum | None, str]:
        for step, members, *kept in self._select("step, members, file, size, checksum", "sums", "step"):
            octets = self._whole(self._spool, KeptFile(*kept))
            if octets is not None:
                return StoredSum(Step(step), frozenset(json.loads(members)), octets), kept[0]
        return None, ""

    def _result(self) -> tuple[StoredResult | None, str]:
        columns = "terms, survivors, state, file, size, checksum"
        for terms, survivors, state, *kept in self._select(columns, "results", "number"):
            words = self._whole(self._results, KeptFile(*kept)) if state == SumState.KEPT else None
            now = SumState.LOST if state == SumState.KEPT and words is None else SumState(state)
            return StoredResult(decode(Terms, terms), tuple(json.loads(survivors)), now, words), kept[0]
        return None, ""

    def _end(self) -> StoredEnd | None:
        for summary, ended_s, ending, told in self._select("summary, ended_s, ending, told", "ends", "number"):
            last = None if ending is None else decode(ServerMessage, ending).body
            return StoredEnd(decode(RoundSummary, summary), ended_s, last, frozenset(json.loads(told)))
        return None

    def _whole(self, spool: RoundSpool, kept: KeptFile) -> memoryview | None:
        try:
            return spool.read(kept)
        except StorageError as error:
            _LOG.error("round %d of task %s: %s", self._number, self._key[0], error)
            return None

    def _select(self, columns: str, table: str, order: str) -> list[tuple[Any, ...]]:
        sql = f"SELECT {columns} FROM {table} WHERE task = ? AND number = ? ORDER BY {order}"  # noqa: S608 names of ours
        return self._database.execute(sql, self._key).fetchall()
