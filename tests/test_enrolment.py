"""A site's side: what `install` accepts and refuses, and that a renewal takes the old one's place in one step."""

import errno
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from aggregator import consortium as consortiums
from aggregator import enrolment
from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity, load_key, write_chain
from aggregator.crypto.request import SigningRequest, hosts_of, sign_request
from aggregator.errors import NotAdmitted, ParameterError, StorageError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
DAY = timedelta(days=1)
AUTHORITY = authorities.create_authority("demo", NOW, 10 * YEAR)
OTHER = authorities.create_authority("demo", NOW, 10 * YEAR)


def ask(site, name="delhi", role=Role.PARTICIPANT, hosts=()):
    return enrolment.request_identity(site, name, role, "demo", hosts)


def answer(site, now=NOW, authority=AUTHORITY, csr_pem=None, role=Role.PARTICIPANT, enclosed=None):
    """The file that comes back to a site; `enclosed` is the authority in it, if another than issued it."""
    csr_pem = csr_pem or (site / "request.pem").read_bytes()
    certificate = authorities.issue(authority, csr_pem, now, valid_for=YEAR, role=role)
    file = site.parent / "answer.pem"
    file.write_bytes(write_chain(certificate, (enclosed or authority).certificate))
    return file


@pytest.fixture
def site(tmp_path):
    ask(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def enrolled(site):
    enrolment.install_identity(answer(site), site, NOW)
    return site


def refused(site, file, match, now=NOW, **options):
    """The installation fails, and what stood there stands there still."""
    before = {path.name: path.read_bytes() for path in site.iterdir()}
    with pytest.raises(NotAdmitted, match=match):
        enrolment.install_identity(file, site, now, **options)
    assert {path.name: path.read_bytes() for path in site.iterdir()} == before


def test_the_site_keeps_its_key_to_itself(tmp_path):
    request_file = ask(tmp_path / "site")
    assert request_file == tmp_path / "site" / "request.pem"
    assert stat.S_IMODE((tmp_path / "site" / "key.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in request_file.read_bytes()
    with pytest.raises(ParameterError, match="never overwritten"):
        ask(tmp_path / "site")


def test_what_comes_back_is_put_beside_the_key(site):
    identity = enrolment.install_identity(answer(site), site, NOW)
    assert Identity.load(site) == identity
    assert sorted(os.listdir(site)) == ["identity.pem", "key.pem", "request.pem"]
    assert identity.certificate.name == "delhi"
    assert enrolment.install_identity(answer(site), site, NOW).certificate.name == "delhi"


def test_a_renewal_takes_the_old_ones_place(enrolled):
    old = Identity.load(enrolled)
    assert enrolment.renew_identity(enrolled) == enrolled / "request.pem"
    assert Identity.load(enrolled) == old
    new = enrolment.install_identity(answer(enrolled, NOW + YEAR), enrolled, NOW + YEAR)
    assert new.key_pem == old.key_pem
    assert new.certificate.not_after == old.certificate.not_after + YEAR


def test_an_aggregator_renews_with_its_hosts(tmp_path):
    hub, hosts = tmp_path / "hub", ("hub.example.org", "10.0.0.5")
    ask(hub, "hub", Role.AGGREGATOR, hosts)
    enrolment.install_identity(answer(hub, role=Role.AGGREGATOR), hub, NOW)
    file = enrolment.renew_identity(hub, tmp_path / "renewal.pem")
    asked = SigningRequest.from_pem(file.read_bytes())
    assert (asked.name, asked.role, asked.hosts) == ("hub", Role.AGGREGATOR, hosts)
    renewed = enrolment.install_identity(answer(hub, csr_pem=file.read_bytes(), role=Role.AGGREGATOR), hub, NOW)
    assert hosts_of(renewed.certificate) == hosts


def test_an_expired_certificate_can_still_be_renewed(enrolled):
    enrolment.renew_identity(enrolled)
    enrolment.install_identity(answer(enrolled, NOW + 2 * YEAR), enrolled, NOW + 2 * YEAR)


def test_a_renewal_overwrites_nothing_but_a_request(enrolled, tmp_path):
    (tmp_path / "thesis").write_bytes(b"precious")
    for path in (tmp_path / "thesis", enrolled / "key.pem", enrolled / "identity.pem"):
        before = path.read_bytes()
        with pytest.raises(ParameterError, match="exists already and is no signing request"):
            enrolment.renew_identity(enrolled, path)
        assert path.read_bytes() == before


def test_there_is_nothing_to_renew(site):
    with pytest.raises(StorageError, match=r"identity\.pem: No such file"):
        enrolment.renew_identity(site)


def test_another_keys_certificate_is_refused(site, tmp_path):
    ask(tmp_path / "other")
    refused(site, answer(tmp_path / "other"), "the private key does not belong to the certificate of delhi")


def test_an_authority_that_did_not_issue_it_is_refused(site):
    refused(site, answer(site, enclosed=OTHER), "was not issued by this authority")


def test_another_authority_than_before_is_refused(enrolled):
    ours, theirs = (one.certificate.fingerprint.hex()[:16] for one in (AUTHORITY, OTHER))
    match = f"another authority than the one that .*site trusts, {ours}: this is {theirs}"
    refused(enrolled, answer(enrolled, authority=OTHER), match)


@pytest.mark.parametrize(("name", "role"), [("mallory", Role.PARTICIPANT), ("delhi", Role.OPERATOR)])
def test_another_name_or_role_than_asked_for_or_had_is_refused(site, name, role):
    key = load_key((site / "key.pem").read_bytes())
    other = sign_request(key, name, role, "demo", ())
    match = f"a certificate of {name}, {role} of demo; this site is delhi, participant of demo"
    refused(site, answer(site, csr_pem=other, role=role), match)
    enrolment.install_identity(answer(site), site, NOW)
    (site / "request.pem").unlink()
    refused(site, answer(site, csr_pem=other, role=role), match)


def test_an_older_certificate_is_refused(site):
    enrolment.install_identity(answer(site, NOW + DAY), site, NOW + DAY)
    refused(site, answer(site, NOW), "an older certificate of delhi than the one that is installed", NOW + DAY)


def test_a_certificate_out_of_date_is_refused(site):
    refused(site, answer(site), "delhi expired on", NOW + 2 * YEAR)
    refused(site, answer(site), "delhi is not valid before", NOW - DAY)


def test_a_request_is_no_identity(site):
    refused(site, site / "request.pem", "this is a signing request, which goes to the consortium")
    refused(site, site / "key.pem", "this is a private key, which never leaves its owner")


def test_the_fingerprint_as_people_write_it(site):
    digits = AUTHORITY.certificate.fingerprint.hex()
    spoken = ":".join(digits[i : i + 2] for i in range(0, 64, 2)).upper() + " "
    for text in (digits, spoken):
        enrolment.install_identity(answer(site), site, NOW, text)


def test_another_fingerprint_is_refused(site):
    theirs = OTHER.certificate.fingerprint.hex()
    match = f"the authority in this file is {AUTHORITY.certificate.fingerprint.hex()}, not the one expected"
    refused(site, answer(site), match, fingerprint=theirs)
    for text in ("", theirs[:-2], theirs + "00", "x" * 64):
        with pytest.raises(ParameterError, match="64 hexadecimal digits"):
            enrolment.install_identity(answer(site), site, NOW, text)
    assert not (site / "identity.pem").exists()


def test_missing_files_are_named(site, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere\.pem: No such file"):
        enrolment.install_identity(tmp_path / "nowhere.pem", site, NOW)
    with pytest.raises(StorageError, match=r"key\.pem: No such file"):
        enrolment.install_identity(answer(site), tmp_path / "nobody", NOW)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_identity(enrolled, monkeypatch, step):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old, file = Identity.load(enrolled), answer(enrolled, NOW + DAY)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(StorageError, match=r"cannot write .*identity\.pem: No space left on device"):
            enrolment.install_identity(file, enrolled, NOW + DAY)
    assert Identity.load(enrolled) == old
    assert enrolment.install_identity(file, enrolled, NOW + DAY) != old


def test_a_reader_meets_the_old_identity_or_the_new_one(enrolled, monkeypatch):
    """At every durable step of an installation, as a running process would read it then."""
    seen = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, reading(getattr(os, name), enrolled, seen))
    old = Identity.load(enrolled)
    new = enrolment.install_identity(answer(enrolled, NOW + DAY), enrolled, NOW + DAY)
    assert seen[0] == old
    assert seen[-1] == new
    assert all(one in (old, new) for one in seen)


def reading(real, directory, seen):
    def step(*arguments):
        seen.append(Identity.load(directory))
        real(*arguments)
        seen.append(Identity.load(directory))

    return step


def test_both_sides_together(tmp_path):
    """The consortium's file is what the site installs, first and for renewal."""
    consortium, site = tmp_path / "consortium", tmp_path / "site"
    consortiums.initialise(consortium, "demo", NOW, 10 * YEAR)
    request_file = ask(site)
    for now in (NOW, NOW + YEAR):
        given = consortiums.issue_identity(request_file, consortium, tmp_path / "delhi.pem", now, valid_for=YEAR)
        identity = enrolment.install_identity(given.file, site, now)
        assert identity.certificate == given.certificate
        roster = consortiums.load_roster(consortium, identity.authority, now)
        assert roster.certificates == (identity.certificate,)
        request_file = enrolment.renew_identity(site)
