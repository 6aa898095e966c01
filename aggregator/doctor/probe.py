"""What the server says of itself and of this site, by gRPC as the SDK speaks it; and what follows from it."""

import asyncio
from datetime import datetime
from typing import Final

from aggregator.crypto.certificates import CLOCK_SKEW, Role, stamp
from aggregator.crypto.identity import Identity
from aggregator.doctor.case import Case
from aggregator.doctor.finding import Finding, fault, good, skipped, warning
from aggregator.errors import MessageError, NotAdmitted, SangamError
from aggregator.wire.messages import OLDEST_VERSION, PROTOCOL_VERSION, ProbeRequest, ServerInfo
from clients.transport import GrpcChannel

METHOD: Final = "/sangam.v1.Aggregation/Probe"
FURTHER: Final = ("clock", "versions", "roster")
SKEW_NOTED_S: Final = 60.0


async def ask_server(case: Case, identity: Identity) -> list[Finding]:
    """Admission, clock, versions and roster."""
    channel = GrpcChannel(case.address, identity, proxy=case.proxy)
    sent = case.now()
    try:
        async with asyncio.timeout(case.patience_s):
            info = await channel.unary(METHOD, ProbeRequest(), ServerInfo)
    except (SangamError, TimeoutError) as error:
        refused = [_name_refusal(case, error)]
        return refused + skipped(FURTHER, refused)
    finally:
        await channel.close()
    here = sent + (case.now() - sent) / 2
    says = f"{case.address} is {info.software or 'a server'} of {info.deployment} and knows this site as {info.caller}"
    admitted = good("admission", says)
    return [admitted, look_at_clock(here, info.time_s), look_at_versions(info), look_at_roster(identity, info)]


def look_at_clock(here: datetime, server_s: float) -> Finding:
    """This machine's clock beside the server's: certificates begin an hour early, and no more."""
    skew_s = here.timestamp() - server_s
    side = "ahead of" if skew_s > 0 else "behind"
    says = f"this machine's clock ({stamp(here)}) is {_length(abs(skew_s))} {side} the server's"
    remedy = "set this machine's clock by NTP; if it is right, tell the consortium that the server's is wrong"
    if abs(skew_s) > CLOCK_SKEW.total_seconds():
        return fault("clock", f"{says}, more than certificates bear", remedy)
    if abs(skew_s) > SKEW_NOTED_S:
        return warning("clock", says, remedy)
    return good("clock", f"this machine's clock and the server's differ by {_length(abs(skew_s))}")


def look_at_versions(info: ServerInfo) -> Finding:
    """Whether both sides speak a common version of the protocol."""
    newest = min(PROTOCOL_VERSION, info.newest_version)
    if newest >= max(OLDEST_VERSION, info.oldest_version):
        return good("versions", f"both sides speak protocol version {newest}")
    ours = f"this site's software speaks protocol versions {OLDEST_VERSION} to {PROTOCOL_VERSION}"
    says = f"{ours}, the server's {info.oldest_version} to {info.newest_version}: they have none in common"
    older = "this site's" if info.oldest_version > PROTOCOL_VERSION else "the server's"
    return fault("versions", says, f"update {older} software")


def look_at_roster(identity: Identity, info: ServerInfo) -> Finding:
    """Whether the next round counts this very certificate in."""
    name, roster = identity.certificate.name, f"roster version {info.roster_version}"
    if identity.certificate.role is not Role.PARTICIPANT:
        return good(
            "roster", f"the server uses {roster}; {name} is {identity.certificate.role}, and needs no place in it"
        )
    if info.in_roster:
        return good("roster", f"this certificate of {name} is in {roster}, which the server uses")
    says = f"this certificate of {name} is not in {roster}, which the server uses"
    remedy = "ask the consortium to hand its newest roster to the aggregator; a renewed certificate is in a newer one"
    return fault("roster", says, remedy)


def _name_refusal(case: Case, error: SangamError | TimeoutError) -> Finding:
    if isinstance(error, TimeoutError):
        says = f"{case.address} shook hands, but does not answer a call for {case.patience_s:g} s"
        return fault("admission", says, "a firewall may stop HTTP/2: ask the network team to pass it on untouched")
    if isinstance(error, NotAdmitted):
        return fault("admission", f"the server refuses this site: {error}", "ask the consortium")
    if isinstance(error, MessageError):
        says = f"the server's answer cannot be read: {error}"
        return fault("admission", says, "the two sides' software may be of very different age: compare versions")
    return fault("admission", str(error), "try again later; if it stays so, show this to the aggregator's operator")


def _length(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return f"{seconds:.1f} s"
