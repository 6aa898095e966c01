"""One process verifies a roster once, whichever of its sessions receives it."""

from datetime import timedelta
from threading import Thread

import pytest

from aggregator.crypto import authority as authorities
from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import sign_roster
from aggregator.errors import MessageError, NotAdmitted
from clients.rosters import KEPT, Rosters
from tests.consortium import DEPLOYMENT, VALID, Consortium

NOW = VALID[0] + timedelta(days=700)
MADE = Consortium.of(3)
AUTHORITY = MADE.authority.certificate
DATA = MADE.roster.to_bytes()


def of_version(version):
    return sign_roster(MADE.authority, MADE.roster.certificates, version).to_bytes()


def copy_of(data):
    return bytes(bytearray(data))


def test_a_content_is_verified_once_and_kept_once(monkeypatch):
    known, read = Rosters(), []
    monkeypatch.setattr(rosters, "from_bytes", lambda data, read_it=rosters.from_bytes: read.append(1) or read_it(data))
    first = known.shared(DATA)
    for data in (DATA, copy_of(DATA), first):
        assert known.shared(data) is first
        assert known.verified(data, AUTHORITY, NOW) == MADE.roster
    assert read == [1]


def test_the_authoritys_time_is_looked_at_every_time():
    known = Rosters()
    known.verified(DATA, AUTHORITY, NOW)
    with pytest.raises(NotAdmitted, match="the certificate of authority expired on"):
        known.verified(DATA, AUTHORITY, VALID[1] + timedelta(seconds=1))


def test_each_authority_verifies_for_itself():
    """A roster that one site's authority signed says nothing to a site that trusts another."""
    known = Rosters()
    known.verified(DATA, AUTHORITY, NOW)
    other: Certificate = authorities.create_authority(DEPLOYMENT, NOW, timedelta(days=9)).certificate
    for _ in range(2):
        with pytest.raises(NotAdmitted, match="is not signed by this authority"):
            known.verified(DATA, other, NOW)
    assert known.newest(other) == b""


def test_what_cannot_be_verified_is_not_named():
    known = Rosters()
    known.shared(b"garbage")
    with pytest.raises(MessageError):
        known.verified(b"garbage", AUTHORITY, NOW)
    with pytest.raises(NotAdmitted):
        known.verified(DATA.replace(b'"version": 1', b'"version": 9'), AUTHORITY, NOW)
    assert known.newest(AUTHORITY) == b""


def test_the_newest_is_that_of_the_highest_version():
    known = Rosters()
    for version in (2, 11, 3):
        known.verified(of_version(version), AUTHORITY, NOW)
    assert known.newest(AUTHORITY) == of_version(11)


def test_what_is_kept_is_bounded():
    known = Rosters()
    for number in range(10 * KEPT):
        known.shared(b"%d" % number)
    assert len(known._received) == KEPT


def test_a_roster_that_another_thread_receives_disturbs_nobody():
    """Blocking sessions have threads of their own; a failure here would end a session's line."""
    known, threads = Rosters(), []
    known.verified(DATA, AUTHORITY, NOW)
    known.shared(b"garbage")

    class Slow(dict):
        """What was verified takes so long to find that something arrives meanwhile."""

        def __contains__(self, key):
            threads.append(Thread(target=known.shared, args=(b"%d" % len(threads),)))
            threads[-1].start()
            threads[-1].join(0.05)
            return super().__contains__(key)

    for received in known._received:
        received.verified = Slow(received.verified)
    assert known.newest(AUTHORITY) == DATA
    for thread in threads:
        thread.join()
    assert len(known._received) == 2 + len(threads)
