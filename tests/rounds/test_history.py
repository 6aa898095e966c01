"""What is kept of closed rounds, and what is truly freed."""

import asyncio
import gc
import weakref

import numpy as np
import pytest

from aggregator.errors import Gone, NotFound
from aggregator.rounds import history
from aggregator.rounds.events import EventLog
from aggregator.rounds.history import History
from aggregator.rounds.phase import Completed
from aggregator.rounds.round import Round
from aggregator.storage.forgetful import ForgetfulRound, ForgetfulTask
from aggregator.storage.spool import MemorySpool
from aggregator.wire.operator_messages import Retention
from aggregator.wire.vocabulary import EventKind, Step
from tests.consortium import Consortium
from tests.harness import parameters
from tests.loopback import until

CONSORTIUM = Consortium.of(3)
SETTING = CONSORTIUM.setting(CONSORTIUM.terms(parameters(3)))


def model(number):
    """The hash of the model that a round starts from: three rounds in a row share one."""
    return (number // 3).to_bytes(32, "big")


class Book:
    """A history, and a clock that the tests move."""

    def __init__(self, **retention):
        self.now = 0.0
        self.history = History("sepsis", Retention(**retention), lambda: self.now, ForgetfulTask(MemorySpool()))
        self.sums = {}

    def begin(self, number):
        log = EventLog(lambda: self.now)
        log.add(EventKind.STEP, Step.ADVERTISE_KEYS, clients=3)
        round_ = Round(number, 1_000.0 + number, model(number), log, lambda: 2, ForgetfulRound(MemorySpool()))
        self.history.begin(round_)
        return round_

    def close(self, *numbers):
        for number in numbers:
            round_ = self.begin(number)
            round_.events.add(EventKind.CLOSED, Step.UNMASKING, clients=2)
            completed = Completed(SETTING, (0, 2), np.zeros(5, np.uint32))
            self.sums[number] = weakref.ref(completed.total)
            self.history.end(round_, completed)

    def fail(self, number, reason="too few"):
        round_ = self.begin(number)
        round_.events.add(EventKind.FAILED, Step.SHARE_KEYS, detail=reason)
        self.history.end(round_, None)

    def alive(self):
        gc.collect()
        return {number for number, total in self.sums.items() if total() is not None}


async def test_the_last_sums_are_kept_and_the_others_freed():
    book = Book(results=2)
    book.close(5, 6, 7)
    assert book.alive() == {6, 7}
    assert book.history.result(0) is book.history.result(7)
    with pytest.raises(
        Gone, match=r"task sepsis has no result of round 5 any more: it has expired, the last 2 are kept$"
    ):
        book.history.result(5)
    assert [book.history.find(n).summary().result for n in (5, 6, 7)] == ["expired", "kept", "kept"]
    assert book.history.find(5).summary().clients == 2
    assert book.history.find(5).summary().result_bytes == SETTING.terms.parameters.result_plan.payload_bytes


async def test_no_sum_outlives_its_age_on_the_next_look():
    book = Book(age_s=10.0)
    book.close(1)
    book.now = 6.0
    book.close(2)
    book.now = 9.9
    assert book.history.result(1)
    book.now = 10.0
    with pytest.raises(Gone, match=r"round 1 any more: it has expired, the last 3 are kept, for 10 s"):
        book.history.result(1)
    assert book.alive() == {2}
    assert book.history.last_closed == 2


async def test_no_sum_outlives_its_age_even_if_nobody_looks():
    """The timer is the event loop's; what it frees is one sum after the other."""
    loop = asyncio.get_running_loop()
    book = Book()
    book.history = History("sepsis", Retention(age_s=0.02), loop.time, ForgetfulTask(MemorySpool()))
    book.close(1)
    book.close(2)
    assert book.alive() == {1, 2}
    async with asyncio.timeout(20):
        await until(lambda: not book.alive())
    assert [summary.result for summary in book.history.page(9, 0)[0]] == ["expired", "expired"]


async def test_a_history_that_is_closed_has_no_timer():
    book = Book(age_s=0.01)
    book.close(1)
    assert book.history._sums._timer is not None
    book.history.close()
    assert book.history._sums._timer is None


async def test_a_sum_is_deleted_once():
    book = Book()
    book.close(1, 2)
    assert book.history.delete_result(2).result == "deleted"
    assert book.alive() == {1}
    for again in (book.history.delete_result, book.history.result):
        with pytest.raises(Gone, match="no result of round 2 any more: it was deleted"):
            again(2)
    with pytest.raises(Gone, match="round 2"):
        book.history.result(0)  # the last one, not an older model in its stead
    assert book.history.result(1)


async def test_what_has_no_sum_says_why():
    book = Book()
    with pytest.raises(NotFound, match="task sepsis has no result of round 0: there is none yet"):
        book.history.result(0)
    book.fail(1)
    running = book.begin(2)
    for number, why in ((1, "the round failed"), (2, "the round has not ended"), (3, "there is none yet")):
        for ask in (book.history.result, book.history.delete_result):
            with pytest.raises(NotFound, match=f"no result of round {number}: {why}") as caught:
                ask(number)
            assert type(caught.value) is NotFound
    assert book.history.running is running


async def test_summaries_say_how_rounds_stand_and_ended():
    book = Book()
    book.close(4)
    book.fail(5, "share keys: 1 clients, need 3")
    book.now = 2.0
    book.begin(6)
    book.now = 3.5
    (gathering, failed, closed), following = book.history.page(9, 0)
    assert following == 0
    assert (gathering.state, gathering.step, gathering.clients, gathering.seconds) == ("gathering", "", 2, 1.5)
    assert (failed.state, failed.reason, failed.result) == ("failed", "share keys: 1 clients, need 3", "none")
    assert (closed.state, closed.started_s, closed.seconds, closed.result) == ("closed", 1_004.0, 0.0, "kept")


async def test_pages_walk_from_the_newest_to_the_first():
    book = Book()
    book.close(*range(11, 18))
    walked, before = [], 0
    while True:
        page, before = book.history.page(3, before)
        walked.append([summary.round for summary in page])
        if not before:
            break
    assert walked == [[17, 16, 15], [14, 13, 12], [11]]
    assert book.history.page(7, 0)[1] == 0
    assert book.history.page(3, 11) == ((), 0)


async def test_the_oldest_rounds_are_forgotten(monkeypatch):
    monkeypatch.setattr(history, "ROUNDS_KEPT", 3)
    book = Book(results=100)
    book.close(*range(11, 16))
    assert [summary.round for summary in book.history.page(9, 0)[0]] == [15, 14, 13]
    assert book.alive() == {13, 14, 15}
    assert book.history.started == 5
    for number in (11, 12):
        with pytest.raises(Gone, match=f"round {number} is forgotten"):
            book.history.find(number)
    for number in (10, 16):
        with pytest.raises(NotFound, match=f"task sepsis has no round {number}") as caught:
            book.history.events(number)
        assert type(caught.value) is NotFound


async def test_the_oldest_events_are_forgotten_before_the_rounds(monkeypatch):
    monkeypatch.setattr(history, "EVENTS_KEPT", 5)
    book = Book()
    book.close(1, 2, 3)
    assert len(book.history.events(2)) == len(book.history.events(3)) == 2
    with pytest.raises(Gone, match="the events of round 1 are kept no longer"):
        book.history.events(1)
    assert book.history.find(1).summary().state == "closed"


async def test_who_reads_events_while_they_are_forgotten_comes_to_an_end():
    log = EventLog(lambda: 0.0)
    log.add(EventKind.STEP, Step.ADVERTISE_KEYS)
    log.add(EventKind.FAILED, Step.ADVERTISE_KEYS)
    reader = log.follow()
    assert (await anext(reader)).kind == "step"
    log.forget()
    async with asyncio.timeout(20):
        assert [event.kind async for event in reader] in ([], ["failed"])


def test_the_last_round_that_closed_over_a_model_is_found():
    book = Book(results=3)
    book.close(1)
    book.fail(2)
    book.close(3, 4)
    book.fail(5)
    book.close(6)
    numbers = [
        book.history.result(0, model(number)).total is book.sums[closed]() for number, closed in ((5, 4), (6, 6))
    ]
    assert numbers == [True, True]
    assert book.history.result(6, model(1)).total is book.sums[6](), "a number says more"
    with pytest.raises(Gone, match="no result of round 1 any more: it has expired"):
        book.history.result(0, model(2))
    with pytest.raises(NotFound, match="there is none yet"):
        book.history.result(0, bytes(32)[:-1] + b"x")
