"""What a control stream begins with: versions of the protocol, and the roster that need not come twice."""

from contextlib import asynccontextmanager
from hashlib import sha256

import pytest

from aggregator.errors import VersionMismatch
from aggregator.service import aggregation_service as service
from aggregator.wire.messages import ClientMessage, Join, RoundOpened
from clients.rosters import Rosters
from clients.transport import GrpcTransport
from tests.loopback import check_mean, hub, offers, parameters, raw

N = 3


class Overheard:
    """A transport that notes the rosters of the rounds that open, as they come over the line."""

    def __init__(self, transport, came):
        self._transport, self._came = transport, came
        self.upload, self.fetch_result = transport.upload, transport.fetch_result

    @asynccontextmanager
    async def control(self):
        async with self._transport.control() as stream:
            yield _OverheardStream(stream, self._came)


class _OverheardStream:
    def __init__(self, stream, came):
        self._stream, self._came, self.send = stream, came, stream.send

    async def receive(self):
        message = await self._stream.receive()
        if isinstance(message.body, RoundOpened):
            self._came.append(message.body.roster)
        return message


async def test_a_roster_comes_once_to_a_process_that_keeps_it(tmp_path):
    """In the first round to each session, since nobody has it yet; then to none, also of those that join anew."""
    came, rosters = [], Rosters()
    how = {c: {"wrap": lambda t: Overheard(t, came), "rosters": rosters} for c in range(N)}
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        roster = h.consortium.roster.to_bytes()
        for number, expected in enumerate([[roster] * N, [b""] * N]):
            offered, base = offers(N, seed=number), {"x": [float(number)]}
            check_mean(await h.run_round(offered, how=how, base=base), offered, range(N), parameters().ring_bits)
            assert came == expected
            came.clear()


async def first_rosters(h, join, rounds):
    """What comes to a stream that begins with `join`, with each of several rounds."""
    task, came = h.running.tasks.find("sepsis"), []
    async with (
        raw(h.address, h.consortium.identities[0]) as channel,
        GrpcTransport(lambda: channel).control() as stream,
    ):
        await stream.send(ClientMessage(0, join))
        await stream.receive()
        for _ in range(rounds):
            number = await h.operator.start_round("sepsis")
            while not isinstance((message := await stream.receive()).body, RoundOpened):
                pass
            came.append(message.body.roster)
            await task.abort_round(number, "the test goes on")
    return came


async def test_the_server_leaves_out_what_the_stream_had_and_nothing_for_who_keeps_nothing(tmp_path):
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        whole = h.consortium.roster.to_bytes()
        held, other = sha256(whole).digest(), sha256(b"another").digest()
        for named, expected in ((b"", [whole, whole]), (held, [b"", b""]), (other, [whole, b""])):
            assert await first_rosters(h, Join(1, 1, "sepsis", named), 2) == expected


@pytest.mark.parametrize("versions", [(2, 3), (2, 2**31)])
async def test_a_client_too_new_for_this_server_is_refused_by_both_ranges(tmp_path, versions):
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with (
            raw(h.address, h.consortium.identities[0]) as channel,
            GrpcTransport(lambda: channel).control() as stream,
        ):
            await stream.send(ClientMessage(0, Join(*versions, "sepsis")))
            with pytest.raises(VersionMismatch, match=f"{versions[0]} to {versions[1]}, this server 1 to 1"):
                await stream.receive()


def test_the_newest_version_of_both_is_chosen(monkeypatch):
    monkeypatch.setattr(service, "OLDEST_VERSION", 3)
    monkeypatch.setattr(service, "PROTOCOL_VERSION", 5)
    for *span, common in ((1, 3, 3), (1, 9, 5), (5, 5, 5), (4, 4, 4), (5, 7, 5)):
        assert service.common_version(Join(*span, "")) == common
    for span in ((1, 2), (6, 9)):
        with pytest.raises(
            VersionMismatch, match=f"speaks protocol versions {span[0]} to {span[1]}, this server 3 to 5"
        ):
            service.common_version(Join(*span, ""))
