"""The doctor from the first check to the last, against servers that answer by gRPC."""

import asyncio
from datetime import timedelta

import pytest

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.doctor.case import resolve
from aggregator.doctor.finding import Level
from aggregator.doctor.probe import ask_server
from aggregator.errors import NotAdmitted
from aggregator.wire.messages import PROTOCOL_VERSION
from tests.cable import Cable
from tests.consortium import Consortium
from tests.doctor.stage import answering, case, certified, findings, foreign, info, levels, now, nowhere, site
from tests.loopback import aggregator, hub, issued, operator

BRIEFLY_S = 0.1
CHECKS = ["files", "key", "certificate", "authority", "journal", "DNS", "proxy", "TCP"]
CHECKS += ["TLS", "admission", "clock", "versions", "roster"]


async def asked(tmp_path, who=None, told=None, **changes):
    """What the doctor finds at a server that says this of itself."""

    async def reply():
        return info(**(told or {}))

    async with answering(aggregator(), reply) as port:
        return await findings(case(site(tmp_path, who), port, **changes))


async def test_all_is_well(tmp_path):
    told = await asked(tmp_path)
    assert list(told) == CHECKS
    assert levels(told, Level.GOOD) == CHECKS
    assert "is stub of demo and knows this site as site-0000" in told["admission"].says
    assert told["roster"].says == "this certificate of site-0000 is in roster version 7, which the server uses"
    assert not any(finding.remedy for finding in told.values())


async def test_an_operator_needs_no_place_in_the_roster(tmp_path):
    told = await asked(tmp_path, operator(), {"in_roster": False, "caller": "operator"})
    assert levels(told, Level.GOOD) == CHECKS
    assert "operator is operator, and needs no place in it" in told["roster"].says


async def test_a_site_outside_the_roster(tmp_path):
    told = await asked(tmp_path, told={"in_roster": False})
    assert levels(told, Level.FAULT) == ["roster"]
    assert told["roster"].says == "this certificate of site-0000 is not in roster version 7, which the server uses"
    assert "newest roster" in told["roster"].remedy


@pytest.mark.parametrize(
    ("ahead", "level", "says"),
    [
        (timedelta(seconds=50), Level.GOOD, "differ by "),
        (timedelta(minutes=5), Level.WARNING, "is 5 min ahead of the server's"),
        (timedelta(minutes=-59), Level.WARNING, "is 59 min behind the server's"),
        (timedelta(hours=3, minutes=1), Level.FAULT, "is 3 h ahead of the server's, more than certificates bear"),
        (timedelta(days=-4), Level.FAULT, "is 4 days behind the server's"),
    ],
)
async def test_clocks_that_differ(tmp_path, ahead, level, says):
    told = await asked(tmp_path, now=lambda: now() + ahead)
    assert told["clock"].level is level
    assert says in told["clock"].says
    assert ("by NTP" in told["clock"].remedy) == (level is not Level.GOOD)


async def test_a_server_whose_clock_is_absurd(tmp_path):
    told = await asked(tmp_path, told={"time_s": 1e12})
    assert told["clock"].level is Level.FAULT


@pytest.mark.parametrize(
    ("versions", "older"), [((PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 2), "this site's"), ((1, 1), "")]
)
async def test_versions(tmp_path, versions, older):
    told = await asked(tmp_path, told=dict(zip(("oldest_version", "newest_version"), versions, strict=True)))
    if older:
        assert levels(told, Level.FAULT) == ["versions"]
        assert "they have none in common" in told["versions"].says
        assert told["versions"].remedy == f"update {older} software"
    else:
        assert told["versions"].says == "both sides speak protocol version 1"


async def refused(tmp_path, reply, **changes):
    async with answering(aggregator(), reply) as port:
        return await findings(case(site(tmp_path), port, **changes))


async def test_a_refusal_in_the_servers_words(tmp_path):
    async def reply():
        raise NotAdmitted("the certificate of site-0000 was revoked")

    told = await refused(tmp_path, reply)
    assert levels(told, Level.FAULT) == ["admission"]
    assert told["admission"].says == "the server refuses this site: the certificate of site-0000 was revoked"
    assert levels(told, Level.SKIPPED) == ["clock", "versions", "roster"]
    assert told["clock"].says == "not tried: first mend admission"


async def test_a_server_that_never_answers(tmp_path):
    async def reply():
        await asyncio.get_running_loop().create_future()

    async with answering(aggregator(), reply) as port:
        asked = case(site(tmp_path), port, patience_s=BRIEFLY_S)
        told = await ask_server(asked, Identity.load(asked.directory))
    assert [finding.level for finding in told] == [Level.FAULT, *[Level.SKIPPED] * 3]
    assert "shook hands, but does not answer a call for 0.1 s" in told[0].says


async def test_a_fault_of_the_site_keeps_the_way_in_sight(tmp_path):
    told = await asked(tmp_path, issued("delhi", Role.PARTICIPANT, days=1, starts=-3))
    assert levels(told, Level.FAULT) == ["certificate"]
    assert levels(told, Level.SKIPPED) == ["journal", "TLS", "admission", "clock", "versions", "roster"]
    assert told["TCP"].level is Level.GOOD
    assert told["TLS"].says == "not tried: first mend certificate"


async def test_a_name_that_does_not_resolve_leaves_the_rest_untried(tmp_path):
    told = await findings(case(site(tmp_path), 7443, host="hub.invalid", resolve=nowhere))
    assert levels(told, Level.FAULT) == ["DNS"]
    assert levels(told, Level.SKIPPED) == ["TCP", "TLS", "admission", "clock", "versions", "roster"]


async def test_another_consortium_ends_at_tls(tmp_path):
    async def reply():
        return info()

    async with answering(certified(foreign("elsewhere")), reply) as port:
        told = await findings(case(site(tmp_path), port))
    assert levels(told, Level.FAULT) == ["TLS"]
    assert "elsewhere-aggregator in elsewhere" in told["TLS"].says


async def test_a_real_server_counts_the_site_in(tmp_path):
    async with hub(tmp_path, 3) as server:
        told = await findings(case(site(tmp_path), server.port, resolve=resolve))
    assert levels(told, Level.FAULT) == []
    assert "of demo and knows this site as site-0000" in told["admission"].says
    assert told["roster"].says == "this certificate of site-0000 is in roster version 1, which the server uses"


async def test_a_real_server_that_has_revoked_the_certificate(tmp_path):
    revoked = tmp_path / "revoked.txt"
    revoked.write_text(f"{Consortium.of(3).identities[0].certificate.serial:#x}\n")
    async with hub(tmp_path, 3, revoked=revoked) as server:
        told = await findings(case(site(tmp_path), server.port, resolve=resolve))
    assert levels(told, Level.FAULT) == ["admission"]
    assert told["admission"].says == "the server refuses this site: the certificate of site-0000 was revoked"


async def test_a_real_server_without_this_site_in_its_roster(tmp_path):
    async with hub(tmp_path, 3) as server:
        stranger = site(tmp_path, issued("delhi", Role.PARTICIPANT))
        told = await findings(case(stranger, server.port, resolve=resolve))
    assert levels(told, Level.FAULT) == ["roster"]
    assert "of delhi is not in roster version 1" in told["roster"].says


async def test_through_a_proxy_all_the_way(tmp_path, monkeypatch):
    """gRPC goes the way that the doctor says: a name that only the proxy resolves is reached."""

    async def reply():
        return info()

    async with answering(aggregator(), reply) as port, Cable(port, connect=True) as proxy:
        for name in ("grpc_proxy", "no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("grpc_proxy", f"http://localhost:{proxy.port}")
        environment = {"grpc_proxy": f"http://localhost:{proxy.port}"}
        told = await findings(case(site(tmp_path), port, environment=environment, resolve=nowhere))
    assert levels(told, Level.WARNING) == ["DNS"]
    assert levels(told, Level.GOOD) == [check for check in CHECKS if check != "DNS"]
    assert len(proxy.asked) == 3  # the check itself, TLS, gRPC


async def test_through_a_proxy_that_is_named_outright(tmp_path, monkeypatch):
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def reply():
        return info()

    async with answering(aggregator(), reply) as port, Cable(port, connect=True) as proxy:
        told = await findings(case(site(tmp_path), port, proxy=f"http://localhost:{proxy.port}", resolve=nowhere))
    assert levels(told, Level.FAULT) == []
    assert f"the proxy localhost:{proxy.port} (from --proxy) opens a line" in told["proxy"].says
    assert len(proxy.asked) == 3
