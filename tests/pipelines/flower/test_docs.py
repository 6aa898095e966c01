"""docs/flower.md says what the code does: its strategies, its arguments, its example."""

import inspect
import re
from pathlib import Path

from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam

from clients.adapters.flower import Plan, SecureMod, SecureStrategy
from clients.adapters.flower.averaging import AVERAGING, REFUSED

PAGE = (Path(__file__).parents[3] / "docs" / "flower.md").read_text()


def test_the_strategies_are_the_ones_of_the_code():
    admitted, refused = re.search(r"^\| (FedAvg.*) \| (Krum.*) \|$", PAGE, re.MULTILINE).groups()
    assert re.match(r"(\w+, )*", admitted)[0].split(", ")[:-1] == [kind.__name__ for kind in AVERAGING]
    named = {name for name in REFUSED if name in refused.replace(",", " ").split()}
    assert all(name.startswith("DifferentialPrivacy") for name in set(REFUSED) - named)
    assert "DP wrappers" in refused


def test_the_example_is_played():
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    begin, end = code.index("PLAN ="), code.index("strategy.start")
    scope = {each.__name__: each for each in (ClientApp, FedAdam, Plan, SecureMod, SecureStrategy)}
    exec(code[begin:end], scope)
    assert isinstance(scope["strategy"].inner, FedAdam)
    for named in ("background", "patience_s", "safeguards", "within_s"):
        assert named in inspect.signature(SecureMod).parameters
        assert f"{named}" in PAGE
    for named in ("averaging", "deadlines", "wait_s"):
        assert named in inspect.signature(SecureStrategy).parameters
        assert named in PAGE
    for named in inspect.signature(Plan).parameters:
        assert named in PAGE
