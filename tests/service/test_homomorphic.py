"""Homomorphic rounds over gRPC and mutual TLS: key holder and auditor dial the server as everybody does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from aggregator.crypto.certificates import Role
from aggregator.errors import NotAdmitted, RoundAborted, StorageError
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER, Parties
from aggregator.wire.messages import CiphertextsRequest, ResultMessage
from clients.attendance import attend_as_auditor, attend_as_key_holder
from clients.selection import Selection
from tests.consortium import TASK
from tests.loopback import BRISK, Hub, Vanished, check_mean, hub, issued, offers, raw
from tests.parties import ANY_AUDIT, NAMES, ONE_SHOT, TRUST_SERVER, identity, parameters, safe

N = 4
STEPS = ("commit_input", "upload")


@asynccontextmanager
async def staffed(h: Hub, *who: int) -> AsyncIterator[dict[int, "asyncio.Task[None]"]]:
    """Key holder and auditor, from their files, as `sangam keyholder serve` and `sangam auditor serve` have them."""
    running = {}
    for number in who or (KEY_HOLDER, AUDITOR):
        home = h.directory / NAMES[number]
        if not home.exists():
            identity(number).save(home)
        attending = (
            attend_as_key_holder(h.address, home, [TASK], safe())
            if number == KEY_HOLDER
            else attend_as_auditor(h.address, home, [TASK])
        )
        running[number] = asyncio.create_task(attending)
    try:
        yield running
    finally:
        for one in running.values():
            one.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)


def everyone(**options):
    return {c: {"safeguards": ANY_AUDIT} | options for c in range(N)}


@pytest.mark.parametrize("shape", [(4,), (20_000,)], ids=["one block", "three blocks"])
async def test_the_sum_is_the_plain_sum(tmp_path, shape):
    spec, offered = parameters(shape), offers(N, shape)
    async with hub(tmp_path, N) as h, staffed(h):
        await h.create(spec)
        check_mean(await h.run_round(offered), offered, range(N), spec.ring_bits)


async def test_layers_stay_at_their_sites(tmp_path):
    chosen = Selection(exclude=("head.*",))
    offered = offers(N)
    whole = {c: {**update, "head.w": np.zeros(c + 1)} for c, (update, _) in offered.items()}
    spec = parameters(tensors=chosen.tensors(whole[0]))
    async with hub(tmp_path, N) as h, staffed(h):
        await h.create(spec)
        run = await h.run_round({c: (chosen.of(whole[c]), offered[c][1]) for c in offered}, base=chosen.of(whole[0]))
    check_mean(run, offered, range(N), spec.ring_bits)
    assert [chosen.merged(whole[c], run.results[c].mean)["head.w"].size for c in offered] == [1, 2, 3, 4]


@pytest.mark.parametrize("parties", [ONE_SHOT, TRUST_SERVER], ids=lambda parties: parties.audit)
async def test_a_weaker_audit_where_all_accept_it(tmp_path, parties):
    spec, offered = parameters(parties=parties), offers(N)
    async with hub(tmp_path, N) as h, staffed(h, *parties.names):
        await h.create(spec)
        check_mean(await h.run_round(offered, how=everyone()), offered, range(N), spec.ring_bits)


async def test_any_subset_may_drop_after_it_has_committed(tmp_path):
    """Every subset that leaves two, round after round in one task; nobody does anything for those who are gone."""
    spec = parameters()
    subsets = [gone for size in range(N - 1) for gone in combinations(range(N), size)]
    async with hub(tmp_path, N) as h, staffed(h):
        await h.create(spec)
        for number, gone in enumerate(subsets):
            offered, base = offers(N, seed=number), {"round": [float(number)]}
            run = await h.run_round(offered, dies=dict.fromkeys(gone, "upload"), base=base)
            check_mean(run, offered, [c for c in range(N) if c not in gone], spec.ring_bits)
            assert all(isinstance(run.results[c], Vanished) for c in gone)


async def test_too_few_are_left(tmp_path):
    async with hub(tmp_path, N) as h, staffed(h):
        await h.create(parameters(minimum_cohort=3), replace(BRISK, masked_input_s=0.5))
        run = await h.run_round(offers(N), dies={0: "upload", 1: "upload"})
        assert isinstance(run.operator, BaseException)
        assert all("upload: 2 clients, need 3" in str(run.results[c]) for c in (2, 3)), run.results
        assert all(isinstance(run.results[c], RoundAborted) for c in (2, 3))


async def test_a_round_waits_for_its_parties(tmp_path):
    spec, offered = parameters(), offers(N)
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        async with staffed(h):  # its first attempts may come after the round's start
            run = await h.run_round(offered)
        check_mean(run, offered, range(N), spec.ring_bits)


@pytest.mark.parametrize("number", [KEY_HOLDER, AUDITOR])
async def test_a_party_that_starts_anew_between_the_steps(tmp_path, number):
    """It ends when the clients commit, and is back with nothing but its ledger."""
    spec, offered = parameters(), offers(N)
    async with hub(tmp_path, N) as h, staffed(h, KEY_HOLDER + AUDITOR - number), staffed(h, number) as running:
        await h.create(spec, replace(BRISK, reconnect_s=20.0))
        again = []

        def start_anew(step: str) -> None:
            if step == "upload" and not again:
                running[number].cancel()
                home = h.directory / NAMES[number]

                async def second() -> None:
                    await asyncio.gather(running[number], return_exceptions=True)
                    if number == KEY_HOLDER:
                        await attend_as_key_holder(h.address, home, [TASK], safe())
                    else:
                        await attend_as_auditor(h.address, home, [TASK])

                again.append(asyncio.create_task(second()))

        run = await h.run_round(offered, calls={0: start_anew})
        check_mean(run, offered, range(N), spec.ring_bits)
        again[0].cancel()
        await asyncio.gather(*again, return_exceptions=True)


@pytest.mark.parametrize(
    "attend",
    [
        lambda home: attend_as_key_holder("localhost:1", home, [TASK], safe()),
        lambda home: attend_as_auditor("localhost:1", home, [TASK]),
    ],
)
async def test_a_directory_of_another_role_stays_as_it_was(tmp_path, attend):
    """A ledger of the wrong kind in it could only be deleted, which nobody should learn to do."""
    issued("site-0000", Role.PARTICIPANT).save(tmp_path / "site")
    before = sorted((tmp_path / "site").iterdir())
    with pytest.raises(NotAdmitted, match="certified as participant"):
        await attend(tmp_path / "site")
    assert sorted((tmp_path / "site").iterdir()) == before
    with pytest.raises(StorageError):
        await attend(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


async def test_a_round_that_waits_for_its_parties_names_them(tmp_path):
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        number = await h.operator.start_round(TASK)
        await h.operator.abort_round(TASK, number)
        first, _ = [event async for event in h.operator.watch(TASK, number)]
        assert (first.kind, first.clients, first.detail) == ("gathering", 0, "auditor and key-holder")


async def test_no_participant_may_read_ciphertexts(tmp_path):
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        request = CiphertextsRequest(TASK, 1, whole_sum=False, client=0)
        stream = channel.downward("/sangam.v1.Aggregation/FetchCiphertexts", request, ResultMessage)
        with pytest.raises(NotAdmitted, match="certified as participant, this call is for auditor or key-holder"):
            await anext(stream)


@pytest.mark.parametrize("number", [KEY_HOLDER, AUDITOR])
async def test_a_party_that_the_task_does_not_name(tmp_path, number):
    async with hub(tmp_path, N) as h, staffed(h, number) as running:
        await h.create(parameters(parties=Parties("another-key-holder", "another-auditor")))
        with pytest.raises(NotAdmitted, match="is neither this task's key holder nor its auditor"):
            await running[number]
