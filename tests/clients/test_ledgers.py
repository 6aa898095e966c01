"""The ledgers of auditor and key holder: one list, one sum, one key, one decryption of each round, for ever."""

import sqlite3
from contextlib import closing

import pytest

from aggregator.errors import Equivocation, ParameterError, StorageError
from clients.audit_ledger import AuditLedger
from clients.journal import Journal
from clients.key_ledger import KeyLedger, Published

KEY, OTHER = ("demo", "sepsis", 1), ("demo", "sepsis", 2)
A, B, C = (bytes([i]) * 32 for i in (1, 2, 3))
SECRET = b"a wrapped secret, which is long enough to be found in a file" * 40
PUBLISHED = Published(A, B, b"the answer")


@pytest.fixture
def audits(tmp_path):
    with AuditLedger(tmp_path / "audits.sqlite") as ledger:
        yield ledger


@pytest.fixture
def keys(tmp_path):
    with KeyLedger(tmp_path / "keys.sqlite") as ledger:
        yield ledger


def test_one_list_of_each_round(audits):
    audits.freeze(KEY, A, B)
    audits.freeze(KEY, A, B)
    audits.freeze(OTHER, A, B)
    audits.check_frozen(KEY, A, B)
    for ctx0, root in ((A, C), (C, B)):
        with pytest.raises(Equivocation, match="round 1 of task sepsis: another list was already frozen"):
            audits.freeze(KEY, ctx0, root)
        with pytest.raises(Equivocation, match="round 1 of task sepsis: this list was never frozen here"):
            audits.check_frozen(KEY, ctx0, root)


def test_one_sum_of_each_round(audits):
    audits.freeze(KEY, A, B)
    audits.sign_sum(KEY, A, B, total=A)
    audits.sign_sum(KEY, A, B, total=A)
    with pytest.raises(Equivocation, match="another sum was already signed"):
        audits.sign_sum(KEY, A, B, total=C)
    audits.sign_sum(OTHER, A, B, total=C)  # nothing was frozen: one-shot
    with pytest.raises(Equivocation, match="another list was already frozen"):
        audits.freeze(OTHER, A, C)


def test_an_audit_is_remembered_across_processes(tmp_path):
    with AuditLedger(tmp_path / "audits.sqlite") as ledger:
        ledger.freeze(KEY, A, B)
    with AuditLedger(tmp_path / "audits.sqlite") as ledger, pytest.raises(Equivocation):
        ledger.freeze(KEY, A, C)


def test_the_file_alone_knows_what_was_signed(tmp_path):
    """As after a crash, when somebody moves the file and forgets the log beside it."""
    alone = tmp_path / "alone.sqlite"
    with AuditLedger(tmp_path / "audits.sqlite") as ledger:
        ledger.freeze(KEY, A, B)
        ledger.sign_sum(KEY, A, B, total=A)
        alone.write_bytes((tmp_path / "audits.sqlite").read_bytes())
    with AuditLedger(alone) as moved, pytest.raises(Equivocation, match="another sum was already signed"):
        moved.sign_sum(KEY, A, B, total=C)


def test_the_file_alone_knows_what_was_decrypted(tmp_path):
    alone = tmp_path / "alone.sqlite"
    with KeyLedger(tmp_path / "keys.sqlite") as ledger:
        ledger.publish(KEY, PUBLISHED, SECRET)
        ledger.release(KEY, A)
        alone.write_bytes((tmp_path / "keys.sqlite").read_bytes())
    with KeyLedger(alone) as moved, pytest.raises(Equivocation, match="a sum was already decrypted"):
        moved.release(KEY, C)


def test_one_key_and_one_decryption_of_each_round(keys):
    assert keys.published(KEY) is None
    keys.publish(KEY, PUBLISHED, SECRET)
    assert keys.published(KEY) == PUBLISHED
    with pytest.raises(Equivocation, match="has had its key: a re-run is a new round"):
        keys.publish(KEY, PUBLISHED, SECRET)
    assert keys.release(KEY, C) == SECRET
    for total in (C, A):
        with pytest.raises(Equivocation, match="a sum was already decrypted"):
            keys.release(KEY, total)
    keys.destroy(KEY)
    keys.destroy(KEY)
    assert keys.published(KEY) is None
    with pytest.raises(Equivocation, match="has had its key"):
        keys.publish(KEY, PUBLISHED, SECRET)
    with pytest.raises(Equivocation, match="never had a key here"):
        keys.release(OTHER, C)


def test_the_key_of_a_round_that_failed_is_destroyed(keys):
    keys.publish(KEY, PUBLISHED, SECRET)
    keys.destroy(KEY)
    with pytest.raises(Equivocation, match="its key is destroyed"):
        keys.release(KEY, C)


def test_the_next_round_of_a_task_ends_the_last_one(keys):
    """The server vanished, and nobody said how the round ended."""
    for key in (KEY, ("demo", "stroke", 1), OTHER):
        keys.publish(key, PUBLISHED, SECRET)
    with pytest.raises(Equivocation, match="round 1 of task sepsis: its key is destroyed"):
        keys.release(KEY, C)
    assert keys.release(("demo", "stroke", 1), C) == keys.release(OTHER, C) == SECRET


@pytest.mark.parametrize("crashes", [False, True])
def test_what_is_destroyed_is_in_no_file(tmp_path, crashes):
    """Nor is it after a process that ended between the decryption's record and the destruction."""
    with KeyLedger(tmp_path / "keys.sqlite") as ledger:
        ledger.publish(KEY, PUBLISHED, SECRET)
        assert any(SECRET[:100] in path.read_bytes() for path in tmp_path.iterdir())
        ledger.release(KEY, C)
        if not crashes:
            ledger.destroy(KEY)
            assert not any(SECRET[:100] in path.read_bytes() for path in tmp_path.iterdir())
    with KeyLedger(tmp_path / "keys.sqlite") as ledger:
        assert ledger.published(KEY) is None
        assert not any(SECRET[:100] in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("kind", [AuditLedger, KeyLedger])
def test_one_process_at_a_time_and_no_other_file(tmp_path, kind):
    with kind(tmp_path / "ledger") as ledger:
        with pytest.raises(StorageError, match="is in use by another process of this site"):
            kind(tmp_path / "ledger")
        assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600
        ledger.roster_version("demo", 1, A)
    with pytest.raises(StorageError, match="is a database of another program, not a journal"):
        Journal(tmp_path / "ledger")
    with closing(sqlite3.connect(tmp_path / "ledger")) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageError, match="has version 2, this Sangam reads up to 1"):
        kind(tmp_path / "ledger")


def test_malformed_keys_and_digests(audits, keys):
    with pytest.raises(ParameterError, match="a digest of 31 bytes"):
        audits.freeze(KEY, A, bytes(31))
    with pytest.raises(ParameterError, match="a round is named by"):
        audits.freeze(("demo", "", 1), A, B)
    with pytest.raises(ParameterError, match="a digest of 0 bytes"):
        keys.publish(KEY, Published(A, b"", b""), SECRET)
    with pytest.raises(ParameterError, match="a digest of 33 bytes"):
        keys.release(KEY, bytes(33))
