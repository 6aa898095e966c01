import sys

import numpy as np
import pytest

from aggregator.bench import memory


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_peak_follows_what_was_held_and_begins_anew() -> None:
    held = np.ones(32 << 20, np.uint8)
    assert memory.peak_bytes() >= memory.resident_bytes() > held.nbytes
    del held
    before = memory.resident_bytes()
    memory.reset_peak()
    assert memory.peak_bytes() - before < 16 << 20
    np.ones(32 << 20, np.uint8)
    assert memory.peak_bytes() - before > 24 << 20
