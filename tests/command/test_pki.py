import os
import re
import stat
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from aggregator import consortium as consortiums
from aggregator.command import pki
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import MessageError, NotAdmitted, ParameterError, SangamError, StorageError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def consortium(tmp_path):
    consortiums.initialise(tmp_path / "consortium", "demo", NOW, 10 * YEAR)
    return tmp_path / "consortium"


def issue(consortium, request_file, out, now=NOW, **options):
    return consortiums.issue_identity(request_file, consortium, out, now, valid_for=YEAR, **options)


def enrol(consortium, name, role=Role.PARTICIPANT, hosts=(), again=""):
    """The whole flow of one site, ending with the two files beside its key."""
    site, out = consortium.parent / f"{name}{again}", consortium.parent / f"{name}{again}-out"
    request_file = consortiums.request_identity(site, name, role, "demo", hosts)
    issue(consortium, request_file, out, role=role)
    assert sorted(os.listdir(out)) == ["authority.pem", "certificate.pem"]
    for file in out.iterdir():
        file.rename(site / file.name)
    return Identity.load(site)


def current(consortium):
    return consortiums.load_roster(consortium, Authority.load(consortium).certificate, NOW)


def test_a_new_consortium_has_an_authority_and_an_empty_roster(consortium):
    assert sorted(os.listdir(consortium)) == ["authority-key.pem", "authority.pem", "roster.json"]
    assert stat.S_IMODE((consortium / "authority-key.pem").stat().st_mode) == 0o600
    assert (current(consortium).version, len(current(consortium))) == (0, 0)


def test_a_consortium_is_never_overwritten(consortium):
    before = (consortium / "authority-key.pem").read_bytes()
    with pytest.raises(ParameterError, match="never overwritten"):
        consortiums.initialise(consortium, "demo", NOW, YEAR)
    assert (consortium / "authority-key.pem").read_bytes() == before


def test_participants_enter_the_roster_and_its_version_rises(consortium):
    delhi, cmc = enrol(consortium, "delhi"), enrol(consortium, "cmc")
    roster = current(consortium)
    assert (roster.version, [roster.name(i) for i in range(len(roster))]) == (2, ["cmc", "delhi"])
    assert roster.index_of(delhi.certificate.fingerprint) == 1
    delhi.check(Role.PARTICIPANT, NOW)
    assert cmc.authority == Authority.load(consortium).certificate


def test_a_renewal_replaces_the_old_certificate(consortium):
    old, new = enrol(consortium, "delhi"), enrol(consortium, "delhi", again="-2")
    roster = current(consortium)
    assert (roster.version, len(roster)) == (2, 1)
    assert roster.index_of(new.certificate.fingerprint) == 0
    with pytest.raises(NotAdmitted):
        roster.index_of(old.certificate.fingerprint)


def test_others_do_not_enter_the_roster(consortium):
    hub = enrol(consortium, "hub", Role.AGGREGATOR, ("localhost", "10.0.0.5"))
    hub.check(Role.AGGREGATOR, NOW)
    enrol(consortium, "auditor", Role.AUDITOR)
    assert (current(consortium).version, len(current(consortium))) == (0, 0)


def test_the_site_keeps_its_key_to_itself(tmp_path):
    request_file = consortiums.request_identity(tmp_path / "site", "delhi", Role.PARTICIPANT, "demo")
    assert request_file == tmp_path / "site" / "request.pem"
    assert stat.S_IMODE((tmp_path / "site" / "key.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in request_file.read_bytes()
    with pytest.raises(ParameterError, match="never overwritten"):
        consortiums.request_identity(tmp_path / "site", "delhi", Role.PARTICIPANT, "demo")


def test_a_role_that_was_not_allowed_is_refused(consortium, tmp_path):
    request_file = consortiums.request_identity(tmp_path / "x", "x", Role.AGGREGATOR, "demo", ("localhost",))
    with pytest.raises(ParameterError, match="asks for the role aggregator"):
        issue(consortium, request_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (consortium / "issue.lock").exists()


def test_an_existing_hand_over_is_refused_before_the_roster_changes(consortium, tmp_path):
    enrol(consortium, "delhi")
    with pytest.raises(ParameterError, match="choose a new directory"):
        issue(consortium, tmp_path / "delhi" / "request.pem", tmp_path / "delhi")
    assert current(consortium).version == 1


def test_only_one_process_issues(consortium, tmp_path):
    request_file = consortiums.request_identity(tmp_path / "x", "x", Role.PARTICIPANT, "demo")
    (consortium / "issue.lock").touch()
    with pytest.raises(StorageError, match=r"another `sangam pki issue` is at work.*issue\.lock"):
        issue(consortium, request_file, tmp_path / "out")
    assert current(consortium).version == 0
    (consortium / "issue.lock").unlink()
    issue(consortium, request_file, tmp_path / "out")
    assert not (consortium / "issue.lock").exists()


def test_a_crash_before_the_roster_is_in_place_leaves_the_old_one(consortium, tmp_path):
    (consortium / "roster.new").write_bytes(b"half a ros")
    request_file = consortiums.request_identity(tmp_path / "x", "x", Role.PARTICIPANT, "demo")
    issue(consortium, request_file, tmp_path / "out")
    assert current(consortium).version == 1
    assert not (consortium / "roster.new").exists()


def test_a_damaged_or_foreign_roster_is_refused(consortium, tmp_path):
    request_file = consortiums.request_identity(tmp_path / "x", "x", Role.PARTICIPANT, "demo")
    consortiums.initialise(tmp_path / "other", "demo", NOW, YEAR)
    (consortium / "roster.json").write_bytes((tmp_path / "other" / "roster.json").read_bytes())
    with pytest.raises(NotAdmitted, match="not signed"):
        issue(consortium, request_file, tmp_path / "out")
    (consortium / "roster.json").write_bytes(b"{}")
    with pytest.raises(MessageError):
        issue(consortium, request_file, tmp_path / "out")


def test_missing_files_are_named(consortium, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere\.pem: No such file"):
        issue(consortium, tmp_path / "nowhere.pem", tmp_path / "out")
    with pytest.raises(StorageError, match=r"authority\.pem: No such file"):
        issue(tmp_path / "nobody", tmp_path / "x", tmp_path / "out")


def run(*arguments):
    result = CliRunner().invoke(pki.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_commands_make_a_working_identity(tmp_path):
    consortium, site, out = tmp_path / "consortium", tmp_path / "site", tmp_path / "out"
    said = run("init", consortium, "--deployment", "demo").output
    said += run("request", "aiims-delhi", "--role", "participant", "--deployment", "demo", "--out", site).output
    said += run("issue", site / "request.pem", "--authority", consortium, "--out", out, "--days", "30").output
    for file in out.iterdir():
        file.rename(site / file.name)
    identity = Identity.load(site)
    identity.check(Role.PARTICIPANT, datetime.now(UTC))
    with pytest.raises(NotAdmitted, match="expired"):
        identity.check(Role.PARTICIPANT, datetime.now(UTC) + timedelta(days=31))
    fingerprints = re.findall(r"[0-9a-f]{64}", said)
    assert fingerprints == [identity.authority.fingerprint.hex()] * 2
    assert "PRIVATE" not in said


def test_the_commands_make_an_aggregator(tmp_path):
    consortium, hub, out = tmp_path / "consortium", tmp_path / "hub", tmp_path / "out"
    run("init", consortium, "--deployment", "demo")
    hosts = ("--host", "localhost", "--host", "10.0.0.5")
    run("request", "hub", "--role", "aggregator", *hosts, "--deployment", "demo", "--out", hub)
    with pytest.raises(SangamError, match="allows only participant"):
        run("issue", hub / "request.pem", "--authority", consortium, "--out", out)
    said = run("issue", hub / "request.pem", "--role", "aggregator", "--authority", consortium, "--out", out).output
    assert "hub is aggregator until" in said
    assert "roster" not in said


def test_faults_are_our_errors_for_the_top_level_to_print(tmp_path):
    with pytest.raises(ParameterError, match="use 1 to 63"):
        run("request", "AIIMS Delhi", "--deployment", "demo", "--out", tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("command", ["init", "request", "issue"])
def test_every_command_shows_an_example(command):
    assert f"Example: sangam pki {command}" in run(command, "--help").output
