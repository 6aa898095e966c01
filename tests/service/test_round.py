import pytest

from tests.loopback import check_mean, hub, offers, parameters


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
