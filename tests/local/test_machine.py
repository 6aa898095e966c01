import sys

import numpy as np
import pytest

from aggregator.local import machine

SIZE = 128 << 20  # far beyond what the rest of the process moves meanwhile


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_peak_follows_what_was_held_and_begins_anew() -> None:
    held = np.ones(SIZE, np.uint8)
    assert machine.resident_bytes() > SIZE
    assert machine.peak_bytes() > SIZE  # the kernel brings it up to date now and then
    del held
    before = machine.resident_bytes()
    machine.reset_peak()
    assert machine.peak_bytes() - before < SIZE // 2
    np.ones(SIZE, np.uint8)
    assert machine.peak_bytes() - before > SIZE // 2


def test_what_was_written_is_read_from_the_kernels_count(tmp_path, monkeypatch) -> None:
    counts = tmp_path / "io"
    monkeypatch.setattr(machine, "_IO", counts)
    assert machine.written_bytes() == -1
    counts.write_text("rchar: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n")
    assert machine.written_bytes() == 4096
