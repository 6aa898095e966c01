"""docs/observing.md says what the code does: its table of metrics, its example of a screen, its fields."""

import io
import json
import logging
import re
from datetime import datetime
from pathlib import Path

from rich.console import Console

from aggregator.command.overview import Overview
from aggregator.command.progress import Board
from aggregator.loglines import FIELDS, JsonLines, TextLines
from aggregator.service.telemetry.metrics import Metrics
from aggregator.wire.operator_messages import RoundEvent, RoundSummary, TaskSummary

GUIDE = (Path(__file__).parents[1] / "docs" / "observing.md").read_text()
ROW = re.compile(r"^\| `(sangam_\w+)` \| (\w+) \|(.*)\| (.+) \|$", re.MULTILINE)
NOW = 1_764_400_000.0


def test_the_table_has_every_metric_with_its_kind_labels_and_words():
    metrics = Metrics()
    metrics.watch(int, int, int)
    labels = {made._name: made._labelnames for made in vars(metrics).values() if hasattr(made, "_labelnames")}
    known = {
        (f"{one.name}_total" if one.type == "counter" else one.name): (
            one.type,
            labels.get(one.name, ()),
            one.documentation,
        )
        for one in metrics.registry.collect()
        if one.name.startswith("sangam_")
    }
    written = {
        name: (kind, tuple(word.strip() for word in names.split(",") if word.strip()), says)
        for name, kind, names, says in ROW.findall(GUIDE)
    }
    assert written == known
    assert len(known) > 15


def events():
    """A round of 32 in its third step."""
    yield RoundEvent(0.0, "step", "advertise_keys", "", "", 32)
    for site in range(31):
        yield RoundEvent(1.0, "answered", "advertise_keys", f"site-{site:02}", "", 0)
    yield RoundEvent(2.0, "dropped", "advertise_keys", "site-31", "its line is broken", 0)
    yield RoundEvent(2.0, "step", "share_keys", "", "", 31)
    for site in range(30):
        yield RoundEvent(3.0, "answered", "share_keys", f"site-{site:02}", "", 0)
    yield RoundEvent(5.0, "dropped", "share_keys", "site-30", "no answer in time", 0)
    yield RoundEvent(5.0, "step", "masked_input", "", "", 30)
    for site in range(21):
        yield RoundEvent(100.0, "answered", "masked_input", f"site-{site:02}", "", 0)


def overview():
    """The example's."""
    board = Board(lambda: 100.0)
    for event in events():
        board.take(event)
    tasks = [
        TaskSummary("eye", "operator", "open", "lattice", 12_000_000, 42, 0, 0, 5, 0.0),
        TaskSummary("lungs", "operator", "open", "lattice", 1_000_000, 3, 1764400000123, 1764400000122, 31, 0.0),
        TaskSummary("skin", "operator", "open", "pairwise", 31, 0, 0, 0, 0, 0.0),
    ]
    rounds = {
        "lungs": [
            RoundSummary(1764400000123, "running", "masked_input", 30, "", NOW - 100.0, 100.0, "none", 0),
            RoundSummary(1764400000122, "closed", "unmasking", 31, "", NOW - 641.0, 41.0, "kept", 4_000_000),
        ],
        "eye": [
            RoundSummary(
                1764300000007,
                "failed",
                "share_keys",
                1,
                "share keys: 1 clients, need 3",
                NOW - 7_230.0,
                30.0,
                "none",
                0,
            )
        ],
    }
    return Overview("hub.example.org:7443", NOW, tasks, rounds, {"lungs": board})


def test_the_screen_is_what_is_drawn():
    console = Console(file=io.StringIO(), width=120)
    console.print(overview())
    first, *lines = (line.rstrip() for line in console.file.getvalue().rstrip().splitlines())
    shown = next(block for block in re.findall(r"```text\n(.*?)\n```", GUIDE, re.DOTALL))
    assert "\n".join([first.rpartition(" · ")[0], *lines]) == shown


def test_every_field_is_explained_and_the_examples_are_what_is_written():
    explained = set(re.findall(r"`(\w+)`", GUIDE.split("| field |")[1].split("\n\n")[0]))
    assert explained == {*FIELDS, "time", "level", "logger", "event", "error", "where"}
    example = next(line for line in GUIDE.splitlines() if line.startswith('{"time"'))
    told = json.loads(example)
    record = logging.LogRecord(told["logger"], logging.INFO, "", 0, told["event"], (), None)
    record.created = datetime.fromisoformat(told["time"]).timestamp()
    vars(record).update({name: told[name] for name in FIELDS if name in told})
    assert JsonLines().format(record) == example
    assert TextLines().format(record) in GUIDE
