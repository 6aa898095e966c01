"""Custody: any quorum opens the safe, no smaller one does, and what a file cannot be is named."""

import json
import stat
from itertools import combinations

import pytest

from aggregator.crypto import custody
from aggregator.crypto.custody import CustodianFile
from aggregator.errors import MessageError, NotAdmitted, ParameterError, StorageError
from tests.consortium import drbg

WHERE = ("demo", "sepsis", 7)
FILES = custody.split(2, 4, drbg("custody"))


def test_every_quorum_opens_what_every_other_sealed():
    wrapped = custody.combine(FILES[:2]).wrap(WHERE, b"secret", drbg("salt"))
    for size in (2, 3, 4):
        for chosen in combinations(FILES, size):
            assert custody.combine(chosen).unwrap(WHERE, wrapped) == b"secret"


@pytest.mark.parametrize(
    ("files", "error", "named"),
    [
        ((), ParameterError, "no custodian's file was given"),
        (FILES[:1], ParameterError, "1 custodians' files were given, need 2"),
        ((FILES[1], FILES[1]), ParameterError, "one custodian's file was given twice"),
        ((FILES[0], custody.split(2, 4, drbg("other"))[1]), NotAdmitted, "custodian 2's file is of another key"),
    ],
)
def test_no_quorum(files, error, named):
    with pytest.raises(error, match=named):
        custody.combine(files)


def test_shares_that_do_not_give_the_key():
    """Whoever can rewrite a file can give it a checksum; the key's own digest tells."""
    other = custody.split(2, 4, drbg("other"))[1]
    forged = CustodianFile(FILES[0].key_id, 2, 2, 4, other.share)
    with pytest.raises(MessageError, match="these files do not give the key that they name"):
        custody.combine((FILES[0], forged))


@pytest.mark.parametrize("where", [("demo", "sepsis", 8), ("demo", "stroke", 7), ("other", "sepsis", 7)])
def test_a_secret_is_of_one_round(where):
    safe = custody.combine(FILES[:2])
    wrapped = safe.wrap(WHERE, b"secret", drbg("salt"))
    with pytest.raises(MessageError, match="does not authenticate"):
        safe.unwrap(where, wrapped)


def test_a_wrapped_secret_that_was_changed_or_cut():
    safe = custody.combine(FILES[:2])
    wrapped = safe.wrap(WHERE, b"secret", drbg("salt"))
    for size in range(len(wrapped)):
        with pytest.raises(MessageError):
            safe.unwrap(WHERE, wrapped[:size])
    for place in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(MessageError):
            safe.unwrap(WHERE, bytes(changed))


def test_two_wrappings_share_no_key():
    safe, entropy = custody.combine(FILES[:2]), drbg("salt")
    one, two = (safe.wrap(WHERE, b"secret", entropy) for _ in range(2))
    assert one[:32] != two[:32]
    assert one[32:] != two[32:]


def test_files_are_private_and_say_what_they_are(tmp_path):
    paths = custody.write(tmp_path / "custody", FILES)
    assert [path.name for path in paths] == [f"custodian-{i}.json" for i in (1, 2, 3, 4)]
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(paths[2].read_bytes())
    assert (content["format"], content["index"], content["threshold"], content["custodians"]) == (
        "sangam-custodian/1",
        3,
        2,
        4,
    )
    assert custody.load(paths[2:]).key_id == FILES[0].key_id
    with pytest.raises(StorageError, match=r"cannot read .*custodian-9\.json"):
        custody.load([paths[0], tmp_path / "custodian-9.json"])
    with pytest.raises(ParameterError, match="exists already and is never overwritten"):
        custody.write(tmp_path / "custody", FILES)


def test_a_damaged_file_is_named_wherever_it_was_damaged():
    data = FILES[1].to_bytes()
    assert CustodianFile.from_bytes(data, "c") == FILES[1]
    for size in range(len(data) - 2):
        with pytest.raises(MessageError, match=r"^c is"):
            CustodianFile.from_bytes(data[:size], "c")
    changes = ({"index": 3}, {"threshold": 1}, {"custodians": 5}, {"key": "0" * 64}, {"share": "AAAA"})
    for change in (*changes, {"index": 10**40}, {"custodians": 10**40}, {"key": "\ud800"}, {"checksum": "\ud800"}):
        with pytest.raises(MessageError, match=r"^c is damaged: its checksum does not fit"):
            CustodianFile.from_bytes(json.dumps(json.loads(data) | change).encode(), "c")
    for change in ({"key": "\ud800"}, {"checksum": "\udcf0"}, {"checksum": "é"}, {"index": 10**40}):
        with pytest.raises(MessageError, match=r"^c is damaged: its checksum does not fit"):
            CustodianFile.from_bytes(json.dumps(json.loads(data) | change).encode(), "c")
    for change in ({"format": "sangam-custodian/2"}, {"index": "2"}, {"threshold": True}, {"more": 1}):
        with pytest.raises(MessageError, match=r"^c is no custodian's file that this version reads"):
            CustodianFile.from_bytes(json.dumps(json.loads(data) | change).encode(), "c")
    for content in (b"", b"[]", b"null", b"[1, 2]", b"\xff", b"[" * 5_000):
        with pytest.raises(MessageError, match=r"^c is no custodian's file"):
            CustodianFile.from_bytes(content, "c")


@pytest.mark.parametrize(("threshold", "custodians"), [(0, 3), (4, 3), (1, 256), (1, 0)])
def test_thresholds_that_cannot_be(threshold, custodians):
    with pytest.raises(ParameterError, match="custody: "):
        custody.split(threshold, custodians, drbg("x"))


def test_no_secret_is_in_a_repr():
    safe = custody.combine(FILES[:2])
    shown = repr(FILES) + repr(safe)
    for secret in (safe._key, *(one.share for one in FILES)):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
