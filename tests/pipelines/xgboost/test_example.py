"""The example, as it stands: a real server, five hospitals, and stock XGBoost beside them."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "clients" / "examples" / "xgboost_breast_cancer.py"
WITHIN = 0.005


def test_the_example():
    said = subprocess.run([sys.executable, EXAMPLE], check=False, capture_output=True, text=True, timeout=240)
    assert said.returncode == 0, said.stderr
    auc = {name: float(value) for name, value in re.findall(r"^(.+): AUC ([\d.]+)$", said.stdout, re.M)}
    assert auc["Sangam"] >= auc["pooled"] - WITHIN > 0.9, said.stdout
    assert "every hospital has the same trees: True" in said.stdout
    assert float(said.stdout.split("apart by:")[1]) <= 1e-6
