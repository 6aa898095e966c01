"""Mutual TLS as this server is now: a renewed certificate serves every connection that begins after it was read."""

from collections.abc import Callable
from typing import Any

import grpc

from aggregator.crypto.identity import Identity
from aggregator.errors import ParameterError


def listen(server: grpc.aio.Server, address: str, identity: Callable[[], Identity]) -> int:
    """Let `server` listen; the port. Who comes without a certificate of the authority is refused by TLS.

    Args:
        server: not started yet.
        address: host:port; port 0 lets the system choose.
        identity: who the server is now; called in gRPC's threads, at the beginning of every connection.

    Raises:
        ParameterError: the address cannot be listened on.
    """
    given = identity()

    def renewed() -> Any:
        nonlocal given
        present = identity()
        if present is given:
            return None  # "as before", which its type stub does not know; a configuration is costly to set up
        given = present
        return _configuration(present)

    credentials = grpc.dynamic_ssl_server_credentials(
        _configuration(given), renewed, require_client_authentication=True
    )
    try:
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ParameterError(f"cannot listen on {address}: the port is in use, or the address is not ours") from None


def _configuration(identity: Identity) -> "grpc.ServerCertificateConfiguration":
    pair = (identity.key_pem, identity.certificate.pem)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=identity.authority.pem)
