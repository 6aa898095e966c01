"""What counts as a failed run."""

import json

import pytest

from tests.chaos.tally import Tally


def run(**changes):
    return Tally(**({"rounds": 100, "completed": 95, "listening_s": [0.5, 0.1, 0.2]} | changes))


def test_a_run_as_it_must_be():
    tally = run()
    tally.kills.update(server=3, site=1)
    values = json.loads(tally.line(seed=7))
    assert tally.passed
    assert (values["kills"], values["killed"], values["seed"]) == (4, {"server": 3, "site": 1}, 7)
    assert (values["completed_share"], values["start_to_listening_s"]) == (0.95, {"median": 0.2, "max": 0.5})


@pytest.mark.parametrize("kind", ["wrong", "lost", "stuck", "crashes", "left", "alarms"])
def test_one_of_these_is_enough(kind):
    tally = run(**{kind: ["round 7"]})
    assert not tally.passed
    assert tally.failures == ["round 7"]


@pytest.mark.parametrize(("rounds", "completed"), [(100, 94), (0, 0)])
def test_too_few_rounds_completed(rounds, completed):
    assert not run(rounds=rounds, completed=completed).passed


def test_a_server_that_grows():
    sizes = [100 << 20] * 5
    assert run(rss_bytes=[*sizes, *(150 << 20 for _ in range(5))]).passed
    assert run(rss_bytes=[*sizes, *(165 << 20 for _ in range(5))]).failures == ["the server has grown by 65 MiB"]


def test_a_run_in_which_nothing_starts_is_given_up():
    assert not run(crashes=["server ended by itself with 1"] * 4).hopeless
    assert run(crashes=["server ended by itself with 1"] * 5).hopeless
