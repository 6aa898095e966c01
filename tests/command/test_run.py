"""What `sangam run` shows: a line a round, a picture at the end, and nothing that is not so."""

import io
import json

import pytest
from matplotlib.image import imread
from rich.console import Console

from aggregator.command import curves
from aggregator.command.run import _Shown, _shown, _summarise
from aggregator.errors import StorageError
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step
from clients.training import GlobalModel, Training
from clients.training.history import History, Line

LINES = (
    Line(11, sites=5, records=1_234, seconds=2.5, metrics={"loss": 0.6931, "accuracy": 0.5}),
    Line(12, seconds=1.0, failed="only [2] of 3 came"),
    Line(13, sites=4, records=1_000, metrics={"loss": 0.125, "accuracy": 0.75}),
)


def told(console, *, as_json=False):
    """A training of three rounds, the last of which closed while nobody looked on."""
    with _shown(console, 2, as_json=as_json) as shown:
        for number, (line, closed) in enumerate(zip(LINES, (1, 1, 2), strict=True)):
            model = GlobalModel({}, closed=closed)
            shown.begins(line.round, model, number % 2)
            shown.happened(RoundEvent(0.1, EventKind.STEP, Step.SHARE_KEYS, "", "", 5))
            shown.happened(RoundEvent(0.1, EventKind.ANSWERED, Step.SHARE_KEYS, "aiims", "", 0))
            shown.happened(RoundEvent(0.2, EventKind.DROPPED, Step.SHARE_KEYS, "jipmer", "its line is broken", 0))
            shown.ended(line, model)
    return shown


def test_where_output_is_kept_it_is_a_line_a_round_and_who_dropped_out():
    console = Console(file=io.StringIO(), width=60)
    told(console)
    said = [line.strip() for line in console.file.getvalue().splitlines()]
    assert [line for line in said if "jipmer" not in line] == [
        "1/2  5 sites, 1,234 records, loss 0.6931, accuracy 0.5, 2.5 s",
        "1/2  failed: only [2] of 3 came",
        "2/2  4 sites, 1,000 records, loss 0.125, accuracy 0.75, closed meanwhile",
    ]
    assert sum("jipmer dropped its line is broken" in line for line in said) == 3


def test_on_a_terminal_there_are_bars_and_the_round_as_it_goes():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    shown = told(console)
    said = console.file.getvalue()
    for text in ("rounds", "2/2", "share keys", "closed meanwhile", "failed 1 times"):
        assert text in said, text
    assert isinstance(shown, _Shown)


def test_programs_get_json_and_nothing_else(capsys):
    told(Console(file=io.StringIO()), as_json=True)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["round"], one["sites"], one["failed"]) for one in said] == [
        (11, 5, ""),
        (12, 0, "only [2] of 3 came"),
        (13, 4, ""),
    ]


def test_the_end_says_what_came_of_it_and_where_it_is(tmp_path):
    console = Console(file=io.StringIO(), width=300)
    training = Training(type("Stated", (), {"task": "lungs"})(), tmp_path)
    for line in LINES:
        training.history().add(line)
    _summarise(console, training, GlobalModel({}, closed=2, converged=True))
    said = console.file.getvalue()
    assert "lungs: 2 rounds closed, 1 failed, 2.5 s in rounds" in said
    assert [line.split() for line in said.splitlines() if line.lstrip().startswith(("loss", "sites"))] == [
        ["loss", "0.6931", "0.125"],
        ["sites", "5", "4"],
    ]
    assert "the training has converged" in said
    assert f"its curves are in {tmp_path / 'curves.png'}" in said
    height, width, _ = imread(tmp_path / "curves.png").shape
    assert (width, height > 900) == (1170, True)


def test_curves_have_a_gap_where_nobody_looked_on(tmp_path):
    found = curves._curves([LINES[0], LINES[2]])
    assert list(found) == ["loss", "accuracy", "sites in the sum", "seconds, where the operator looked on"]
    assert found["loss"] == [0.6931, 0.125]
    assert found["sites in the sum"] == [5, 4]
    assert found["seconds, where the operator looked on"] == pytest.approx([2.5, float("nan")], nan_ok=True)
    with pytest.raises(StorageError, match="cannot write"):
        curves.draw(tmp_path / "none" / "curves.png", "lungs", LINES)


def test_a_history_without_metrics_still_has_curves(tmp_path):
    History(tmp_path / "history.jsonl").add(Line(1, sites=3, records=9, seconds=1.0))
    curves.draw(tmp_path / "curves.png", "lungs", History(tmp_path / "history.jsonl").lines)
    assert imread(tmp_path / "curves.png").shape[1] == 1170
