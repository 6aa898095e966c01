"""What a server is told when it starts; read once (aggregator.settings), frozen."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MIB = 1 << 20
DEFAULT_ADDRESS = "[::]:7443"
DEFAULT_STAGING_BYTES = 256 * MIB
DEFAULT_SPOOL_BYTES = 16_384 * MIB
DEFAULT_RELOAD_S = 5.0
DEFAULT_KEEPALIVE_S = 20.0
DEFAULT_DRAIN_S = 20.0
DEFAULT_TASKS_MAX = 1_000
DEFAULT_ROUNDS_MAX = 100
DEFAULT_CKKS_BYTES = 1024 * MIB


class LogFormat(StrEnum):
    """How a line of the log looks: a sentence with fields behind it, or an object of JSON."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How to serve.

    Args:
        address: host:port to listen on; port 0 lets the system choose.
        identity: directory with the aggregator's key, its certificate and the authority's.
        roster: file of the signed roster.
        staging_bytes: memory for half-arrived uploads; beyond it they go to files: in `state`, or unlinked ones.
        spool_bytes: room on disk for them; uploads that declare more than both together are told to come back.
        staging_directory: where unlinked files go; None is the system's temporary directory.
        state: directory for all that must outlive the server (`storage.state`); None keeps it in memory.
        fsync: whether what is written there is forced to the disk; else it outlives the process, not a power cut.
        drain_s: how long a server that is told to stop waits for what is on its way.
        revoked: file with one revoked serial number per line, decimal or 0x; None is no file.
        reload_s: how often identity, roster and revoked serials are looked at again; 0 is on SIGHUP only.
        keepalive_s: how long a line may be silent before the server pings it.
        task_creators: the operators that may create tasks, by name; none named is every operator.
        tasks_max: how many tasks one operator may have at once.
        rounds_max: how many rounds of one operator's tasks may run at once.
        ckks: whether vectors of TenSEAL's CKKS are summed for operators; docs/ckks.md says what that gives away.
        ckks_bytes: memory for such sums, all together.
        metrics: host:port on which metrics are shown, over mutual TLS to operators; None shows none.
        insecure_loopback: metrics in plain HTTP instead, on a loopback address only.
        log_format: of the notes on stderr.
    """

    address: str
    identity: Path
    roster: Path
    staging_bytes: int = DEFAULT_STAGING_BYTES
    spool_bytes: int = DEFAULT_SPOOL_BYTES
    staging_directory: Path | None = None
    state: Path | None = None
    fsync: bool = True
    drain_s: float = DEFAULT_DRAIN_S
    revoked: Path | None = None
    reload_s: float = DEFAULT_RELOAD_S
    keepalive_s: float = DEFAULT_KEEPALIVE_S
    task_creators: tuple[str, ...] = ()
    tasks_max: int = DEFAULT_TASKS_MAX
    rounds_max: int = DEFAULT_ROUNDS_MAX
    ckks: bool = False
    ckks_bytes: int = DEFAULT_CKKS_BYTES
    metrics: str | None = None
    insecure_loopback: bool = False
    log_format: LogFormat = LogFormat.TEXT
