"""Who may call what: by certificate, by role, by roster; and what garbage gets from those who may."""

import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2

import clients
from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import (
    Disconnected,
    MessageError,
    NotAdmitted,
    NotFound,
    ParameterError,
    SangamError,
    StorageError,
)
from aggregator.service.allowance import Allowance
from aggregator.service.app import serve
from aggregator.service.rpc import Gate
from aggregator.wire._pb import aggregation_pb2, operator_pb2
from aggregator.wire.messages import ERROR_NAME_KEY
from tests.consortium import ANY_COHORT, DEPLOYMENT, Consortium
from tests.loopback import aggregator, check_mean, configured, hub, issued, offers, operator, parameters, raw

N = 3
PROBE = "sangam.v1.Aggregation.Probe"  # open to every role
CIPHERTEXTS = "sangam.v1.Aggregation.FetchCiphertexts"
OPENS = {"sangam.v1.Aggregation": {Role.PARTICIPANT}, "sangam.v1.Operator": {Role.OPERATOR}}
FURTHER = {
    "sangam.v1.Aggregation.Participate": {Role.PARTICIPANT, Role.KEY_HOLDER, Role.AUDITOR},
    "sangam.v1.Aggregation.Upload": {Role.PARTICIPANT, Role.KEY_HOLDER},
    CIPHERTEXTS: {Role.KEY_HOLDER, Role.AUDITOR},
}
SITES = [Role.PARTICIPANT, Role.OPERATOR, Role.AGGREGATOR, Role.KEY_HOLDER, Role.AUDITOR]


def methods() -> list[MethodDescriptor]:
    """Every method of every service in the .proto files."""
    files = (aggregation_pb2.DESCRIPTOR, operator_pb2.DESCRIPTOR)
    return [m for file in files for service in file.services_by_name.values() for m in service.methods]


def holder_of(role: Role) -> Identity:
    if role is Role.PARTICIPANT:
        return Consortium.of(N).identities[0]
    return issued(role.value, role, ("localhost",) if role is Role.AGGREGATOR else ())


def method_named(name: str) -> MethodDescriptor:
    return next(method for method in methods() if method.full_name == f"sangam.v1.{name}")


async def call(channel, method: MethodDescriptor, data: bytes) -> None:
    """Call a method of whatever kind with one message; raises the error that the server names."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary")
    rpc = getattr(channel._channel, kind)(path)(iter([data]) if method.client_streaming else data)
    try:
        if method.server_streaming:
            async for _ in rpc:
                pass
        else:
            await rpc
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            pytest.fail(f"{path} is in the .proto files and not served")
        raise channel.named(error) from None


async def test_every_method_is_open_to_its_role_and_closed_to_all_others(tmp_path):
    """The .proto files say what there is: a method without a gate, or without a handler, fails here."""
    assert {m.containing_service.full_name for m in methods()} == OPENS.keys()
    assert len(methods()) == 18
    async with hub(tmp_path, N) as h:
        for role in SITES:
            async with raw(h.address, holder_of(role)) as channel:
                for method in methods():
                    opens = FURTHER.get(method.full_name, OPENS[method.containing_service.full_name])
                    allowed = method.full_name == PROBE or role in opens
                    with pytest.raises(SangamError) as caught:
                        await call(channel, method, b"\xff\xff")
                    assert type(caught.value) is (MessageError if allowed else NotAdmitted), (role, method.full_name)
                    wanted = "not a protobuf message" if allowed else f"is certified as {role.value}, this call is for"
                    assert wanted in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x08", b"\xff" * 100_000, bytes(100_000)])
async def test_garbage_on_every_method_is_named_and_the_server_lives(tmp_path, data):
    offered = offers(N)
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        party = raw(h.address, holder_of(Role.AUDITOR))
        async with raw(h.address, h.consortium.identities[0]) as participant, party as auditor:
            for method in methods():
                channel = participant if "Aggregation" in method.full_name else h.calls
                channel = auditor if method.full_name == CIPHERTEXTS else channel
                if not data and method.full_name == PROBE:
                    await call(channel, method, data)  # nothing is what a probe says
                    continue
                with pytest.raises(MessageError):
                    await call(channel, method, data)
        check_mean(await h.run_round(offered), offered, range(N), parameters().ring_bits)


async def test_a_stream_that_ends_before_its_first_message(tmp_path):
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        with pytest.raises(MessageError, match="the stream ended before its first message"):
            await channel.upward("/sangam.v1.Aggregation/Upload", [], clients.Tensor)


async def test_a_message_too_large_for_any_bound_is_refused_before_it_is_read(tmp_path):
    offered = offers(N)
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with raw(h.address, h.consortium.identities[0]) as channel:
            huge = grpc.aio.secure_channel(h.address, secrets_of(h.consortium.identities[0]), [UNLIMITED])
            channel._channel, small = huge, channel._channel
            await small.close()
            with pytest.raises(SangamError, match="larger than max"):
                await call(channel, method_named("Aggregation.Participate"), bytes(40 << 20))
        check_mean(await h.run_round(offered), offered, range(N), parameters().ring_bits)


UNLIMITED = ("grpc.max_send_message_length", -1)


def secrets_of(who: Identity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(who.authority.pem, who.key_pem, who.certificate.pem)


@asynccontextmanager
async def joining(h, who, directory, **options):
    options = {"journal": directory / "stranger.sqlite", "patience_s": 0.2, "safeguards": ANY_COHORT} | options
    async with clients.connect(h.address, who, **options) as session:
        yield session


async def test_a_participant_outside_the_roster(tmp_path):
    """Certified by the consortium, but not in the roster that this server runs."""
    stranger = Consortium.of(N + 1).identities[N]
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        with pytest.raises(NotAdmitted, match="is not in roster version 1"):
            async with joining(h, stranger, tmp_path):
                pass


async def test_a_certificate_of_an_unknown_authority(tmp_path):
    """TLS refuses it, and says so little that the SDK adds what to look for."""
    now = datetime.now(UTC)
    other = authorities.create_authority(DEPLOYMENT, now, timedelta(days=2))
    key, csr = authorities.request("site-0000", Role.PARTICIPANT, DEPLOYMENT)
    certificate = authorities.issue(other, csr, now, valid_for=timedelta(days=1))
    trusting = other.certificate, Consortium.of(N).authority.certificate
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        with pytest.raises(Disconnected, match=r"TLS was refused .*do both trust one authority"):
            async with joining(h, Identity(certificate, key, trusting[0]), tmp_path):
                pass
        with pytest.raises(NotAdmitted, match="was not issued by this authority"):
            Identity(certificate, key, trusting[1])


async def test_no_certificate_at_all(tmp_path):
    async with hub(tmp_path, N) as h:
        credentials = grpc.ssl_channel_credentials(aggregator().authority.pem)
        async with grpc.aio.secure_channel(h.address, credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/sangam.v1.Operator/StartRound")(b"")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("days", "starts", "named"), [(1, -3, "expired on 20"), (9, 3, "is not valid before 20")])
async def test_a_certificate_out_of_its_time_is_named_before_dialling(tmp_path, days, starts, named):
    late = issued("late", Role.PARTICIPANT, days=days, starts=starts)
    with pytest.raises(NotAdmitted, match=f"the certificate of late {named}"):
        async with clients.connect("localhost:1", late, journal=tmp_path / "journal"):
            pass
    leader = issued("late-operator", Role.OPERATOR, days=days, starts=starts)
    with pytest.raises(NotAdmitted, match=f"the certificate of late-operator {named}"):
        async with clients.operate("localhost:1", leader):
            pass


@pytest.mark.parametrize("written", ["{:d}", "0x{:x}", "12345\n{:d}\n"])
async def test_a_revoked_certificate(tmp_path, written):
    revoked = tmp_path / "revoked"
    revoked.write_text(written.format(Consortium.of(N).identities[1].certificate.serial))
    async with hub(tmp_path, N, revoked=revoked) as h:
        await h.create(parameters())
        async with h.join(0):
            with pytest.raises(NotAdmitted, match="the certificate of site-0001 was revoked"):
                async with h.join(1):
                    pass


class Caller:
    """What gRPC tells of a caller."""

    def __init__(self, *pem):
        self.pem = pem

    def auth_context(self):
        return {"x509_pem_cert": self.pem} if self.pem else {}


def test_the_gate_checks_what_tls_does_not_know():
    """A connection may outlive its certificate."""
    consortium, now = Consortium.of(N), datetime.now(UTC)
    clock = [now]
    gate = Gate(consortium.authority.certificate, frozenset, lambda: clock[0], Allowance(monotonic))
    short = issued("short", Role.PARTICIPANT, days=3)
    caller = Caller(short.certificate.pem)
    assert gate.admit(caller, Role.PARTICIPANT) == short.certificate
    clock[0] = now + timedelta(days=4)
    with pytest.raises(NotAdmitted, match="the certificate of short expired on"):
        gate.admit(caller, Role.PARTICIPANT)
    with pytest.raises(NotAdmitted, match="needs a client certificate"):
        gate.admit(Caller(), Role.PARTICIPANT)
    with pytest.raises(NotAdmitted, match="not a PEM certificate"):
        gate.admit(Caller(b"garbage"), Role.PARTICIPANT)
    other = authorities.create_authority(DEPLOYMENT, now, timedelta(days=9)).certificate
    with pytest.raises(NotAdmitted, match="was not issued by this consortium"):
        Gate(other, frozenset, lambda: now, Allowance(monotonic)).admit(caller, Role.PARTICIPANT)


@pytest.mark.parametrize("service", ["", "sangam.v1.Aggregation", "sangam.v1.Operator"])
async def test_health_is_answered_over_mutual_tls(tmp_path, service):
    async with hub(tmp_path, N) as h:
        check = h.calls._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_client_made_from_the_proto_files_alone(tmp_path):
    """Join and Welcome, then named errors in the trailing metadata; nothing of ours but the generated messages."""
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with grpc.aio.secure_channel(h.address, secrets_of(h.consortium.identities[0])) as channel:
            participate = channel.stream_stream(
                "/sangam.v1.Aggregation/Participate",
                request_serializer=aggregation_pb2.ClientMessage.SerializeToString,
                response_deserializer=aggregation_pb2.ServerMessage.FromString,
            )
            stream = participate()
            await stream.write(
                aggregation_pb2.ClientMessage(join=aggregation_pb2.Join(oldest_version=1, newest_version=1))
            )
            welcome = await stream.read()
            assert (welcome.round, welcome.welcome.task, welcome.welcome.last_round) == (0, "sepsis", 0)
            await stream.write(aggregation_pb2.ClientMessage(round=1, survivor_signature={"signature": b"short"}))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.trailing_metadata()[ERROR_NAME_KEY] == "MessageError"
            assert caught.value.details() == "SurvivorSignature.signature: 5 bytes, expected 64"


async def test_first_messages_that_are_not_join(tmp_path):
    made = aggregation_pb2
    cases = [
        (made.ClientMessage(withdrawal={"reason": "x"}), "a control stream starts with Join"),
        (made.ClientMessage(join={"oldest_version": 0, "newest_version": 1}), "Join.oldest_version: 0 is outside"),
        (made.ClientMessage(), "ClientMessage is empty"),
    ]
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        for message, named in cases:
            with pytest.raises(MessageError, match=named):
                await call(channel, method_named("Aggregation.Participate"), message.SerializeToString())


async def test_tasks_are_found_by_name_and_the_only_one_without(tmp_path):
    async with hub(tmp_path, N) as h:
        for task in ("", "sepsis"):
            with pytest.raises(NotFound, match="none yet"):
                async with h.join(0, task=task):
                    pass
        await h.create(parameters())
        async with h.join(0, task="") as session:
            assert session.task == "sepsis"
        await h.create(parameters(), task="stroke")
        with pytest.raises(NotFound, match="name a task: sepsis, stroke"):
            async with h.join(0, task=""):
                pass
        with pytest.raises(NotFound, match="there is no task 'lungs' here; tasks: sepsis, stroke"):
            async with h.join(0, task="lungs"):
                pass


async def serving(config):
    async with serve(config):
        pass


async def test_a_port_in_use(tmp_path):
    config = configured(tmp_path, Consortium.of(N))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ParameterError, match=f"cannot listen on {address}: the port is in use"):
            await serving(configured(tmp_path, Consortium.of(N), address=address))
    async with serve(config) as running:
        with pytest.raises(ParameterError, match="the port is in use"):
            await serving(configured(tmp_path, Consortium.of(N), address=f"localhost:{running.port}"))


async def test_files_that_a_server_cannot_start_from(tmp_path):
    config = configured(tmp_path, Consortium.of(N))
    cases = [
        ("roster", None, StorageError, "cannot read .*file: No such file"),
        ("roster", b"garbage", MessageError, "roster: not a JSON file"),
        ("roster", config.roster.read_bytes()[:-40], MessageError, "roster: not a JSON file"),
        ("roster", config.roster.read_bytes().replace(b'"version": 1', b'"version": 2'), NotAdmitted, "is not signed"),
        ("revoked", None, StorageError, "cannot read"),
        ("revoked", b"no number", StorageError, "one serial number per line"),
        ("revoked", b"\xff\xfe", StorageError, "one serial number per line"),
    ]
    for name, content, error, match in cases:
        path = tmp_path / "file"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(error, match=match):
            await serving(configured(tmp_path, Consortium.of(N), **{name: path}))


async def test_identities_that_a_server_cannot_start_from(tmp_path):
    consortium = Consortium.of(N)
    with pytest.raises(StorageError, match="cannot read"):
        await serving(configured(tmp_path, consortium, identity=tmp_path / "nowhere"))
    for who, match in ((operator(), "operator is certified as operator, not as aggregator"), (OLD, "expired on")):
        who.save(tmp_path / who.certificate.name)
        with pytest.raises(NotAdmitted, match=match):
            await serving(configured(tmp_path, consortium, identity=tmp_path / who.certificate.name))
    for name in ("key.pem", "identity.pem"):
        broken = tmp_path / f"broken-{name}"
        aggregator().save(broken)
        (broken / name).write_bytes(b"garbage")
        with pytest.raises(SangamError):
            await serving(configured(tmp_path, consortium, identity=broken))


OLD = issued("old-hub", Role.AGGREGATOR, ("localhost",), days=1, starts=-3)
