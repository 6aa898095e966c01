"""Errors of gRPC become ours: by the name that the server gives, or by what the code means to a site."""

import grpc
import pytest

import clients
from aggregator.errors import (
    Cancelled,
    Disconnected,
    Equivocation,
    Expired,
    Gone,
    MessageError,
    NameTaken,
    NotAdmitted,
    NotFound,
    NotOffered,
    OutOfTurn,
    Overloaded,
    ParameterError,
    RoundAborted,
    SangamError,
    StaleModel,
    StorageError,
    VersionMismatch,
)
from aggregator.service.status import STATUS, code_of
from aggregator.wire.messages import ERROR_NAME_KEY, RETRY_AFTER_KEY, ClientMessage, Join, SurvivorSignature
from clients.transport import RETRY_AFTER_MOST_S, GrpcChannel, GrpcTransport
from tests.cable import Cable
from tests.consortium import Consortium
from tests.loopback import hub, operator, parameters, raw

ALL = [
    Cancelled,
    Disconnected,
    Equivocation,
    Expired,
    Gone,
    MessageError,
    NameTaken,
    NotAdmitted,
    NotFound,
    NotOffered,
    OutOfTurn,
    Overloaded,
    ParameterError,
    RoundAborted,
    SangamError,
    StaleModel,
    StorageError,
    VersionMismatch,
]


def every_error():
    found = [SangamError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return set(found)


async def named(code, details, *metadata):
    channel = GrpcChannel("localhost:1", Consortium.of(2).identities[0])
    try:
        trailing = grpc.aio.Metadata(*metadata)
        return channel.named(grpc.aio.AioRpcError(code, trailing, trailing, details))
    finally:
        await channel.close()


@pytest.mark.parametrize("kind", ALL)
async def test_the_server_and_the_site_raise_the_same(kind):
    error = await named(code_of(kind("why")), "why", (ERROR_NAME_KEY, kind.__name__))
    assert (type(error), str(error)) == (kind, "why")


def test_every_error_has_a_status_of_its_own_or_of_its_kind():
    assert {kind for kind in every_error() if kind.__module__ == SangamError.__module__} == set(ALL)
    assert code_of(StaleModel("")) is STATUS[ParameterError]
    assert code_of(Equivocation("")) is STATUS[MessageError]
    assert code_of(SangamError("")) is grpc.StatusCode.INTERNAL
    assert len(set(map(code_of, (MessageError(""), OutOfTurn(""), NotAdmitted(""), NotFound(""))))) == 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Disconnected),
        (grpc.StatusCode.UNKNOWN, Disconnected),
        (grpc.StatusCode.CANCELLED, Disconnected),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.UNAUTHENTICATED, NotAdmitted),
        (grpc.StatusCode.PERMISSION_DENIED, NotAdmitted),
    ],
)
async def test_what_no_server_named(code, kind):
    for metadata in ((), ((ERROR_NAME_KEY, "KeyError"),), ((ERROR_NAME_KEY, ""),)):
        error = await named(code, "why", *metadata)
        assert type(error) is kind
        assert str(error).startswith("localhost:1")


@pytest.mark.parametrize(
    ("said", "heard"),
    [("4.250", 4.25), ("0.500", 0.5), ("30", 30.0), ("86400", RETRY_AFTER_MOST_S)]
    + [(lie, None) for lie in ("", ".", "-1", "nan", "inf", "1e9", "1.2.3", "9" * 99, "\u0664")],
)
async def test_when_to_come_back_as_the_server_says_it_and_as_a_lying_one_does(said, heard):
    metadata = [(ERROR_NAME_KEY, "Overloaded")] + ([(RETRY_AFTER_KEY, said)] if said else [])
    error = await named(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", *metadata)
    assert type(error) is Overloaded
    assert error.retry_after_s == heard


async def test_a_stream_that_the_server_ended_names_its_error_to_sender_and_receiver(tmp_path):
    """Also to a sender that has not read yet: gRPC itself only says that the call is over."""
    async with hub(tmp_path, 2) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        async with GrpcTransport(lambda: channel).control() as stream:
            await stream.send(ClientMessage(0, Join(1, 1, "lungs")))
            while not stream._call.done():
                await stream._call.wait_for_connection()
                await stream._call.code()
            for _ in range(2):
                with pytest.raises(NotFound, match="there is no task 'lungs' here"):
                    await stream.send(ClientMessage(1, SurvivorSignature(bytes(64))))
                with pytest.raises(NotFound, match="there is no task 'lungs' here"):
                    await stream.receive()


async def test_a_stream_that_the_network_ended_is_disconnected(tmp_path):
    async with hub(tmp_path, 2) as h, Cable(h.port) as cable:
        await h.create(parameters())
        who = h.consortium.identities[0]
        async with raw(f"localhost:{cable.port}", who) as channel, GrpcTransport(lambda: channel).control() as stream:
            await stream.send(ClientMessage(0, Join(1, 1, "sepsis")))
            await stream.receive()
            cable.cut()
            with pytest.raises(Disconnected):
                await stream.receive()
            with pytest.raises(Disconnected):
                await stream.send(ClientMessage(1, SurvivorSignature(bytes(64))))


async def test_a_message_out_of_bounds_never_leaves(tmp_path):
    async with (
        hub(tmp_path, 2) as h,
        raw(h.address, h.consortium.identities[0]) as channel,
        GrpcTransport(lambda: channel).control() as stream,
    ):
        with pytest.raises(MessageError, match=r"SurvivorSignature\.signature: 1 bytes, expected 64"):
            await stream.send(ClientMessage(1, SurvivorSignature(b"x")))


async def test_a_call_over_a_closed_session_is_named(tmp_path):
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        async with h.join(0) as session:
            pass
        with pytest.raises(Disconnected, match="this session is closed"):
            await session._transport._channel().unary("/sangam.v1.Operator/StartRound", Join(1, 1, ""), Join)


async def test_the_servers_words_come_without_control_characters(tmp_path):
    async with hub(tmp_path, 2) as h, raw(h.address, h.consortium.identities[0]) as channel:
        none = grpc.aio.Metadata()
        error = channel.named(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, "gone\x1b[2J"))
        assert str(error).endswith("gone [2J")


async def test_a_slow_line_is_given_the_time_to_connect(tmp_path):
    """0.1 s there and back: a first attempt of 0.1 s in all would end before TLS has."""
    async with hub(tmp_path, 2) as h, Cable(h.port) as cable:
        cable.hold_s = lambda: 0.05
        async with clients.operate(f"localhost:{cable.port}", operator()) as slow:
            assert [task async for task in slow.tasks()] == []
