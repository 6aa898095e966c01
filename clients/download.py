"""A result on its way in: over as many streams as it takes, each word once."""

from collections.abc import AsyncIterator

import numpy as np

from aggregator.errors import Equivocation, MessageError
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import RingVector
from aggregator.wire.messages import Chunk, ResultHeader, ResultMessage, ResultRequest
from clients.retry import Progress
from native.pack import padding_is_zero, unpack
from native.ring import word_dtype


class Download:
    """What has arrived of one result. Memory: its words, as they arrive, and one chunk.

    Args:
        task, round_number: which result; 0 is the last one, and stays the one that it was when the first stream began.
        model_hash: with round 0, of the model that the round must have started from; empty for any.
        expected_ctx0: the context of the round that this client took part in; None for who took none.
    """

    def __init__(
        self, task: str, round_number: int, expected_ctx0: bytes | None = None, model_hash: bytes = b""
    ) -> None:
        self.progress = Progress()
        self._task = task
        self._round = round_number
        self._model_hash = model_hash
        self._expected_ctx0 = expected_ctx0
        self._header: ResultHeader | None = None
        self._terms: RoundTerms
        self._words: RingVector
        self._chunks = 0

    @property
    def request(self) -> ResultRequest:
        """What to ask for: all that has not arrived."""
        return ResultRequest(self._task, self._round, self._chunks, self._model_hash)

    async def take(self, parts: AsyncIterator[ResultMessage]) -> None:
        """Take one stream to its end: the header, then chunks from where the last stream broke.

        Raises:
            Equivocation: the result is of another round than the one this client took part in, or its header is
                another one than before.
            MessageError: chunks are missing, surplus or of a wrong size.
            MemoryError: there is no room for so many words.
        """
        self._take_header(await anext(parts, None))
        async for part in parts:
            self._take_chunk(part)
        chunks = self._terms.parameters.result_plan.chunks
        if self._chunks != chunks:
            raise MessageError(f"the result ended after {self._chunks} of {chunks} chunks")

    def whole(self) -> tuple[ResultHeader, RoundTerms, RingVector]:
        """Header, terms and words, shape (L,). MessageError before `take` has come to an end."""
        if self._header is None:
            raise MessageError("a result starts with its header")
        return self._header, self._terms, self._words

    def _take_header(self, part: ResultMessage | None) -> None:
        if part is None or not isinstance(part.body, ResultHeader):
            raise MessageError("a result starts with its header")
        if self._header is None:
            self._begin(part.body)
        elif part.body != self._header:
            raise Equivocation(f"the result of round {self._round} goes on under another header")

    def _begin(self, header: ResultHeader) -> None:
        terms = RoundTerms.from_message(header.terms)
        parameters, plan = terms.parameters, terms.parameters.result_plan
        if len(header.participants) > parameters.clients_max:
            raise MessageError(f"the result names {len(header.participants)} participants, the sum holds fewer")
        if self._expected_ctx0 is not None and terms.ctx0 != self._expected_ctx0:
            raise Equivocation(f"the result of round {terms.round} is not of the round that this client took part in")
        if self._model_hash not in (b"", terms.model_hash):
            raise Equivocation(f"the result of round {terms.round} is over another model than was asked for")
        if header.payload_bytes != plan.payload_bytes:
            raise MessageError(f"the result announces {header.payload_bytes} bytes, expected {plan.payload_bytes}")
        # Memory follows what arrives, not what a header promises: the system gives a page when it is first written.
        self._words = np.empty(parameters.entries, word_dtype(parameters.ring_bits))
        self._header, self._terms, self._round = header, terms, terms.round

    def _take_chunk(self, part: ResultMessage) -> None:
        if not isinstance(part.body, Chunk):
            raise MessageError("a result has one header, then chunks")
        parameters, plan = self._terms.parameters, self._terms.parameters.result_plan
        plan.check(self._chunks, part.body)
        target = self._words[plan.words(self._chunks)]
        data = np.frombuffer(part.body.data, np.uint8)
        if not padding_is_zero(data, target.size, parameters.ring_bits):
            raise MessageError("the result has bits beyond its last word")
        unpack(data, parameters.ring_bits, target)
        self._chunks += 1
        self.progress.reached(self._chunks)
