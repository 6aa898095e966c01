import asyncio
import dataclasses

import pytest

from aggregator.errors import NotFound, OutOfTurn, ParameterError
from aggregator.protocol.context import RoundTerms, hash_model
from aggregator.rounds.task import RESULTS_KEPT, Host, Task
from aggregator.storage.spool import MemorySpool
from aggregator.wire import messages, operator_messages
from aggregator.wire.messages import ClientMessage, Excluded, RoundClosed, RoundFailed, UploadHeader, Welcome
from aggregator.wire.operator_messages import Deadlines
from tests.consortium import Consortium, drbg
from tests.harness import Player, parameters, ring_words

CONSORTIUM = Consortium.of(4)
SITES = [identity.certificate for identity in CONSORTIUM.identities]


def task_of(consortium=CONSORTIUM, **changes):
    made = parameters(changes.pop("clients_max", len(consortium.roster)), **changes)
    spec = operator_messages.Task(
        "sepsis", made.to_message(), Deadlines(60, 60, 60, 60, 60, 0.0), result_to_operator_only=False
    )
    host = Host(
        "demo",
        consortium.authority.certificate,
        lambda: consortium.roster,
        MemorySpool(),
        drbg("server"),
        lambda: 0.0,
        lambda: 1,
    )
    return Task(spec, host)


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
            phase, upload = await task.driver(message.round).open_upload(client, answer[0])
            for chunk in answer[1:]:
                phase.receive(upload, chunk)
            await task.driver(message.round).close_upload(phase, upload)
        else:
            await task.deliver(SITES[client], ClientMessage(message.round, answer[0]))


async def finished(task, number):
    async with asyncio.timeout(20):
        return [event async for event in task.events(number).follow()][-1]


async def test_rounds_follow_each_other_and_the_last_results_are_kept():
    task = task_of()
    crowd = [asyncio.create_task(attend(task, c)) for c in range(4)]
    await asyncio.sleep(0)
    for number in range(1, RESULTS_KEPT + 2):
        assert task.start_round(hash_model(None)) == number
        with pytest.raises(OutOfTurn, match=f"round {number} is still running"):
            task.start_round(hash_model(None))
        assert (await finished(task, number)).kind == "closed"
        await asyncio.gather(task._running)
        assert task.last_round == number
    assert task.result(0) is task.result(RESULTS_KEPT + 1)
    nonces = {task.result(n).setting.terms.server_nonce for n in range(2, RESULTS_KEPT + 2)}
    assert len(nonces) == RESULTS_KEPT
    with pytest.raises(NotFound, match="no result of round 1: the last 3 are kept"):
        task.result(1)
    with pytest.raises(NotFound, match="no result of round 9: there is none yet"):
        task.result(9)
    with pytest.raises(NotFound, match="has no round 9"):
        task.events(9)
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
        Task(dataclasses.replace(spec, parameters=overflowing), task_of()._host)
