"""A closed round's sum as it streams out, to participants and operators alike."""

from collections.abc import Iterator

from aggregator.rounds.phase import Completed
from aggregator.wire.messages import Chunk, ResultHeader, ResultMessage
from native.pack import pack


def result_messages(result: Completed) -> Iterator[ResultMessage]:
    """Header and chunks; each chunk is packed when its turn comes."""
    terms, total = result.setting.terms, result.total
    plan = terms.parameters.result_plan
    names = tuple(result.setting.roster.name(client) for client in result.survivors)
    yield ResultMessage(ResultHeader(terms.to_message(), names, plan.payload_bytes))
    for index in range(plan.chunks):
        words = pack(total[plan.words(index)], terms.parameters.ring_bits)
        yield ResultMessage(Chunk(index, words.data.toreadonly()))
