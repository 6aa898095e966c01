"""`sangam pki` as people type it: the help's examples and the guide's lines are run as they are written."""

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aggregator import consortium as consortiums
from aggregator.command import pki
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import MessageError, NotAdmitted, ParameterError, SangamError

GUIDE = Path(__file__).parents[2] / "docs" / "consortium.md"
AUTHORITY = ("--authority", "consortium")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(pki.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def type_in(line):
    """A line of a shell, as it is written."""
    words = shlex.split(line, comments=True)
    assert words[:2] == ["sangam", "pki"]
    return run(*words[2:])


def enrol(name="delhi", *more, site=None):
    """The whole flow of one site."""
    site = site or name
    said = run("request", name, "--deployment", "demo", "--out", site, *more)
    said += run("issue", f"{site}/request.pem", *AUTHORITY, *more[:2])
    return said + run("install", f"{name}.pem", "--identity", site)


@pytest.fixture
def consortium():
    return run("init", "consortium", "--deployment", "demo")


def test_the_guides_lines_work_as_they_are_written():
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("sangam pki ")]
    used = {line.split()[2] for line in lines}
    assert used == {"init", "request", "issue", "install", "list", "renew", "revoke"}
    for line in lines:
        type_in(line)
    identities = [Identity.load(Path(name)) for name in ("hub", "site", "operator", "keyholder", "auditor", "new-site")]
    states = [entry["state"] for entry in json.loads(run("list", *AUTHORITY, "--json"))]
    roles = [identity.certificate.role for identity in identities]
    parties = [Role.KEY_HOLDER, Role.AUDITOR]
    assert roles == [Role.AGGREGATOR, Role.PARTICIPANT, Role.OPERATOR, *parties, Role.PARTICIPANT]
    assert sorted(states) == ["revoked"] * 2 + ["valid"] * 5
    roster = consortiums.load_roster(Path("consortium"), identities[0].authority, datetime.now(UTC))
    assert roster.certificates == (identities[-1].certificate,)


def test_the_commands_that_the_guide_speaks_of_in_passing():
    run("init", "consortium", "--deployment", "demo")
    said = enrol("aiims-delhi", site="site")
    text = GUIDE.read_text()
    (shown,) = re.findall(r"`(sangam pki show [^`]*)`", text)
    (key,) = re.findall(r"^Key .*: ([0-9a-f]{64})$", said, re.M)
    assert f"key {key}" in type_in(shown)
    for option in re.findall(r"--[a-z-]+", text.partition("## Serving")[0]):
        assert option in " ".join(run(command, "--help") for command in commands())


def commands():
    return typer.main.get_command(pki.app).commands


def test_every_examples_line_works_as_it_is_written():
    order = ["init", "request", "issue", "install", "renew", "list", "show", "revoke"]
    assert sorted(order) == sorted(commands())
    for name in order:
        help_text = commands()[name].help
        (example,) = re.findall(r"Example: \[bold\](.*?)\[/bold\]", help_text)
        assert example.startswith(f"sangam pki {name} ")
        type_in(example)
    for name in ("request", "issue"):
        (example,) = re.findall(r"Aggregator: \[bold\](.*?)\[/bold\]", commands()[name].help)
        type_in(example)


def test_the_fingerprint_is_told_until_it_is_given(consortium):
    said = consortium + enrol()
    fingerprints = re.findall(r"^Authority .*: ([0-9a-f]{64})$", said, re.M)
    authority = Identity.load(Path("delhi")).authority
    assert fingerprints == [authority.fingerprint.hex()] * 3
    assert "PRIVATE" not in said
    given = ("--authority-fingerprint", fingerprints[0])
    assert "Authority" not in run("install", "delhi.pem", "--identity", "delhi", *given)
    with pytest.raises(NotAdmitted, match="not the one expected"):
        run("install", "delhi.pem", "--identity", "delhi", "--authority-fingerprint", "0" * 64)


@pytest.mark.usefixtures("consortium")
def test_a_certificate_lasts_for_the_days_that_were_said():
    run("request", "delhi", "--deployment", "demo", "--out", "delhi")
    run("issue", "delhi/request.pem", *AUTHORITY, "--days", "30", "--out", "out/here.pem")
    run("install", "out/here.pem", "--identity", "delhi")
    identity, now = Identity.load(Path("delhi")), datetime.now(UTC)
    identity.check(Role.PARTICIPANT, now)
    with pytest.raises(NotAdmitted, match="expired"):
        identity.check(Role.PARTICIPANT, now + timedelta(days=31))


@pytest.mark.usefixtures("consortium")
def test_an_aggregator_is_named_with_its_hosts():
    hosts = ("--host", "localhost", "--host", "10.0.0.5")
    run("request", "hub", "--role", "aggregator", *hosts, "--deployment", "demo", "--out", "hub")
    with pytest.raises(SangamError, match="allows only participant"):
        run("issue", "hub/request.pem", *AUTHORITY)
    said = run("issue", "hub/request.pem", "--role", "aggregator", *AUTHORITY)
    assert re.match(r"hub is aggregator until .*, at localhost, 10\.0\.0\.5\.", said)
    assert "roster" not in said


@pytest.mark.usefixtures("consortium")
def test_the_list_for_programs_and_for_people(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    enrol("delhi")
    enrol("lead", "--role", "operator")
    run("revoke", "delhi", *AUTHORITY, "--reason", "stolen [bold]laptop[/bold]")
    delhi, lead = (Identity.load(Path(name)).certificate for name in ("delhi", "lead"))
    entries = json.loads(run("list", *AUTHORITY, "--json"))
    assert [entry["name"] for entry in entries] == ["delhi", "lead"]
    assert entries[1] == {
        "name": "lead",
        "role": "operator",
        "serial": f"{lead.serial:#x}",
        "not_before": lead.not_before.isoformat(),
        "not_after": lead.not_after.isoformat(),
        "expires_in_days": 364,
        "state": "valid",
        "revoked_at": None,
        "reason": None,
    }
    assert (entries[0]["state"], entries[0]["reason"]) == ("revoked", "stolen [bold]laptop[/bold]")
    assert datetime.fromisoformat(entries[0]["revoked_at"]) >= delhi.not_before
    table = run("list", *AUTHORITY)
    for certificate in (delhi, lead):
        assert f"{certificate.serial:#x}" in table
    for word in (
        "name",
        "role",
        "expires",
        "364",
        "participant",
        "operator",
        "revoked",
        "valid",
        "stolen [bold]laptop[/bold]",
    ):
        assert word in table


@pytest.mark.usefixtures("consortium")
def test_what_is_about_to_end():
    for name, days in (("a", "10"), ("b", "100"), ("c", "20"), ("d", "1")):
        run("request", name, "--deployment", "demo", "--out", name)
        run("issue", f"{name}/request.pem", *AUTHORITY, "--days", days)
    run("issue", "a/request.pem", *AUTHORITY)
    run("revoke", "d", *AUTHORITY, "--reason", "left")

    def expiring(days):
        return [entry["name"] for entry in json.loads(run("list", *AUTHORITY, "--json", "--expiring", days))]

    assert (expiring(30), expiring(150), expiring(0)) == (["c"], ["b", "c"], [])


@pytest.mark.usefixtures("consortium")
def test_revoking_says_what_it_did():
    enrol("delhi")
    serial = f"{Identity.load(Path('delhi')).certificate.serial:x}"
    said = run("revoke", "--serial", serial, *AUTHORITY, "--reason", "stolen")
    assert f"delhi, participant, serial 0x{serial} is revoked." in said
    assert "delhi was revoked already." in run("revoke", "delhi", *AUTHORITY, "--reason", "stolen")
    with pytest.raises(ParameterError, match="--serial 12xy: a serial number is hexadecimal"):
        run("revoke", "--serial", "12xy", *AUTHORITY, "--reason", "stolen")
    enrol("cmc")
    with pytest.raises(ParameterError, match="say why, in one line"):
        run("revoke", "cmc", *AUTHORITY, "--reason", " ")


@pytest.mark.usefixtures("consortium")
def test_what_is_in_every_file():
    enrol("delhi")
    enrol("hub", "--role", "aggregator", "--host", "hub.example.org")
    delhi = Identity.load(Path("delhi"))
    serial, fingerprint = f"serial {delhi.certificate.serial:#x}", f"fingerprint {delhi.certificate.fingerprint.hex()}"
    request, identity = run("show", "hub/request.pem"), run("show", "delhi/identity.pem")
    assert request.startswith("a signing request: hub, aggregator of demo\n  hosts hub.example.org\n  key ")
    assert identity.startswith("an identity\na certificate: delhi, participant of demo\n  from ")
    assert serial in identity
    assert fingerprint in identity
    assert "issued by the authority below: yes\nan authority of demo\n" in identity
    assert delhi.authority.fingerprint.hex() in run("show", "consortium/authority.pem")
    roster = run("show", "consortium/roster.json")
    assert roster.startswith("a roster of demo: version 1, 1 participants\n  root ")
    assert re.search(rf"   0  delhi, until .* UTC, {serial}\n", roster)


@pytest.mark.usefixtures("consortium")
def test_an_identity_with_another_authority_is_shown_for_what_it_is():
    enrol("delhi")
    run("init", "other", "--deployment", "demo")
    own = Identity.load(Path("delhi")).certificate.pem
    Path("false.pem").write_bytes(own + Path("other/authority.pem").read_bytes())
    assert "issued by the authority below: NO" in run("show", "false.pem")


def test_what_cannot_be_shown(home):
    run("request", "delhi", "--deployment", "demo", "--out", "delhi")
    with pytest.raises(ParameterError, match="nothing to show: this is a private key"):
        run("show", "delhi/key.pem")
    (home / "x").write_bytes(b"x")
    with pytest.raises(ParameterError, match="nothing to show: this is no PEM file of ours"):
        run("show", "x")
    (home / "x").write_bytes(b"{}")
    with pytest.raises(MessageError, match="roster: needs exactly"):
        run("show", "x")


def test_faults_are_our_errors_for_the_top_level_to_print(home):
    with pytest.raises(ParameterError, match="use 1 to 63"):
        run("request", "AIIMS Delhi", "--deployment", "demo", "--out", "site")
    assert not (home / "site").exists()
