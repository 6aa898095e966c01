"""What every test of a command stands on."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aggregator import __main__ as command


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Whoever runs the tests may have settings of a server's, or an operator's address, in the environment."""
    for name in os.environ:
        if name.startswith("SANGAM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def short_path():
    """A temporary directory whose name leaves room for a socket's: of 108 bytes pytest's own take most."""
    with TemporaryDirectory(prefix="s-") as name:
        yield Path(name)


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Types a command that must fail, and gives what it says: one sentence on stderr, and exit status 1."""

    def typed(*arguments):
        monkeypatch.setattr(sys, "argv", ["sangam", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        assert (ended.value.code, said.out, said.err.count("\n")) == (1, "", 1), said
        assert said.err.startswith("sangam: ")
        return said.err

    return typed
