"""The rounds that closed while somebody was away, put into the model one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from aggregator.errors import Gone, NotFound, StaleModel
from clients.result import RoundResult
from clients.training.global_model import GlobalModel

Fetch: TypeAlias = Callable[[int], Awaitable[RoundResult]]


async def missed(fetch: Fetch, shared: GlobalModel) -> AsyncIterator[tuple[GlobalModel, RoundResult]]:
    """For each round that has closed since, in turn, the model with it in it, and its result.

    Args:
        fetch: a round's result by its number; 0 is the last one.
        shared: the model as this side has it.

    Raises:
        StaleModel: one of the rounds is kept no longer; or they started from other models than this one.
    """
    try:
        newest = await fetch(0)
    except NotFound:
        return
    if newest.round <= shared.round:
        return
    if newest.terms.model_hash != shared.digest:
        for number in range(shared.round + 1, newest.round):
            if (result := await _closed(fetch, shared, number)) is not None:
                shared = shared.advanced(result)
                yield shared, result
    yield shared.advanced(newest), newest


async def _closed(fetch: Fetch, shared: GlobalModel, number: int) -> RoundResult | None:
    try:
        return await fetch(number)
    except NotFound:  # the round failed
        return None
    except Gone as error:
        raise StaleModel(
            f"the model here is that of round {shared.round}, and round {number} is needed: {error}. "
            f"Take the model file of the operator, or of a site that has it"
        ) from None
