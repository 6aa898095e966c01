"""Participants written from the contract alone take part in real rounds, among themselves and with the SDK's."""

import ast
import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from aggregator.protocol.parameters import Mode
from aggregator.wire import codec
from aggregator.wire._pb import aggregation_pb2 as pb
from tests.consortium import TASK
from tests.contract.encoding import Numbers
from tests.contract.line import Outcome, join, named
from tests.contract.participant import Refused, Who
from tests.loopback import Hub, Offer, Watcher, hub, offers, parameters, weighted_mean

HERE = Path(__file__).parent
ALLOWED = {"grpc", "cryptography", "numpy", "tests.reference", "tests.contract", "aggregator.wire._pb"}
STDLIB = {
    "ast", "asyncio", "base64", "collections", "contextlib", "dataclasses", "fractions", "hashlib", "hmac", "json",
    "math", "os", "pathlib", "struct", "typing",
}  # fmt: skip
ANY_COHORT = 2


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_strangers_know_nothing_of_ours_but_the_generated_messages():
    files = [path for path in HERE.glob("*.py") if not path.name.startswith("test_")]
    assert {path.name for path in files} == {"encoding.py", "line.py", "participant.py"}
    for path in (*files, *(HERE.parent / "reference").glob("*.py")):
        for name in imported(path):
            known = name.split(".")[0] in STDLIB or any(f"{name}.".startswith(f"{prefix}.") for prefix in ALLOWED)
            assert known, f"{path.name} imports {name}"


@dataclass
class Played:
    """How a round went: the strangers' outcomes, the SDK's results and words, the operator's result."""

    outcomes: dict[int, Any] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)
    watchers: dict[int, Watcher] = field(default_factory=dict)
    operator: Any = None

    def words(self, client: int) -> list[int]:
        """The encoded update of one client."""
        return self.outcomes[client].words if client in self.outcomes else self.watchers[client].encoded.tolist()


def who(h: Hub, client: int, minimum: int = ANY_COHORT) -> Who:
    """A participant's three files."""
    directory = h.directory / f"stranger-{client}"
    if not directory.exists():
        h.consortium.identities[client].save(directory)
    return Who.load(directory, minimum)


async def play(
    h: Hub,
    offered: Mapping[int, Offer],
    strangers: Iterable[int],
    vanishes: Mapping[int, str] | None = None,
    base: Any = None,
) -> Played:
    """One round: some take part by the contract alone, the others by the SDK."""
    played, stopping = Played(), vanishes or {}
    async with AsyncExitStack() as stack:
        lines = {c: await stack.enter_async_context(join(h.address, who(h, c), TASK)) for c in strangers}
        others = [c for c in offered if c not in lines]
        sessions = {c: await stack.enter_async_context(h.join(c)) for c in others}
        played.watchers = {c: Watcher() for c in others}
        number = await h.operator.start_round(TASK, base=base)

        async def leave(client: int) -> Outcome:
            outcome = await lines[client].contribute(*offered[client], base, stopping.get(client, ""))
            lines[client].close()
            return outcome

        async def take_part(client: int) -> Any:
            update, weight = offered[client]
            return await sessions[client].contribute(update, weight=weight, base=base, observer=played.watchers[client])

        async with asyncio.TaskGroup() as group:
            working = {c: group.create_task(leave(c)) for c in lines}
            waiting = {c: group.create_task(take_part(c)) for c in others}
            async for event in h.operator.watch(TASK, number):
                assert event.kind != "failed", event.detail
            played.operator = await h.operator.fetch_result(TASK, number)
        played.outcomes = {c: task.result() for c, task in working.items()}
        played.results = {c: task.result() for c, task in waiting.items()}
    return played


def check(
    played: Played, offered: Mapping[int, Offer], survivors: list[int], ring_bits: int, gone: Iterable[int] = ()
) -> None:
    """Everyone who stayed has the exact sum over the survivors, and strangers read its meaning as the SDK does."""
    columns = zip(*(played.words(c) for c in survivors), strict=True)
    total = [sum(column) % 2**ring_bits for column in columns]
    result = played.operator
    assert result.words.tolist() == total
    assert result.participants == tuple(f"site-{c:04}" for c in survivors)
    assert 0 < np.abs(result.mean["x"] - weighted_mean(offered, survivors)).max() <= result.error_bound
    for client in set(played.outcomes) & set(survivors) - set(gone):
        outcome = played.outcomes[client]
        assert (outcome.total, outcome.survivors) == (total, survivors)
        assert outcome.weight == result.total_weight == sum(offered[c][1] for c in survivors)
        np.testing.assert_allclose(outcome.mean["x"], result.mean["x"], rtol=0, atol=result.error_bound * 1e-6)
    for client in set(played.results) & set(survivors):
        assert played.results[client].words.tolist() == total


STEPS = ["round_opened", "advert_list", "share_list", "survivors", "signature_list", "round_closed"]
LATTICE = {"mode": Mode.LATTICE}
ENCODINGS = {
    "pairwise": {},
    "rotated": {"rotate": True, "value_bits": 20},
    "wide": {"value_bits": 40},
    "lattice": LATTICE,
}


@pytest.mark.parametrize("strangers", [(1, 3), (0, 1, 2, 3)], ids=["with the SDK's", "among themselves"])
@pytest.mark.parametrize("changes", ENCODINGS.values(), ids=ENCODINGS)
async def test_the_sum_is_exact(tmp_path, strangers, changes):
    spec, offered = parameters((5, 3), **changes), offers(4, (5, 3))
    async with hub(tmp_path, 4) as h:
        await h.create(spec)
        base = {"w": np.arange(3.0), "b": np.array(1, np.int32)}
        played = await play(h, offered, strangers, base=base)
    check(played, offered, [0, 1, 2, 3], spec.ring_bits)
    assert all(outcome.said == STEPS for outcome in played.outcomes.values())


@pytest.mark.parametrize(
    ("step", "counts", "changes"),
    [("advert_list", False, {}), ("share_list", False, {}), ("survivors", True, {}), ("share_list", False, LATTICE)],
    ids=["before it deals", "before its input", "after its input", "before its input, lattice"],
)
async def test_a_stranger_may_vanish(tmp_path, step, counts, changes):
    """Of one that dealt and sent nothing, the strangers that stay give up shares of its mask key."""
    spec, offered = parameters(**changes), offers(6)
    async with hub(tmp_path, 6) as h:
        await h.create(spec)
        played = await play(h, offered, (0, 1, 2, 5), {5: step})
    check(played, offered, [0, 1, 2, 3, 4, 5] if counts else [0, 1, 2, 3, 4], spec.ring_bits, gone=(5,))


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
@pytest.mark.parametrize("entries", [1, 4_096 * 3, 400_000, 1_000_003])
def test_uploads_are_cut_as_the_server_expects(mode, entries):
    spec = parameters((entries,), mode=mode)
    plan = spec.upload_plan
    sent = pb.Parameters.FromString(codec.encode(spec.to_message()))
    assert Numbers(sent).cuts() == [(plan.start(i), plan.start(i) + plan.size(i)) for i in range(plan.chunks)]


async def test_errors_have_names(tmp_path):
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            async with join(h.address, who(h, 0), "no-such-task"):
                pass
        with pytest.raises(grpc.aio.AioRpcError) as newer:
            async with join(h.address, who(h, 0), TASK, versions=(7, 9)):
                pass
    assert named(unknown.value)[0] == "NotFound"
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert named(newer.value)[0] == "VersionMismatch"


async def test_a_stranger_insists_on_its_own_cohort(tmp_path):
    async with hub(tmp_path, 4) as h:
        await h.create(parameters())
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(join(h.address, who(h, c, 4), TASK)) for c in range(3)]
            await h.operator.start_round(TASK)
            ends = await asyncio.gather(*(line.contribute(*offers(3)[0]) for line in lines), return_exceptions=True)
            assert [type(end) for end in ends] == [Refused] * 3
