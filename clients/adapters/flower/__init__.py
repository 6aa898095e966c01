"""Flower apps whose updates and metrics go through secure rounds: a mod for the ClientApp, a wrapper for the strategy.

app = ClientApp(mods=[SecureMod("hub.example.org:7443", "site/")])
strategy = SecureStrategy(FedAvg(), "hub.example.org:7443", "operator/", task="hearts", clip=1.0, weight_max=600)
"""

from clients.adapters.flower.mod import SecureMod
from clients.adapters.flower.strategy import SecureStrategy

__all__ = ["SecureMod", "SecureStrategy"]
