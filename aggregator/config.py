"""What a server is told when it starts; read once (aggregator.settings), frozen."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
DEFAULT_ADDRESS = "[::]:7443"
DEFAULT_STAGING_BYTES = 256 * MIB
DEFAULT_RELOAD_S = 5.0
DEFAULT_KEEPALIVE_S = 20.0
DEFAULT_DRAIN_S = 20.0
DEFAULT_TASKS_MAX = 1_000
DEFAULT_CKKS_BYTES = 1024 * MIB


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How to serve.

    Args:
        address: host:port to listen on; port 0 lets the system choose.
        identity: directory with the aggregator's key, its certificate and the authority's.
        roster: file of the signed roster.
        staging_bytes: memory for half-arrived uploads; beyond it they go to unlinked files.
        staging_directory: where those files go; None is the system's temporary directory.
        state: directory for all that must outlive the server (`storage.state`); None keeps it in memory.
        fsync: whether what is written there is forced to the disk; else it outlives the process, not a power cut.
        drain_s: how long a server that is told to stop waits for what is on its way.
        revoked: file with one revoked serial number per line, decimal or 0x; None is no file.
        reload_s: how often identity, roster and revoked serials are looked at again; 0 is on SIGHUP only.
        keepalive_s: how long a line may be silent before the server pings it.
        task_creators: the operators that may create tasks, by name; none named is every operator.
        tasks_max: how many tasks one operator may have at once.
        ckks: whether vectors of TenSEAL's CKKS are summed for operators; docs/ckks.md says what that gives away.
        ckks_bytes: memory for such sums, all together.
    """

    address: str
    identity: Path
    roster: Path
    staging_bytes: int = DEFAULT_STAGING_BYTES
    staging_directory: Path | None = None
    state: Path | None = None
    fsync: bool = True
    drain_s: float = DEFAULT_DRAIN_S
    revoked: Path | None = None
    reload_s: float = DEFAULT_RELOAD_S
    keepalive_s: float = DEFAULT_KEEPALIVE_S
    task_creators: tuple[str, ...] = ()
    tasks_max: int = DEFAULT_TASKS_MAX
    ckks: bool = False
    ckks_bytes: int = DEFAULT_CKKS_BYTES
