import json
from datetime import UTC, datetime, timedelta

import pytest

from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Role
from aggregator.crypto.ledger import Issued, Ledger, Revoked, Signed, State, encode
from aggregator.errors import MessageError, ParameterError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
AUTHORITY = authorities.create_authority("demo", NOW, 10 * YEAR)


def certify(name, role=Role.PARTICIPANT, now=NOW):
    csr_pem = authorities.request(name, role, "demo")[1]
    return authorities.issue(AUTHORITY, csr_pem, now, valid_for=YEAR, role=role)


OLD, NEW, CMC, LEAD = certify("delhi"), certify("delhi"), certify("cmc"), certify("lead", Role.OPERATOR)
EVENTS = (
    Signed(0, bytes(32)),
    Issued(OLD),
    Signed(1, bytes(range(32))),
    Issued(CMC),
    Issued(LEAD),
    Issued(NEW),
    Revoked(CMC.serial, NOW, "दिल्ली: laptop stolen"),
)
LINES = [encode(event) for event in EVENTS]


def test_events_read_back_one_to_a_line():
    ledger = Ledger.from_bytes(b"".join(LINES))
    assert ledger.events == EVENTS
    assert all(line.count(b"\n") == 1 for line in LINES)
    assert {"name": "delhi", "role": "participant", "serial": f"{OLD.serial:#x}"}.items() <= json.loads(
        LINES[1]
    ).items()


def test_what_follows_from_the_events():
    ledger = Ledger(EVENTS)
    assert ledger.version == 1
    assert ledger.members() == (NEW,)
    assert ledger.holders() == {"delhi": NEW, "lead": LEAD}
    assert ledger.named("delhi") == (OLD, NEW)
    assert ledger.of_key(CMC.verifying_key) == (CMC,)
    assert Ledger(EVENTS[:5]).members() == (CMC, OLD)


def test_every_state():
    states = [state for _, state in Ledger(EVENTS).states(NOW + YEAR)]
    assert states == [State.REPLACED, State.REVOKED, State.VALID, State.VALID]
    after = [state for _, state in Ledger(EVENTS).states(NOW + YEAR + timedelta(seconds=1))]
    assert after == [State.REPLACED, State.REVOKED, State.EXPIRED, State.EXPIRED]


def test_a_line_that_a_crash_cut_short_never_happened():
    whole = b"".join(LINES[:-1])
    for length in range(len(LINES[-1])):
        assert Ledger.from_bytes(whole + LINES[-1][:length]).events == EVENTS[:-1]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"\xff\n",
        LINES[1][:-2] + b"\n",
        LINES[1].replace(b"delhi", b"delft", 1),
        LINES[1].replace(b"participant", b"operator", 1),
        LINES[2].replace(b"1", b"true", 1),
        LINES[2].replace(b"1", b"1.0", 1),
        LINES[2].replace(b"1", b"Infinity", 1),
        LINES[6].replace(b"2026", b"20 26", 1),
        b'{"event": "revoked", "serial": "0x1", "at": "0001-01-01T00:00:00+23:59", "reason": "lost"}\n',
        LINES[6].replace(b"revoked", b"forgiven", 1),
        b'{"event": "revoked", "serial": "0x1", "at": "0001-01-01T00:00:00+23:59", "reason": "x"}\n',
        LINES[6].replace(b"0x", b"", 1),
        b"[" * 100_000 + b"\n",
        encode(Issued(OLD)).replace(b" ", b""),
    ],
)
def test_a_damaged_or_edited_line_is_named(line):
    with pytest.raises(MessageError, match="line 2 is damaged; restore"):
        Ledger.from_bytes(LINES[0] + line + LINES[1])


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "a\x1b[31m", "a\u2028b", "\udcff", "x" * 201])
def test_a_reason_is_one_line_for_people(reason):
    with pytest.raises(ParameterError, match="say why, in one line"):
        Revoked(1, NOW, reason)
