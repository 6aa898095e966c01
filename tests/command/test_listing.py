import json

import pytest

from aggregator.command import listing
from aggregator.wire.operator_messages import RoundSummary, SiteSummary, TaskSummary

TASK = TaskSummary("lungs", "platform", "open", "lattice", 1_000_002, 3, 9, 8, 5, 1_763_000_000.0)
KEPT = RoundSummary(8, "closed", "unmasking", 5, "", 1_763_000_000.0, 12.345, "kept", 3_250_000)
FAILED = RoundSummary(9, "failed", "share_keys", 2, "[red]2 clients, need 3", 1_763_000_000.0, 1.0, "none", 0)
SITE = SiteSummary("aiims", "1f", 1_763_000_000.0, revoked=True, connected=2)
ROWS = [(listing.TASK_COLUMNS, TASK), (listing.ROUND_COLUMNS, KEPT), (listing.SITE_COLUMNS, SITE)]


def cells(columns, row):
    return {name: cell(row) for name, cell in columns.items()}


def test_what_people_read():
    assert cells(listing.TASK_COLUMNS, TASK)["words"] == "1,000,002"
    assert cells(listing.TASK_COLUMNS, TASK)["created"] == "2025-11-13 02:13 UTC"
    assert cells(listing.ROUND_COLUMNS, KEPT)["result"] == "kept, 3.2 MB"
    assert cells(listing.ROUND_COLUMNS, FAILED)["result"] == "none"
    assert cells(listing.ROUND_COLUMNS, FAILED)["step"] == "share keys"
    assert cells(listing.SITE_COLUMNS, SITE) == {
        "site": "aiims",
        "connected": "2 tasks",
        "certificate ends": "2025-11-13 02:13 UTC",
        "serial": "0x1f",
        "revoked": "revoked",
    }


@pytest.mark.parametrize(("columns", "row"), ROWS)
def test_json_is_one_line_for_each_row_with_every_field(capsys, columns, row):
    listing.show([row, row], columns, as_json=True)
    listing.show_one(row, columns, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(json.loads(line) == {name: getattr(row, name) for name in row.__dataclass_fields__} for line in lines)


def test_what_a_server_says_is_not_taken_for_markup(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    listing.show([FAILED], listing.ROUND_COLUMNS, as_json=False)
    listing.show_one(FAILED, listing.ROUND_COLUMNS, as_json=False)
    assert capsys.readouterr().out.count("[red]2 clients, need 3") == 2
