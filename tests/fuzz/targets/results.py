"""A result as a client downloads it: decoded, or refused before memory follows a promise."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

from aggregator.errors import Disconnected, MessageError, ParameterError, RoundAborted
from aggregator.protocol.parameters import Mode
from aggregator.rounds.phase import Completed
from aggregator.service.results import result_messages
from aggregator.wire import codec
from aggregator.wire.messages import ResultMessage, ResultRequest
from clients.download import Download
from clients.result import collect
from tests.consortium import TASK, Consortium
from tests.fuzz.draws import Draws
from tests.fuzz.target import Target
from tests.harness import parameters, play, quantised_words

REFUSALS: Final = (MessageError, ParameterError, RoundAborted, Disconnected)


def run(data: bytes) -> None:
    """Messages, each after its length in two bytes."""
    draws, parts = Draws(data), []
    while draws.left:
        parts.append(draws.take(min(int.from_bytes(draws.take(2), "big"), draws.left)))
    try:
        result = asyncio.run(collect(partial(_stream, parts), Download(TASK, 0)))
    except REFUSALS:
        return
    assert result.words.shape == (result.terms.parameters.entries,)
    assert len(result.participants) <= result.terms.parameters.clients_max


async def _stream(parts: list[bytes], request: ResultRequest) -> AsyncIterator[ResultMessage]:
    for part in parts:
        yield codec.decode(ResultMessage, part)


def seeds() -> Iterator[bytes]:
    """Results of three rounds: one plain, one rotated, one of ciphertexts."""
    for entries, changes in ((4, {}), (40, {"rotate": True, "value_bits": 8}), (4, {"mode": Mode.LATTICE})):
        parts = [codec.encode(message) for message in result_messages(_closed(entries, changes))]
        yield b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _closed(entries: int, changes: dict[str, Any]) -> Completed:
    consortium = Consortium.of(3)
    terms = consortium.terms(parameters(3, entries, **changes))
    end = play(consortium, terms, quantised_words(terms, range(3))).end
    assert isinstance(end, Completed)
    return end


TARGET: Final = Target("results", run, seeds, share=30)
