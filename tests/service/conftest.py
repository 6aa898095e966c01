import logging

import pytest

GONE = "ExecuteBatchError raised in core"  # how gRPC notes that a caller left while it was being answered


@pytest.fixture(autouse=True)
def nothing_is_lost_in_a_log(caplog):
    """An error that reaches only a log is a bug: every refusal has an addressee."""
    yield
    said = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not [text for text in said if not text.startswith(GONE)]
