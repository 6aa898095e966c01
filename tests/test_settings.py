"""Where settings come from, which of them counts, and what a wrong one gets."""

from pathlib import Path

import pytest

from aggregator.config import LogFormat, ServerConfig
from aggregator.errors import ParameterError, StorageError
from aggregator.settings import NAMES, ignored_variables, read_settings, split_address

NEEDED = 'identity = "hub"\nroster = "roster.json"\n'


@pytest.fixture
def written(tmp_path):
    """Writes hub.toml; its path."""

    def write(text):
        (tmp_path / "hub.toml").write_text(text)
        return tmp_path / "hub.toml"

    return write


def test_only_identity_and_roster_must_be_said(written, tmp_path):
    config = read_settings(written(NEEDED)).config
    assert config == ServerConfig("[::]:7443", tmp_path / "hub", tmp_path / "roster.json", state=tmp_path / "hub/state")


def test_every_setting_can_be_written(written, tmp_path):
    text = """
        listen = "localhost:0"
        identity = "/etc/sangam/hub"
        roster = "lists/roster.json"
        staging_mib = 1
        spool_mib = 3
        staging_directory = "staging"
        state = "state"
        ephemeral = false
        fsync = false
        drain_s = 3
        revoked = "lists/revoked.txt"
        reload_s = 0
        keepalive_s = 15.5
        task_creators = ["alice", "bob"]
        tasks_max = 7
        rounds_max = 8
        ckks = true
        ckks_mib = 2
        metrics = "127.0.0.1:9464"
        insecure_loopback = true
        log_format = "json"
    """
    expected = ServerConfig(
        address="localhost:0",
        identity=Path("/etc/sangam/hub"),
        roster=tmp_path / "lists/roster.json",
        staging_bytes=1 << 20,
        spool_bytes=3 << 20,
        staging_directory=tmp_path / "staging",
        state=tmp_path / "state",
        fsync=False,
        drain_s=3,
        revoked=tmp_path / "lists/revoked.txt",
        reload_s=0,
        keepalive_s=15.5,
        task_creators=("alice", "bob"),
        tasks_max=7,
        rounds_max=8,
        ckks=True,
        ckks_bytes=2 << 20,
        metrics="127.0.0.1:9464",
        insecure_loopback=True,
        log_format=LogFormat.JSON,
    )
    settings = read_settings(written(text))
    assert settings.config == expected
    assert set(settings.given) == set(NAMES)


def test_the_environment_overrules_the_file_and_options_overrule_both(written, monkeypatch):
    file = written(NEEDED + "tasks_max = 1\nkeepalive_s = 1\nreload_s = 1\n")
    monkeypatch.setenv("SANGAM_KEEPALIVE_S", "2")
    monkeypatch.setenv("SANGAM_RELOAD_S", "2")
    monkeypatch.setenv("SANGAM_TASK_CREATORS", "alice, bob")
    settings = read_settings(file, {"reload_s": 3, "identity": Path("here"), "listen": None})
    config = settings.config
    assert (config.tasks_max, config.keepalive_s, config.reload_s) == (1, 2, 3)
    assert config.task_creators == ("alice", "bob")
    assert config.identity == Path("here")
    effective = settings.effective()
    assert list(effective) == list(NAMES)
    assert effective["tasks_max"] == (1, f"{file}: tasks_max")
    assert effective["keepalive_s"] == (2, "SANGAM_KEEPALIVE_S")
    assert effective["reload_s"] == (3, "--reload-s")
    assert effective["listen"] == ("[::]:7443", "default")


def test_the_environment_names_the_file_and_the_command_line_another(written, monkeypatch, tmp_path):
    monkeypatch.setenv("SANGAM_CONFIG", str(written(NEEDED + "tasks_max = 5")))
    assert read_settings().config.tasks_max == 5
    (tmp_path / "other.toml").write_text(NEEDED)
    assert read_settings(tmp_path / "other.toml").config.tasks_max == 1_000


def test_an_empty_variable_is_not_said(written, monkeypatch):
    monkeypatch.setenv("SANGAM_REVOKED", "")
    monkeypatch.setenv("SANGAM_CONFIG", "")
    assert read_settings(written(NEEDED)).config.revoked is None
    assert read_settings(None, {"identity": Path("a"), "roster": Path("b")}).config.identity == Path("a")


WRONG = [
    ("stagin_mib = 1", "{file}: stagin_mib is no setting: did you mean staging_mib?"),
    ("[server]\nx = 1", "{file}: server is no setting: "),
    ("zzz = 1", "{file}: zzz is no setting: there are listen, identity, roster,"),
    ("staging_mib = 'much'", "{file}: staging_mib must be a whole number of MiB from 0, not 'much'"),
    ("staging_mib = 1.5", "{file}: staging_mib must be a whole number of MiB from 0, not 1.5"),
    ("staging_mib = true", "{file}: staging_mib must be a whole number of MiB from 0, not True"),
    ("staging_mib = -1", "{file}: staging_mib must be a whole number of MiB from 0, not -1"),
    ("reload_s = -1", "{file}: reload_s must be seconds from 0 (on SIGHUP only) to 86400, not -1"),
    ("reload_s = nan", "{file}: reload_s must be seconds from 0 (on SIGHUP only) to 86400, not nan"),
    ("keepalive_s = 0", "{file}: keepalive_s must be seconds from 1 to 7200, not 0"),
    ("tasks_max = 0", "{file}: tasks_max must be a whole number from 1 to 1000000, not 0"),
    ("task_creators = 'alice'", "{file}: task_creators must be a list of operators' names, not 'alice'"),
    ("task_creators = ['Alice']", "{file}: task_creators must be a list of operators' names, not ['Alice']"),
    ("listen = 7443", "{file}: listen must be host:port; port 0 lets the system choose, not 7443"),
    ("listen = 'hub'", "{file}: listen must be host:port; port 0 lets the system choose, not 'hub'"),
    ("metrics = 9464", "{file}: metrics must be host:port, not 9464"),
    ("metrics = '127.0.0.1'", "{file}: metrics must be host:port, not '127.0.0.1'"),
    ("insecure_loopback = 'perhaps'", "{file}: insecure_loopback must be true or false, not 'perhaps'"),
    ("log_format = 'xml'", "{file}: log_format must be text or json, not 'xml'"),
    ("revoked = 3", "{file}: revoked must be a file of revoked serial numbers, one per line, not 3"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[text for text, _ in WRONG])
def test_a_wrong_setting_is_named_with_its_file(written, text, sentence):
    file = written(NEEDED + text)
    settings = read_settings(file)
    assert [fault for fault in settings.faults if fault.startswith(sentence.format(file=file))] == list(settings.faults)
    assert len(settings.faults) == 1
    with pytest.raises(ParameterError) as told:
        _ = settings.config
    assert str(told.value) == settings.faults[0]
    assert "\n" not in settings.faults[0]


def test_a_wrong_variable_and_a_wrong_option_are_named_as_such(written, monkeypatch):
    monkeypatch.setenv("SANGAM_RELOAD_S", "soon")
    settings = read_settings(written(NEEDED), {"listen": "::1:x", "task_creators": ["A"]})
    assert sorted(fault.split()[0] for fault in settings.faults) == ["--listen", "--task-creators", "SANGAM_RELOAD_S"]
    with pytest.raises(ParameterError, match="; ") as told:
        settings.effective()
    assert str(told.value).count("must be") == 3


def test_what_must_be_said_and_is_not():
    faults = read_settings().faults
    assert "identity is not set: give --identity, SANGAM_IDENTITY, or identity = ... in the file of --config" in faults
    assert len(faults) == 2


def test_a_misspelt_variable_is_a_fault_and_a_stranger_is_not(written, monkeypatch):
    monkeypatch.setenv("SANGAM_PORT_7443_TCP_ADDR", "10.0.0.1")  # as orchestrators name a service's address
    monkeypatch.setenv("SANGAM_SERVICE_HOST", "10.0.0.1")
    settings = read_settings(written(NEEDED))
    assert settings.faults == ()
    assert ignored_variables() == ["SANGAM_PORT_7443_TCP_ADDR", "SANGAM_SERVICE_HOST"]
    monkeypatch.setenv("SANGAM_REVOKE", "list")
    faults = read_settings(written(NEEDED)).faults
    assert faults == ("SANGAM_REVOKE is no setting: did you mean SANGAM_REVOKED?",)


def test_a_file_that_is_not_there_or_not_toml(tmp_path, written):
    with pytest.raises(StorageError, match=r"cannot read .*none\.toml: there is no such file"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(ParameterError, match=r"hub\.toml is not a TOML file: .*line 1"):
        read_settings(written("listen: hub"))
    with pytest.raises(ParameterError, match=r"hub\.toml is not a TOML file"):
        read_settings(written("listen = " + "[" * 5_000))
    (tmp_path / "hub.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ParameterError, match=r"hub\.toml is not a TOML file"):
        read_settings(tmp_path / "hub.toml")
    with pytest.raises(ParameterError, match=r"hub\.toml is not a TOML file"):
        read_settings(written("listen = " + "[" * 5_000))


@pytest.mark.parametrize("text", ["tasks_max = 0x" + "f" * 5_000, "[tasks_max" + ".a" * 5_000 + "]"])
def test_a_value_that_cannot_be_written_out_is_named_all_the_same(written, text):
    (fault,) = read_settings(written(NEEDED + text)).faults
    assert "tasks_max must be a whole number from 1 to 1000000, not a value of type " in fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:7443", ("hub", 7443)),
        ("[::1]:0", ("::1", 0)),
        ("10.0.0.5:65535", ("10.0.0.5", 65535)),
    ],
)
def test_addresses(text, expected):
    assert split_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "hub", ":7443", "hub:", "hub:65536", "hub:-1", "::1:7443", "[hub]:1", "hub:٣", "[]:1"]
)
def test_addresses_that_are_none(text):
    with pytest.raises(ParameterError, match="is not host:port, such as"):
        split_address(text)
