"""Stock FedAvg in NVFlare's simulator on breast cancer records, plain or secure: three sites, five rounds.

sangam serve ... &            # docs/consortium.md; participants site-1, site-2 and site-3, an operator
python clients/examples/nvflare/job.py --address hub:7443 --identities .
python clients/examples/nvflare/job.py --plain
"""

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv

from clients.adapters.nvflare import Rounds, SecureFilter, SecureModelAggregator, secure

SITES, ROUNDS = 3, 5
CLIP = 2.0
"""No weight moves by more in a round."""

WEIGHT_MAX = 300
"""No site has more records."""


def recipe(name: str, **changes: Any) -> NumpyFedAvgRecipe:
    """FedAvg as NVFlare ships it."""
    script = str(Path(__file__).with_name("train.py"))
    fields = {"model": [0.0] * 31, "min_clients": SITES, "num_rounds": ROUNDS, "train_script": script}
    return NumpyFedAvgRecipe(name=name, **(fields | changes))


def secure_recipe(name: str, address: str, identities: Path, **changes: Any) -> NumpyFedAvgRecipe:
    """The same, with the sums made by Sangam."""
    task = f"{name}-{secrets.token_hex(4)}"  # a new task for every job
    operator, site = str(identities / "operator"), str(identities / "{site}")
    rounds = Rounds(address, operator, task, sites=SITES, clip=CLIP, weight_max=WEIGHT_MAX, metrics={"accuracy": 1.0})
    made = recipe(name, aggregator=SecureModelAggregator(rounds), **changes)
    return secure(made, SecureFilter(address, site, task))


def model(workspace: Path, name: str) -> Any:
    """The trained model, which NVFlare's persistor has saved."""
    return np.load(next((workspace / name).glob("server/**/models/server.npy")))


def main() -> None:
    """Run one of the two and show the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="NVFlare's own sum")
    parser.add_argument("--address", default="localhost:7443", help="Sangam's server")
    parser.add_argument("--identities", type=Path, default=Path(), help="where operator/ and site-1/ ... are")
    parser.add_argument("--workspace", type=Path, default=Path("nvflare-jobs"), help="for NVFlare's files")
    asked = parser.parse_args()
    name = "plain" if asked.plain else "secure"
    made = recipe(name) if asked.plain else secure_recipe(name, asked.address, asked.identities.resolve())
    made.execute(SimEnv(num_clients=SITES, workspace_root=str(asked.workspace.resolve())))
    sys.stdout.write(f"{model(asked.workspace, name)}\n")


if __name__ == "__main__":
    main()
