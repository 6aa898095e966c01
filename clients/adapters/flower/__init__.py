"""Flower apps whose updates and metrics go through secure rounds: a mod for the ClientApp, a wrapper for the strategy.

plan = Plan(task="hearts", clip=1.0, weight_max=600)  # in a module that both import
app = ClientApp(mods=[SecureMod(plan)])  # where the aggregator is, and who it is, a node's own configuration says
strategy = SecureStrategy(FedAvg(), plan, "hub.example.org:7443", "operator/")
"""

from clients.adapters.flower.mod import SecureMod, in_simulation
from clients.adapters.flower.plan import Plan
from clients.adapters.flower.strategy import SecureStrategy

__all__ = ["Plan", "SecureMod", "SecureStrategy", "in_simulation"]
