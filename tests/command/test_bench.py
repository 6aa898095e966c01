"""`sangam bench` as engineers and scripts meet it: a tiny run of each mode, and its refusals."""

import asyncio
import json
import os

import pytest

from aggregator.bench.settings import MODES
from tests.typed import ended, sangam

WANTED = {
    *("mode", "clients", "entries", "bits", "dropouts", "exact", "setup_s", "plain_stream_s", "secure_stream_s"),
    *("stream_ratio", "server_compute_s", "client_compute_s", "end_of_round_s", "bytes_per_value"),
    *("server_idle_rss_bytes", "server_peak_rss_bytes", "machine"),
}
STEPS = "masked_input receive", "masked_input add", "consistency_check accept", "unmasking accept", "unmasking finish"
HOMOMORPHIC_PARTS = "upload receive", "upload add", "upload finish", "audit accept", "audit finish", "decrypt add"
TINY = ("--clients", "4", "--entries", "2000", "--dropouts", "1", "--repeats", "1", "--json")


async def bench(mode, directory, *more):
    directory.mkdir()
    out, err = await ended(await sangam("bench", "--mode", mode, *TINY, *more, TMPDIR=str(directory)))
    assert os.listdir(directory) == [], "something is left behind"
    return json.loads(out.splitlines()[-1]), err


async def test_a_tiny_run_of_every_mode(short_path):
    runs = await asyncio.gather(*(bench(mode, short_path / mode) for mode in MODES))
    for mode, (figures, said) in zip(MODES, runs, strict=True):
        assert figures.keys() >= WANTED
        asked = {name: figures[name] for name in ("mode", "clients", "entries", "bits", "dropouts")}
        assert asked == {"mode": mode, "clients": 4, "entries": 2000, "bits": 16, "dropouts": 1}
        assert figures["exact"] is True
        assert figures["plain_stream_s"] > 0
        assert figures["plain_compute_s"] > 0
        assert figures["machine"]["cores"] == os.cpu_count()
        assert "sums exact" in said
        if mode != "plain":
            check_secure(figures)
        else:
            assert figures["stream_ratio"] is figures["secure_stream_s"] is None


def check_secure(figures):
    assert figures["stream_ratio"] == pytest.approx(figures["secure_stream_s"] / figures["plain_stream_s"])
    for name in ("setup_s", "client_compute_s", "end_of_round_s", "server_compute_s"):
        assert figures[name] > 0, name
    assert figures["end_of_round_s"] < figures["secure_stream_s"] + 0.01
    steps = HOMOMORPHIC_PARTS if figures["mode"] == "homomorphic" else STEPS
    assert set(steps) <= figures["server_compute_parts_s"].keys()
    counted = sum(figures["server_compute_parts_s"][part] for part in steps)
    assert 0 < counted <= figures["server_compute_s"]
    assert 2 < figures["bytes_per_value"] < 50


async def test_a_tiny_durable_run_beside_the_ephemeral_one(short_path):
    modes = "lattice", "homomorphic"
    runs = await asyncio.gather(*(bench(mode, short_path / mode, "--durable") for mode in modes))
    for figures, said in runs:
        assert figures["exact"] is True
        assert "all 3 sums exact" in said
        assert figures["durable_ratio"] == pytest.approx(figures["durable_s"] / figures["ephemeral_s"])
        assert figures["ephemeral_s"] == figures["secure_stream_s"]
        assert figures["durable_round_s"] > figures["durable_s"]
        assert figures["durable_step_s"].keys() == figures["step_s"].keys()
        assert figures["fsync_s"] > 0
        written, bound_s = figures["disk_bytes"], figures["disk_bound_s"]
        if written is None:  # a directory in memory
            assert bound_s is figures["disk_sustains"] is None
        else:
            assert written > 3 * 2000 * 2  # three uploads of 16-bit values, at least
            assert bound_s == pytest.approx(written / figures["disk_bytes_per_s"])
            assert figures["disk_sustains"] is (bound_s <= figures["ephemeral_s"] / 2)


REFUSALS = [
    (["--mode", "ckks"], "mode 'ckks' is not one of those that this runs"),
    (["--clients", "8", "--dropouts", "3"], "8 clients tolerate at most 2 dropouts"),
    (["--clients", "10001"], "2 to 10,000 clients"),
    (["--repeats", "0"], "must be at least 1 each"),
    (["--bits", "99"], "value_bits is 99"),
    (["--mode", "plain", "--durable"], "a plain sum is never written down"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSALS, ids=[sentence for _, sentence in REFUSALS])
def test_a_refusal_is_one_sentence(refusal, arguments, sentence):
    assert sentence in refusal("bench", *arguments)
