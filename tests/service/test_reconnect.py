"""A line that breaks in a step comes back and goes on there; what is sent again is the same, byte for byte."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from aggregator.errors import Disconnected
from aggregator.protocol.parameters import Mode
from aggregator.wire import messages
from aggregator.wire.codec import encode
from aggregator.wire.vocabulary import MASKED_STEPS, Step
from tests.cable import Cable
from tests.loopback import PATIENT, check_mean, hub, offers, parameters

STEPS = list(MASKED_STEPS)
ANSWER = {
    Step.ADVERTISE_KEYS: messages.Advert,
    Step.SHARE_KEYS: messages.Dealing,
    Step.CONSISTENCY_CHECK: messages.SurvivorSignature,
    Step.UNMASKING: messages.Unmasking,
}


class Losing:
    """A transport that writes down all that its session sends, and loses the first answer of one kind with its line."""

    def __init__(self, inner, cable, loses=None):
        self.inner, self.cable, self.loses = inner, cable, loses
        self.sent, self.uploads = {}, []
        self.fetch_result = inner.fetch_result

    @asynccontextmanager
    async def control(self):
        async with self.inner.control() as stream:
            self.stream = stream
            self.receive = stream.receive
            yield self

    async def send(self, message):
        said = self.sent.setdefault(type(message.body), [])
        said.append(encode(message))
        if type(message.body) is self.loses and len(said) == 1:
            self.cable.cut()
            raise Disconnected("lost with the line")
        await self.stream.send(message)

    async def upload(self, parts):
        parts = list(parts)
        self.uploads.append([encode(part) for part in parts])
        return await self.inner.upload(parts)


async def play(tmp_path, n, entries=4, loses=None, cuts=(), mode=Mode.PAIRWISE, **round_options):
    """A round in which the last client's line runs over a cable, through a `Losing`."""
    offered, spec, last = offers(n, (entries,)), parameters((entries,), mode=mode), n - 1
    wrapped = []
    async with hub(tmp_path, n) as h, Cable(h.port) as cable:
        cable.upward_cuts.extend(cuts)

        def wrap(transport):
            wrapped.append(Losing(transport, cable, loses))
            return wrapped[-1]

        await h.create(spec, PATIENT)
        if "cut_when" in round_options:
            step = round_options.pop("cut_when")
            round_options["calls"] = {0: lambda name: cable.cut() if name == step else None}
        run = await h.run_round(offered, how={last: {"port": cable.port, "wrap": wrap}}, **round_options)
    check_mean(run, offered, range(n), spec.ring_bits)
    return run, wrapped[0]


@pytest.mark.parametrize("step", ANSWER)
async def test_an_answer_that_was_lost_with_the_line_is_sent_again_identically(tmp_path, step):
    run, losing = await play(tmp_path, 3, loses=ANSWER[step])
    first, again = losing.sent[ANSWER[step]]
    assert first == again
    assert len(losing.sent[messages.Join]) == 2
    assert messages.Withdrawal not in losing.sent
    assert run.told("dropped") == []


@pytest.mark.parametrize("step", STEPS)
async def test_a_line_that_breaks_between_two_steps_goes_on_with_the_next(tmp_path, step):
    """It is cut when another client enters `step`: the last client may or may not have heard of that step."""
    run, losing = await play(tmp_path, 3, cut_when=step)
    assert len(losing.sent[messages.Join]) == 2
    for kind, said in losing.sent.items():
        assert kind is messages.Join or len(set(said)) == 1
    assert run.told("dropped") == []


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
async def test_an_upload_cut_half_way_is_sent_again_identically_and_counts_once(tmp_path, mode):
    """Several MiB; the line breaks when 2 MiB of them have gone up."""
    run, losing = await play(tmp_path, 3, entries=1_500_000, cuts=[2 << 20], mode=mode)
    first, *again = losing.uploads
    assert sum(map(len, first)) > 3 << 20
    assert again
    assert all(upload == first for upload in again)
    assert run.told("answered").count(("site-0002", "masked_input")) == 1


async def test_a_server_that_is_not_there_yet_is_tried_again(tmp_path):
    async with hub(tmp_path, 3) as h, Cable(h.port) as cable:
        await h.create(parameters())
        cable.refusing = True

        async def join():
            async with h.join(0, port=cable.port) as session:
                return session.task

        joining = asyncio.create_task(join())
        await cable.refused.wait()
        cable.refusing = False
        assert await joining == "sepsis"


async def test_patience_runs_out(tmp_path):
    async with hub(tmp_path, 3) as h, Cable(h.port) as cable:
        cable.refusing = True
        with pytest.raises(Disconnected, match=f"localhost:{cable.port} cannot be reached"):
            async with h.join(0, port=cable.port, patience_s=0.2):
                pass


async def test_patience_runs_out_in_the_midst_of_a_round(tmp_path):
    offered = offers(4)
    async with hub(tmp_path, 4) as h, Cable(h.port) as cable:
        await h.create(parameters())

        def cut_for_good(name):
            if name == "share_keys":
                cable.refusing = True
                cable.cut()

        how = {3: {"port": cable.port, "patience_s": 0.2}}
        run = await h.run_round(offered, calls={3: cut_for_good}, how=how)
        assert isinstance(run.results.pop(3), Disconnected)
        run.results[3] = run.operator
        check_mean(run, offered, (0, 1, 2), parameters().ring_bits)
        assert run.told("dropped") == [("site-0003", "share_keys")]
