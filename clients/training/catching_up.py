"""The rounds that closed while somebody was away, put into the model one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from aggregator.errors import Gone, NotFound, StaleModel
from clients.adapters.contract import Tensors
from clients.result import RoundResult
from clients.training.global_model import GlobalModel

Fetch: TypeAlias = Callable[[Tensors], Awaitable[RoundResult]]


async def missed(fetch: Fetch, shared: GlobalModel) -> AsyncIterator[tuple[GlobalModel, RoundResult]]:
    """For each round that has closed since, in turn, the model with it in it, and its result.

    Args:
        fetch: the result of the last round that closed over a model.
        shared: the model as this side has it.

    Raises:
        StaleModel: the sum of one of the rounds is kept no longer.
    """
    while True:
        try:
            result = await fetch(shared.tensors)
        except Gone as error:
            raise StaleModel(
                f"the model here is made by {shared.closed} rounds, and what comes next is missing: {error}. "
                f"Take the model file of the operator, or of a site that has it"
            ) from None
        except NotFound:
            return
        if result.round <= shared.round:  # a round that changed nothing is over the same model as the next
            return
        shared = shared.advanced(result)
        yield shared, result
