"""Which tensors are summed, by patterns of their names; through a round, too, in either mode."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clients
from aggregator.errors import ParameterError
from aggregator.protocol.parameters import Mode
from aggregator.wire.messages import Tensor
from clients import Selection
from tests.loopback import hub, parameters
from tests.memory import Room

MODEL = {
    "body.0.weight": np.zeros((3, 4), np.float32),
    "body.0.bias": np.zeros(4, np.float32),
    "body.1.running_mean": np.zeros(4),
    "head.weight": np.zeros((4, 2)),
    "steps": np.int64(0),
}


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), list(MODEL)),
        (Selection(("body.*",)), ["body.0.weight", "body.0.bias", "body.1.running_mean"]),
        (Selection(exclude=("*.running_*", "head.*", "steps")), ["body.0.weight", "body.0.bias"]),
        (Selection(("head.*", "body.0.*"), ("*.bias",)), ["body.0.weight", "head.weight"]),
        (Selection(("*.[!0].*",)), ["body.1.running_mean"]),
        (Selection(("step?",)), ["steps"]),
    ],
)
def test_patterns_select_and_the_models_order_stays(selection, names):
    assert list(selection.names(MODEL)) == names
    assert list(selection.of(MODEL)) == names
    assert all(selection.of(MODEL)[name] is MODEL[name] for name in names)
    assert [tensor.name for tensor in selection.tensors(MODEL)] == names


def test_tensors_have_shapes_and_clips():
    found = Selection(("head.*", "steps")).tensors(MODEL, {"head.weight": 0.5})
    assert found == (Tensor("head.weight", (4, 2), 0.5), Tensor("steps", ()))


@given(st.dictionaries(st.text("ab.", min_size=1), st.integers(), min_size=1), st.text("ab.*?", min_size=1))
def test_include_and_exclude_part_a_model_in_two(model, pattern):
    """Whatever matches is in one part, the rest in the other; when one is empty, that is said."""
    try:
        inside = Selection((pattern,)).of(model)
    except ParameterError:
        with pytest.raises(ParameterError, match="matches none"):
            Selection(exclude=(pattern,)).of(model)
        return
    if len(inside) == len(model):
        with pytest.raises(ParameterError, match="none is selected"):
            Selection(exclude=(pattern,)).of(model)
        return
    outside = Selection(exclude=(pattern,)).of(model)
    assert inside.keys() | outside.keys() == model.keys()
    assert not inside.keys() & outside.keys()


def test_merged_replaces_what_was_selected_and_nothing_else():
    selection = Selection(exclude=("head.*", "steps"))
    mean = {name: np.ones(np.shape(array)) for name, array in selection.of(MODEL).items()}
    merged = selection.merged(MODEL, mean)
    assert list(merged) == list(MODEL)
    assert all(merged[name] is mean.get(name, array) for name, array in MODEL.items())
    assert (MODEL["body.0.bias"] == 0).all()


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection(("tail.*",)), "the pattern 'tail.*' matches none of 5 tensors: body.0.weight, body.0.bias, body.1"),
        (Selection(exclude=("Head.*",)), "the pattern 'Head.*' matches none"),
        (Selection(("*", "tail")), "the pattern 'tail' matches none"),
        (Selection(exclude=("*",)), "of 5 tensors none is selected"),
        (Selection(include=()), "of 5 tensors none is selected"),
        (Selection(("body[.]0[.]*",), ("body.0.*",)), "of 5 tensors none is selected"),
    ],
)
def test_a_selection_that_selects_nothing_says_so(selection, says):
    for use in (selection.of, selection.tensors, selection.names, lambda model: selection.merged(model, {})):
        with pytest.raises(ParameterError) as refused:
            use(MODEL)
        assert says in str(refused.value)


def test_long_models_are_named_in_part():
    with pytest.raises(ParameterError, match=r"of 9 tensors: 0, 1, 2, 3, 4, \.\.\.$"):
        Selection(("x",)).names(map(str, range(9)))


def test_what_does_not_fit_is_refused():
    selection = Selection(("body.0.*",))
    good = {"body.0.weight": np.zeros((3, 4)), "body.0.bias": np.zeros(4)}
    for mean, says in (
        ({"body.0.weight": good["body.0.weight"]}, r"missing \['body.0.bias'\], surplus \[\]"),
        ({**good, "steps": 1}, r"missing \[\], surplus \['steps'\]"),
        ({**good, "body.0.bias": np.zeros(3)}, r"tensor 'body.0.bias' is \(4,\), its mean is \(3,\)"),
    ):
        with pytest.raises(ParameterError, match=says):
            selection.merged(MODEL, mean)
    with pytest.raises(ParameterError, match="a clip for 'steps': there is no such tensor among those selected"):
        selection.tensors(MODEL, {"steps": 1.0})
    for patterns in ("body.*", (b"body",)):
        with pytest.raises(ParameterError, match="patterns are given as a tuple of texts"):
            Selection(patterns)


def layers(site):
    """A site's update; its head has a width of its own."""
    rng = np.random.default_rng(site)
    return {"body.w": rng.uniform(-3, 3, (3, 2)), "body.b": np.float64(site), "head.w": rng.uniform(-3, 3, site + 1)}


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
async def test_heads_of_different_widths_stay_at_their_sites(tmp_path, mode):
    """Over gRPC: the base, too, is the part that sites share."""
    chosen, sites = Selection(exclude=("head.*",)), range(3)
    models = [{**layers(site), "body.w": np.zeros((3, 2)), "body.b": 0.0} for site in sites]
    spec = parameters(mode=mode, tensors=chosen.tensors(models[0], {"body.b": 2.0}))
    async with hub(tmp_path, len(sites)) as h:
        await h.create(spec)
        run = await h.run_round({s: (chosen.of(layers(s)), 10) for s in sites}, base=chosen.of(models[1]))
    for site in sites:
        result = run.results[site]
        assert isinstance(result, clients.RoundResult), result
        model = chosen.merged(models[site], result.mean)
        assert model["head.w"] is models[site]["head.w"]
        for name in ("body.w", "body.b"):
            want = np.mean([layers(s)[name] for s in sites], axis=0)
            assert np.abs(model[name] - want).max() <= result.error_bounds[name]


async def test_a_site_that_sends_its_head_is_refused(tmp_path):
    chosen = Selection(exclude=("head.*",))
    spec = replace(parameters(), tensors=chosen.tensors(layers(0)))
    ends = await asyncio.wait_for(Room(tmp_path, 2, spec=spec).play({s: (layers(s), 10) for s in range(2)}), 20)
    assert all("surplus ['head.w']" in str(end) for end in ends.values())
