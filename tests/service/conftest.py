import logging

import pytest


@pytest.fixture(autouse=True)
def nothing_is_lost_in_a_log(caplog):
    """An error that reaches only a log is a bug: every refusal has an addressee."""
    yield
    lost = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not lost
