"""README's two snippets, word for word but for the address and the directories, make a round together."""

import asyncio
import re
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from clients import NotFound
from tests.loopback import TOO_LONG_S, hub, operator

README = Path(__file__).parents[1] / "README.md"
SITES = 6


def snippet(containing: str, changes: dict[str, str]) -> Any:
    """One Python block as a coroutine function that takes its names and gives those that it ended with."""
    code = next(block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if containing in block)
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    scope: dict[str, Any] = {}
    exec(f"async def run(w=None, b=None, model=None):\n{indent(code, '    ')}\n    return locals()\n", scope)
    return scope["run"]


async def test_readme(tmp_path):
    operator().save(tmp_path / "operator")
    async with hub(tmp_path, SITES) as h, asyncio.timeout(TOO_LONG_S):
        where = {"aggregator:7443": h.address}
        lead = snippet("clients.operate(", {**where, "operator/": f"{tmp_path}/operator"})
        model = {"w": np.zeros(30), "b": np.float64(0.0)}
        leading = asyncio.create_task(lead(model=model))
        joining = []
        for site, who in enumerate(h.consortium.identities):
            who.save(tmp_path / f"site-{site}")
            join = snippet("clients.connect(", {**where, "site/": f"{tmp_path}/site-{site}"})
            joining.append(patiently(join, w=np.full(30, float(site)), b=float(site), model=model))
        ends = await asyncio.gather(leading, *joining)
    mean, bound = np.mean(range(SITES)), ends[0]["result"].error_bound
    for end in ends[1:]:
        assert np.abs(end["model"]["w"] - mean).max() <= bound
        assert abs(end["model"]["b"] - mean) <= bound


async def patiently(join: Any, **names: Any) -> Any:
    """The operator may not have created the task yet."""
    while True:
        try:
            return await join(**names)
        except NotFound:
            await asyncio.sleep(0)
