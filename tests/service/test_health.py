"""gRPC's health service says no while storage fails, and yes again when it works."""

import asyncio
import logging

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.loopback import TOO_LONG_S, hub, operator

OURS = ("", "sangam.v1.Aggregation", "sangam.v1.Operator")
CKKS = "sangam.v1.Ckks"
YES, NO = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class FailingStorage:
    """A disk that is full, until somebody clears it; it tells the server's health from its own thread."""

    def __init__(self, tell):
        self._tell = tell

    async def write(self, failed):
        await asyncio.to_thread(self._tell, failed)


def channel(address):
    who = operator()
    credentials = grpc.ssl_channel_credentials(who.authority.pem, who.key_pem, who.certificate.pem)
    return grpc.aio.secure_channel(address, credentials)


async def test_it_turns_with_storage_and_watchers_are_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, "aggregator")
    async with hub(tmp_path, 2) as h, channel(h.address) as line, asyncio.timeout(TOO_LONG_S):
        stub = health_pb2_grpc.HealthStub(line)
        storage = FailingStorage(h.running.health.storage)
        watched = {name: stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in OURS}

        async def turned():
            return [(await watch.read()).status for watch in watched.values()]

        def healthy():
            return h.running.metrics.registry.get_sample_value("sangam_storage_healthy")

        async def said(name):
            return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status

        assert await turned() == [YES] * 3
        assert healthy() == 1
        await storage.write("No space left on device")
        await storage.write("No space left on device")
        assert await turned() == [NO] * 3
        assert healthy() == 0
        await storage.write(None)
        assert await turned() == [YES] * 3
        assert healthy() == 1
        assert [await said(name) for name in (*OURS, CKKS)] == [YES, YES, YES, NO]
        for watch in watched.values():
            watch.cancel()
    told = [record.getMessage() for record in caplog.records if "storage" in record.getMessage()]
    assert told == [
        "storage fails, this server is unhealthy: No space left on device",
        "storage works again, this server is healthy",
    ]


@pytest.mark.parametrize("ckks", [False, True])
async def test_a_service_that_is_switched_off_is_never_healthy(tmp_path, ckks):
    async with hub(tmp_path, 2, ckks=ckks) as h, channel(h.address) as line:
        stub = health_pb2_grpc.HealthStub(line)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=CKKS))
        assert answer.status == (YES if ckks else NO)
