"""One target under libFuzzer, in a process of its own: started by the runner, which reads the status file and the log.

    python -m tests.fuzz.worker TARGET INPUTS STATUS [libFuzzer's own arguments]

libFuzzer leaves without a way back into Python, so what is to be known is written down meanwhile.
"""

import gc
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

import atheris

from aggregator.local.machine import resident_bytes
from tests.fuzz import registry

MIB: Final = 1 << 20
EVERY_S: Final = 0.5
INSTRUMENTED: Final = ["aggregator", "clients", "zipfile", "tomllib", "numpy.lib", "google.protobuf.json_format"]
WARM: Final = 4  # memory counts from a quarter of all inputs on: by then caches are full, and code is compiled


def resident_mib() -> float:
    """Memory of this process now; nothing where the system does not say."""
    return max(resident_bytes(), 0) / MIB


class Watched:
    """A target that counts its inputs, and says now and then how it stands.

    Args:
        run: the target.
        inputs: how many will come.
        status: the file that is written.
    """

    def __init__(self, run: Callable[[bytes], None], inputs: int, status: Path) -> None:
        self._run = run
        self._inputs = inputs
        self._status = status
        self._start = self._said = monotonic()
        self._count = 0
        self._warm_mib = 0.0

    def __call__(self, data: bytes) -> None:
        """One input."""
        self._run(data)
        self._count += 1
        if self._count == self._inputs // WARM:
            gc.collect()
            self._warm_mib = resident_mib()
        if self._count == self._inputs:
            gc.collect()
        if self._count == self._inputs or monotonic() - self._said > EVERY_S:
            self.say()

    def say(self) -> None:
        """Write the status."""
        self._said = monotonic()
        growth = resident_mib() - self._warm_mib if self._warm_mib else 0.0
        said = {
            "inputs": self._count,
            "seconds": round(self._said - self._start, 1),
            "rss_mib": round(resident_mib(), 1),
            "rss_growth_mib": round(growth, 1),
        }
        staged = self._status.with_suffix(".new")
        staged.write_text(json.dumps(said))
        staged.replace(self._status)


def main() -> None:
    """Run until libFuzzer ends the process."""
    name, inputs, status, *rest = sys.argv[1:]
    logging.lastResort = None  # what a server would warn of is in every second sequence
    with atheris.instrument_imports(include=INSTRUMENTED):
        found = registry.target(name)  # what is imported here is instrumented
        for seed in found.seeds():
            found.run(seed)  # so that kernels are compiled, and what is imported late is here
    watched = Watched(found.run, int(inputs), Path(status))
    watched.say()
    atheris.Setup([sys.argv[0], f"-runs={inputs}", *rest], watched)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
