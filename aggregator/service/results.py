"""A closed round's sum as it streams out, to participants and operators alike."""

from collections.abc import Callable, Iterator

from aggregator.errors import MessageError
from aggregator.rounds.phase import Completed
from aggregator.wire.messages import Chunk, ResultHeader, ResultMessage
from native.pack import pack


def result_messages(result: Completed, first_chunk: int = 0) -> Iterator[ResultMessage]:
    """The header, and the chunks from `first_chunk` on; each is packed when its turn comes.

    Raises:
        MessageError: the result has not so many chunks.
    """
    return kept_result_messages(lambda: result, first_chunk)


def kept_result_messages(find: Callable[[], Completed], first_chunk: int = 0) -> Iterator[ResultMessage]:
    """The same of a result that is looked up for each message: who reads slowly keeps no sum in memory.

    Raises:
        MessageError: the result has not so many chunks.
        SangamError: as `find`, also in the midst.
    """
    result = find()
    terms, plan = result.setting.terms, result.setting.terms.parameters.result_plan
    if first_chunk > plan.chunks:
        raise MessageError(f"chunk {first_chunk} was asked for, the result has {plan.chunks} chunks")
    names = tuple(result.setting.roster.name(client) for client in result.survivors)
    del result
    yield ResultMessage(ResultHeader(terms.to_message(), names, plan.payload_bytes))
    for index in range(first_chunk, plan.chunks):
        words = pack(find().total[plan.words(index)], terms.parameters.ring_bits)
        yield ResultMessage(Chunk(index, words.data.toreadonly()))
