import asyncio
import dataclasses
import gc
import weakref

import pytest

from aggregator.crypto.roster import sign_roster
from aggregator.errors import Cancelled, Gone, NotAdmitted, NotFound, OutOfTurn, ParameterError
from aggregator.protocol.context import RoundTerms, hash_model
from aggregator.rounds.task import Host, Task
from aggregator.storage.forgetful import Forgetful
from aggregator.wire import messages, operator_messages
from aggregator.wire.messages import ClientMessage, Excluded, RoundClosed, RoundFailed, UploadHeader, Welcome
from aggregator.wire.operator_messages import Deadlines, Opening
from tests.consortium import Consortium, drbg
from tests.harness import Player, parameters, ring_words
from tests.loopback import until

CONSORTIUM = Consortium.of(4)
SITES = [identity.certificate for identity in CONSORTIUM.identities]


def task_of(consortium=CONSORTIUM, **changes):
    opening = changes.pop("opening", Opening())
    made = parameters(changes.pop("clients_max", len(consortium.roster)), **changes)
    spec = operator_messages.Task("sepsis", made.to_message(), Deadlines(60, 60, 60, 60, 60, 0.0), False, opening)
    host = Host(
        consortium.authority.certificate,
        lambda: consortium.roster,
        Forgetful(),
        drbg("server"),
        lambda: 0.0,
        lambda: 1_000.0,
        lambda: 1,
    )
    Task.check(spec, host)
    return Task(spec, host, host.records.create(spec, "operator", 0.0))


async def upload(driver, client, header, *chunks):
    phase, begun = await driver.open_upload(client, header)
    for chunk in chunks:
        phase.receive(begun, chunk)
    await driver.close_upload(phase, begun)


async def attend(task, client):
    """One participant through as many rounds as it is told of."""
    line = task.join(SITES[client])
    player = None
    while (message := await line.receive()) is not None:
        body = message.body
        if isinstance(body, messages.RoundOpened):
            words = ring_words(RoundTerms.from_message(body.terms), [client])[client]
            player = Player(CONSORTIUM.site(client), words, drbg("client", client, message.round))
        if isinstance(body, Welcome | RoundClosed | RoundFailed | Excluded):
            continue
        answer = player.react(body)
        if isinstance(answer[0], UploadHeader):
            await upload(task.driver(message.round), client, *answer)
        else:
            await task.deliver(SITES[client], ClientMessage(message.round, answer[0]))


async def finished(task, number):
    async with asyncio.timeout(20):
        return [event async for event in task.history.events(number).follow()][-1]


async def test_rounds_follow_each_other_and_the_last_results_are_kept():
    task = task_of()
    crowd = [asyncio.create_task(attend(task, c)) for c in range(4)]
    await asyncio.sleep(0)
    for number in range(1, 3 + 2):
        assert task.start_round(hash_model(None)) == number
        with pytest.raises(OutOfTurn, match=f"round {number} is still running"):
            task.start_round(hash_model(None))
        assert (await finished(task, number)).kind == "closed"
        await asyncio.gather(task._running)
        assert task.history.last_closed == number
    assert task.history.result(0) is task.history.result(3 + 1)
    nonces = {task.history.result(n).setting.terms.server_nonce for n in range(2, 3 + 2)}
    assert len(nonces) == 3
    with pytest.raises(Gone, match="no result of round 1 any more: it has expired, the last 3 are kept"):
        task.history.result(1)
    with pytest.raises(NotFound, match="no result of round 9: there is none yet"):
        task.history.result(9)
    with pytest.raises(NotFound, match="has no round 9"):
        task.history.events(9)
    with pytest.raises(OutOfTurn, match="round 1 is not the current one"):
        task.driver(1)
    for waiting in crowd:
        waiting.cancel()


async def test_a_participant_that_joins_is_told_where_the_task_is():
    task = task_of()
    line = task.join(SITES[0])
    assert (await line.receive()).body == Welcome("sepsis", 0, 1)
    with pytest.raises(OutOfTurn, match="task sepsis has no round yet"):
        await task.deliver(SITES[0], ClientMessage(1, messages.Withdrawal("")))
    task.start_round(bytes(32))
    late = task.join(SITES[1])
    said = [(await late.receive()).body for _ in range(2)]
    assert isinstance(said[1], messages.RoundOpened)
    assert RoundTerms.from_message(said[1].terms).model_hash == bytes(32)
    await asyncio.sleep(0)  # the round has begun
    await task.close()
    assert (await finished(task, 1)).detail == "the server stopped in this step"


async def test_a_task_that_this_roster_cannot_meet_is_refused():
    assert task_of()
    with pytest.raises(ParameterError, match="minimum_cohort is 5, the roster has 4 participants"):
        task_of(clients_max=8, minimum_cohort=5)
    spec = task_of().spec
    overflowing = dataclasses.replace(spec.parameters, value_bits=54, clients_max=2000)
    with pytest.raises(ParameterError, match="need 65 bits"):
        Task.check(dataclasses.replace(spec, parameters=overflowing), task_of()._host)


def crowd_of(task, *clients):
    return [asyncio.create_task(attend(task, c)) for c in clients]


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def bodies(line):
    """What waits on a line."""
    return [type(message.body) for message in line._outbox._queue if message is not None]


async def test_a_round_opens_when_enough_have_come():
    task = task_of(opening=Opening(enough=3))
    crowd = crowd_of(task, 0, 1)
    number = task.start_round(hash_model(None))
    await settle()
    assert task.history.find(number).summary().state == "gathering"
    assert task.history.find(number).summary().clients == 2
    assert [(event.kind, event.clients) for event in task.history.events(number)._events] == [("gathering", 3)]
    with pytest.raises(OutOfTurn, match="task sepsis has no round yet"):
        await task.deliver(SITES[0], ClientMessage(number, messages.Withdrawal("")))
    with pytest.raises(OutOfTurn, match="round 1 is still running"):
        task.start_round(hash_model(None))
    crowd += crowd_of(task, 3)
    assert (await finished(task, number)).kind == "closed"
    assert task.history.result(number).survivors == (0, 1, 3)
    await task.close()
    await asyncio.gather(*crowd)


async def test_only_those_who_were_drawn_hear_of_the_round_and_may_take_part():
    task = task_of(opening=Opening(sample=3))
    lines = {client: task.join(SITES[client]) for client in range(4)}
    number = task.start_round(hash_model(None))
    await settle()
    invited = task.driver(number)._stand.phase.members
    assert len(invited) == 3
    for client, line in lines.items():
        assert (messages.RoundOpened in bodies(line)) is (client in invited)
    (stranger,) = set(range(4)) - invited
    assert messages.RoundOpened not in bodies(task.join(SITES[stranger])), "a new line is no invitation"
    opened = next(m for m in lines[min(invited)]._outbox._queue if isinstance(m.body, messages.RoundOpened))
    terms = RoundTerms.from_message(opened.body.terms)
    player = Player(CONSORTIUM.site(stranger), ring_words(terms, [stranger])[stranger], drbg("stranger"))
    (advert,) = player.react(opened.body)
    with pytest.raises(OutOfTurn, match=f"client {stranger} is not in this step of the round"):
        await task.deliver(SITES[stranger], ClientMessage(number, advert))
    assert not task.driver(number)._stand.phase.answers
    await task.close()


async def test_a_drawn_cohort_makes_a_sum():
    task = task_of(opening=Opening(sample=3))
    crowd = crowd_of(task, 0, 1, 2, 3)
    drawn = set()
    for number in (1, 2, 3, 4, 5, 6):
        await settle()
        task.start_round(hash_model(None))
        assert (await finished(task, number)).clients == 3
        drawn.add(task.history.result(number).survivors)
    assert len(drawn) > 1, "drawn anew each time"
    await task.close()
    await asyncio.gather(*crowd)


async def test_too_few_have_come_when_the_time_to_gather_is_over():
    task = task_of(opening=Opening(enough=3, gather_s=0.0))
    line = task.join(SITES[0])
    number = task.start_round(hash_model(None))
    assert (await finished(task, number)).detail == "gathering: 1 sites came, need 2"
    summary = task.history.find(number).summary()
    assert (summary.state, summary.step, summary.clients) == ("failed", "", 1)
    assert bodies(line) == [Welcome], "who was not invited hears nothing"
    assert task.start_round(hash_model(None)) == number + 1
    await task.close()


@pytest.mark.parametrize("opening", [Opening(), Opening(enough=3)])
@pytest.mark.parametrize("begun", [False, True])
async def test_an_aborted_round_ends_at_once_and_the_next_may_start(opening, begun):
    task = task_of(opening=opening)
    line = task.join(SITES[0])
    number = task.start_round(hash_model(None))
    if begun:
        await settle()
    await task.abort_round(number, "the study is over")
    assert (await finished(task, number)).detail == "the study is over"
    assert task.history.find(number).summary().state == "failed"
    assert (RoundFailed in bodies(line)) is (opening == Opening())
    with pytest.raises(OutOfTurn, match=f"round {number} has ended already"):
        await task.abort_round(number, "again")
    with pytest.raises(NotFound, match="has no round 9"):
        await task.abort_round(9, "never")
    assert task.start_round(hash_model(None)) == number + 1
    await settle()
    assert task.history.running.number == number + 1
    await task.close()
    assert [event.detail for event in task.history.events(number)._events if event.kind == "failed"] == [
        "the study is over"
    ]


async def test_a_round_that_is_aborted_in_the_midst_of_its_work_leaves_no_sum():
    task = task_of()
    crowd = crowd_of(task, 0, 1, 2, 3)
    await settle()
    number = task.start_round(hash_model(None))
    async with asyncio.timeout(20):
        await until(lambda: task.driver(number).step == "unmasking")
    await task.abort_round(number, "stop")
    assert (await finished(task, number)).kind == "failed"
    assert task.history.last_closed == 0
    with pytest.raises(NotFound, match=f"no result of round {number}: the round failed"):
        task.history.result(number)
    await task.close()
    await asyncio.gather(*crowd)


async def test_a_cancelled_task_takes_nobody_and_nothing():
    task = task_of()
    line = task.join(SITES[0])
    number = task.start_round(hash_model(None))
    await settle()
    await task.cancel("operator platform cancelled task sepsis")
    await task.cancel("again")
    heard = []
    while (message := await line.receive()) is not None:
        heard.append(message.body)
    assert [type(body) for body in heard] == [Welcome, messages.RoundOpened, RoundFailed]
    assert type(line.error) is Cancelled
    assert str(line.error) == "operator platform cancelled task sepsis"
    assert (await finished(task, number)).detail == "operator platform cancelled task sepsis"
    for refused in (lambda: task.join(SITES[1]), lambda: task.start_round(hash_model(None))):
        with pytest.raises(Cancelled, match="task sepsis was cancelled by its operator"):
            refused()
    assert task.history.started == 1


async def test_what_a_round_worked_with_is_freed_with_it_and_its_sum_when_it_is_deleted():
    task = task_of()
    crowd = crowd_of(task, 0, 1, 2, 3)
    await settle()
    number = task.start_round(hash_model(None))
    phases = []
    async with asyncio.timeout(20):
        while task.history.running is not None:
            phases.append(weakref.ref(task.driver(number)._stand.phase))
            await asyncio.sleep(0)
    total = weakref.ref(task.history.result(number).total)
    await asyncio.gather(task._running)
    gc.collect()
    assert {phase() for phase in phases} == {None}, "a phase holds all that was said, and the masked sum"
    assert total() is not None
    task.history.delete_result(number)
    gc.collect()
    assert total() is None
    late = task.join(SITES[0])
    assert RoundClosed in bodies(late), "who comes back is still told how it ended"
    await task.close()
    await asyncio.gather(*crowd)


@pytest.mark.parametrize("opening", [Opening(), Opening(enough=3)])
async def test_a_roster_that_has_become_too_small_starts_no_round(opening):
    task = task_of(opening=opening, minimum_cohort=3)
    task._host = dataclasses.replace(task._host, roster=lambda: Consortium.of(2).roster)
    for _ in range(2):
        with pytest.raises(ParameterError, match="minimum_cohort is 3, the roster has 2 participants"):
            task.start_round(hash_model(None))
    assert (task.history.started, task.history.running) == (0, None)
    task._host = dataclasses.replace(task._host, roster=lambda: CONSORTIUM.roster)
    assert task.start_round(hash_model(None)) == 1, "no number was spent"
    await task.close()


async def test_a_round_takes_the_roster_that_is_there_when_it_opens():
    task = task_of(opening=Opening(enough=3))
    crowd = crowd_of(task, 0, 1)
    number = task.start_round(hash_model(None))
    await settle()
    newer = sign_roster(CONSORTIUM.authority, CONSORTIUM.roster.certificates, 2)
    task._host = dataclasses.replace(task._host, roster=lambda: newer)
    crowd += crowd_of(task, 2)
    assert (await finished(task, number)).kind == "closed"
    assert task.history.result(number).setting.roster is newer
    await task.close()
    await asyncio.gather(*crowd)


async def test_a_round_that_breaks_off_is_logged_and_ends(caplog):
    """A mistake of ours: nobody waits for its end for ever."""
    task = task_of()
    line = task.join(SITES[0])
    number = task.start_round(hash_model(None))
    task.driver(number)._waiting.collect = None
    assert (await finished(task, number)).detail == "the server stopped in this step"
    assert RoundFailed in bodies(line)
    assert f"task sepsis: round {number} broke off" in caplog.text
    assert task.history.running is None
    with pytest.raises(TypeError):
        await task._running
    await task.close()


async def test_a_site_that_has_left_takes_no_line_from_the_one_that_bears_its_name():
    """Its old certificate was replaced and not revoked, and may be in a thief's hands."""
    task = task_of()
    task.start_round(hash_model(None))
    await task.abort_round(1, "the test ends it")
    newer = sign_roster(CONSORTIUM.authority, [c for c in CONSORTIUM.roster.certificates if c != SITES[0]], 2)
    task._host = dataclasses.replace(task._host, roster=lambda: newer)
    task.lines.disconnect(task.join(SITES[0]))  # it may hear how its round ended
    line = task.lines.connect(SITES[0].name)  # under the renewed certificate
    with pytest.raises(NotAdmitted, match="is not in roster version 2"):
        task.join(SITES[0])
    assert line.error is None
