"""Clients that mean no good, or whose line is bad. Each does its worst until it is told to leave."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aggregator.crypto.identity import Identity
from aggregator.errors import SangamError
from aggregator.wire.codec import decode, encode
from aggregator.wire.messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    UPLOAD_ID_BYTES,
    Advert,
    ClientMessage,
    Join,
    ServerMessage,
    UploadMessage,
    UploadReceipt,
)
from benchmarks.crowd.settings import TASK, Conduct, Settings
from clients.transport import GrpcChannel

UPLOAD = "/sangam.v1.Aggregation/Upload"
PARTICIPATE = "/sangam.v1.Aggregation/Participate"
METHODS = (PARTICIPATE, UPLOAD, "/sangam.v1.Aggregation/FetchResult", "/sangam.v1.Operator/CreateTask")
OVERSIZED_BYTES = 5 << 20
PAUSES = 100  # of a slow client before each chunk


class Misbehaving:
    """One client that takes no part, or only pretends to.

    Args:
        conduct: how.
        address: host:port of the server.
        identity: a good one.
        settings: the run.
        refused: counts what it is told, by error class.
    """

    def __init__(
        self, conduct: Conduct, address: str, identity: Identity, settings: Settings, refused: Counter[str]
    ) -> None:
        self._act = {
            Conduct.HALF_OPEN: self._half_open,
            Conduct.SILENT: self._silent,
            Conduct.NEVER_ANSWERS: self._never_answers,
            Conduct.GARBAGE: self._garbage,
            Conduct.OVERSIZED: self._oversized,
            Conduct.FORGES: self._forges,
            Conduct.STORM: self._storm,
        }[conduct]
        self._address = address
        self._identity = identity
        self._pause_s = settings.pause_s
        self._refused = refused

    async def run(self) -> None:
        """Until cancelled."""
        channel = GrpcChannel(self._address, self._identity)
        try:
            while True:
                try:
                    with channel.errors():
                        await self._act(channel)
                except SangamError as error:
                    self._refused[type(error).__name__] += 1
                await asyncio.sleep(self._pause_s)
        finally:
            await channel.close()

    async def _half_open(self, _: GrpcChannel) -> None:
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            with suppress(ConnectionError):
                await reader.read()  # until the server hangs up
        finally:
            writer.close()

    async def _silent(self, channel: GrpcChannel) -> None:
        await channel.connect()
        await asyncio.Event().wait()

    async def _never_answers(self, channel: GrpcChannel) -> None:
        async with channel.stream(PARTICIPATE, ServerMessage) as stream:
            await stream.send(_JOIN)
            while True:
                await stream.receive()

    async def _garbage(self, channel: GrpcChannel) -> None:
        for method in METHODS:
            await ended(channel, method, os.urandom(1_000), self._refused)

    async def _oversized(self, channel: GrpcChannel) -> None:
        for method in METHODS[:2]:
            await ended(channel, method, bytes(OVERSIZED_BYTES), self._refused)
            await asyncio.sleep(self._pause_s)

    async def _forges(self, channel: GrpcChannel) -> None:
        """The keys of nobody, under the signature of nobody, for the round that is announced."""
        advert = Advert(*(os.urandom(32) for _ in range(4)), os.urandom(64))
        async with channel.stream(PARTICIPATE, ServerMessage) as stream:
            await stream.send(_JOIN)
            while True:
                message = await stream.receive()
                await stream.send(ClientMessage(message.round, advert))

    async def _storm(self, _: GrpcChannel) -> None:
        another = GrpcChannel(self._address, self._identity)
        try:
            await another.connect()
            await ended(another, UPLOAD, b"", self._refused)
        finally:
            await another.close()


_JOIN = ClientMessage(0, Join(OLDEST_VERSION, PROTOCOL_VERSION, TASK))


async def ended(channel: GrpcChannel, method: str, data: bytes, refused: Counter[str]) -> None:
    """Send one message, and wait until the server ends the call; its error is counted."""
    call = channel.both_ways(method)
    try:
        with channel.errors(), suppress(asyncio.InvalidStateError):  # the call may have ended before
            await call.write(data)
            await call.done_writing()
        with channel.errors():
            async for _ in call:
                pass
    except SangamError as error:
        refused[type(error).__name__] += 1
    finally:
        call.cancel()


async def upload_slowly(channel: GrpcChannel, parts: Iterable[UploadMessage], settings: Settings) -> UploadReceipt:
    """A whole upload, with a long pause before each chunk."""
    call = await _begun(channel, parts := list(parts))
    try:
        with channel.errors(), suppress(asyncio.InvalidStateError):
            for part in parts[1:]:
                await asyncio.sleep(PAUSES * settings.pause_s)
                await call.write(encode(part))
            await call.done_writing()
        with channel.errors():
            return decode(UploadReceipt, b"".join([data async for data in call]))
    finally:
        call.cancel()


async def upload_nothing(channel: GrpcChannel, parts: Iterable[UploadMessage]) -> None:
    """A header, and then nothing."""
    call = await _begun(channel, list(parts))
    try:
        with channel.errors():
            async for _ in call:
                pass
    finally:
        call.cancel()


async def upload_headers(
    channel: GrpcChannel, parts: Iterable[UploadMessage], settings: Settings, refused: Counter[str]
) -> None:
    """One header after the other, each of a new upload."""
    header: Any = next(iter(parts)).body
    while True:
        again = UploadMessage(replace(header, upload_id=os.urandom(UPLOAD_ID_BYTES)))
        await ended(channel, UPLOAD, encode(again), refused)
        await asyncio.sleep(settings.pause_s)


async def _begun(channel: GrpcChannel, parts: list[UploadMessage]) -> Any:
    call = channel.both_ways(UPLOAD)
    with channel.errors():
        await call.write(encode(parts[0]))
        await call.initial_metadata()
    return call
