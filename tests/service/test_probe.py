"""The probe: what any certificate of the consortium may ask."""

import time

import pytest

from aggregator.crypto.certificates import Role
from aggregator.errors import NotAdmitted
from aggregator.wire.messages import OLDEST_VERSION, PROTOCOL_VERSION, ProbeRequest, ServerInfo
from tests.consortium import DEPLOYMENT, Consortium
from tests.loopback import hub, issued, raw

N = 3
PROBE = "/sangam.v1.Aggregation/Probe"


async def probe(h, who) -> ServerInfo:
    async with raw(h.address, who) as channel:
        return await channel.unary(PROBE, ProbeRequest(), ServerInfo)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.AUTHORITY])
async def test_every_role_is_told_who_answers(tmp_path, role):
    who = issued(f"some-{role.value}", role, ("localhost",) if role is Role.AGGREGATOR else ())
    async with hub(tmp_path, N) as h:
        begin = time.time()
        info = await probe(h, who)
        assert begin <= info.time_s <= time.time()
        assert (info.oldest_version, info.newest_version) == (OLDEST_VERSION, PROTOCOL_VERSION)
        assert (info.deployment, info.caller, info.roster_version) == (DEPLOYMENT, who.certificate.name, 1)
        assert not info.in_roster
        assert info.software.startswith("sangam ")


async def test_a_site_is_told_whether_its_very_certificate_is_in_the_roster(tmp_path):
    async with hub(tmp_path, N) as h:
        assert (await probe(h, h.consortium.identities[1])).in_roster
        assert not (await probe(h, issued("site-0001", Role.PARTICIPANT))).in_roster


async def test_a_revoked_certificate_is_told_so(tmp_path):
    revoked = tmp_path / "revoked"
    revoked.write_text(f"{Consortium.of(N).identities[1].certificate.serial}\n")
    async with hub(tmp_path, N, revoked=revoked) as h:
        with pytest.raises(NotAdmitted, match="the certificate of site-0001 was revoked"):
            await probe(h, h.consortium.identities[1])
