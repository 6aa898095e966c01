"""A training's history: each round once, whatever crashed."""

import pytest

from aggregator.errors import ParameterError
from clients.training.history import History, Line


def test_rounds_are_kept_once_and_read_again(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.add(Line(1, sites=3, records=80, seconds=1.5, metrics={"loss": 0.5}))
    history.add(Line(1, sites=3))
    history.add(Line(2, failed="nobody came"))
    history.add(Line(3, failed="nobody came"))
    assert history.failures == 2
    again = History(path)
    assert again.lines == history.lines
    assert [line.round for line in again.lines] == [1, 2, 3]
    again.add(Line(4, sites=3))
    assert again.failures == 0


def test_half_a_line_of_a_crash_is_no_line(tmp_path):
    path = tmp_path / "history.jsonl"
    History(path).add(Line(1, sites=3))
    with path.open("ab") as file:
        file.write(b'{"round": 2, "si')
    history = History(path)
    history.add(Line(2, sites=2))
    assert [(line.round, line.sites) for line in History(path).lines] == [(1, 3), (2, 2)]


def test_another_file_is_refused_by_its_line(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"round": 1}\n{"rounds": 2}\n')
    with pytest.raises(ParameterError, match=r"history.jsonl, line 2: not a line"):
        History(path)
