"""A server's TOML file: a configuration, or one sentence for every fault."""

from collections.abc import Iterator
from typing import Final

from aggregator.errors import ParameterError, StorageError
from aggregator.settings import read_settings
from tests.fuzz.lying import lying
from tests.fuzz.target import Target

WHOLE: Final = b"""listen = "[::]:7443"
identity = "hub/"
roster = "roster.json"
staging_mib = 256
staging_directory = "/tmp"
revoked = "revoked.txt"
reload_s = 5.0
keepalive_s = 20
task_creators = ["operator", "platform"]
tasks_max = 10
ckks = false
ckks_mib = 64
"""


def run(data: bytes) -> None:
    """The file as it lies there."""
    try:
        with lying(data, ".toml") as path:
            settings = read_settings(path)
        faults = settings.faults
        config = settings.config
    except (ParameterError, StorageError):
        return
    assert not faults
    assert config.staging_bytes >= 0
    assert settings.effective()


def seeds() -> Iterator[bytes]:
    """All settings; the few that must be there; faults of each kind."""
    yield WHOLE
    yield b'identity = "hub"\nroster = "roster.json"\n'
    yield b'identity = 3\nrooster = "r"\nreload_s = -1\nkeepalive_s = nan\n[ckks]\nx = 1979-05-27T07:32:00Z\n'


TARGET: Final = Target("settings", run, seeds, bytes_max=8192, share=15)
