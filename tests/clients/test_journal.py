import asyncio
import gc
import os
import sqlite3
import stat
import sys
from datetime import UTC, datetime

import pytest

from aggregator.errors import Equivocation, NotAdmitted, ParameterError, StorageError
from clients.journal import APPLICATION_ID, Journal

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
A, B, MODEL, OTHER = (bytes([value]) * 32 for value in (1, 2, 3, 4))
ROUND = ("demo", "sepsis", 5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def answer(journal, round_number, model=MODEL, task="sepsis"):
    """A whole round, up to the recorded answer."""
    key = journal.open_context("demo", task, round_number, A)
    journal.fix_context(key, B)
    journal.sign_survivors(key, A)
    journal.record_answer(*key, model)


def test_a_round_is_entered_once(path):
    with Journal(path) as journal:
        assert journal.open_context(*ROUND, A) == ROUND
        for context in (A, B):
            with pytest.raises(Equivocation, match="round 5 of task sepsis was already entered"):
                journal.open_context(*ROUND, context)


def test_a_round_is_entered_once_across_restarts(path):
    with Journal(path) as journal:
        journal.open_context(*ROUND, A)
    with Journal(path) as journal:
        for context in (A, B):
            with pytest.raises(Equivocation, match="already entered"):
                journal.open_context(*ROUND, context)


def test_other_rounds_tasks_and_deployments_are_other_keys(path):
    with Journal(path) as journal:
        for key in (ROUND, ("demo", "sepsis", 6), ("demo", "stroke", 5), ("other", "sepsis", 5)):
            assert journal.open_context(*key, A) == key


def test_a_context_is_fixed_once_and_only_after_it_was_opened(path):
    with Journal(path) as journal:
        with pytest.raises(ParameterError, match="round 5 of task sepsis was never entered"):
            journal.fix_context(ROUND, B)
        journal.open_context(*ROUND, A)
        journal.fix_context(ROUND, B)
    with Journal(path) as journal:
        for context in (B, A):
            with pytest.raises(Equivocation, match="already fixed"):
                journal.fix_context(ROUND, context)


def test_second_survivor_signature_after_restart_is_refused(path):
    with Journal(path) as journal:
        journal.open_context(*ROUND, A)
        with pytest.raises(ParameterError, match="before the cohort was fixed"):
            journal.sign_survivors(ROUND, A)
        journal.fix_context(ROUND, B)
        journal.sign_survivors(ROUND, A)
        journal.sign_survivors(ROUND, A)
    with Journal(path) as journal:
        journal.sign_survivors(ROUND, A)
        with pytest.raises(Equivocation, match="another survivor set"):
            journal.sign_survivors(ROUND, B)
        journal.sign_survivors(ROUND, A)
        with pytest.raises(ParameterError, match="never entered"):
            journal.sign_survivors(("demo", "sepsis", 6), A)


def test_answers_are_remembered_by_model(path):
    with Journal(path) as journal:
        assert not journal.answered("demo", "sepsis", MODEL)
        with pytest.raises(ParameterError, match="never entered"):
            journal.record_answer(*ROUND, MODEL)
        answer(journal, 5)
        journal.record_answer(*ROUND, MODEL)
        with pytest.raises(Equivocation, match="another model"):
            journal.record_answer(*ROUND, OTHER)
    with Journal(path) as journal:
        assert journal.answered("demo", "sepsis", MODEL)
        assert not journal.answered("demo", "sepsis", OTHER)
        assert not journal.answered("demo", "stroke", MODEL)
        assert not journal.answered("other", "sepsis", MODEL)


def test_rerun_with_one_fewer_is_refused_even_when_both_rounds_were_entered_first(path):
    with Journal(path) as journal:
        for round_number in (5, 6):
            journal.open_context("demo", "sepsis", round_number, A)
        assert not journal.answered("demo", "sepsis", MODEL)
        journal.record_answer(*ROUND, MODEL)
        with pytest.raises(Equivocation, match="round 6 of task sepsis: an earlier round already answered"):
            journal.record_answer("demo", "sepsis", 6, MODEL)
        journal.record_answer("demo", "sepsis", 6, OTHER)


def test_an_allowance_admits_exactly_one_more(path):
    with Journal(path) as journal:
        with pytest.raises(ParameterError, match="nothing to allow"):
            journal.allow_again("demo", "sepsis", MODEL, "just in case", NOW)
        answer(journal, 5)
        journal.allow_again("demo", "sepsis", MODEL, "the aggregator's disk failed", NOW)
        with pytest.raises(ParameterError, match="nothing to allow"):
            journal.allow_again("demo", "sepsis", MODEL, "twice", NOW)
    with Journal(path) as journal:
        assert not journal.answered("demo", "sepsis", MODEL)
        journal.record_answer(*ROUND, MODEL)  # a resend of round 5 does not use the allowance up
        assert not journal.answered("demo", "sepsis", MODEL)
        answer(journal, 6)
        assert journal.answered("demo", "sepsis", MODEL)
        journal.open_context("demo", "sepsis", 7, A)
        with pytest.raises(Equivocation):
            journal.record_answer("demo", "sepsis", 7, MODEL)


def test_an_allowance_is_logged_with_reason_and_time(path):
    with Journal(path) as journal:
        answer(journal, 5)
        journal.allow_again("demo", "sepsis", MODEL, "the aggregator's disk failed", NOW)
    rows = sqlite3.connect(path)
    logged = rows.execute("SELECT * FROM allowances").fetchall()
    rows.close()
    assert logged == [("demo", "sepsis", MODEL, "the aggregator's disk failed", "2026-01-01T12:00:00+00:00")]


@pytest.mark.parametrize(
    ("reason", "now"), [("", NOW), ("  ", NOW), ("x" * 501, NOW), ("why", NOW.replace(tzinfo=None))]
)
def test_an_allowance_needs_a_reason_and_a_time(path, reason, now):
    with Journal(path) as journal:
        answer(journal, 5)
        with pytest.raises(ParameterError, match="needs a reason"):
            journal.allow_again("demo", "sepsis", MODEL, reason, now)
        assert journal.answered("demo", "sepsis", MODEL)


def test_an_older_roster_is_refused(path):
    with Journal(path) as journal:
        journal.roster_version("demo", 3, A)
        journal.roster_version("demo", 3, A)
        journal.roster_version("other", 1, A)
        journal.roster_version("demo", 4, B)
    with Journal(path) as journal:
        with pytest.raises(NotAdmitted, match="version 3 is older than 4"):
            journal.roster_version("demo", 3, A)
        with pytest.raises(Equivocation, match="two rosters with version 4"):
            journal.roster_version("demo", 4, A)
        journal.roster_version("demo", 4, B)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_digests_of_another_length_are_refused(path, size):
    digest = bytes(size)
    with Journal(path) as journal:
        answer(journal, 5)
        calls = [
            lambda: journal.open_context("demo", "sepsis", 9, digest),
            lambda: journal.fix_context(ROUND, digest),
            lambda: journal.sign_survivors(ROUND, digest),
            lambda: journal.record_answer(*ROUND, digest),
            lambda: journal.answered("demo", "sepsis", digest),
            lambda: journal.allow_again("demo", "sepsis", digest, "why", NOW),
            lambda: journal.roster_version("demo", 1, digest),
        ]
        for call in calls:
            with pytest.raises(ParameterError, match=f"a digest of {size} bytes"):
                call()


@pytest.mark.parametrize("key", [("", "t", 1), ("d", "", 1), ("d", "t", -1), ("d", "t", 2**63), ("d" * 501, "t", 1)])
def test_malformed_keys_are_refused(path, key):
    with Journal(path) as journal, pytest.raises(ParameterError, match="a round is named by"):
        journal.open_context(*key, A)


def test_the_journal_is_locked_for_its_life(path):
    with Journal(path) as journal:
        with pytest.raises(StorageError, match=r"journal\.sqlite is in use by another process"):
            Journal(path)
        gc.collect()
        journal.open_context(*ROUND, A)
        with pytest.raises(StorageError, match="in use"):
            Journal(path)
    Journal(path).close()


ELSEWHERE = """
import sys
from pathlib import Path
from aggregator.errors import StorageError
from clients.journal import Journal
try:
    Journal(Path(sys.argv[1])).open_context("demo", "sepsis", 8, bytes(32))
except StorageError as error:
    sys.exit(str(error))
"""


async def elsewhere(path):
    """Enter round 8 from another process that never closes its journal; its error, if any."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ELSEWHERE, str(path), stderr=asyncio.subprocess.PIPE
    )
    _, said = await program.communicate()
    return said.decode().strip()


async def test_another_process_is_refused_until_the_journal_closes(path):
    with Journal(path) as journal:
        assert await elsewhere(path) == f"{path} is in use by another process of this site"
        with pytest.raises(StorageError):
            Journal(path)  # and closing this failed one must not drop the first one's lock
        assert await elsewhere(path) == f"{path} is in use by another process of this site"
        journal.open_context("demo", "sepsis", 7, A)
    assert await elsewhere(path) == ""
    with Journal(path) as journal, pytest.raises(Equivocation, match="round 8 of task sepsis was already entered"):
        journal.open_context("demo", "sepsis", 8, A)


def test_commits_are_on_the_disk_when_the_method_returns(path):
    with Journal(path) as journal:
        settings = {
            name: journal._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")
        }
        assert settings == {"synchronous": 3, "journal_mode": "wal"}
        assert not journal._database.in_transaction
        journal.open_context(*ROUND, A)
        assert not journal._database.in_transaction


def test_the_file_alone_knows_every_round_and_all_answers_but_the_last(path, tmp_path):
    """As after a crash, when somebody moves the file and forgets the log beside it."""
    alone = tmp_path / "elsewhere.sqlite"
    with Journal(path) as journal:
        answer(journal, 5)
        alone.write_bytes(path.read_bytes())
        with Journal(alone) as moved, pytest.raises(Equivocation, match="already entered"):
            moved.open_context(*ROUND, A)
        journal.open_context("demo", "sepsis", 6, A)
        alone.write_bytes(path.read_bytes())
    with Journal(alone) as moved:
        assert moved.answered("demo", "sepsis", MODEL)


def test_what_a_killed_process_committed_is_there(path, tmp_path):
    alone = tmp_path / "journal-of-the-dead.sqlite"
    with Journal(path) as journal:
        answer(journal, 5)
        alone.write_bytes(path.read_bytes())
        alone.with_name(alone.name + "-wal").write_bytes(path.with_name(path.name + "-wal").read_bytes())
    with Journal(alone) as found:
        assert found.answered("demo", "sepsis", MODEL)


def test_a_journal_of_an_earlier_version_is_taken_over(path):
    """It kept a rollback journal."""
    with Journal(path) as journal:
        answer(journal, 5)
    write_pragma(path, "PRAGMA journal_mode = DELETE")
    with Journal(path) as journal:
        assert journal.answered("demo", "sepsis", MODEL)
        answer(journal, 6, OTHER)


def test_a_refused_call_leaves_nothing_behind_and_the_journal_usable(path):
    with Journal(path) as journal:
        answer(journal, 5)
        with pytest.raises(Equivocation):
            journal.sign_survivors(ROUND, B)
        assert not journal._database.in_transaction
        answer(journal, 6, OTHER)


def test_the_file_is_private(path):
    Journal(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_closed_journal_says_so(path):
    journal = Journal(path)
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        journal.open_context(*ROUND, A)


@pytest.mark.parametrize(
    ("content", "fault"), [(b"not a database" * 500, "not a database"), (b"x", "cut short"), (b"", "cut")]
)
def test_a_corrupt_or_emptied_file_is_refused_and_left_alone(path, content, fault):
    path.write_bytes(content)
    with pytest.raises(StorageError, match=fault):
        Journal(path)
    assert path.read_bytes() == content


def test_a_damaged_page_is_refused(path):
    with Journal(path) as journal:
        for round_number in range(200):
            journal.open_context("demo", "sepsis", round_number, A)
    raw = bytearray(path.read_bytes())
    for page in range(4096, len(raw), 4096):
        raw[page : page + 64] = b"\xff" * 64
    path.write_bytes(raw)
    with pytest.raises(StorageError):
        Journal(path)


def write_pragma(path, *statements):
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def test_a_newer_schema_is_refused(path):
    Journal(path).close()
    write_pragma(path, "PRAGMA user_version = 2")
    with pytest.raises(StorageError, match="has version 2, this Sangam reads up to 1"):
        Journal(path)


def test_a_database_of_another_program_is_refused_and_left_alone(path):
    write_pragma(path, "CREATE TABLE patients (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        Journal(path)
    assert path.read_bytes() == before


def test_the_header_names_the_journal(path):
    Journal(path).close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        Journal(tmp_path / "nowhere" / "journal.sqlite")
    with pytest.raises(StorageError):
        Journal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_read_only_file_is_refused_when_it_is_opened(path):
    Journal(path).close()
    path.chmod(0o400)
    with pytest.raises(StorageError, match="readonly"):
        Journal(path)


def test_rows_are_tiny(path):
    with Journal(path) as journal:
        journal._database.execute("PRAGMA synchronous = OFF")
        for round_number in range(1000):
            answer(journal, round_number, round_number.to_bytes(32, "big"))
    assert path.stat().st_size < 400 * 1000


def test_a_task_keeps_its_parameters(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.pin_parameters("demo", "lungs", b"\x01" * 32)
        journal.pin_parameters("demo", "hearts", b"\x02" * 32)
    with Journal(path) as journal:
        journal.pin_parameters("demo", "lungs", b"\x01" * 32)
        with pytest.raises(Equivocation, match="task lungs of demo has other parameters"):
            journal.pin_parameters("demo", "lungs", b"\x02" * 32)
        with pytest.raises(ParameterError):
            journal.pin_parameters("demo", "lungs", b"short")


def test_the_only_task_keeps_its_name(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.pin_unnamed_task("demo", "lungs")
        journal.pin_unnamed_task("other", "hearts")
    with Journal(path) as journal:
        journal.pin_unnamed_task("demo", "lungs")
        with pytest.raises(Equivocation, match="was lungs and is now hearts"):
            journal.pin_unnamed_task("demo", "hearts")


def test_tasks_that_begin_alike_count_as_one(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.alike = ("hearts.train.",)
        for number, task in enumerate(("hearts.train.6", "hearts.train.5", "hearts.evaluate.6"), 1):
            journal.open_context("net", task, number, bytes(32))
        assert not journal.answered("net", "hearts.train.5", b"m" * 32)
        journal.record_answer("net", "hearts.train.6", 1, b"m" * 32)
        assert journal.answered("net", "hearts.train.5", b"m" * 32)
        assert journal.answered("net", "hearts.train.4", b"m" * 32), "which was never entered"
        assert not journal.answered("net", "hearts.train.5", b"n" * 32)
        assert not journal.answered("elsewhere", "hearts.train.5", b"m" * 32)
        assert not journal.answered("net", "hearts.evaluate.6", b"m" * 32)
        assert not journal.answered("net", "hearts.train", b"m" * 32)
        with pytest.raises(Equivocation, match="already answered on this model"):
            journal.record_answer("net", "hearts.train.5", 2, b"m" * 32)
        journal.allow_again("net", "hearts.train.5", b"m" * 32, "the first one was lost", NOW)
        journal.record_answer("net", "hearts.train.5", 2, b"m" * 32)
        assert journal.answered("net", "hearts.train.6", b"m" * 32)
