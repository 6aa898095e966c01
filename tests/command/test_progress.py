import io
import json

from rich.console import Console

from aggregator.command.progress import Board, following
from aggregator.wire.operator_messages import RoundEvent

EVENTS = [
    RoundEvent(0.0, "gathering", "", "", "", 3),
    RoundEvent(4.0, "step", "advertise_keys", "", "", 3),
    RoundEvent(5.0, "answered", "advertise_keys", "aiims", "", 0),
    RoundEvent(6.0, "answered", "advertise_keys", "cmc", "", 0),
    RoundEvent(7.0, "dropped", "advertise_keys", "[red]apollo", "no answer in time", 0),
    RoundEvent(8.0, "step", "share_keys", "", "", 2),
]
FAILED = RoundEvent(9.5, "failed", "share_keys", "", "share keys: 1 clients, need 3", 0)


def rendered(board):
    console = Console(file=io.StringIO(), width=120)
    console.print(board)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_the_board_counts_answers_and_its_clock_runs_on():
    now = [100.0]
    board = Board(lambda: now[0])
    for event in EVENTS:
        board.take(event)
    now[0] += 2.0
    assert rendered(board) == [
        "step answered of began took",
        "gathering 3 0.0 s 4.0 s",
        "advertise keys 2 3 4.0 s 4.0 s",
        "share keys 0 2 8.0 s 2.0 s",
        "7.00 s [red]apollo dropped no answer in time",
    ]
    board.take(FAILED)
    now[0] += 60.0
    assert rendered(board)[3] == "share keys 0 2 8.0 s 1.5 s", "a round that has ended takes no longer"
    assert rendered(board)[-1] == "9.50 s failed: share keys: 1 clients, need 3"


def test_events_that_come_late_are_as_old_as_they_say():
    board = Board(lambda: 100.0)
    board.take(EVENTS[1])
    board.take(RoundEvent(64.0, "answered", "advertise_keys", "aiims", "", 0))
    assert rendered(board)[1] == "advertise keys 1 3 4.0 s 60.0 s"


def test_lines_where_output_is_kept_and_json_for_programs(capsys):
    console = Console(file=io.StringIO(), width=120)
    with following(console) as take:
        for event in EVENTS:
            take(event)
    assert console.file.getvalue().splitlines()[:2] == [
        "    0.00 s  gathering: 3 sites awaited",
        "    4.00 s  advertise keys: 3 sites",
    ]
    with following(console, as_json=True) as take:
        take(FAILED)
    assert json.loads(capsys.readouterr().out)["detail"] == FAILED.detail


def test_on_a_terminal_it_is_drawn():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with following(console) as take:
        take(EVENTS[1])
    assert "advertise keys" in console.file.getvalue()
