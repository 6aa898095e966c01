"""The example, as it stands: a real server, five hospitals, and stock XGBoost beside them."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "clients" / "examples" / "xgboost_breast_cancer.py"


def test_the_example():
    ran = subprocess.run([sys.executable, "-W", "error", EXAMPLE], capture_output=True, text=True, check=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["Sangam"] >= said["pooled"] - 0.005
    assert said["same trees at every hospital"] is True
    assert said["stock prediction apart by"] <= 1e-6
