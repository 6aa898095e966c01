"""A training end to end over real servers: what comes out is what plain averaging gives, whoever dies meanwhile."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import numpy as np
import pytest

from aggregator.arrays import read_arrays, write_arrays
from aggregator.errors import (
    Cancelled,
    Equivocation,
    NotAdmitted,
    ParameterError,
    RoundAborted,
    SangamError,
    StaleModel,
    StorageError,
)
from aggregator.wire.vocabulary import EventKind
from clients.adapters.arrays import Arrays
from clients.adapters.contract import Combine
from clients.contribution import Observer
from clients.training import Experiment, OperatorWatch, SiteWatch, Trained, Training, learn
from clients.training.global_model import GlobalModel
from tests.loopback import hub

TASK = "lines"
SITES, ROUNDS = 3, 4
RECORDS = (10, 20, 50)
FIRST = {"w": np.array([0.5, -0.25, 0.0], np.float32), "b": np.array(0.0)}
TARGETS = np.random.default_rng(3).uniform(-1, 1, (SITES, 4))


def blank():
    """A site's own model; what its numbers are makes no difference."""
    return {name: np.full_like(array, 9.0) for name, array in FIRST.items()}


def towards(site):
    """A training that takes half of the way to this site's own target."""

    def train(model):
        target = {"w": TARGETS[site, :3].astype(np.float32), "b": TARGETS[site, 3]}
        loss = sum(float(((target[name] - model[name]) ** 2).sum()) for name in model)
        after = {name: (array + (target[name] - array) / 2).astype(array.dtype) for name, array in model.items()}
        return Trained(after, RECORDS[site], {"loss": loss})

    return train


def plain(rounds, sites=range(SITES)):
    """The models that averaging in the open makes."""
    model, models = dict(FIRST), []
    for _ in range(rounds):
        ends = [towards(site)(model) for site in sites]
        weights = [one.records for one in ends]
        model = {name: np.average([one.model[name] for one in ends], 0, weights) for name in model}
        models.append(model)
    return models


def experiment(directory, **changes):
    first = directory / "first.npz"
    write_arrays(first, FIRST)
    stated = {"task": TASK, "model": first, "rounds": ROUNDS, "clip": 2.0, "weight_max": 50, "minimum_cohort": 2}
    return Experiment(
        **{**stated, "metrics": {"loss": 20.0}, "enough": SITES, "deadlines": {"reconnect_s": 0}, **changes}
    )


@dataclass
class Seen(OperatorWatch, SiteWatch):
    """Keeps what it is told; may stop the training when a round has begun."""

    dies_in: int = 0
    lines: list = field(default_factory=list)
    models: list = field(default_factory=list)
    caught: list = field(default_factory=list)
    reasons: list = field(default_factory=list)

    def begins(self, number, shared, failures):
        self.number = number

    def happened(self, event):
        if event.kind == EventKind.STEP and len(self.lines) + 1 == self.dies_in:
            raise asyncio.CancelledError

    def ended(self, line, shared):
        self.lines.append(line)

    def closed(self, shared, result, means):
        self.models.append(shared)

    def caught_up(self, shared):
        self.caught.append(shared.round)

    def aborted(self, reason):
        self.reasons.append(reason)


@dataclass
class Place:
    """A server and an experiment on it."""

    server: object
    stated: Experiment

    def training(self):
        return Training(self.stated, self.server.directory / "run")

    async def site(self, number, *, rounds=0, train=None, **options):
        stated = self.stated.model_copy(update={"rounds": rounds or self.stated.rounds})
        async with self.server.join(number, task=TASK) as session:
            return await learn(session, Arrays(), blank(), train or towards(number), stated, **options)


@pytest.fixture
async def place(tmp_path):
    async with AsyncExitStack() as stack:

        async def made(sites=SITES, **changes):
            found = Place(await stack.enter_async_context(hub(tmp_path, sites)), experiment(tmp_path, **changes))
            await found.training().create(found.server.operator)
            return found

        yield made


async def test_a_training_is_plain_averaging_within_the_bound(place):
    here, seen = await place(), Seen()
    made, *_ = watches = [Seen() for _ in range(SITES)]
    shared, *models = await asyncio.gather(
        here.training().conduct(here.server.operator, seen),
        *(here.site(number, watch=watch) for number, watch in enumerate(watches)),
    )
    expected = plain(ROUNDS)
    step = 2.0 / (2**15 - 1) * 50 * SITES / sum(RECORDS)  # of one round's mean, at each entry
    for number, (model, wanted) in enumerate(zip(made.models, expected, strict=True), 1):
        for name in FIRST:
            assert 0 < np.abs(model.tensors[name] - wanted[name]).max() <= number * step + 1e-6
    before = [FIRST, *(model.tensors for model in made.models[:-1])]
    for line, model in zip(seen.lines, before, strict=True):
        assert (line.sites, line.records) == (SITES, sum(RECORDS))
        loss = np.average([towards(site)(model).metrics["loss"] for site in range(SITES)], weights=RECORDS)
        assert line.metrics["loss"] == pytest.approx(loss, abs=10 * step)  # the metric's clip is ten times the model's
    for model in models:
        assert all(np.array_equal(model[name], shared.tensors[name]) for name in FIRST)
        assert model["w"].dtype == np.float32
    assert all(
        np.array_equal(array, shared.tensors[name]) for name, array in read_arrays(here.training().model_file).items()
    )


async def test_an_operator_that_dies_goes_on_and_starts_no_round_twice(place):
    here = await place()
    sites = asyncio.gather(*(here.site(number) for number in range(SITES)))
    with pytest.raises(asyncio.CancelledError):
        await here.training().conduct(here.server.operator, Seen(dies_in=2))
    with pytest.raises(asyncio.CancelledError):  # now with the round under way, or closed meanwhile
        await here.training().conduct(here.server.operator, Seen(dies_in=2))
    shared = await here.training().conduct(here.server.operator)
    models = await sites
    numbers = [line.round for line in here.training().history().lines]
    assert numbers == sorted(set(numbers))
    assert (len(numbers), shared.closed) == (ROUNDS, ROUNDS)
    assert len([one async for one in here.server.operator.rounds(TASK)]) == ROUNDS
    assert all(np.array_equal(model["w"], shared.tensors["w"]) for model in models)


async def test_a_site_that_dies_goes_on_from_its_checkpoint(place, tmp_path):
    brisk = {"reconnect_s": 0, "advertise_keys_s": 0.5}  # as long as the rounds without it wait for it
    here, seen, checkpoint = await place(rounds=5, enough=2, keep=10, deadlines=brisk), Seen(), tmp_path / "site.npz"

    async def restless():
        await here.site(0, rounds=1, checkpoint=checkpoint)
        assert GlobalModel.load(checkpoint).closed == 1
        await started.wait()  # two rounds close without it
        return await here.site(0, checkpoint=checkpoint, watch=seen)

    started = asyncio.Event()

    class Starts(OperatorWatch):
        def ended(self, line, shared):
            if shared.closed == 3:
                started.set()

    async def conduct():
        return await here.training().conduct(here.server.operator, Starts())

    shared, model, *_ = await asyncio.gather(conduct(), restless(), *(here.site(n) for n in (1, 2)))
    numbers = [line.round for line in here.training().history().lines if not line.failed]
    assert seen.caught[:2] == numbers[1:3]
    assert all(np.array_equal(model[name], shared.tensors[name]) for name in FIRST)


async def test_a_site_that_was_away_for_too_long_is_told_what_it_needs(place, tmp_path):
    here = await place(keep=1, enough=2, sample=2, keep_open=True)
    await asyncio.gather(here.training().conduct(here.server.operator), *(here.site(number) for number in (0, 1)))
    with pytest.raises(
        StaleModel,
        match=r"made by 0 rounds, and what comes next is missing: .* has expired.*model file of the operator",
    ):
        await here.site(2)
    given = tmp_path / "given.npz"
    given.write_bytes(here.training().model_file.read_bytes())
    model = await here.site(2, checkpoint=given)
    assert np.array_equal(model["w"], read_arrays(given)["w"])


async def test_a_round_that_fails_costs_nobody_a_training(place):
    """The sites' updates wait for the next round; the operator counts how many have failed in a row."""
    here, watches = await place(failures_max=1), [Seen() for _ in range(SITES)]
    trained = []

    async def site(number):
        def train(model):
            trained.append(number)
            return towards(number)(model)

        return await here.site(number, train=train, watch=watches[number])

    class Aborts(Seen):
        def happened(self, event):
            if event.kind == EventKind.STEP and event.step == "share_keys" and not self.lines:
                self.aborting = asyncio.create_task(here.server.operator.abort_round(TASK, self.number, "spilt"))

    here.stated = here.stated.model_copy(update={"rounds": 1})
    audience = Aborts()
    await asyncio.gather(here.training().conduct(here.server.operator, audience), *map(site, range(SITES)))
    assert ["spilt" in line.failed for line in audience.lines] == [True, False]
    assert sorted(trained) == [0, 1, 2]
    assert [len(watch.reasons) for watch in watches] == [1, 1, 1]
    assert all("spilt" in watch.reasons[0] for watch in watches)


async def test_rounds_that_go_on_failing_end_the_training_until_it_is_gone_on_with(place):
    here = await place(failures_max=1, minimum_cohort=3, gather_hours=1e-6)
    with pytest.raises(RoundAborted, match=r"2 rounds in a row have failed, the last, .*: gathering: 0 sites came"):
        await here.training().conduct(here.server.operator)
    with pytest.raises(RoundAborted, match="2 rounds in a row have failed"):
        await here.training().conduct(here.server.operator)
    shared, *_ = await asyncio.gather(
        here.training().conduct(here.server.operator), *(here.site(number) for number in range(SITES))
    )
    assert shared.closed == ROUNDS


async def test_a_task_of_its_operators_results_is_refused_with_the_reason(place):
    here = await place()
    other = experiment(here.server.directory, task="closed", enough=0)
    await here.server.operator.create_task("closed", other.parameters(other.first()), result_to_operator_only=True)
    here.stated = other
    async with here.server.join(0, task="closed") as session:
        with pytest.raises(NotAdmitted, match="the results of task closed go to its operator only"):
            await learn(session, Arrays(), blank(), towards(0), other)


async def test_a_site_that_was_not_in_the_last_rounds_has_the_model_when_the_task_ends(place):
    """Two of the three are in a round; whoever was not drawn into the last one hears that it is over."""
    here = await place(enough=3, sample=2, keep=20, rounds=3)
    shared, *models = await asyncio.gather(
        here.training().conduct(here.server.operator), *(here.site(number) for number in range(3))
    )
    lines = here.training().history().lines
    assert {line.sites for line in lines if not line.failed} == {2}, lines
    assert all(np.array_equal(model["w"], shared.tensors["w"]) for model in models)


async def test_a_round_that_changes_nothing_is_the_last(place):
    """No site contributes twice on one model, so a training that has converged is over."""
    here = await place(rounds=5)

    still = [here.site(number, train=lambda model: Trained(model, 10, {"loss": 0.0})) for number in range(SITES)]
    shared, *models = await asyncio.gather(here.training().conduct(here.server.operator), *still)
    assert (shared.closed, shared.converged) == (1, True)
    assert (await here.training().conduct(here.server.operator)).digest == shared.digest, "it gives its model again"
    assert all(np.array_equal(model["w"], FIRST["w"]) for model in models)


async def test_more_rounds_than_were_asked_for_are_another_training(place):
    here = await place(rounds=1)
    await asyncio.gather(here.training().conduct(here.server.operator), *map(here.site, range(SITES)))
    here.stated = here.stated.model_copy(update={"rounds": 2})
    with pytest.raises(Cancelled, match=r"goes on under another task, with model\.npz as its first model"):
        await here.training().conduct(here.server.operator)


@pytest.mark.parametrize(
    ("changes", "adapter", "model", "said"),
    [
        ({}, Arrays(), {"w": FIRST["w"]}, "has a tensor 'b', this site's model has not"),
        (
            {},
            Arrays(),
            {**FIRST, "w": np.zeros(4)},
            r"'w' is float64\[4\] .*, and float32\[3\] in the first model",
        ),
        ({}, Arrays(Combine.SUM), FIRST, 'combines by mean, .* must say combine = "sum"'),
    ],
)
async def test_a_model_of_another_kind_is_refused_before_any_round(tmp_path, changes, adapter, model, said):
    with pytest.raises(ParameterError, match=said):
        await learn(None, adapter, dict(model), towards(0), experiment(tmp_path, **changes))


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (Trained(FIRST, 51, {"loss": 0.0}), "trained on more records than the 50 of the experiment's weight_max"),
        (Trained(FIRST, 10), r"metrics are \['loss'\], these are \[\]"),
        (Trained({"w": FIRST["w"]}, 10, {"loss": 0.0}), "has a tensor 'b'"),
    ],
)
async def test_what_a_training_gives_back_is_checked_before_it_leaves(place, trained, said):
    here = await place()
    with pytest.raises(ParameterError, match=said):
        await here.site(0, train=lambda _: trained)


async def test_a_checkpoint_may_lie_in_a_directory_that_is_not_there_yet(place, tmp_path):
    here = await place(rounds=1)
    path = tmp_path / "new" / "site.npz"
    sites = [here.site(0, checkpoint=path), *map(here.site, range(1, SITES))]
    shared, *_ = await asyncio.gather(here.training().conduct(here.server.operator), *sites)
    assert GlobalModel.load(path).digest == shared.digest
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot make"):
        await learn(None, Arrays(), blank(), towards(0), here.stated, checkpoint=tmp_path / "file" / "site.npz")


async def test_a_layer_that_the_first_model_lacks_stays_at_home(place):
    here = await place(rounds=2)

    def with_head(number):
        def train(model):
            model, head = {name: model[name] for name in FIRST}, model["head"]
            trained = towards(number)(model)
            return Trained({**trained.model, "head": head + number + 1}, trained.records, trained.metrics)

        return train

    async def site(number):
        async with here.server.join(number, task=TASK) as session:
            return await learn(session, Arrays(), {**blank(), "head": np.zeros(2)}, with_head(number), here.stated)

    shared, *models = await asyncio.gather(here.training().conduct(here.server.operator), *map(site, range(SITES)))
    assert [model["head"].tolist() for model in models] == [[2, 2], [4, 4], [6, 6]]
    assert all(np.array_equal(model["w"], shared.tensors["w"]) for model in models)


async def test_a_round_of_other_parameters_gets_nothing_and_its_result_is_not_believed(place):
    """A server, or an operator, that makes the task with a smaller cohort or another weight_max than was agreed on."""
    here = await place(rounds=1, minimum_cohort=2, keep_open=True)
    agreed = here.stated.model_copy(update={"minimum_cohort": 3})

    async def wary():
        async with here.server.join(0, task=TASK) as session:
            with pytest.raises(ParameterError, match="has other parameters than were agreed on"):
                await learn(session, Arrays(), blank(), towards(0), agreed)

    await asyncio.gather(here.training().conduct(here.server.operator), wary(), here.site(1), here.site(2))
    assert [line.sites for line in here.training().history().lines] == [2]
    async with here.server.join(0, task=TASK) as session:
        with pytest.raises(Equivocation, match="has other parameters than were agreed on"):
            await learn(session, Arrays(), blank(), towards(0), agreed)


async def test_leave_to_contribute_again_is_for_one_round(place):
    """A server that fails each round at its end gets a second sum of this site's update, and no third one."""
    here = await place(rounds=1, enough=2, sample=2, minimum_cohort=2, failures_max=9)

    class Dies(Observer):
        def step(self, name):
            if name == "unmasking":
                raise SangamError("not beyond unmasking")

    class Spoils(SiteWatch):
        observer = Dies()

    async def spoils(number):
        while True:
            with suppress(SangamError):
                await here.site(number, watch=Spoils())

    leading = asyncio.create_task(here.training().conduct(here.server.operator))
    spoiling = asyncio.create_task(spoils(1))
    seen = Seen()
    with pytest.raises(ParameterError, match="has contributed to task lines on this very model before"):
        await here.site(0, again="the first round was lost", watch=seen)
    assert len(seen.reasons) >= 1
    for task in (leading, spoiling):
        task.cancel()
    await asyncio.gather(leading, spoiling, return_exceptions=True)
