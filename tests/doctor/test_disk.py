"""What the doctor says of files: every fault is really on the disk."""

from datetime import timedelta

import pytest

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE
from aggregator.doctor.disk import look_at_identity
from aggregator.doctor.examination import ROLES
from aggregator.doctor.finding import Level
from tests.consortium import VALID, Consortium
from tests.doctor.stage import now, site
from tests.loopback import aggregator, issued, operator


def looked(directory, at=None):
    told, identity = look_at_identity(directory, ROLES, at or now())
    return {finding.check: finding for finding in told}, identity


def test_a_site_in_order(tmp_path):
    told, identity = looked(site(tmp_path))
    assert [finding.level for finding in told.values()] == [Level.GOOD] * 4
    assert list(told) == ["files", "key", "certificate", "authority"]
    assert "site-0000 is participant of demo until 2220-01-01 00:00 UTC" in told["certificate"].says
    assert identity == Consortium.of(3).identities[0]


def test_an_operator_is_as_welcome_as_a_participant(tmp_path):
    told, identity = looked(site(tmp_path, operator()))
    assert told["certificate"].level is Level.GOOD
    assert identity is not None


@pytest.mark.parametrize("missing", [KEY_FILE, IDENTITY_FILE])
def test_a_missing_file_is_named_and_what_needs_it_is_skipped(tmp_path, missing):
    (site(tmp_path) / missing).unlink()
    told, identity = looked(tmp_path / "site")
    assert identity is None
    assert told["files"].level is Level.FAULT
    assert f"{missing}: No such file" in told["files"].says
    assert [told[check].level for check in ("key", "certificate", "authority")] == [Level.SKIPPED] * 3
    assert told["authority"].says == "not tried: first mend files"


def test_the_key_of_somebody_else(tmp_path):
    (site(tmp_path) / KEY_FILE).write_bytes(Consortium.of(3).identities[1].key_pem)
    told, _ = looked(tmp_path / "site")
    assert "the private key does not belong to the certificate of site-0000" in told["files"].says


@pytest.mark.parametrize(
    ("mode", "level", "says"),
    [
        (0o600, Level.GOOD, "its owner only"),
        (0o640, Level.WARNING, "mode 0640: its group can read"),
        (0o644, Level.FAULT, "mode 0644: every user of this machine can read"),
    ],
)
def test_who_may_read_the_key(tmp_path, mode, level, says):
    (site(tmp_path) / KEY_FILE).chmod(mode)
    told, identity = looked(tmp_path / "site")
    assert told["key"].level is level
    assert says in told["key"].says
    assert (f"chmod 600 {tmp_path}/site/key.pem" in told["key"].remedy) == (mode != 0o600)
    assert identity is not None


def test_another_role(tmp_path):
    told, identity = looked(site(tmp_path, aggregator()))
    assert identity is None
    assert told["certificate"].says == "hub is certified as aggregator, not as participant or operator"


def test_an_expired_certificate(tmp_path):
    told, identity = looked(site(tmp_path, issued("delhi", Role.PARTICIPANT, days=1, starts=-3)))
    assert identity is None
    assert told["certificate"].level is Level.FAULT
    assert "the certificate of delhi expired on 2" in told["certificate"].says
    assert "if this machine's clock (" in told["certificate"].remedy


def test_a_certificate_of_tomorrow(tmp_path):
    told, _ = looked(site(tmp_path, issued("delhi", Role.PARTICIPANT, starts=1)))
    assert told["certificate"].level is Level.FAULT
    assert "is not valid before" in told["certificate"].says


def test_a_certificate_that_ends_soon_still_works(tmp_path):
    told, identity = looked(site(tmp_path, issued("delhi", Role.PARTICIPANT, days=20)))
    assert identity is not None
    assert told["certificate"].level is Level.WARNING
    assert "18 more days" in told["certificate"].says
    assert "renewed" in told["certificate"].remedy


def test_an_expired_authority(tmp_path):
    told, _ = looked(site(tmp_path), at=VALID[1] + timedelta(days=1))
    assert told["authority"].level is Level.FAULT
    assert "the certificate of authority expired" in told["authority"].says
