import io
import json

from rich.console import Console

from aggregator.demo import report
from aggregator.demo.outcome import Dropout, Outage, Outcome, Round
from aggregator.wire.vocabulary import MASKED_STEPS

WANTED = {"sites", "rounds", "dropped", "exact", "auc_federated", "auc_pooled", "bytes_per_value", "seconds", "outage"}
TIMES = dict.fromkeys(map(str, MASKED_STEPS), 0.25)


def outcome(*rounds: Round, asked: int, aborted: str = "") -> Outcome:
    return Outcome(
        sites=4,
        rounds_asked=asked,
        rounds=rounds,
        aborted=aborted,
        records=((20, 3), (400, 150)),
        held_out=142,
        auc_federated=0.99,
        auc_pooled=0.98,
        auc_alone=(0.9, 0.95),
        words=32,
        payload_bytes=72,
        sent_bytes=1_234.0,
        clipped_entries=0,
        seconds=3.0,
        picture="out/one-hospital.png",
        outage=None if aborted else Outage(1, 0.42),
    )


def closed(number: int, *dropouts: Dropout, exact: bool = True) -> Round:
    return Round(number, dropouts, ("hospital-01", "hospital-02", "hospital-03"), exact, TIMES)


GOOD = closed(1, Dropout("hospital-04", "share_keys", "stream cut"))


def test_exact_means_every_round_that_was_asked_for() -> None:
    assert outcome(GOOD, closed(2), asked=2).exact
    assert not outcome(GOOD, closed(2, exact=False), asked=2).exact
    assert not outcome(GOOD, asked=2, aborted="round 2: too few").exact


def test_the_line_is_one_object_with_what_scripts_need() -> None:
    line = report.line(outcome(GOOD, closed(2), asked=2))
    assert "\n" not in line
    values = json.loads(line)
    assert values.keys() >= WANTED
    assert (values["sites"], values["rounds"], values["dropped"], values["exact"]) == (4, 2, 1, True)
    assert values["bytes_per_value"] == 72 / 32
    assert values["outage"] == {"round": 1, "seconds": 0.42}


def test_an_outage_is_told_in_one_line_and_only_where_there_was_one() -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    report.show(console, outcome(GOOD, closed(2), asked=2))
    assert "the hub was killed in round 1 and went on after 0.4 s\n" in console.export_text()
    aborted = outcome(asked=1, aborted="round 1: too few")
    report.show(console, aborted)
    assert "the hub was killed" not in console.export_text()
    assert json.loads(report.line(aborted))["outage"] is None


def test_the_tables_fit_a_terminal_and_say_who_vanished_and_what_failed() -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    report.show(console, outcome(GOOD, closed(2, exact=False), asked=3, aborted="round 3: too few"))
    text = console.export_text()
    assert "~04" in text
    assert "✗" in text
    assert "1 of 3 sums exact" in text
    assert "Aborted: round 3: too few" in text
    assert "…" not in text


def test_an_aborted_first_round_is_reported_too() -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    report.show(console, outcome(asked=1, aborted="round 1: too few"))
    assert "0 of 1 sums exact" in console.export_text()
