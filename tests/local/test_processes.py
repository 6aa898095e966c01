"""Child processes: where they cannot be started, the reason is said in a sentence."""

import os
import subprocess
import sys


def test_a_temporary_directory_with_too_long_a_name_is_named(tmp_path):
    long = tmp_path / ("d" * 100)
    long.mkdir()
    command = [sys.executable, "-m", "aggregator", "bench", "--clients", "4", "--entries", "100", "--dropouts", "1"]
    environment = {**os.environ, "TMPDIR": str(long)}
    said = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith(f"sangam: no process can be started from {long}: ")
    assert "set TMPDIR" in said.stderr
    assert "Traceback" not in said.stderr
