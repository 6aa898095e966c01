"""Rounds without an engine: what the trees depend on, what they don't, and how a study goes on after a restart."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol import encoding
from clients.boosting import Records, Settings, State, advanced, contribution, to_xgboost_json
from clients.boosting.settings import GRADIENTS, HESSIANS, exact_sum
from clients.boosting.trees import Node
from tests.boosting.study import dealt, one_round, records, run, settings
from tests.consortium import drbg


def trained(sites: list[Records], **changes) -> State:
    return run(State.start(settings(**changes)), lambda _: sites)


def test_trees_learn():
    values, labels = records()
    state = trained(dealt(values, labels, 4), trees=8)
    assert ((state.predict(values) > 0.5) == labels).mean() > 0.85
    assert len(state.trees) == 8
    assert max(tree.depth for tree in state.trees) == 3
    assert state.base_score == pytest.approx(labels.mean(), rel=1e-6)


@pytest.mark.parametrize("classes", [True, False])
def test_the_model_doesn_t_depend_on_who_holds_which_record(classes):
    values, labels = records(classes=classes)
    kind = {} if classes else {"objective": "reg:squarederror", "label_max": 10.0}
    models = {trained(dealt(values, labels, sites, seed=sites), **kind).to_json() for sites in (1, 2, 5)}
    assert len(models) == 1


@pytest.mark.parametrize("sites", [3, 5])
def test_the_engine_sums_without_an_error(sites):
    """The halves with the engine's own encoding between them: the very same state as with plain sums."""
    values, labels = records(60)
    shards, spec = dealt(values, labels, sites), settings().parameters
    state = plain = State.start(settings(trees=1))
    for number in range(1, 7):
        encoded = [
            encoding.encode(contribution(state, one), 1, spec, bytes(32), drbg("rounding", site)(32))
            for site, one in enumerate(shards)
        ]
        assert not any(one.clipped_entries for one in encoded)
        total = np.sum([one.words for one in encoded], axis=0, dtype=np.uint64)
        mean = encoding.decode(total, sites, spec, bytes(32)).mean
        for name, step in state.settings.steps.items():
            exact = sum(contribution(state, one)[name] for one in shards)
            assert np.array_equal(exact_sum(mean[name], sites, step), exact)
        state, plain = one_round(state, shards, number), one_round(plain, shards, number)
    assert state.to_json() == plain.to_json()


@given(st.integers(2, 10_000), st.integers(1, 2**30), st.floats(1e-6, 1e12))
def test_every_sum_fits_and_nothing_is_clipped(sites, most, label_max):
    study = settings(
        sites_max=sites, records_max=most, minimum_cohort=2, objective="reg:squarederror", label_max=label_max
    )
    spec = study.parameters
    for tensor, scale, bound in zip(spec.tensors, spec.scales, (study.gradient_max, 1.0), strict=True):
        assert scale == study.steps[tensor.name]  # so that whole steps stay whole
        assert sites * most * bound / scale <= 2**50
        assert most * bound <= tensor.clip
    assert spec.ring_bits <= 64


def test_a_site_that_is_away_is_missing_from_that_level_only():
    values, labels = records(300)
    shards = dealt(values, labels, 4)
    state = run(
        State.start(settings(trees=6)), lambda number: [one for i, one in enumerate(shards) if (number + i) % 5]
    )
    assert state.done
    assert ((state.predict(values) > 0.5) == labels).mean() > 0.75


def test_a_level_that_nobody_has_records_of_is_not_split():
    values, labels = records(40, missing=0.0)
    low, high = (Records(values[half], labels[half]) for half in (labels == 0, labels == 1))
    state = State.start(settings(trees=1, base_score=0.5))
    while not state.trees or state.trees[-1].open == (0,):
        state = one_round(state, [low, high], state.round + 1)
    rest = Records(np.full((1, 3), 1e6), np.zeros(1))
    state = run(state, lambda _: [rest, rest])
    assert state.done
    assert state.trees[0].depth == 1


@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_study_goes_on_where_it_stopped(stop):
    values, labels = records()
    whole = trained(dealt(values, labels, 3))
    early = run(State.start(settings()), lambda _: dealt(values, labels, 3), until=stop)
    text = early.to_json()
    again = State.from_json(text)
    assert again.to_json() == text
    assert run(again, lambda _: dealt(values, labels, 3)).to_json() == whole.to_json()


def test_records_keep_no_margins_of_another_study():
    values, labels = records()
    shards = dealt(values, labels, 3)
    first, other = trained(shards), trained(shards, eta=0.1)
    assert trained(shards).to_json() == first.to_json() != other.to_json()


def test_a_tree_without_a_split_is_a_leaf():
    values, labels = records()
    state = trained(dealt(values, labels, 3), gamma=1e9, base_score=0.5)
    assert [len(tree.nodes) for tree in state.trees] == [1, 1, 1]
    assert np.unique(state.predict(values)).size == 1


def test_missing_slots_are_zero_and_bins_add_up():
    values, labels = records()
    site, state = Records(values, labels), State.start(settings())
    state = run(state, lambda _: [site], until=state.settings.sketch_rounds)
    update = contribution(state, site)
    assert not update[HESSIANS][1:].any()
    assert np.unique(update[HESSIANS][0].sum(axis=1)).size == 1
    assert update[GRADIENTS][0, 1].sum() == update[GRADIENTS][0, 0].sum()


@pytest.mark.parametrize(
    ("values", "labels", "why"),
    [
        ([[1.0, 2.0, np.inf]], [0], "infinite"),
        ([[1.0, 2.0, 3.0]], [np.nan], "number"),
        ([[1.0, 2.0, 3.0]], [0, 1], "shape"),
        ([[1.0, 2.0]], [0], "features"),
        ([[1.0, 2.0, 3.0]], [2], "0 or 1"),
        (np.zeros((201, 3)), np.zeros(201), "201 records"),
        (np.zeros((0, 3)), np.zeros(0), "0 records"),
    ],
)
def test_records_that_don_t_fit_stay_at_home(values, labels, why):
    with pytest.raises(ParameterError, match=why):
        contribution(State.start(settings()), Records(np.array(values), np.array(labels)))


def test_a_gradient_beyond_the_fixed_point_stays_at_home():
    values, labels = records(classes=False)
    kind = {"objective": "reg:squarederror", "label_max": 10.0}
    state = run(State.start(settings(**kind)), lambda _: [Records(values, labels)], until=4)
    wild = State.from_json(state.to_json().replace('"base_score":' + repr(state.base_score), '"base_score":1e5'))
    assert wild.base_score == 1e5
    with pytest.raises(ParameterError, match="label_max"):
        contribution(wild, Records(values, labels))


@pytest.mark.parametrize(
    "changes",
    [{"features": ()}, {"features": ("a", "a")}, {"max_depth": 9}, {"eta": 0.0}, {"base_score": 1.0}, {"max_bin": 1}],
)
def test_settings_out_of_range(changes):
    with pytest.raises(ParameterError):
        settings(**changes)


def test_settings_and_states_travel_as_json():
    study = settings(objective="reg:squarederror", label_max=3.0)
    assert Settings.from_json(study.to_json()) == study
    for text in ("[]", "{}", "nonsense", '{"format": 2}'):
        with pytest.raises(ParameterError):
            State.from_json(text)
    with pytest.raises(ParameterError):
        Settings.from_json('{"unknown": 1}')


def test_the_model_file_has_every_field_of_every_node():
    values, labels = records()
    state = trained(dealt(values, labels, 3))
    model = json.loads(to_xgboost_json(state))["learner"]
    trees = model["gradient_booster"]["model"]["trees"]
    assert model["feature_names"] == ["age", "dose", "marker"]
    for tree, ours in zip(trees, state.trees, strict=True):
        lengths = {len(value) for name, value in tree.items() if isinstance(value, list) and "categories" not in name}
        assert lengths == {len(ours.nodes)} == {int(tree["tree_param"]["num_nodes"])}
        for side in ("left_children", "right_children"):
            assert all(tree["parents"][child] == node for node, child in enumerate(tree[side]) if child >= 0)


@pytest.mark.parametrize(
    "lie",
    [
        lambda sums: sums - 1.0,
        lambda sums: sums * 0.0,
        lambda sums: sums + 1e6,
        lambda sums: np.full_like(sums, np.nan),
    ],
)
@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_sums_that_no_records_can_have_made_are_refused_by_name(lie, rounds):
    """A server that makes them up, or one site that sends them, ends no process and allocates nothing."""
    spec = settings()
    sites = dealt(*records(), 3)
    state = run(State.start(spec), lambda _: sites, until=rounds)
    updates = [contribution(state, one) for one in sites]
    mean = {name: sum(update[name] for update in updates) / 3 for name in updates[0]}
    with pytest.raises(RoundAborted, match="none of records"):
        advanced(state, {**mean, HESSIANS: lie(mean[HESSIANS])}, 3, rounds + 1)
    assert advanced(state, mean, 3, rounds + 1).closed == state.closed + 1


def test_all_sites_must_be_there_unless_it_is_said():
    assert Settings(("a",), sites_max=7, records_max=10).parameters.minimum_cohort == 7
    assert Settings(("a",), sites_max=7, records_max=10, minimum_cohort=3).parameters.minimum_cohort == 3


@pytest.mark.parametrize(
    ("place", "value"),
    [("left", 99), ("right", -2), ("parent", 5.5), ("feature", 3), ("feature", -1), ("left", True)],
)
def test_a_state_of_somebody_else_s_with_nodes_that_are_not_there_is_refused(place, value):
    sites = dealt(*records(), 3)
    state = run(State.start(settings()), lambda _: sites)
    said = json.loads(state.to_json())
    said["trees"][0]["nodes"][0][[field.name for field in fields(Node)].index(place)] = value
    with pytest.raises(ParameterError, match="no state of a study"):
        State.from_json(json.dumps(said))
    with pytest.raises(ParameterError, match="no state of a study"):
        State.from_json('{"format":1,"settings":' + "[" * 100_000)
