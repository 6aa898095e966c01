"""All targets by name, in the order in which they run. A decoder that reads what others write belongs here."""

from functools import cache
from importlib import import_module
from typing import Final

from tests.fuzz.target import Target

NAMES: Final = (
    "wire",
    "chunks",
    "terms",
    "tasks",
    "participants",
    "parties",
    "contributions",
    "ciphertexts",
    "seal",
    "ckks",
    "results",
    "rosters",
    "certificates",
    "requests",
    "identities",
    "ledgers",
    "revocations",
    "custodians",
    "files",
    "arrays",
    "settings",
    "gateway",
    "frames",
    "driver",
)
"""Each is a file of `targets`."""


@cache
def target(name: str) -> Target:
    """One of them; only what it needs is imported, since instrumenting all of it takes 8 s."""
    found: Target = import_module(f"tests.fuzz.targets.{name}").TARGET
    assert found.name == name
    return found
