"""What the doctor says of a site's journal: every fault is really on the disk."""

import pytest

from aggregator.crypto.certificates import Role
from aggregator.doctor.finding import Level
from aggregator.doctor.journal import look_at_journal
from clients.connection import JOURNAL_FILE
from clients.journal import Journal


def test_a_journal_that_is_not_there_yet_is_not_made(tmp_path):
    finding = look_at_journal(tmp_path, Role.PARTICIPANT)
    assert finding.level is Level.GOOD
    assert "not there yet" in finding.says
    assert list(tmp_path.iterdir()) == []


def test_an_operator_needs_no_journal(tmp_path):
    (tmp_path / JOURNAL_FILE).write_bytes(b"no journal")
    assert look_at_journal(tmp_path, Role.OPERATOR).level is Level.GOOD


def test_a_journal_in_order(tmp_path):
    Journal(tmp_path / JOURNAL_FILE).close()
    finding = look_at_journal(tmp_path, Role.PARTICIPANT)
    assert finding.level is Level.GOOD
    assert "no other process holds it" in finding.says


def test_a_journal_in_use_is_left_to_its_session(tmp_path):
    with Journal(tmp_path / JOURNAL_FILE) as journal:
        finding = look_at_journal(tmp_path, Role.PARTICIPANT)
        journal.open_context("demo", "sepsis", 1, bytes(32))  # which still holds its lock
    assert finding.level is Level.WARNING
    assert "is in use by another process of this site" in finding.says


@pytest.mark.parametrize(("content", "says"), [(b"cut", "was cut short"), (b"x" * 8192, "is not a database")])
def test_a_damaged_journal(tmp_path, content, says):
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    finding = look_at_journal(tmp_path, Role.PARTICIPANT)
    assert finding.level is Level.FAULT
    assert says in finding.says
    assert "never restore a journal from a backup" in finding.remedy
    assert (tmp_path / JOURNAL_FILE).read_bytes() == content
