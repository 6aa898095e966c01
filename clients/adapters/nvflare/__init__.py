"""NVFlare (2.9): its recipes, controllers and training scripts as they are; the sites' updates summed by Sangam.

    rounds = Rounds(ADDRESS, "operator/", "hearts", sites=3, clip=2.0, weight_max=600)
    recipe = NumpyFedAvgRecipe(..., aggregator=SecureModelAggregator(rounds))
    secure(recipe, SecureFilter(ADDRESS, "sites/{site}", "hearts"))
    recipe.run(SimEnv(num_clients=3))

At each site a filter hands the update to a Sangam round, and a receipt to NVFlare's server; there an aggregator starts
the round when NVFlare sends its model, and returns the round's weighted mean.
"""

from clients.adapters.nvflare.aggregator import SecureModelAggregator
from clients.adapters.nvflare.filter import SecureFilter
from clients.adapters.nvflare.recipe import secure
from clients.adapters.nvflare.rounds import Rounds

__all__ = ["Rounds", "SecureFilter", "SecureModelAggregator", "secure"]
