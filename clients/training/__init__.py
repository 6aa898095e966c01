"""Training over rounds: `learn` at a site, `Training` at the operator; the same for every framework.

experiment = Experiment.load(Path("lungs.toml"))     # the same file everywhere

# a site
async with clients.connect("aggregator:7443", "site/", task=experiment.task) as session:
    model = await learn(session, Torch(), model, train, experiment, checkpoint=Path("site/lungs.npz"))

# the operator; or, from a shell: sangam run lungs.toml
async with clients.operate("aggregator:7443", "operator/") as operator:
    model = await Training(experiment, Path("lungs.run")).conduct(operator)
"""

from clients.training.bars import Bars
from clients.training.conducting import OperatorWatch
from clients.training.experiment import Experiment
from clients.training.global_model import GlobalModel
from clients.training.learning import Trained, learn
from clients.training.taking_part import SiteWatch
from clients.training.training import Training

__all__ = ["Bars", "Experiment", "GlobalModel", "OperatorWatch", "SiteWatch", "Trained", "Training", "learn"]
