"""A site's memory across restarts: what it has entered, signed and answered, so that it never does so twice.

    open_context --> fix_context --> sign_survivors --> record_answer
    before the       before any      before the         before the unmasking
    advert leaves    share leaves    signature leaves   answer leaves

Rows are keyed by (deployment, task, round), never by a hash: a server that changes one parameter gets another hash,
not another round. When a method returns, its row is on the disk. No secret is ever here. A row is about 240 bytes,
100,000 rounds about 24 MB, so rows are kept for ever and the journal is never pruned.

A file restored from an old backup has forgotten rounds: never restore one (SECURITY.md).
"""

import sqlite3
from datetime import UTC, datetime
from typing import TypeAlias

from aggregator.errors import Equivocation, ParameterError
from clients.memory import TEXT_MAX, Memory, RoundKey, check_digest, check_key, label

APPLICATION_ID = 0x53414E47  # "SANG"

_SCHEMA = """
CREATE TABLE rounds (
    deployment TEXT NOT NULL, task TEXT NOT NULL, round INTEGER NOT NULL,
    ctx0 BLOB NOT NULL, ctx1 BLOB, survivors BLOB, model BLOB,
    PRIMARY KEY (deployment, task, round)
) WITHOUT ROWID;
CREATE INDEX answers ON rounds (deployment, task, model) WHERE model IS NOT NULL;
CREATE TABLE allowances (
    deployment TEXT NOT NULL, task TEXT NOT NULL, model BLOB NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL
);
CREATE TABLE tasks (
    deployment TEXT NOT NULL, task TEXT NOT NULL, parameters BLOB NOT NULL, PRIMARY KEY (deployment, task)
) WITHOUT ROWID;
CREATE TABLE unnamed (deployment TEXT PRIMARY KEY, task TEXT NOT NULL) WITHOUT ROWID;
"""
_SELECT = "SELECT ctx0, ctx1, survivors, model FROM rounds WHERE deployment = ? AND task = ? AND round = ?"
_INSERT = "INSERT INTO rounds (deployment, task, round, ctx0) VALUES (?, ?, ?, ?)"
_SET_CTX1 = "UPDATE rounds SET ctx1 = ? WHERE deployment = ? AND task = ? AND round = ?"
_SET_SURVIVORS = "UPDATE rounds SET survivors = ? WHERE deployment = ? AND task = ? AND round = ?"
_SET_MODEL = "UPDATE rounds SET model = ? WHERE deployment = ? AND task = ? AND round = ?"
_COUNTS = """
WITH alike AS (SELECT :task AS task, :alike AS beginning)
SELECT (SELECT COUNT(*) FROM rounds, alike WHERE deployment = :deployment AND model = :model AND
            (rounds.task = alike.task OR beginning <> '' AND substr(rounds.task, 1, length(beginning)) = beginning)),
       (SELECT COUNT(*) FROM allowances, alike WHERE deployment = :deployment AND model = :model AND
            (allowances.task = alike.task OR
                beginning <> '' AND substr(allowances.task, 1, length(beginning)) = beginning))
"""


class Journal(Memory):
    """The journal of one site; see `Memory` for how it is kept, and for errors.

    Attributes:
        alike: beginnings of names; on one model this site contributes once to all tasks that share one of them. For
            sites whose other side may make tasks as it likes.
    """

    alike: tuple[str, ...] = ()

    what = "journal"
    schema = _SCHEMA
    application_id = APPLICATION_ID

    def open_context(self, deployment: str, task: str, round_number: int, ctx0: bytes) -> RoundKey:
        """Enter a round, once for ever. Run before the advert leaves.

        Raises:
            Equivocation: this round was entered before, here or in an earlier process, with whatever context.
            ParameterError: malformed names, round or digest.
        """
        key = check_key((deployment, task, round_number))
        check_digest(ctx0)
        with self.transaction() as database:
            if _row(database, key) is not None:
                raise Equivocation(
                    f"{label(key)} was already entered: a round is entered once, a re-run is a new round"
                )
            database.execute(_INSERT, (*key, ctx0))
        self.fold()
        return key

    def fix_context(self, key: RoundKey, ctx1: bytes) -> None:
        """Fix the cohort of a round, once for ever. Run before any share leaves.

        Raises:
            Equivocation: it was fixed before.
            ParameterError: the round was never entered, or a malformed digest.
        """
        check_digest(ctx1)
        with self.transaction() as database:
            _, fixed, _, _ = _entered(database, key)
            if fixed is not None:
                raise Equivocation(f"{label(key)}: the cohort was already fixed")
            database.execute(_SET_CTX1, (ctx1, *key))

    def sign_survivors(self, key: RoundKey, survivors: bytes) -> None:
        """Choose the one survivor set of a round. Run before the signature leaves; the same digest may come again.

        Raises:
            Equivocation: another survivor set was signed before.
            ParameterError: the cohort was never fixed, or a malformed digest.
        """
        check_digest(survivors)
        with self.transaction() as database:
            _, fixed, signed, _ = _entered(database, key)
            if fixed is None:
                raise ParameterError(f"{label(key)}: survivors before the cohort was fixed")
            if signed not in (None, survivors):
                raise Equivocation(f"{label(key)}: another survivor set was already signed")
            database.execute(_SET_SURVIVORS, (survivors, *key))

    def record_answer(self, deployment: str, task: str, round_number: int, model: bytes) -> None:
        """Note that this round may reveal a sum over this model. Run before the unmasking answer (or upload) leaves.

        The same answer may be recorded again, since it may be resent.

        Raises:
            Equivocation: another round already did so for this task and model, or this one for another model.
            ParameterError: the round was never entered, or a malformed digest.
        """
        key = check_key((deployment, task, round_number))
        check_digest(model)
        with self.transaction() as database:
            _, _, _, recorded = _entered(database, key)
            if recorded not in (None, model):
                raise Equivocation(f"{label(key)}: the answer was for another model")
            if recorded is None and self._spent(database, deployment, task, model):
                raise Equivocation(f"{label(key)}: an earlier round already answered on this model of the task")
            database.execute(_SET_MODEL, (model, *key))

    def answered(self, deployment: str, task: str, model: bytes) -> bool:
        """Whether this site has used up its contributions to this task on this model. Ask before entering a round."""
        check_digest(model)
        with self.storage_errors():
            return self._spent(self._database, deployment, task, model)

    def allow_again(self, deployment: str, task: str, model: bytes, reason: str, now: datetime) -> None:
        """Let this site contribute exactly once more on the same model. Run by the site's own operator, knowingly.

        Two sums over cohorts that differ by one site reveal that site's update. The reason and the time are kept.

        Raises:
            ParameterError: nothing was answered yet, no reason, or a time without time zone.
        """
        check_digest(model)
        if not 0 < len(reason.strip()) <= TEXT_MAX or now.tzinfo is None:
            raise ParameterError(
                f"a further contribution needs a reason of 1 to {TEXT_MAX} characters and a time in UTC"
            )
        with self.transaction() as database:
            if not self._spent(database, deployment, task, model):
                raise ParameterError(f"task {task} of {deployment}: nothing to allow, a contribution is still possible")
            row = (deployment, task, model, reason, now.astimezone(UTC).isoformat())
            database.execute("INSERT INTO allowances VALUES (?, ?, ?, ?, ?)", row)

    def pin_parameters(self, deployment: str, task: str, parameters: bytes) -> None:
        """Remember what this site agreed to for a task. Run before the update is looked at.

        A server that changed parameters from round to round could read data off what a site refuses: the largest
        weight that it accepts is its number of samples.

        Raises:
            Equivocation: the task had other parameters before.
        """
        check_digest(parameters)
        with self.transaction() as database:
            query = "SELECT parameters FROM tasks WHERE deployment = ? AND task = ?"
            seen = database.execute(query, (deployment, task)).fetchone()
            if seen is not None and seen[0] != parameters:
                raise Equivocation(
                    f"task {task} of {deployment} has other parameters than this site agreed to: "
                    f"other parameters are another task, under a name of its own"
                )
            database.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?, ?)", (deployment, task, parameters))

    def pin_unnamed_task(self, deployment: str, task: str) -> None:
        """Remember what the server called its only task, for a session that named none.

        Raises:
            Equivocation: it had another name before; the session must say which it means.
        """
        with self.transaction() as database:
            seen = database.execute("SELECT task FROM unnamed WHERE deployment = ?", (deployment,)).fetchone()
            if seen is not None and seen[0] != task:
                raise Equivocation(f"the server's only task was {seen[0]} and is now {task}: name the one you mean")
            database.execute("INSERT OR IGNORE INTO unnamed VALUES (?, ?)", (deployment, task))

    def _spent(self, database: sqlite3.Connection, deployment: str, task: str, model: bytes) -> bool:
        """Answers given, against those allowed: the first needs no allowance, each further one needs its own."""
        beginning = next((one for one in self.alike if task.startswith(one)), "")
        asked = {"deployment": deployment, "task": task, "alike": beginning, "model": model}
        answers, allowances = database.execute(_COUNTS, asked).fetchone()
        return bool(answers > allowances)


_Row: TypeAlias = tuple[bytes, bytes | None, bytes | None, bytes | None]  # ctx0, ctx1, survivors, model


def _row(database: sqlite3.Connection, key: RoundKey) -> _Row | None:
    row: _Row | None = database.execute(_SELECT, key).fetchone()
    return row


def _entered(database: sqlite3.Connection, key: RoundKey) -> _Row:
    row = _row(database, check_key(key))
    if row is None:
        raise ParameterError(f"{label(key)} was never entered")
    return row
