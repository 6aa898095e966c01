"""What a server is told when it starts; read once, frozen."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_STAGING_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How to serve.

    Args:
        address: host:port to listen on; port 0 lets the system choose.
        identity: directory with the aggregator's key, its certificate and the authority's.
        roster: file of the signed roster.
        staging_bytes: memory for half-arrived uploads; beyond it they go to unlinked files.
        staging_directory: where those files go; None is the system's temporary directory.
        revoked: file with one revoked serial number per line, decimal or 0x; None is no file.
    """

    address: str
    identity: Path
    roster: Path
    staging_bytes: int = DEFAULT_STAGING_BYTES
    staging_directory: Path | None = None
    revoked: Path | None = None
