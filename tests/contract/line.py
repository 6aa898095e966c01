"""A participant's calls by plain gRPC: the control stream, the upload, the result.

async with join(address, who, "sepsis") as line:
    outcome = await line.contribute({"x": x}, weight=10)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import grpc
import numpy as np

from aggregator.wire._pb import aggregation_pb2 as pb
from tests.contract.encoding import Numbers, ctx0, decode, encode, model_hash
from tests.contract.memory import insist
from tests.contract.participant import Participant
from tests.contract.who import Who
from tests.reference import packing

SERVICE = "/sangam.v1.Aggregation/"
OPTIONS = (("grpc.max_receive_message_length", 24 << 20),)


@dataclass
class Outcome:
    """What one contribution came to."""

    words: list[int]
    survivors: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=list)
    mean: Mapping[str, np.ndarray] = field(default_factory=dict)
    weight: int = 0
    said: list[str] = field(default_factory=list)


def named(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """The name of the server's error, and its sentence."""
    return str(dict(error.trailing_metadata() or ()).get("sangam-error", "")), str(error.details())


@asynccontextmanager
async def channel_of(address: str, who: Who) -> AsyncIterator[Any]:
    """Mutual TLS; the host of the address must stand in the server's certificate."""
    credentials = grpc.ssl_channel_credentials(who.authority_pem, who.key_pem, who.certificate_pem)
    async with grpc.aio.secure_channel(address, credentials, options=OPTIONS) as channel:
        yield channel


@asynccontextmanager
async def join(
    address: str, who: Who, task: str, versions: tuple[int, int] = (1, 1), roster: bytes = b""
) -> AsyncIterator["Line"]:
    """Join a task; the block begins when the server has said welcome. A roster that is held need not come again."""
    async with channel_of(address, who) as channel:
        control = channel.stream_stream(
            SERVICE + "Participate",
            request_serializer=pb.ClientMessage.SerializeToString,
            response_deserializer=pb.ServerMessage.FromString,
        )()
        held = sha256(roster).digest() if roster else b""
        hello = pb.Join(oldest_version=versions[0], newest_version=versions[1], task=task, roster_hash=held)
        await control.write(pb.ClientMessage(join=hello))
        message = await control.read()
        if message is grpc.aio.EOF:
            await _raise(control)
        insist(message.WhichOneof("body") == "welcome" and message.welcome.task == task, "no welcome")
        line = Line(channel, control, who, message.welcome, roster)
        try:
            yield line
        finally:
            line.close()


class Line:
    """One participant of one task."""

    def __init__(self, channel: Any, control: Any, who: Who, welcome: Any, roster: bytes) -> None:
        self._channel, self._control, self._who = channel, control, who
        self.welcome, self.roster, self.rosters_sent = welcome, roster, 0

    def close(self) -> None:
        self._control.cancel()

    async def contribute(
        self,
        update: Mapping[str, np.ndarray],
        weight: int,
        base: Mapping[str, np.ndarray] | None = None,
        vanishes_at: str = "",
    ) -> Outcome:
        """Take part in the next round; `vanishes_at` names the message after which nothing more is said."""
        opened = await self._next()
        insist(opened.WhichOneof("body") == "round_opened", "not the opening of a round")
        terms = opened.round_opened.terms
        insist(terms.model_hash == model_hash(base or {}), "the round starts from another model")
        insist(terms.task == self.welcome.task and terms.round == opened.round, "another task or round")
        outcome = Outcome(encode(update, weight, terms))
        self.rosters_sent += opened.round_opened.roster != b""
        self.roster = opened.round_opened.roster or self.roster
        part = Participant(self._who, terms, self.roster, outcome.words)
        answers: dict[str, Callable[[Any], Any]] = {
            "advert_list": part.deal,
            "survivors": part.sign,
            "signature_list": part.unmask,
        }
        message, answer = opened, part.advert()
        while True:
            name = message.WhichOneof("body")
            outcome.said.append(name)
            if name == vanishes_at:
                return outcome
            match name:
                case "round_opened":
                    await self._answer(terms.round, answer)
                case "share_list":
                    await self._upload(part, part.mask(message.share_list))
                case "round_closed":
                    part.close(message.round_closed)
                    return await self._finish(part, message.round_closed, outcome)
                case "advert_list" | "survivors" | "signature_list":
                    await self._answer(terms.round, answers[name](getattr(message, name)))
                case _:
                    insist(False, f"{name}: {getattr(message, name).reason}")
            message = await self._next()

    async def _next(self) -> Any:
        message = await self._control.read()
        return await _raise(self._control) if message is grpc.aio.EOF else message

    async def _answer(self, number: int, body: Any) -> None:
        members = {"Advert": "advert", "Dealing": "dealing", "SurvivorSignature": "survivor_signature"}
        name = members.get(type(body).__name__, "unmasking")
        await self._control.write(pb.ClientMessage(round=number, **{name: body}))

    async def _upload(self, part: Participant, payload: bytes) -> None:
        header = pb.UploadHeader(
            task=part.terms.task,
            round=part.terms.round,
            payload_bytes=len(payload),
            complaints=part.complaints,
            upload_id=part.upload_id,
        )
        chunks = [payload[start:stop] for start, stop in part.numbers.cuts()]
        call = self._channel.stream_unary(
            SERVICE + "Upload",
            request_serializer=pb.UploadMessage.SerializeToString,
            response_deserializer=pb.UploadReceipt.FromString,
        )()
        await call.write(pb.UploadMessage(header=header))
        first = dict(await call.initial_metadata()).get("sangam-go-on")
        if first is not None:
            with suppress(asyncio.InvalidStateError):  # refused meanwhile: the status says why
                for index in range(int(first), len(chunks)):
                    await call.write(pb.UploadMessage(chunk=pb.Chunk(index=index, data=chunks[index])))
                await call.done_writing()
        await call

    async def _finish(self, part: Participant, closed: Any, outcome: Outcome) -> Outcome:
        outcome.survivors = list(closed.survivors)
        if closed.result_shared:
            header, outcome.total = await self.fetch(part.terms.round)
            insist(ctx0(header.terms) == part.ctx0, "the result is of another round")
            insist(
                list(header.participants) == [part.names[c] for c in outcome.survivors], "the result is of another U"
            )
            outcome.mean, outcome.weight = decode(outcome.total, len(outcome.survivors), part.terms)
        return outcome

    async def fetch(self, number: int) -> tuple[Any, list[int]]:
        """A closed round's header, and its sum as words of the ring."""
        call = self._channel.unary_stream(
            SERVICE + "FetchResult",
            request_serializer=pb.ResultRequest.SerializeToString,
            response_deserializer=pb.ResultMessage.FromString,
        )(pb.ResultRequest(task=self.welcome.task, round=number))
        parts = [part async for part in call]
        header, chunks = parts[0].header, [part.chunk for part in parts[1:]]
        numbers = Numbers(header.terms.parameters)
        insist([chunk.index for chunk in chunks] == list(range(len(chunks))), "chunks out of order")
        payload = b"".join(chunk.data for chunk in chunks)
        insist(len(payload) == header.payload_bytes == numbers.result_bytes, "a result of another length")
        return header, packing.unpack(payload, numbers.entries, numbers.ring_bits)


async def _raise(call: Any) -> Any:
    """Raise the status under which a call ended."""
    trailing = await call.trailing_metadata()
    raise grpc.aio.AioRpcError(await call.code(), trailing, trailing, await call.details())
