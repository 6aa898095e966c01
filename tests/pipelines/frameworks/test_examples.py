"""Each example runs as a reader would run it, and comes within 0.005 AUC of plain averaging."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "clients" / "examples"
FRAMEWORKS = ("jax", "keras", "sklearn", "torch")  # others have environments, and tests, of their own
WITHIN = 0.005


@pytest.mark.parametrize(
    "path", [one for name in FRAMEWORKS for one in EXAMPLES.glob(f"{name}_*.py")], ids=lambda path: path.stem
)
def test_an_example_trains_as_well_as_plain_averaging(path):
    said = subprocess.run([sys.executable, path], check=False, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    found = {name: float(value) for name, value in re.findall(r"^(.+): AUC ([\d.]+)$", said.stdout, re.M)}
    assert found.keys() >= {"Sangam", "plain averaging", "pooled"}, said.stdout
    assert abs(found["Sangam"] - found["plain averaging"]) <= WITHIN, said.stdout
    assert found["Sangam"] > 0.9, said.stdout


def test_survival_comes_to_what_the_pooled_records_give():
    path = EXAMPLES / "survival.py"
    said = subprocess.run([sys.executable, path], check=False, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    lines = re.findall(r"^(.+): concordance ([\d.]+), log hazard ratios \[(.+)\]$", said.stdout, re.M)
    secure, _, pooled = ([float(value), *map(float, ratios.split())] for _, value, ratios in lines)
    assert [name for name, _, _ in lines] == ["Sangam", "plain averaging", "pooled"]
    assert all(abs(one - other) <= WITHIN for one, other in zip(secure, pooled, strict=True)), said.stdout
