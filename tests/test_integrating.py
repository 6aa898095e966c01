"""docs/integrating.md, word for word: its backend runs a round, its tables are the code's."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clients
from aggregator import errors
from aggregator.gateway.api import HTTP
from aggregator.service.status import code_of
from tests.consortium import TASK
from tests.loopback import TOO_LONG_S, hub, operator, parameters
from tests.test_readme import patiently

GUIDE = (Path(__file__).parents[1] / "docs" / "integrating.md").read_text()
SITES = 6
ROW = re.compile(r"^\| `(\w+)` \| ([A-Z_]+) \| (\d+) \|", re.MULTILINE)


def backend(address: str, identity: Path) -> Any:
    """The example's function."""
    code = next(block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
    assert code.count("\n") - code.count("\n\n") <= 12
    for old, new in {"aggregator:7443": address, "operator/": str(identity)}.items():
        assert old in code
        code = code.replace(old, new)
    scope: dict[str, Any] = {}
    exec(code, scope)
    return scope["next_model"]


async def test_the_backend_runs_rounds(tmp_path, capsys):
    operator().save(tmp_path / "operator")
    async with hub(tmp_path, SITES) as h, asyncio.timeout(TOO_LONG_S):
        next_model = backend(h.address, tmp_path / "operator")
        model = {"w": np.zeros(30), "b": np.float64(0.0)}

        async def contribute(site: int) -> clients.RoundResult | None:
            async with h.join(site, task="sepsis") as session:
                return await session.contribute({"w": np.full(30, site), "b": site}, weight=100, base=model)

        leading = asyncio.create_task(next_model(model, "run-17"))
        results = await asyncio.gather(*(patiently(contribute, site=site) for site in range(SITES)))
        got, again = await leading, await next_model(model, "run-17")
        assert [summary.state async for summary in h.operator.rounds("sepsis")] == ["closed"]
    assert np.array_equal(got["w"], again["w"])
    assert np.array_equal(got["w"], results[0].mean["w"])
    assert np.abs(got["w"] - np.mean(range(SITES))).max() <= results[0].error_bound
    assert "closed" in capsys.readouterr().out


async def test_layers_stay_at_their_sites(tmp_path):
    code = next(block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "Selection" in block)
    scope: dict[str, Any] = {"clients": clients}
    exec(code, scope)

    def model(site: int) -> dict[str, Any]:
        return {"body.w": np.zeros(3), "bn.running_mean": np.full(2, site), "head.w": np.zeros(site + 1)}

    update = {site: {**model(site), "body.w": np.full(3, float(site))} for site in range(3)}
    async with hub(tmp_path, 3) as h, asyncio.timeout(TOO_LONG_S):
        shared = scope["SHARED"].tensors(model(0))
        assert [tensor.name for tensor in shared] == ["body.w"]
        await h.create(parameters(tensors=shared, weight_max=600))
        ready = asyncio.Barrier(4)

        async def site(number: int) -> Any:
            async with h.join(number) as session:
                await ready.wait()
                return await scope["one_round"](session, model(number), update[number])

        async def lead() -> clients.RoundResult:
            await ready.wait()
            return await h.operator.run_round(TASK, base=scope["SHARED"].of(model(0)))

        result, *models = await asyncio.gather(lead(), *map(site, range(3)))
    for number, merged in enumerate(models):
        assert np.abs(merged["body.w"] - 1.0).max() <= result.error_bound
        assert merged["head.w"].shape == (number + 1,)
        assert (merged["bn.running_mean"] == number).all()


def test_the_table_of_errors_is_the_codes():
    kinds, told = [errors.SangamError], {}
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in kinds[1:]:
        code = code_of(kind(""))
        told[kind.__name__] = (code.name, HTTP[code])
    assert {name: (code, int(http)) for name, code, http in ROW.findall(GUIDE)} == told


@pytest.mark.parametrize("word", ["contract.md", "consortium.md"])
def test_its_links_lead_somewhere(word):
    assert f"({word})" in GUIDE
    assert (Path(__file__).parents[1] / "docs" / word).exists()
