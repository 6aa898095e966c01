"""One client's part in one round: what is on its disk before what leaves it."""

from dataclasses import replace

import pytest

from aggregator.crypto import roster as rosters
from aggregator.errors import Equivocation, StorageError
from aggregator.protocol import participant
from aggregator.protocol.encoding import encode
from aggregator.wire.messages import RoundOpened, ShareList, SignatureList, Survivors
from clients import session
from clients.contribution import MaskedContribution, Own
from clients.journal import Journal
from clients.uploading import WholeUpload
from tests.consortium import drbg
from tests.loopback import Watcher, offers
from tests.memory import Room

WRITES = {  # what the journal writes before the answer of a step leaves; the upload needs nothing new
    "advertise_keys": "open_context",
    "share_keys": "fix_context",
    "consistency_check": "sign_survivors",
    "unmasking": "record_answer",
}


class Watched:
    """A journal that writes down its calls among the messages that leave, and that may fail at one of them."""

    def __init__(self, journal, log, fails=""):
        self._journal, self._log, self._fails = journal, log, fails

    def __getattr__(self, name):
        method = getattr(self._journal, name)

        def call(*args, **kwargs):
            if name == self._fails:
                raise StorageError("the disk is gone")
            result = method(*args, **kwargs)
            if name in WRITES.values():
                self._log.append(name)
            return result

        return call


async def play(tmp_path, monkeypatch, fails=""):
    """Client 0's journal calls and messages in the order in which they happened, and how its part ended."""
    log = []

    def make(invited, encoded, own, each):
        if "journal-0" in str(own.journal._path):
            own = replace(own, journal=Watched(own.journal, log, fails))
        return MaskedContribution(invited, encoded, own, each)

    monkeypatch.setattr(session, "MaskedContribution", make)
    room = Room(tmp_path, 4)

    def note(message):
        room.transports[0].sent = Noted(log, room.transports[0].sent)
        yield message

    ends = await room.play(offers(4), lies={0: note})
    return log, ends[0]


class Noted(list):
    """A list that also writes its items' kinds into a log."""

    def __init__(self, log, items):
        super().__init__(items)
        self._log = log

    def append(self, item):
        super().append(item)
        self._log.append(type(item).__name__)


async def test_the_journal_comes_before_what_leaves(tmp_path, monkeypatch):
    log, _ = await play(tmp_path, monkeypatch)
    assert log == [
        "open_context",
        "Advert",
        "fix_context",
        "Dealing",
        "sign_survivors",
        "SurvivorSignature",
        "record_answer",
        "Unmasking",
        "record_answer",  # again when the round closes, for those that never answered
    ]


@pytest.mark.parametrize("fails", WRITES.values())
async def test_a_disk_that_fails_lets_nothing_more_leave(tmp_path, monkeypatch, fails):
    log, end = await play(tmp_path, monkeypatch, fails)
    assert isinstance(end, StorageError)
    whole = ["open_context", "Advert", "fix_context", "Dealing", "sign_survivors", "SurvivorSignature", "record_answer"]
    assert log == [*whole[: whole.index(fails)], "Withdrawal"]


def part_of(tmp_path, journal, watcher=None):
    room = Room(tmp_path, 2)
    terms = room.consortium.terms(room.spec)
    roster = rosters.from_bytes(room.consortium.roster.to_bytes())
    invited = participant.enter(terms, roster, room.consortium.site(0))
    update, weight = offers(2)[0]
    encoded = encode(update, weight, terms.parameters, terms.ctx0, bytes(32))
    opened = RoundOpened(terms.to_message(), room.consortium.roster.to_bytes())
    return MaskedContribution(invited, encoded, Own(journal, drbg("x"), watcher), map), opened


def test_an_announcement_is_answered_once_and_again_with_the_same(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        watcher = Watcher()
        part, opened = part_of(tmp_path, journal, watcher)
        assert part.answer(opened) is part.answer(opened)
        assert watcher.steps == ["advertise_keys"]
        assert not part.bound
        other = RoundOpened(opened.terms, b"another roster")
        with pytest.raises(Equivocation, match="the server announced RoundOpened twice, differently"):
            part.answer(other)


def test_a_part_that_was_forgotten_answers_nothing(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        part, opened = part_of(tmp_path, journal)
        part.forget()
        for body in (opened, ShareList((0, 1), ()), Survivors((0, 1), (0, 1)), SignatureList(())):
            with pytest.raises(Exception, match="came out of order"):
                part.answer(body)
        with pytest.raises(Equivocation, match="closed over other clients"):
            part.check_closed((0, 1))


def test_no_secret_in_any_repr(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        part, opened = part_of(tmp_path, journal)
        part.answer(opened)
        shown = repr(part._state) + repr(WholeUpload(None, memoryview(b"secret words"), None))
        for secret in (part._state.self_seed, part._state.mask_pair.private, part._state.share_pair.private):
            assert repr(secret)[2:-1] not in shown
        assert "memory" not in shown
