"""The adapter over a real server: every side ends with the same trees; sites and operator go on after a restart."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.errors import NotFound, ParameterError, SangamError, StaleModel
from aggregator.wire.operator_messages import Opening
from clients.adapters.xgboost import conduct, create, train
from clients.boosting import Records, Settings, State, contribution
from clients.training import OperatorWatch
from tests.boosting.study import dealt, records, run, settings
from tests.consortium import TASK
from tests.loopback import Hub, Watcher, hub

SITES = 3


def study(**changes: Any) -> Settings:
    small = {"sites_max": SITES, "minimum_cohort": 2, "trees": 2, "max_depth": 2, "max_bin": 4, "sketch_rounds": 2}
    return settings(**{**small, **changes})


def shards() -> list[Records]:
    return dealt(*records(), SITES)


class Told(OperatorWatch):
    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.closed: list[int] = []
        self.failed: list[bool] = []

    def happened(self, event: Any) -> None:
        self.kinds.add(event.kind)

    def ended(self, line: Any, shared: Any) -> None:
        self.closed.append(shared.closed)
        self.failed.append(bool(line.failed))


def pooled(spec: Settings) -> list[Any]:
    """What no round number can change."""
    return content(run(State.start(spec), lambda _: shards()))


def content(state: State) -> list[Any]:
    return [state.cuts, state.base_score, state.trees]


async def site(h: Hub, index: int, path: Path, spec: Settings, **options: Any) -> State:
    async with h.join(index) as session:
        return await train(session, shards()[index], spec, path / f"site-{index}.json", **options)


async def all_sites(h: Hub, path: Path, spec: Settings) -> list[State]:
    return await asyncio.gather(*(site(h, index, path, spec) for index in range(SITES)))


async def test_everybody_ends_with_the_pooled_trees(tmp_path):
    spec, told = study(), Told()
    async with hub(tmp_path, SITES) as h:
        await create(h.operator, TASK, spec)
        leading = conduct(h.operator, TASK, spec, tmp_path / "operator.json", watch=told)
        ours, theirs = await asyncio.gather(leading, all_sites(h, tmp_path, spec))
    assert {state.to_json() for state in theirs} == {ours.to_json()}
    assert content(ours) == pooled(spec)
    assert (tmp_path / "site-1.json").read_text() == ours.to_json()
    assert told.kinds >= {"step", "closed"}
    assert told.closed == list(range(1, len(told.closed) + 1))


async def test_all_go_on_after_a_restart(tmp_path):
    """All are stopped once the operator's file holds a tree, at whatever point of a round each of them is."""
    spec, path = study(trees=3), tmp_path / "operator.json"

    class Stops(OperatorWatch):
        def happened(self, event: Any) -> None:
            if event.kind == "closed" and path.exists() and State.from_json(path.read_text()).finished_trees:
                raise InterruptedError

    async with hub(tmp_path, SITES) as h:
        await create(h.operator, TASK, spec)

        sites = [asyncio.create_task(site(h, index, tmp_path, spec)) for index in range(SITES)]
        with pytest.raises(InterruptedError):
            await conduct(h.operator, TASK, spec, path, watch=Stops())
        for one in sites:
            one.cancel()
        await asyncio.gather(*sites, return_exceptions=True)
        assert not State.from_json(path.read_text()).done
        ours, theirs = await asyncio.gather(conduct(h.operator, TASK, spec, path), all_sites(h, tmp_path, spec))
    assert {state.to_json() for state in theirs} == {ours.to_json()}
    assert content(ours) == pooled(spec)


async def test_a_site_that_comes_late_takes_what_closed_without_it(tmp_path):
    spec = study()
    async with hub(tmp_path, SITES) as h:
        await create(h.operator, TASK, spec, opening=Opening(sample=2))
        leading = conduct(h.operator, TASK, spec, tmp_path / "operator.json", keep_open=True)
        ours, *_ = await asyncio.gather(leading, *(site(h, index, tmp_path, spec) for index in (0, 1)))
        late = await site(h, 2, tmp_path, spec)
    assert late.to_json() == ours.to_json()
    assert content(ours) == content(run(State.start(spec), lambda _: shards()[:2]))


async def test_a_site_that_waits_for_a_round_that_never_comes_is_told_by_the_task_s_end(tmp_path):
    """It asked for the last result while the last round was running, without it."""
    spec = study(trees=1)

    class Asleep:
        def __init__(self, session: Any) -> None:
            self.session, self.task, self.contribute, self.waits = session, session.task, session.contribute, True

        async def fetch_result(self, **base: Any) -> Any:
            if self.waits:
                self.waits = False
                raise NotFound("the first round is running")
            return await self.session.fetch_result(**base)

    async with hub(tmp_path, SITES) as h:
        await create(h.operator, TASK, spec, opening=Opening(sample=2))
        leading = conduct(h.operator, TASK, spec, tmp_path / "operator.json", keep_open=True)
        ours, *_ = await asyncio.gather(leading, *(site(h, index, tmp_path, spec) for index in (0, 1)))
        async with h.join(2) as session:
            late = asyncio.create_task(train(Asleep(session), shards()[2], spec, tmp_path / "site-2.json"))
            await h.operator.cancel_task(TASK)
            assert (await late).to_json() == ours.to_json()


async def test_a_state_of_another_training_is_refused(tmp_path):
    spec, other = study(trees=1), study(trees=1, eta=0.1)
    (tmp_path / "site-0.json").write_text(replace(State.start(spec), round=7).to_json())
    async with hub(tmp_path, SITES) as h:
        await create(h.operator, TASK, spec)
        leading = conduct(h.operator, TASK, spec, tmp_path / "operator.json")
        lost, *others = (asyncio.create_task(site(h, index, tmp_path, spec)) for index in range(SITES))
        others.append(asyncio.create_task(leading))
        with pytest.raises(StaleModel, match="starts from another model"):
            await lost
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    (tmp_path / "of-another.json").write_text(State.start(other).to_json())
    with pytest.raises(ParameterError, match="other settings"):
        await train(None, shards()[0], spec, tmp_path / "of-another.json")  # before the session is touched


async def test_a_failed_round_is_followed_by_another(tmp_path):
    """Sites that have answered for a state say why they contribute again; the operator just goes on."""
    spec = study(trees=1)
    async with hub(tmp_path, SITES) as h:
        await create(h.operator, TASK, spec)
        joined = asyncio.Barrier(SITES)

        async def dies(index: int) -> None:
            async with h.join(index) as session:
                await joined.wait()
                state = State.start(spec)
                update = contribution(state, shards()[index])
                with pytest.raises(SangamError):
                    await session.contribute(
                        update, weight=1, base=state.base, observer=Watcher(refuses_at="unmasking")
                    )
            await site(h, index, tmp_path, spec, again="the first round failed")

        told = Told()
        leading = conduct(h.operator, TASK, spec, tmp_path / "operator.json", watch=told)
        ours, *_ = await asyncio.gather(leading, *map(dies, range(SITES)))
    assert told.failed == [True] + [False] * (len(told.failed) - 1)
    theirs = {(tmp_path / f"site-{index}.json").read_text() for index in range(SITES)}
    assert theirs == {ours.to_json()}
    assert content(ours) == pooled(spec)
