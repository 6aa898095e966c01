"""What a server notes of a real round."""

import logging

from tests.consortium import TASK
from tests.loopback import hub, offers, parameters

N = 4


async def test_a_round_is_noted_from_its_opening_to_its_end(tmp_path, caplog):
    caplog.set_level(logging.INFO, "aggregator")
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        run = await h.run_round(offers(N), dies={3: "masked_input"})
    notes = [vars(record) for record in caplog.records if record.name == "aggregator.service.telemetry.rounds"]
    assert {(one["task"], one["round"], one["mode"]) for one in notes} == {(TASK, run.number, "pairwise")}
    assert [(one["message"], one.get("step"), one.get("site"), one.get("clients")) for one in notes] == [
        ("the step begins", "advertise_keys", None, 4),
        ("the step begins", "share_keys", None, 4),
        ("the step begins", "masked_input", None, 4),
        ("the site dropped out", "masked_input", "site-0003", None),
        ("the step begins", "consistency_check", None, 3),
        ("the step begins", "unmasking", None, 3),
        ("the round closed", "unmasking", None, 3),
    ]
    assert notes[3]["detail"] == "its line is broken"


async def test_a_withdrawal_and_a_failure_are_noted_with_their_reasons(tmp_path, caplog):
    caplog.set_level(logging.INFO, "aggregator")
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        await h.run_round(offers(2), refuses={1: "share_keys"})
    told = {record.getMessage(): vars(record).get("detail") for record in caplog.records}
    assert told["the site withdrew"] == "not beyond share_keys"
    assert told["the round failed"] in {f"share keys: {answers} clients, need 2" for answers in (0, 1)}
