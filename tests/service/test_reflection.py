"""A client with a certificate and nothing else learns the services, their methods and their messages."""

import asyncio
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.loopback import hub, operator

PROTO = Path(__file__).parents[2] / "proto" / "sangam" / "v1"


def secured(address, *, known=True):
    who = operator()
    own = (who.key_pem, who.certificate.pem) if known else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(who.authority.pem, *own))


def explore(address):
    """All by reflection, on a channel without asyncio, as gRPC's own tools do."""
    with secured(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("sangam.v1.Operator")
        return list(database.get_services()), service, GetMessageClass(pool.FindMessageTypeByName("sangam.v1.Task"))


async def test_a_client_needs_no_file_of_ours(tmp_path):
    async with hub(tmp_path, 2) as h:
        services, service, task = await asyncio.to_thread(explore, h.address)
    assert {"sangam.v1.Aggregation", "sangam.v1.Operator", "grpc.health.v1.Health"} <= set(services)
    methods = PROTO.joinpath("operator.proto").read_text().count("\n  rpc ")
    assert len(service.methods) == methods > 0
    assert {"name", "parameters", "deadlines"} <= set(task.DESCRIPTOR.fields_by_name)
    said = {"name": "sepsis", "parameters": {"tensors": [{"name": "x", "shape": [2, 3]}], "clip": 4.0}}
    assert MessageToDict(ParseDict(said, task())) == said


async def test_a_stranger_learns_nothing(tmp_path):
    def ask(address):
        with secured(address, known=False) as channel:
            ProtoReflectionDescriptorDatabase(channel).get_services()

    async with hub(tmp_path, 2) as h:
        with pytest.raises(grpc.RpcError) as refused:
            await asyncio.to_thread(ask, h.address)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
