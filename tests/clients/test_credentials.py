"""A site's certificate over the years: told in time, taken up when it is renewed, and never another site's."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity, write_chain
from aggregator.crypto.roster import sign_roster
from aggregator.errors import NotAdmitted
from aggregator.files import replace_file
from aggregator.protocol.participant import Site
from clients.credentials import Credentials, IdentityFiles
from tests.consortium import ANY_COHORT, DEPLOYMENT, Consortium
from tests.loopback import issued, until

DAY = timedelta(days=1)


def renewed(who: Identity, **times) -> Identity:
    authority = Consortium.of(0).authority
    begin = datetime.now(UTC) + times.get("starts", -DAY)
    certificate = authorities.issue(authority, authorities.renew(who), begin, valid_for=times.get("lasts", 300 * DAY))
    return Identity(certificate, who.key_pem, who.authority)


def site_of(who: Identity) -> Site:
    return Site(who.certificate, who.authority, who.signing_key, ANY_COHORT)


class Home:
    """A site's directory, its sessions' credentials, and a clock."""

    def __init__(self, directory, who):
        self.directory, self.who, self.now = directory, who, datetime.now(UTC)
        who.save(directory)
        self.files = IdentityFiles(directory, lambda: self.now)
        self.credentials = Credentials(site_of(who), lambda: site_of(self.files.newest()), lambda: self.now)

    def put(self, who):
        replace_file(self.directory / IDENTITY_FILE, write_chain(who.certificate, who.authority))


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "site", issued("aiims", Role.PARTICIPANT, days=100))


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_renewed_certificate_is_taken_up_once(home):
    assert not home.credentials.renew()
    new = renewed(home.who)
    home.put(new)
    assert home.credentials.renew()
    assert home.credentials.site.certificate == new.certificate
    assert not home.credentials.renew()


def test_files_are_read_again_only_when_they_have_changed(home, monkeypatch):
    monkeypatch.setattr(Identity, "load", lambda _: pytest.fail("read again"))
    assert home.files.newest() is home.files.newest()


def strangers(home):
    other = authorities.create_authority(DEPLOYMENT, datetime.now(UTC), 900 * DAY)
    foreign = authorities.issue(other, authorities.renew(home.who), datetime.now(UTC), valid_for=DAY)
    as_another = authorities.issue(
        Consortium.of(0).authority, _request_of_another_name(home.who), datetime.now(UTC), valid_for=DAY
    )
    return {
        "is of stroke-unit, or of another authority": (as_another, home.who.authority),
        "or of another authority": (foreign, other.certificate),
        "the private key does not belong": (issued("b", Role.PARTICIPANT).certificate, home.who.authority),
        "expired on": (renewed(home.who, starts=-9 * DAY, lasts=DAY).certificate, home.who.authority),
    }


def _request_of_another_name(who):
    """A request with the key of `who` under another name."""
    certificate = issued("stroke-unit", Role.PARTICIPANT).certificate
    impostor = object.__new__(Identity)
    for name, value in (("certificate", certificate), ("key_pem", who.key_pem), ("authority", who.authority)):
        object.__setattr__(impostor, name, value)
    return authorities.renew(impostor)


def test_an_identity_that_does_not_fit_is_named_once_and_not_used(home, caplog):
    for named, (certificate, authority) in strangers(home).items():
        caplog.clear()
        replace_file(home.directory / IDENTITY_FILE, write_chain(certificate, authority))
        for _ in range(2):
            assert not home.credentials.renew()
        assert len(said(caplog)) == 1
        assert named in said(caplog)[0]
    (home.directory / KEY_FILE).unlink()
    assert not home.credentials.renew()
    home.who.save(home.directory / "again")
    replace_file(home.directory / KEY_FILE, home.who.key_pem)
    home.put(new := renewed(home.who))
    assert home.credentials.renew()
    assert home.credentials.site.certificate == new.certificate


def test_a_certificate_that_is_not_valid_yet_is_taken_up_when_it_is(home):
    home.put(renewed(home.who, starts=3 * DAY))
    assert not home.credentials.renew()
    home.now += 4 * DAY
    assert home.credentials.renew()


def test_the_roster_of_a_round_says_which_of_two_counts(home):
    authority, new = Consortium.of(0).authority, renewed(home.who)
    old_roster = sign_roster(authority, [home.who.certificate], 1)
    new_roster = sign_roster(authority, [new.certificate], 2)
    assert not home.credentials.renew_for(new_roster), "the file has not come"
    home.put(new)
    assert not home.credentials.renew_for(old_roster)
    assert not home.credentials.renew_for(sign_roster(authority, [], 3)), "neither is in it"
    assert home.credentials.site.certificate == home.who.certificate
    assert home.credentials.renew_for(new_roster)
    assert home.credentials.site.certificate == new.certificate


def test_a_certificate_about_to_end_is_told_once_a_day(home, caplog):
    home.credentials.check()
    assert not said(caplog)
    home.now += 75 * DAY
    for hours in (0, 1, 25, 26):
        home.credentials._now = lambda hours=hours: home.now + timedelta(hours=hours)
        home.credentials.check()
    assert len(said(caplog)) == 2
    assert "the certificate of aiims ends in 23 days, on 20" in said(caplog)[0]
    assert "renew it" in said(caplog)[0]


def test_an_expired_certificate_is_named_or_renewed(home):
    home.now += 150 * DAY
    with pytest.raises(NotAdmitted, match="the certificate of aiims expired on"):
        home.credentials.check()
    home.put(renewed(home.who))
    home.credentials.check()
    assert home.credentials.site.certificate != home.who.certificate


async def test_who_was_refused_waits_for_its_renewed_certificate(home, caplog):
    waiting = asyncio.create_task(home.credentials.renewed(NotAdmitted("not in roster version 2"), 20.0))
    await until(lambda: bool(said(caplog)))
    assert "not in roster version 2; waiting 20 s for a new identity" in said(caplog)[0]
    home.put(renewed(home.who))
    await waiting
    assert home.credentials.site.certificate != home.who.certificate


async def test_who_was_refused_does_not_wait_for_ever(home):
    refusal = NotAdmitted("revoked")
    for credentials in (home.credentials, Credentials(site_of(home.who))):
        with pytest.raises(NotAdmitted, match="revoked"):
            await credentials.renewed(refusal, 0.0)
    with pytest.raises(NotAdmitted, match="revoked"):
        await Credentials(site_of(home.who)).renewed(refusal, 600.0)
