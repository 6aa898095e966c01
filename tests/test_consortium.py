"""The consortium's directory: what it certifies and revokes, and that no crash leaves it in two minds."""

import errno
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from aggregator import consortium as consortiums
from aggregator import enrolment, files
from aggregator.crypto import roster as rosters
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import load_key, read_chain
from aggregator.crypto.ledger import State
from aggregator.crypto.request import sign_request
from aggregator.crypto.revocation import read_revoked
from aggregator.errors import MessageError, NameTaken, NotAdmitted, ParameterError, StorageError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
FILES = ["authority-key.pem", "authority.pem", "issued.jsonl", "revoked.txt", "roster.json"]


@pytest.fixture
def consortium(tmp_path):
    consortiums.initialise(tmp_path / "consortium", "demo", NOW, 10 * YEAR)
    return tmp_path / "consortium"


def ask(home, name, role=Role.PARTICIPANT, hosts=()):
    """A request from a new directory, with a new key."""
    count = len(list(home.glob(f"{name}*")))
    return enrolment.request_identity(home / f"{name}-{count}", name, role, "demo", hosts)


def issue(consortium, request_file, out=None, now=NOW, **options):
    out = out or request_file.parent / "out.pem"
    return consortiums.issue_identity(request_file, consortium, out, now, valid_for=YEAR, **options)


def enrol(consortium, name, role=Role.PARTICIPANT, hosts=(), **options):
    return issue(consortium, ask(consortium.parent, name, role, hosts), role=role, **options).certificate


def revoke(consortium, name=None, serial=None):
    return consortiums.revoke(consortium, NOW, "stolen", name=name, serial=serial)


def current(consortium):
    return consortiums.load_roster(consortium, Authority.load(consortium).certificate, NOW)


def names(consortium):
    return [certificate.name for certificate in current(consortium).certificates]


def revoked(consortium):
    return read_revoked(consortium / "revoked.txt")


def states(consortium):
    return [state for _, state in consortiums.load_ledger(consortium).states(NOW)]


def test_a_new_consortium_has_an_authority_and_an_empty_roster(consortium):
    assert sorted(os.listdir(consortium)) == FILES
    assert stat.S_IMODE((consortium / "authority-key.pem").stat().st_mode) == 0o600
    assert (current(consortium).version, len(current(consortium))) == (0, 0)
    assert revoked(consortium) == frozenset()


def test_a_consortium_is_never_overwritten(consortium):
    before = (consortium / "authority-key.pem").read_bytes()
    with pytest.raises(ParameterError, match="never overwritten"):
        consortiums.initialise(consortium, "demo", NOW, YEAR)
    assert (consortium / "authority-key.pem").read_bytes() == before


def test_participants_enter_the_roster_and_its_version_rises(consortium):
    delhi = enrol(consortium, "delhi")
    enrol(consortium, "cmc")
    assert (current(consortium).version, names(consortium)) == (2, ["cmc", "delhi"])
    assert current(consortium).index_of(delhi.fingerprint) == 1


def test_others_do_not_enter_the_roster(consortium):
    enrol(consortium, "hub", Role.AGGREGATOR, ("localhost", "10.0.0.5"))
    enrol(consortium, "auditor", Role.AUDITOR)
    assert (current(consortium).version, names(consortium)) == (0, [])


def test_one_file_goes_back_to_the_site(consortium, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request_file = ask(tmp_path, "delhi")
    given = consortiums.issue_identity(request_file, consortium, None, NOW, valid_for=YEAR)
    assert given.file.resolve() == tmp_path / "delhi.pem"
    authority = Authority.load(consortium).certificate
    assert read_chain((tmp_path / "delhi.pem").read_bytes()) == (given.certificate, authority)
    assert given.authority == authority
    again = consortiums.issue_identity(request_file, consortium, None, NOW, valid_for=YEAR)
    assert read_chain((tmp_path / "delhi.pem").read_bytes())[0] == again.certificate != given.certificate


def test_the_same_key_again_replaces_the_certificate(consortium):
    request_file = ask(consortium.parent, "delhi")
    old, new = (issue(consortium, request_file).certificate for _ in range(2))
    assert (current(consortium).version, current(consortium).certificates) == (2, (new,))
    assert states(consortium) == [State.REPLACED, State.VALID]
    with pytest.raises(NotAdmitted):
        current(consortium).index_of(old.fingerprint)


@pytest.mark.parametrize("role", [Role.PARTICIPANT, Role.OPERATOR])
def test_a_name_does_not_go_over_to_another_key(consortium, role):
    old = enrol(consortium, "delhi")
    with pytest.raises(NameTaken, match=f"delhi is certified with another key, serial {old.serial:#x}"):
        enrol(consortium, "delhi", role)
    assert (current(consortium).certificates, states(consortium)) == ((old,), [State.VALID])
    new = enrol(consortium, "delhi", role, replace=True)
    assert states(consortium) == [State.REVOKED, State.VALID]
    assert revoked(consortium) == {old.serial}
    assert current(consortium).certificates == ((new,) if role is Role.PARTICIPANT else ())


def test_a_key_does_not_go_over_to_another_name(consortium, tmp_path):
    request_file = ask(tmp_path, "delhi")
    issue(consortium, request_file)
    key = (request_file.parent / "key.pem").read_bytes()
    for name, role in (("mallory", Role.PARTICIPANT), ("delhi", Role.OPERATOR)):
        other = tmp_path / f"{name}-{role}"
        other.write_bytes(sign_request(load_key(key), name, role, "demo", ()))
        with pytest.raises(NotAdmitted, match=f"the key of this request of {name} is that of delhi, participant"):
            issue(consortium, other, tmp_path / "out.pem", role=role, replace=True)
    assert names(consortium) == ["delhi"]


def test_revocation_by_name_takes_a_participant_out(consortium):
    delhi, cmc = enrol(consortium, "delhi"), enrol(consortium, "cmc")
    assert revoke(consortium, "delhi") == (delhi,)
    assert (current(consortium).version, current(consortium).certificates) == (3, (cmc,))
    assert revoked(consortium) == {delhi.serial}
    mark = consortiums.load_ledger(consortium).revocations[delhi.serial]
    assert (mark.at, mark.reason) == (NOW, "stolen")
    assert "stolen" not in (consortium / "revoked.txt").read_text()


def test_revocation_by_serial_is_of_the_whole_key(consortium):
    request_file = ask(consortium.parent, "delhi")
    old, new = (issue(consortium, request_file).certificate for _ in range(2))
    enrol(consortium, "cmc")
    assert revoke(consortium, serial=old.serial) == (old, new)
    assert (names(consortium), revoked(consortium)) == (["cmc"], {old.serial, new.serial})


def test_revoking_one_who_is_not_a_participant_leaves_the_roster(consortium):
    lead = enrol(consortium, "lead", Role.OPERATOR)
    revoke(consortium, "lead")
    assert (current(consortium).version, revoked(consortium)) == (0, {lead.serial})


def test_revoking_again_changes_nothing(consortium):
    enrol(consortium, "delhi")
    revoke(consortium, "delhi")
    before = [(consortium / name).read_bytes() for name in FILES]
    assert revoke(consortium, "delhi") == ()
    assert [(consortium / name).read_bytes() for name in FILES] == before


def test_a_revoked_key_is_never_certified_again_but_the_name_may_be(consortium):
    request_file = ask(consortium.parent, "delhi")
    issue(consortium, request_file)
    revoke(consortium, "delhi")
    with pytest.raises(NotAdmitted, match="of delhi was revoked on 2026-01-01 00:00 UTC: ask with a new key"):
        issue(consortium, request_file, replace=True)
    new = enrol(consortium, "delhi")
    assert current(consortium).certificates == (new,)


def test_nobody_to_revoke(consortium):
    with pytest.raises(ParameterError, match="nobody was certified here under the name delhi"):
        revoke(consortium, "delhi")
    with pytest.raises(ParameterError, match="no certificate with the serial 0x7b was issued here"):
        revoke(consortium, serial=123)
    for both in ({}, {"name": "delhi", "serial": 1}):
        with pytest.raises(ParameterError, match="either a name or a serial"):
            revoke(consortium, **both)


def test_a_role_that_was_not_allowed_is_refused(consortium, tmp_path):
    before = (consortium / "issued.jsonl").read_bytes()
    with pytest.raises(ParameterError, match="asks for the role aggregator"):
        issue(consortium, ask(tmp_path, "x", Role.AGGREGATOR, ("localhost",)), tmp_path / "out.pem")
    assert not (tmp_path / "out.pem").exists()
    assert sorted(os.listdir(consortium)) == FILES
    assert (consortium / "issued.jsonl").read_bytes() == before


def test_another_file_in_the_way_is_refused_before_anything_changes(consortium, tmp_path):
    request_file = ask(tmp_path, "delhi")
    enrol(consortium, "cmc")
    cmc = next(tmp_path.glob("cmc*")) / "out.pem"
    (tmp_path / "thesis").write_bytes(b"precious")
    for path, match in ((tmp_path / "thesis", "is no identity"), (cmc, "is not delhi's")):
        before = path.read_bytes()
        with pytest.raises(ParameterError, match=f"exists already and {match}: choose another file"):
            issue(consortium, request_file, path)
        assert path.read_bytes() == before
    assert names(consortium) == ["cmc"]


def test_only_one_process_writes(consortium, tmp_path):
    request_file = ask(tmp_path, "x")
    (consortium / "issue.lock").touch()
    for write in (lambda: issue(consortium, request_file), lambda: revoke(consortium, "x")):
        with pytest.raises(StorageError, match=r"another `sangam pki` command is at work.*issue\.lock"):
            write()
    assert current(consortium).version == 0
    (consortium / "issue.lock").unlink()
    issue(consortium, request_file)
    assert sorted(os.listdir(consortium)) == FILES


def test_a_full_roster_is_refused_before_anything_is_written(consortium, monkeypatch):
    monkeypatch.setattr(consortiums, "CERTIFICATES_MAX", 1)
    delhi = ask(consortium.parent, "delhi")
    issue(consortium, delhi)
    before = (consortium / "issued.jsonl").read_bytes()
    with pytest.raises(ParameterError, match="the roster holds 1 participants"):
        enrol(consortium, "cmc")
    assert (consortium / "issued.jsonl").read_bytes() == before
    issue(consortium, delhi)
    enrol(consortium, "lead", Role.OPERATOR)


class PowerCut(BaseException):
    """Nothing runs after it."""


FAULTS = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), PowerCut()]


def watch_signing(consortium, patch):
    """The versions that are signed from now on; each must stand in the ledger before it is."""
    versions = []
    real = rosters.sign_roster

    def spy(authority, certificates, version):
        assert consortiums.load_ledger(consortium).version == version
        versions.append(version)
        return real(authority, certificates, version)

    patch.setattr(rosters, "sign_roster", spy)
    return versions


class Disk:
    """Lets so many durable steps pass, each an fsync or a name replaced; every later one fails."""

    def __init__(self, steps, fault, patch):
        self.steps, self.fault, self.failed = steps, fault, False
        patch.setattr(os, "fsync", self._guarded(os.fsync))
        patch.setattr(os, "replace", self._guarded(os.replace))

    def _guarded(self, real):
        def step(*arguments):
            self.steps -= 1
            self.failed = self.steps < 0
            if self.failed:
                raise self.fault
            return real(*arguments)

        return step


@pytest.mark.parametrize("fault", FAULTS, ids=["full disk", "power cut"])
@pytest.mark.parametrize("deed", ["issue", "renew", "replace", "revoke"])
def test_wherever_it_stops_running_it_again_finishes_it(tmp_path, monkeypatch, deed, fault):
    count, whole = 0, False
    while not whole:
        whole = stop_and_go_on(tmp_path / str(count), monkeypatch, deed, count, fault)
        count += 1
    assert count > 5  # that many steps can fail


def stop_and_go_on(home, monkeypatch, deed, count, fault):
    """One command that the disk stops after `count` steps, then again without; whether it did not stop at all."""
    consortium = home / "consortium"
    consortiums.initialise(consortium, "demo", NOW, 10 * YEAR)
    enrol(consortium, "cmc")
    first = ask(home, "delhi")
    if deed != "issue":
        issue(consortium, first)
    again = ask(home, "delhi") if deed == "replace" else first

    def run():
        if deed == "revoke":
            revoke(consortium, "delhi")
        else:
            issue(consortium, again, home / "delhi.pem", replace=deed == "replace")

    said = "No space left on device"
    with monkeypatch.context() as patch:
        signed = watch_signing(consortium, patch)
        disk = Disk(count, fault, patch)
        try:
            run()
        except (PowerCut, StorageError) as stop:
            said = str(stop)
    assert isinstance(fault, PowerCut) or said.endswith("No space left on device")
    with monkeypatch.context() as patch:
        signed_then = watch_signing(consortium, patch)
        run()
    newest = consortiums.load_ledger(consortium).holders()
    assert current(consortium).certificates == tuple(newest[name] for name in sorted(newest))
    assert ("delhi" in newest) == (deed != "revoke")
    assert revoked(consortium) == set(consortiums.load_ledger(consortium).revocations)
    if deed in ("revoke", "replace"):
        assert revoked(consortium)
    if deed != "revoke":
        assert read_chain((home / "delhi.pem").read_bytes())[0] == newest["delhi"]
    assert not set(signed) & set(signed_then), "a version was signed twice"
    return not disk.failed


@pytest.mark.parametrize("deed", ["initialise", "request"])
def test_a_full_disk_leaves_no_half_of_new_files(tmp_path, monkeypatch, deed):
    def run():
        if deed == "initialise":
            return consortiums.initialise(tmp_path / "new", "demo", NOW, YEAR)
        return enrolment.request_identity(tmp_path / "new", "delhi", Role.PARTICIPANT, "demo")

    steps = 6 if deed == "initialise" else 3  # a file each, and the directory
    for count in range(steps):
        with monkeypatch.context() as patch:
            Disk(count, FAULTS[0], patch)
            with pytest.raises(StorageError, match=r"cannot write into .*new: No space left on device"):
                run()
        assert os.listdir(tmp_path / "new") == []
    with monkeypatch.context() as patch:
        Disk(steps, FAULTS[0], patch)
        run()


def test_half_a_line_in_the_ledger_is_cut_off_by_the_next_command(consortium):
    enrol(consortium, "cmc")
    whole = (consortium / "issued.jsonl").read_bytes()
    (consortium / "issued.jsonl").write_bytes(whole + b'{"event": "issued", "na')
    enrol(consortium, "delhi")
    assert (consortium / "issued.jsonl").read_bytes().startswith(whole + b'{"event": "issued", "name": "delhi"')
    assert names(consortium) == ["cmc", "delhi"]


def test_half_a_roster_from_a_crash_is_no_hindrance(consortium):
    (consortium / "roster.json.new").write_bytes(b"half a ros")
    enrol(consortium, "x")
    assert current(consortium).version == 1
    assert sorted(os.listdir(consortium)) == FILES


def test_files_out_of_an_older_backup(consortium):
    enrol(consortium, "delhi")
    ledger, roster = ((consortium / name).read_bytes() for name in ("issued.jsonl", "roster.json"))
    enrol(consortium, "cmc")
    (consortium / "roster.json").write_bytes(roster)
    revoke(consortium, "delhi")
    assert (current(consortium).version, names(consortium)) == (3, ["cmc"])
    (consortium / "issued.jsonl").write_bytes(ledger)
    with pytest.raises(StorageError, match=r"issued.jsonl ends with version 1, but roster.json is version 3: restore"):
        revoke(consortium, "delhi")


def test_an_older_roster_with_the_same_members_is_signed_anew(consortium):
    enrol(consortium, "delhi")
    roster = (consortium / "roster.json").read_bytes()
    enrol(consortium, "cmc")
    revoke(consortium, "cmc")
    (consortium / "roster.json").write_bytes(roster)
    revoke(consortium, "cmc")
    assert (current(consortium).version, names(consortium)) == (4, ["delhi"])


def test_a_lost_list_of_the_revoked_comes_back(consortium):
    delhi = enrol(consortium, "delhi")
    revoke(consortium, "delhi")
    (consortium / "revoked.txt").unlink()
    revoke(consortium, "delhi")
    assert revoked(consortium) == {delhi.serial}


def test_a_damaged_or_foreign_roster_is_refused(consortium, tmp_path):
    request_file = ask(tmp_path, "x")
    consortiums.initialise(tmp_path / "other", "demo", NOW, YEAR)
    ledger = (consortium / "issued.jsonl").read_bytes()
    (consortium / "roster.json").write_bytes((tmp_path / "other" / "roster.json").read_bytes())
    with pytest.raises(NotAdmitted, match="not signed"):
        issue(consortium, request_file)
    (consortium / "roster.json").write_bytes(b"{}")
    with pytest.raises(MessageError):
        issue(consortium, request_file)
    assert (consortium / "issued.jsonl").read_bytes() == ledger


def test_missing_files_are_named(consortium, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere\.pem: No such file"):
        issue(consortium, tmp_path / "nowhere.pem")
    with pytest.raises(StorageError, match=r"authority\.pem: No such file"):
        revoke(tmp_path / "nobody", "x")
    (consortium / "issued.jsonl").unlink()
    with pytest.raises(StorageError, match=r"issued\.jsonl: No such file"):
        revoke(consortium, "x")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.replace_file(path, b"old")
    with monkeypatch.context() as patch:
        Disk(1, FAULTS[0], patch)
        with pytest.raises(StorageError, match=r"cannot write .*file: No space left on device"):
            files.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    files.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444
