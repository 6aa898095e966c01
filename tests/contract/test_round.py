"""Participants written from the contract alone take part in real rounds, among themselves and with the SDK's."""

import ast
import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from aggregator.protocol.cohort import freeze
from aggregator.protocol.context import SUITE
from aggregator.protocol.graph import ThreatModel
from aggregator.protocol.parameters import Mode
from aggregator.wire import codec
from aggregator.wire._pb import aggregation_pb2 as pb
from aggregator.wire.messages import ERROR_NAME_KEY, GO_ON_KEY, Tensor
from tests.consortium import TASK, Consortium
from tests.contract.encoding import Numbers
from tests.contract.line import Outcome, join, named
from tests.contract.memory import Refused
from tests.contract.participant import Participant
from tests.contract.who import Who
from tests.loopback import Hub, Offer, Watcher, hub, offers, parameters, weighted_mean

HERE = Path(__file__).parent
ALLOWED = {"grpc", "cryptography", "numpy", "tests.reference", "tests.contract", "aggregator.wire._pb"}
STDLIB = {
    "asyncio", "base64", "collections", "contextlib", "dataclasses", "datetime", "fractions", "functools", "hashlib",
    "hmac", "json", "math", "os", "pathlib", "struct", "typing",
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
    assert {path.name for path in files} == {"encoding.py", "line.py", "memory.py", "participant.py", "who.py"}
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
    """A participant's two files, as the consortium's tools leave them."""
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
        assert outcome.mean.keys() == result.mean.keys()
        for name, mean in result.mean.items():
            np.testing.assert_allclose(outcome.mean[name], mean, rtol=1e-12, atol=1e-12)
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
    tensors = Tensor("x", (5, 3)), Tensor("bias", (2,), clip=0.01), Tensor("scalar", ())
    spec = parameters(tensors=tensors, **changes)
    more = {"bias": np.array([0.002, -0.001]), "scalar": np.float64(1.5)}
    offered = {c: (update | more, weight) for c, (update, weight) in offers(4, (5, 3)).items()}
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


@pytest.mark.parametrize(("sites", "complete"), [(30, True), (130, False)])
def test_both_sides_compute_the_same_graph(tmp_path, sites, complete):
    """Every second site of the small roster has come, so that the roster decides the threshold; most of the large."""
    consortium = Consortium.of(sites)
    terms = consortium.terms(parameters(clients_max=200, threat=ThreatModel(0.05, 0.1, security_bits=40)))
    hashes = [(client, bytes([client]) * 32) for client in range(sites) if client % (2 if complete else 7)]
    cohort = freeze(terms, hashes)
    consortium.identities[1].save(tmp_path / "site")
    sent = pb.Terms.FromString(codec.encode(terms.to_message()))
    weak = Who.load(tmp_path / "site", ANY_COHORT, corrupt_fraction=0.05, security_bits=40)
    stranger = Participant(weak, sent, consortium.roster.to_bytes(), [])
    stranger.freeze([pb.ListedAdvert(client=client, hash=known) for client, known in hashes])
    assert cohort.graph.complete is complete
    assert (stranger.ctx1, stranger.t, stranger.k) == (cohort.ctx1, cohort.threshold, cohort.graph.k)
    for client in cohort.members:
        assert tuple(stranger.neighbours(client)) == cohort.neighbours(client)


async def test_a_roster_that_is_held_does_not_come_again(tmp_path):
    spec, offered = parameters(), offers(3)
    async with hub(tmp_path, 3) as h, AsyncExitStack() as stack:
        await h.create(spec)
        held = [b"", b"", h.consortium.roster.to_bytes()]
        joining = [join(h.address, who(h, c), TASK, roster=roster) for c, roster in enumerate(held)]
        lines = [await stack.enter_async_context(line) for line in joining]
        await h.operator.start_round(TASK)
        ends = await asyncio.gather(*(line.contribute(*offered[c]) for c, line in enumerate(lines)))
    assert [line.rosters_sent for line in lines] == [1, 1, 0]
    assert ends[0].total == ends[2].total == [sum(column) for column in zip(*(end.words for end in ends), strict=True)]


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


SOURCES = [path for folder in ("crypto", "protocol") for path in (HERE.parents[1] / "aggregator" / folder).glob("*.py")]
SPOKEN = [
    r'digest\(\s*"([^"]+)"',
    r'_DOMAIN = "([^"]+)"',
    r': Final = "([^"]+)"',
    r'"(A|key|error|rounding|rotation|self|pair)"',
]


def test_the_document_names_every_domain():
    """Whoever adds a digest, a signature or a stream tells strangers of it."""
    told = (HERE.parents[1] / "docs" / "contract.md").read_text()
    text = "\n".join(path.read_text() for path in SOURCES)
    spoken = {found for pattern in SPOKEN for found in re.findall(pattern, text)}
    own_business = {"sangam/v1/parameters", "rounding", "sangam/v1/custodian file", "sangam/v1/task key"}
    assert {"sangam/v1/ctx0", "roster", "advert", "dealing", "survivors", "self seed", "A"} <= spoken
    for name in spoken - own_business:
        assert f"`{name}`" in told, name
    for key in (GO_ON_KEY, ERROR_NAME_KEY, SUITE):
        assert f"`{key}`" in told, key
