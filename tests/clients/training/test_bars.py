"""A site's progress: bars where somebody looks on, else a line a round."""

import io
from types import SimpleNamespace

from rich.console import Console

from aggregator.wire.vocabulary import Step
from clients.training import Bars, GlobalModel


def seen(**options):
    console = Console(file=io.StringIO(), width=100, **options)
    with Bars(4, console) as bars:
        bars.caught_up(GlobalModel({}, round=901, closed=1))
        bars.observer.step(Step.MASKED_INPUT)
        bars.observer.sent(3, 7)
        bars.aborted("round 902: [only] 2 of 3")
        result = SimpleNamespace(participants=("a", "b", "c"), clipped_entries=1_200)
        bars.closed(GlobalModel({}, round=903, closed=2), result, {"loss": 0.123456})
    return console.file.getvalue()


def test_a_line_for_what_has_come_to_an_end():
    assert seen().splitlines() == [
        "round 1 closed without this site",
        "round 902: [only] 2 of 3; the update waits for the next round",
        "round 2 closed with 3 sites, loss 0.1235, 1,200 own entries clipped",
    ]


def test_bars_on_a_terminal():
    said = seen(force_terminal=True)
    for text in ("rounds", "2/4", "upload", "3/7", "round 2 closed"):
        assert text in said, text
