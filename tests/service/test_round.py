import numpy as np
import pytest

from clients import RoundResult
from tests.loopback import Run, hub, offers, parameters, weighted_mean


def check_mean(run: Run, offered, survivors, ring_bits: int) -> None:
    """All survivors and the operator got one result: the exact sum, and the mean within its bound."""
    got = run.operator
    assert isinstance(got, RoundResult), got
    assert got.words.tolist() == run.plain_sum(survivors, ring_bits)
    assert got.total_weight == sum(offered[c][1] for c in survivors)
    assert got.participants == tuple(f"site-{c:04}" for c in sorted(survivors))
    assert 0 < np.abs(got.mean["x"] - weighted_mean(offered, survivors)).max() <= got.error_bound
    for client in survivors:
        result = run.results[client]
        assert isinstance(result, RoundResult), (client, result)
        assert np.array_equal(result.words, got.words)
        assert np.array_equal(result.mean["x"], got.mean["x"])
        assert (result.participants, result.total_weight) == (got.participants, got.total_weight)


@pytest.mark.parametrize(
    ("n", "changes"),
    [(2, {}), (5, {}), (3, {"rotate": True}), (3, {"value_bits": 54, "clients_max": 1_000}), (3, {"value_bits": 2})],
)
async def test_everybody_gets_the_weighted_mean(tmp_path, n, changes):
    spec, offered = parameters((3, 5), **changes), offers(n, (3, 5))
    async with hub(tmp_path, n) as h:
        await h.create(spec)
        run = await h.run_round(offered)
    check_mean(run, offered, range(n), spec.ring_bits)
