"""Training over rounds: `learn` at a site, `Training` at the operator; the same for every framework.

experiment = Experiment.load(Path("experiment.toml"))     # the same file everywhere

# a site
async with clients.connect("aggregator:7443", "site/", task=experiment.task) as session:
    model = await learn(session, Torch(), model, train, rounds=experiment.rounds, checkpoint=Path("site/model.npz"))

# the operator; or, from a shell: sangam run experiment.toml
async with clients.operate("aggregator:7443", "operator/") as operator:
    model = await Training(experiment, Path("runs/lungs")).conduct(operator)
"""

from clients.training.bars import Bars
from clients.training.conducting import Audience, Silent
from clients.training.experiment import Experiment
from clients.training.global_model import GlobalModel
from clients.training.learning import Quiet, Trained, Watch, learn
from clients.training.training import Training

__all__ = ["Audience", "Bars", "Experiment", "GlobalModel", "Quiet", "Silent", "Trained", "Training", "Watch", "learn"]
