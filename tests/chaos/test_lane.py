"""A lane finds what a server loses: here the operator's session is one that says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from aggregator.errors import NotFound
from aggregator.protocol.parameters import Mode
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step
from tests.chaos.evidence import Evidence, digest
from tests.chaos.lane import Lane
from tests.chaos.recovery import Recovery
from tests.chaos.tally import Tally
from tests.chaos.work import Study

STUDY = Study("sepsis", Mode.PAIRWISE, 3)
WORDS = np.array([1, 2, 3], np.uint32)
SITES = ("a", "b")
TERMS = SimpleNamespace(parameters=STUDY.parameters(4))


def event(kind, detail=""):
    return RoundEvent(0.0, kind, Step.UNMASKING, "", detail, 2)


@dataclass
class Session:
    """What an operator's session would say of one round, number 1; where `lies` has a name, the lie instead."""

    end: RoundEvent = field(default_factory=lambda: event(EventKind.CLOSED))
    lies: dict = field(default_factory=dict)
    known: tuple = (1,)
    asked: set = field(default_factory=set)
    meanwhile: Callable = field(default=lambda: None)

    async def start_round(self, task, *, key):
        known = key in self.asked
        self.asked.add(key)
        return self.lies.get("again", 1) if known else 1

    async def watch(self, task, number):
        if "watch" in self.lies:
            raise NotFound("no round 1")
        self.meanwhile()
        yield self.end

    async def fetch_result(self, task, number):
        if "fetch" in self.lies:
            raise NotFound("no result of round 1")
        return SimpleNamespace(participants=SITES, words=self.lies.get("words", 2 * WORDS), terms=TERMS)

    async def rounds(self, task):
        for number in self.known:
            yield SimpleNamespace(round=number)


async def seen(tmp_path, session, *acknowledged, fallen=()):
    """One round, in which these processes fall, and the last look; what was counted."""
    evidence, tally = Evidence(tmp_path), Tally()
    for site in SITES:
        evidence.mask("sepsis", 1, site, WORDS)
    for site in acknowledged:
        evidence.acknowledge("sepsis", 1, site)
    lane = Lane(session, [STUDY], evidence, tally, Recovery(tally, lambda: 0.0), Random(1), lambda _: None)
    session.meanwhile = lambda: lane.fallen.update(fallen)
    await lane.run(lambda: tally.rounds > 0)
    await lane.look_again()
    return tally


async def test_a_round_in_which_nothing_is_lost(tmp_path):
    tally = await seen(tmp_path, Session(), "a", "b")
    assert (tally.completed, tally.failures) == (1, [])


@pytest.mark.parametrize(
    ("session", "named"),
    [
        (Session(lies={"watch": 1}), "the operator was told of it, and now: no round 1"),
        (Session(lies={"fetch": 1}), "it closed, and its sum is gone"),
        (Session(lies={"again": 2}), "one key started rounds 1 and 2"),
        (Session(known=()), "rounds [1] are known to the server only, or to the operator only"),
        (Session(known=(1, 2)), "rounds [2] are known"),
        (Session(event(EventKind.FAILED, "masked_input: of 3 answers 1 are lost")), "with 2 acknowledged uploads"),
    ],
)
async def test_what_is_lost_is_found(tmp_path, session, named):
    tally = await seen(tmp_path, session, "a", "b")
    assert named in "; ".join(tally.lost)


async def test_an_acknowledged_upload_that_is_not_in_the_sum_is_found(tmp_path):
    tally = await seen(tmp_path, Session(), "a", "b", "c")
    assert tally.lost == ["sepsis, round 1: acknowledged, not in the sum: c"]


async def test_a_wrong_sum_is_found(tmp_path):
    tally = await seen(tmp_path, Session(lies={"words": 2 * WORDS + 1}), "a")
    assert tally.wrong == ["sepsis, round 1: 3 of 3 words are wrong"]


async def test_a_site_that_was_given_another_sum_is_found(tmp_path):
    Evidence(tmp_path).of("sepsis", 1).mkdir(parents=True)
    Evidence(tmp_path).give("sepsis", 1, "b", WORDS)
    assert digest(WORDS) != digest(2 * WORDS)
    tally = await seen(tmp_path, Session(), "a", "b")
    assert tally.wrong == ["sepsis, round 1: b was given another sum"]


async def test_too_few_clients_are_no_loss(tmp_path):
    tally = await seen(tmp_path, Session(event(EventKind.FAILED, "unmasking: 2 clients, need 3")), "a", "b")
    assert (tally.lost, dict(tally.aborted)) == ([], {"unmasking: 2 clients, need 3": 1})
    assert not tally.passed


@pytest.mark.parametrize(("fallen", "lost"), [((), 1), (("key-holder",), 0)])
async def test_a_key_that_is_gone_is_no_loss_where_its_holder_was_killed(tmp_path, fallen, lost):
    gone = event(EventKind.FAILED, "decrypt: key-holder refuses: round 1795942760358 of task sepsis has no key here")
    tally = await seen(tmp_path, Session(gone), "a", fallen=fallen)
    assert len(tally.lost) == lost
    assert dict(tally.aborted) == {"decrypt: key-holder refuses: round N of task sepsis has no key here": 1}
