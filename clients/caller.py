"""Who calls: one identity, perhaps renewed meanwhile, and a channel for each of its certificates."""

from collections.abc import Callable

from aggregator.crypto.identity import Identity
from aggregator.protocol.participant import Safeguards, Site
from clients.credentials import Credentials, IdentityFiles
from clients.transport import GrpcChannel, GrpcTransport


class Caller:
    """One caller at one server; all its sessions share its channels.

    Args:
        identity: who it is; from files, it is read again when they are replaced.
        dial: opens a channel to the server as an identity.
        safeguards: what it insists on.
    """

    def __init__(
        self, identity: Identity | IdentityFiles, dial: Callable[[Identity], GrpcChannel], safeguards: Safeguards
    ) -> None:
        self._identity = identity
        self._dial = dial
        self._safeguards = safeguards
        self._channels: dict[bytes, GrpcChannel] = {}  # by certificate: gRPC fixes a channel's credentials

    def credentials(self) -> Credentials:
        """For one session."""
        return Credentials(self._site(), self._site if isinstance(self._identity, IdentityFiles) else None)

    def transport(self, credentials: Credentials) -> GrpcTransport:
        """Of that session, under the certificate that it has taken up."""
        return GrpcTransport(lambda: self._channels[credentials.site.certificate.fingerprint])

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()

    def _site(self) -> Site:
        """This site under its newest certificate, with a channel for it."""
        who = self._identity.newest() if isinstance(self._identity, IdentityFiles) else self._identity
        if who.certificate.fingerprint not in self._channels:
            self._channels[who.certificate.fingerprint] = self._dial(who)
        return Site(who.certificate, who.authority, who.signing_key, self._safeguards)
