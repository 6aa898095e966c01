"""A round's result as participants and operators get it: the weighted mean, exact counts, and the error's bound."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from aggregator.errors import Equivocation, MessageError
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import Floats, RingVector, decode
from aggregator.protocol.spread import Each
from aggregator.wire.messages import Chunk, ResultHeader, ResultMessage
from native.pack import padding_is_zero, unpack
from native.ring import word_dtype


@dataclass(frozen=True, slots=True, eq=False)
class RoundResult:
    """What one round gave.

    Attributes:
        task, round: which round it was.
        mean: the weighted mean per tensor, float64, in the update's unit.
        total_weight: the sum of the participants' weights, exact.
        participants: the names of those whose updates are in the mean.
        error_bounds: per tensor, the mean's largest error per entry by quantisation, in the update's unit, if no
            participant had to clip that entry (with a rotation: any entry of its block).
        terms: what the round was about.
        words: the sum itself, words of the ring, shape (L,).
        clipped_entries: how many entries of this site's own update were clipped; None for who contributed none.
    """

    task: str
    round: int
    mean: Mapping[str, Floats] = field(repr=False)
    total_weight: int
    participants: tuple[str, ...]
    error_bounds: Mapping[str, float] = field(repr=False)
    terms: RoundTerms = field(repr=False)
    words: RingVector = field(repr=False)
    clipped_entries: int | None = None

    @property
    def error_bound(self) -> float:
        """The largest of the error bounds."""
        return max(self.error_bounds.values())


async def collect(
    parts: AsyncIterator[ResultMessage], expected_ctx0: bytes | None = None, each: Each = map
) -> RoundResult:
    """Assemble and decode a result as it streams in.

    Args:
        parts: header, then chunks in order.
        expected_ctx0: the context of the round that this client took part in; None for who took none.
        each: decodes independent parts, perhaps in several threads.

    Raises:
        Equivocation: the result is of another round than the one this client took part in.
        MessageError: chunks are missing, surplus or of a wrong size.
        RoundAborted: the sum cannot have come from that many clients.
    """
    header = await _header(parts)
    terms = RoundTerms.from_message(header.terms)
    if len(header.participants) > terms.parameters.clients_max:
        raise MessageError(f"the result names {len(header.participants)} participants, the sum holds fewer")
    if expected_ctx0 is not None and terms.ctx0 != expected_ctx0:
        raise Equivocation(f"the result of round {terms.round} is not of the round that this client took part in")
    words = await _words(parts, header, terms)
    decoded = decode(words, len(header.participants), terms.parameters, terms.ctx0, each=each)
    return RoundResult(
        task=terms.task,
        round=terms.round,
        mean=decoded.mean,
        total_weight=decoded.total_weight,
        participants=header.participants,
        error_bounds=decoded.error_bounds,
        terms=terms,
        words=words,
    )


async def _header(parts: AsyncIterator[ResultMessage]) -> ResultHeader:
    async for part in parts:
        if isinstance(part.body, ResultHeader):
            return part.body
        break
    raise MessageError("a result starts with its header")


async def _words(parts: AsyncIterator[ResultMessage], header: ResultHeader, terms: RoundTerms) -> RingVector:
    parameters, plan = terms.parameters, terms.parameters.result_plan
    if header.payload_bytes != plan.payload_bytes:
        raise MessageError(f"the result announces {header.payload_bytes} bytes, expected {plan.payload_bytes}")
    received: list[RingVector] = []  # memory follows what arrives, not what a header promises
    async for part in parts:
        if not isinstance(part.body, Chunk):
            raise MessageError("a result has one header, then chunks")
        plan.check(len(received), part.body)
        words_left = parameters.entries - len(received) * plan.chunk_words
        target: RingVector = np.empty(min(plan.chunk_words, words_left), word_dtype(parameters.ring_bits))
        data = np.frombuffer(part.body.data, np.uint8)
        if not padding_is_zero(data, target.size, parameters.ring_bits):
            raise MessageError("the result has bits beyond its last word")
        unpack(data, parameters.ring_bits, target)
        received.append(target)
    if len(received) != plan.chunks:
        raise MessageError(f"the result ended after {len(received)} of {plan.chunks} chunks")
    words: RingVector = np.empty(parameters.entries, word_dtype(parameters.ring_bits))
    np.concatenate(received, out=words)
    return words
