"""What does a line that breaks cost an upload of gigabytes?

    python -m benchmarks.resumed_upload                 3 GB, cut five times
    python -m benchmarks.resumed_upload --bytes 1e8     for a look

A real server (`sangam serve`) in a process of its own, a client here, mutual TLS over a TCP proxy that breaks the line
at spread places. Two clients go through the steps of a round; then one uploads, by the calls that a session makes, a
payload that is made chunk by chunk, since a real one of that length and its update would take 10 GB here. The round is
then left. One line of JSON:

    payload_bytes, upward_bytes     of the upload, and what went up, TLS and HTTP/2 included
    ratio                           of the two; at most 1.1 is the goal
    cuts, seconds
    staging_peak_bytes              the server's memory above its idle state when all had arrived but one chunk
    peak_bytes                      the same at the end, the vector of the sum included, which is `sum_bytes`
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import clients
from aggregator.protocol.parameters import Parameters
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    UPLOAD_ID_BYTES,
    Chunk,
    ClientMessage,
    Join,
    ShareList,
    UploadHeader,
    UploadMessage,
    Welcome,
)
from clients.retry import Progress, patiently
from clients.transport import ControlStream, GrpcTransport
from tests.cable import Cable
from tests.consortium import TASK, Consortium, drbg
from tests.harness import Player
from tests.loopback import PATIENT, configured, operator, parameters, raw

CLIENTS = 2
VALUE_BITS = 54
WORD_BYTES = 8
PATIENCE_S = 60.0
LISTENING = re.compile(rb":(\d+)\s*$")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resumed_upload")
    parser.add_argument("--bytes", type=float, default=3e9, help="of the payload")
    parser.add_argument("--cuts", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(asyncio.run(measure(Path(directory), int(given.bytes), given.cuts))))


async def measure(directory: Path, payload_bytes: int, cuts: int) -> dict[str, float]:
    consortium, spec = Consortium.of(CLIENTS), of_bytes(payload_bytes)
    plan = spec.upload_plan
    async with AsyncExitStack() as stack:
        server = stack.enter_context(serving(directory, consortium))
        cable = await stack.enter_async_context(Cable(server.port))
        leader = await stack.enter_async_context(clients.operate(f"localhost:{server.port}", operator()))
        await leader.create_task(TASK, spec, deadlines=PATIENT)
        streams = [
            await stack.enter_async_context(joined(server.port, consortium, client)) for client in range(CLIENTS)
        ]
        number = await leader.start_round(TASK)
        players = [Player(consortium.site(c), np.empty(0), drbg("client", c)) for c in range(CLIENTS)]
        await asyncio.gather(*map(until_masking, streams, players))
        idle_bytes = server.memory("VmRSS")
        cable.upward_cuts.extend(plan.payload_bytes * (2 * cut + 1) // (2 * cuts) for cut in range(cuts))
        header = UploadHeader(TASK, number, plan.payload_bytes, (), bytes(UPLOAD_ID_BYTES))
        channel = await stack.enter_async_context(raw(f"localhost:{cable.port}", consortium.identities[0]))
        began, staged = perf_counter(), [0]
        await upload(GrpcTransport(lambda: channel), header, plan, lambda: staged.append(server.memory("VmHWM")))
        return {
            "payload_bytes": plan.payload_bytes,
            "upward_bytes": cable.upward_bytes,
            "ratio": round(cable.upward_bytes / plan.payload_bytes, 4),
            "cuts": cable.cuts,
            "seconds": round(perf_counter() - began, 1),
            "staging_peak_bytes": staged[-1] - idle_bytes,
            "peak_bytes": server.memory("VmHWM") - idle_bytes,
            "sum_bytes": spec.entries * WORD_BYTES,
        }


def of_bytes(payload_bytes: int) -> Parameters:
    """Wide words, so that the vector of the sum is hardly longer than the payload."""
    bits = parameters(value_bits=VALUE_BITS, clients_max=CLIENTS).ring_bits
    return parameters((payload_bytes * 8 // bits,), value_bits=VALUE_BITS, clients_max=CLIENTS)


class Server:
    """`sangam serve` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.port = port
        self._status = Path(f"/proc/{process.pid}/status")

    def memory(self, name: str) -> int:
        """VmRSS, memory now, or VmHWM, at most, in bytes."""
        found = re.search(rf"{name}:\s+(\d+) kB", self._status.read_text())
        return int(found[1]) * 1024 if found else 0


@contextmanager
def serving(directory: Path, consortium: Consortium) -> Iterator[Server]:
    config = configured(directory, consortium)
    command = [sys.executable, "-m", "aggregator", "serve", "--listen", "localhost:0"]
    command += ["--identity", str(config.identity), "--roster", str(config.roster)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            words = process.stderr.readline() if process.stderr else b""
            listening = LISTENING.search(words)
            if listening is None:
                sys.exit(f"the server did not start: {words.decode()}")
            yield Server(process, int(listening[1]))
        finally:
            process.terminate()


@asynccontextmanager
async def joined(port: int, consortium: Consortium, client: int) -> AsyncIterator[ControlStream]:
    async with (
        raw(f"localhost:{port}", consortium.identities[client]) as channel,
        GrpcTransport(lambda: channel).control() as stream,
    ):
        await stream.send(ClientMessage(0, Join(OLDEST_VERSION, PROTOCOL_VERSION, TASK)))
        yield stream


async def until_masking(stream: ControlStream, player: Player) -> None:
    """The steps of a round up to that of the uploads."""
    while True:
        message = await stream.receive()
        if isinstance(message.body, ShareList):
            return
        if not isinstance(message.body, Welcome):
            (answer,) = player.react(message.body)
            await stream.send(ClientMessage(message.round, answer))


async def upload(transport: GrpcTransport, header: UploadHeader, plan: ChunkPlan, before_last: Any) -> None:
    """As a session does it; `before_last` is called when only one chunk is missing."""
    progress = Progress()

    def chunks() -> Iterator[UploadMessage]:
        for chunk in made(plan):
            progress.reached(chunk.index)
            if chunk.index == plan.chunks - 1:
                before_last()
            yield UploadMessage(chunk)

    async def send() -> None:
        await transport.upload(chain([UploadMessage(header)], chunks()))

    await patiently(PATIENCE_S, progress)(send)


def made(plan: ChunkPlan) -> Iterator[Chunk]:
    """Random bytes, the same each time; every chunk is another one by its first bytes."""
    body = np.random.default_rng(0).bytes(plan.chunk_bytes)
    for index in range(plan.chunks):
        size = plan.size(index)
        data = index.to_bytes(8, "little") + body[: max(0, size - 8)]
        yield Chunk(index, data[: size - 1] + b"\0")  # in the last chunk, bits beyond the last word must be zero


if __name__ == "__main__":
    main()
