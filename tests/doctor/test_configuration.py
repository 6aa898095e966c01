"""What `sangam config check` says: each fault is really in a file."""

from datetime import timedelta

import pytest

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE
from aggregator.crypto.roster import sign_roster
from aggregator.doctor import configuration
from aggregator.doctor.configuration import check_files, check_settings
from aggregator.doctor.finding import Level
from aggregator.settings import Settings
from tests.consortium import Consortium
from tests.doctor.stage import certified, foreign, levels, now, site
from tests.loopback import aggregator, configured, issued

CHECKS = ["files", "key", "certificate", "authority", "roster", "revoked", "staging", "state", "metrics"]


def checked(tmp_path, at=None, **config):
    server = configured(tmp_path, Consortium.of(3), **{"state": tmp_path / "new" / "state"} | config)
    told = {f.check: f for f in check_files(server, at or now())}
    assert list(told) == CHECKS
    return told


def test_a_server_that_would_start(tmp_path):
    revoked = tmp_path / "revoked.txt"
    revoked.write_text("0x1f\n2\n")
    told = checked(tmp_path, revoked=revoked, staging_directory=tmp_path)
    assert levels(told, Level.GOOD) == CHECKS
    assert "hub is aggregator of demo until" in told["certificate"].says
    assert told["roster"].says.endswith("roster.json is version 1, with 3 participants")
    assert told["revoked"].says.endswith("revokes 2 certificates")
    assert f"staged; in {tmp_path} " in told["staging"].says
    assert f"goes to {tmp_path}/new/state; in {tmp_path} " in told["state"].says
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "revoked.txt", "roster.json"]


@pytest.mark.parametrize(
    ("config", "level", "says"),
    [
        ({"metrics": "[::]:9464"}, Level.GOOD, "[::]:9464, over mutual TLS to operators"),
        ({"metrics": "[::1]:9464", "insecure_loopback": True}, Level.GOOD, "in the clear, to all who are on this"),
        ({"metrics": "[::]:9464", "insecure_loopback": True}, Level.FAULT, "[::]:9464 is not loopback"),
    ],
)
def test_where_metrics_are_shown(tmp_path, config, level, says):
    told = checked(tmp_path, **config)
    assert told["metrics"].level is level
    assert says in told["metrics"].says


def test_the_roster_of_another_consortium(tmp_path):
    other = tmp_path / "other.json"
    other.write_bytes(sign_roster(foreign(), (), 3).to_bytes())
    told = checked(tmp_path, roster=other)
    assert levels(told, Level.FAULT) == ["roster"]
    assert "other.json: roster version 3 is not signed by this authority" in told["roster"].says


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"{", "not a JSON file")])
def test_a_roster_that_cannot_be_read(tmp_path, content, says):
    if content is not None:
        (tmp_path / "damaged.json").write_bytes(content)
    assert says in checked(tmp_path, roster=tmp_path / "damaged.json")["roster"].says


def test_a_roster_of_nobody_works_for_nobody(tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_bytes(sign_roster(Consortium.of(3).authority, (), 0).to_bytes())
    assert checked(tmp_path, roster=empty)["roster"].level is Level.WARNING


def test_a_roster_of_expired_certificates(tmp_path):
    old = issued("delhi", Role.PARTICIPANT, days=1, starts=-3).certificate
    path = tmp_path / "old.json"
    path.write_bytes(sign_roster(Consortium.of(3).authority, (old,), 2).to_bytes())
    told = checked(tmp_path, roster=path)
    assert told["roster"].level is Level.WARNING
    assert "with 1 participants, 1 of them expired" in told["roster"].says


@pytest.mark.parametrize(
    ("who", "says"),
    [
        (Consortium.of(3).identities[0], "site-0000 is certified as participant, not as aggregator"),
        (issued("hub", Role.AGGREGATOR, ("localhost",), days=1, starts=-3), "the certificate of hub expired on"),
    ],
)
def test_an_identity_that_may_not_serve(tmp_path, who, says):
    told = checked(tmp_path, identity=site(tmp_path, who))
    assert told["certificate"].level is Level.FAULT
    assert says in told["certificate"].says
    assert levels(told, Level.SKIPPED) == ["roster"]


def test_an_identity_that_is_not_there(tmp_path):
    told = checked(tmp_path, identity=tmp_path / "nobody")
    assert "cannot read" in told["files"].says
    assert levels(told, Level.SKIPPED) == ["key", "certificate", "authority", "roster"]


def test_a_certificate_that_ends_within_a_month_is_a_warning(tmp_path):
    soon = aggregator().certificate.not_after - timedelta(days=29)
    assert checked(tmp_path, at=soon)["certificate"].level is Level.WARNING


def test_a_key_that_others_can_read(tmp_path):
    (site(tmp_path, aggregator()) / KEY_FILE).chmod(0o644)
    told = checked(tmp_path, identity=tmp_path / "site")
    assert levels(told, Level.FAULT) == ["key"]


def test_revoked_serials_that_cannot_be_read(tmp_path):
    path = tmp_path / "revoked.txt"
    path.write_text("first\n")
    told = checked(tmp_path, revoked=path)
    assert levels(told, Level.FAULT) == ["revoked"]
    assert "one serial number per line" in told["revoked"].says


def test_a_server_that_is_revoked_itself(tmp_path):
    path = tmp_path / "revoked.txt"
    path.write_text(f"{aggregator().certificate.serial}\n")
    assert "revokes this server's own certificate, hub" in checked(tmp_path, revoked=path)["revoked"].says


def test_a_staging_directory_that_is_not_there(tmp_path):
    told = checked(tmp_path, staging_directory=tmp_path / "nowhere")
    assert levels(told, Level.FAULT) == ["staging"]
    assert f"nothing can be written into {tmp_path}/nowhere: No such file" in told["staging"].says


def test_a_server_that_keeps_nothing_is_a_warning(tmp_path):
    told = checked(tmp_path, state=None)
    assert levels(told, Level.WARNING) == ["state"]
    assert "nothing outlives the server" in told["state"].says


def test_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration, "STAGING_FREE_BYTES", 1 << 62)
    assert checked(tmp_path, staging_directory=tmp_path)["staging"].level is Level.WARNING


def test_wrong_values_come_first_and_files_are_not_looked_at():
    told = list(check_settings(Settings({}, {}), now(), []))
    assert [finding.check for finding in told] == ["values"] * 2 + CHECKS[:1] + CHECKS[4:]
    assert [finding.level for finding in told] == [Level.FAULT] * 2 + [Level.SKIPPED] * 6


def test_strangers_in_the_environment_are_mentioned(tmp_path):
    config = configured(tmp_path, Consortium.of(3))
    given = {"identity": str(config.identity), "roster": str(config.roster), "listen": "localhost:0"}
    told = list(check_settings(Settings(given, dict.fromkeys(given, "x")), now(), ["SANGAM_PORT"]))
    assert told[0].says == "the server would listen on localhost:0"
    assert told[1].level is Level.WARNING
    assert told[1].says == "not ours, and ignored: SANGAM_PORT"
    assert [finding.check for finding in told[2:]] == CHECKS


def test_an_aggregator_of_another_consortium_does_not_fit_this_roster(tmp_path):
    told = checked(tmp_path, identity=site(tmp_path, certified(foreign("elsewhere"))))
    assert "a roster of demo, the authority is of elsewhere" in told["roster"].says
    assert (tmp_path / "site" / IDENTITY_FILE).exists()
