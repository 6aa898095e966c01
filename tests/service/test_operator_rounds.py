"""Rounds as operators see them: started once, awaited, drawn, ended, listed, and what is kept of them."""

import asyncio
from dataclasses import replace

import pytest

import clients
from aggregator.errors import Disconnected, Gone, NotFound, RoundAborted
from aggregator.wire.messages import ResultMessage, ResultRequest
from aggregator.wire.operator_messages import Opening, Retention
from tests.cable import Cable
from tests.consortium import ANY_COHORT
from tests.loopback import BRISK, PATIENT, check_mean, hub, offers, operator, parameters

SHAPE = parameters()
BIG = parameters((600_000,))  # 1.5 MB of sum: several chunks


async def listed(items):
    return [item async for item in items]


async def contribute(h, client, offered, **how):
    async with h.join(client, **how) as session:
        update, weight = offered[client]
        return await session.contribute(update, weight=weight)


def crowd(h, offered, *members):
    return [asyncio.create_task(contribute(h, client, offered)) for client in members]


async def leave(works):
    for work in works:
        work.cancel()
    return await asyncio.gather(*works, return_exceptions=True)


async def test_the_same_key_starts_one_round_while_it_runs_and_when_it_has_ended(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, PATIENT)
        starts = [h.operator.start_round("sepsis", key="study-7") for _ in range(5)]
        (number,) = set(await asyncio.gather(*starts))
        await h.operator.abort_round("sepsis", number)
        assert await h.operator.start_round("sepsis", key="study-7") == number
        assert [summary.round for summary in await listed(h.operator.rounds("sepsis"))] == [number]
        assert await h.operator.start_round("sepsis", key="study-8") == number + 1


class Forgetful:
    """A channel whose line breaks after a request went out and before its answer came, the first time."""

    def __init__(self, channel, method):
        self._channel, self._method, self.calls = channel, method, 0

    def __getattr__(self, name):
        return getattr(self._channel, name)

    async def unary(self, method, request, response):
        answer = await self._channel.unary(method, request, response)
        if method.endswith(self._method):
            self.calls += 1
            if self.calls == 1:
                raise Disconnected("the line broke")
        return answer


async def test_a_start_whose_answer_is_lost_is_tried_again_and_starts_one_round(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE)
        works = crowd(h, offered, 0, 1, 2)
        channel = Forgetful(h.calls, "StartRound")
        result = await clients.Operator(channel).run_round("sepsis")
        assert channel.calls == 2
        assert [summary.round for summary in await listed(h.operator.rounds("sepsis"))] == [result.round]
        await asyncio.gather(*works)
        without_key = clients.Operator(Forgetful(h.calls, "StartRound"))
        with pytest.raises(Disconnected, match="the line broke"):
            await without_key.start_round("sepsis")


async def test_a_watch_goes_on_over_a_broken_line_and_says_everything_once(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h, Cable(h.port) as cable:
        await h.create(SHAPE, PATIENT)
        seen = []
        async with clients.operate(f"localhost:{cable.port}", operator()) as distant:
            number = await h.operator.start_round("sepsis")

            async def watch():
                async for event in distant.watch("sepsis", number):
                    seen.append(event)
                    if event.kind in {"answered", "step"}:
                        cable.cut()

            watching = asyncio.create_task(watch())
            works = crowd(h, offered, 0, 1, 2)
            await asyncio.gather(watching, *works)
        assert seen == await listed(h.operator.watch("sepsis", number))
        assert len(seen) == 5 * (1 + 3) + 1


async def test_run_round_comes_through_a_line_that_breaks_again_and_again(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h, Cable(h.port) as cable:
        await h.create(SHAPE, PATIENT)
        async with clients.operate(f"localhost:{cable.port}", operator()) as distant:
            works = crowd(h, offered, 0, 1, 2)
            result = await distant.run_round("sepsis", on_event=lambda event: cable.cut())
            results = await asyncio.gather(*works)
        assert result.words.tolist() == results[0].words.tolist()
        assert len(await listed(h.operator.rounds("sepsis"))) == 1


async def test_a_watch_waits_for_a_server_no_longer_than_its_patience():
    async with clients.operate("localhost:1", operator(), patience_s=0.0) as nobody:
        async with asyncio.timeout(20):
            with pytest.raises(Disconnected):
                await listed(nobody.watch("sepsis", 1))


async def test_an_aborted_round_tells_the_reason_to_sites_and_watchers(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, PATIENT)
        works = crowd(h, offered, 0, 1)
        number = await h.operator.start_round("sepsis")
        events = h.operator.watch("sepsis", number)
        answered = 0
        while answered < 2:
            answered += (await anext(events)).kind == "answered"
        summary = await h.operator.abort_round("sepsis", number, "the ethics board\nsays stop")
        reason = "operator operator aborted the round: the ethics board says stop"
        assert (summary.state, summary.step, summary.reason) == ("failed", "advertise_keys", reason)
        assert [(event.kind, event.detail) for event in await listed(events)] == [("failed", reason)]
        for end in await asyncio.gather(*works, return_exceptions=True):
            assert isinstance(end, RoundAborted)
            assert str(end) == f"round {number}: {reason}"
        check_mean(await h.run_round(offered), offered, range(3), SHAPE.ring_bits)


async def test_a_gathering_round_opens_by_number_and_is_seen_as_such(tmp_path):
    offered = offers(4)
    async with hub(tmp_path, 4) as h:
        await h.create(SHAPE, opening=Opening(enough=3))
        number = await h.operator.start_round("sepsis")
        events = h.operator.watch("sepsis", number)
        first = await anext(events)
        assert (first.kind, first.step, first.clients) == ("gathering", "", 3)
        works = crowd(h, offered, 0, 1)
        while (summary := await h.operator.describe_round("sepsis", number)).clients < 2:
            pass
        assert (summary.state, summary.step, summary.result) == ("gathering", "", "none")
        works += crowd(h, offered, 3)
        results = await asyncio.gather(*works)
        assert {result.round for result in results} == {number}
        assert results[0].participants == ("site-0000", "site-0001", "site-0003")
        assert (await listed(events))[0].kind == "step"


async def test_a_drawn_round_leaves_the_others_waiting_for_the_next(tmp_path):
    offered = offers(5)
    async with hub(tmp_path, 5) as h:
        await h.create(SHAPE, PATIENT, opening=Opening(enough=5, sample=2))
        works = crowd(h, offered, *range(5))
        first = await h.operator.run_round("sepsis")
        assert len(first.participants) == 2
        names = [f"site-{client:04}" for client in range(5)]
        drawn = [work for work, name in zip(works, names, strict=True) if name in first.participants]
        assert {result.round for result in await asyncio.gather(*drawn)} == {first.round}
        assert not any(work.done() for work in works if work not in drawn)
        await leave(works)


async def test_a_site_that_insists_on_half_the_roster_refuses_a_drawn_cohort(tmp_path):
    """Its safeguards are its own: a server that draws cannot make them smaller."""
    offered = offers(5)
    async with hub(tmp_path, 5) as h:
        await h.create(SHAPE, PATIENT, opening=Opening(sample=2))
        works = [
            asyncio.create_task(contribute(h, client, offered, safeguards=guards))
            for client, guards in ((0, clients.Safeguards()), (1, ANY_COHORT))
        ]
        with pytest.raises(RoundAborted, match=r"share keys: [01] clients, need 2"):
            await h.operator.run_round("sepsis")
        with pytest.raises(RoundAborted, match="advertise keys: 2 clients, this client needs 3"):
            await works[0]
        await leave(works)


async def test_too_few_that_come_fail_the_round_by_name(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, opening=Opening(enough=3, gather_s=0.05))
        with pytest.raises(RoundAborted, match=r"round \d+: gathering: 0 sites came, need 2"):
            await h.operator.run_round("sepsis")


@pytest.mark.parametrize("end", ["abort_round", "cancel_task"])
async def test_a_gathering_round_can_be_ended(tmp_path, end):
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, opening=Opening(enough=3))
        number = await h.operator.start_round("sepsis")
        async with h.join(0):
            await (
                h.operator.abort_round("sepsis", number) if end == "abort_round" else h.operator.cancel_task("sepsis")
            )
        assert [event.kind for event in await listed(h.operator.watch("sepsis", number))] == ["gathering", "failed"]
        assert (await h.operator.describe_round("sepsis", number)).state == "failed"
        assert (await h.operator.describe_task("sepsis")).summary.running_round == 0


async def test_a_closed_round_is_described_and_listed_and_its_sum_deleted(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, retention=Retention(results=1))
        first = await h.run_round(offered)
        second = await h.run_round(offered, base=first.operator.mean)
        rounds = await listed(h.operator.rounds("sepsis", page_size=1))
        assert [(s.round, s.state, s.step, s.clients, s.result) for s in rounds] == [
            (second.number, "closed", "unmasking", 3, "kept"),
            (first.number, "closed", "unmasking", 3, "expired"),
        ]
        assert rounds[0] == await h.operator.describe_round("sepsis", second.number)
        assert rounds[0].result_bytes == SHAPE.result_plan.payload_bytes
        assert rounds[0].seconds > 0
        assert rounds[0].started_s > 1.7e9
        with pytest.raises(Gone, match=f"round {first.number} any more: it has expired, the last 1 are kept"):
            await h.operator.fetch_result("sepsis", first.number)
        assert (await h.operator.delete_result("sepsis", second.number)).result == "deleted"
        async with h.join(0) as session:
            for number in (0, second.number):
                with pytest.raises(Gone, match=f"round {second.number} any more: it was deleted"):
                    await session.fetch_result(number)


async def test_a_sum_expires_by_its_age(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, retention=Retention(age_s=0.3), result_to_operator_only=True)
        works = crowd(h, offers(3), 0, 1, 2)
        number = await h.operator.start_round("sepsis")
        await listed(h.operator.watch("sepsis", number))
        await asyncio.gather(*works)
        while (await h.operator.describe_round("sepsis", number)).result == "kept":
            pass
        with pytest.raises(Gone, match=r"it has expired, the last 3 are kept, for 0\.3 s"):
            await h.operator.fetch_result("sepsis", number)


async def test_a_download_that_has_begun_is_not_disturbed_when_the_sum_is_deleted(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(BIG)
        run = await h.run_round(offers(3, (600_000,)))
        parts = h.calls.downward("/sangam.v1.Operator/FetchResult", ResultRequest("sepsis", run.number), ResultMessage)
        await anext(parts)
        await h.operator.delete_result("sepsis", run.number)
        assert len([part async for part in parts]) == BIG.result_plan.chunks > 1
        with pytest.raises(Gone):
            await h.operator.fetch_result("sepsis", run.number)


async def test_a_failed_round_has_no_sum_to_delete(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, replace(BRISK, advertise_keys_s=0.05))
        with pytest.raises(RoundAborted):
            await h.operator.run_round("sepsis")
        (summary,) = await listed(h.operator.rounds("sepsis"))
        assert (summary.state, summary.step, summary.result) == ("failed", "advertise_keys", "none")
        assert summary.reason == "advertise keys: 0 clients, need 2"
        for ask in (h.operator.delete_result, h.operator.fetch_result):
            with pytest.raises(NotFound, match="the round failed"):
                await ask("sepsis", summary.round)
