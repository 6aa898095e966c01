"""The rounds that closed while somebody was away, put into the model one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias, TypeVar

from aggregator.errors import Gone, NotFound, StaleModel
from aggregator.protocol.encoding import Update
from clients.result import RoundResult


class Shared(Protocol):
    """What all sites have made so far; the same everywhere, to the bit."""

    @property
    def base(self) -> Update:
        """What the next round starts from."""

    @property
    def round(self) -> int:
        """The server's number of the last round that is in it; 0 before the first."""


S = TypeVar("S", bound=Shared)
Fetch: TypeAlias = Callable[[Update], Awaitable[RoundResult]]
Advance: TypeAlias = Callable[[S, RoundResult], S]


async def missed(fetch: Fetch, shared: S, advance: Advance[S]) -> AsyncIterator[tuple[S, RoundResult]]:
    """For each round that has closed since, in turn, the model with it in it, and its result.

    Args:
        fetch: the result of the last round that closed over a model.
        shared: the model as this side has it.
        advance: the model with one more round in it.

    Raises:
        StaleModel: the sum of one of the rounds is kept no longer.
    """
    while True:
        try:
            result = await fetch(shared.base)
        except Gone as error:
            raise StaleModel(
                f"the model here is that of round {shared.round}, and what comes next is missing: {error}. "
                f"Take the model file of the operator, or of a site that has it"
            ) from None
        except NotFound:
            return
        if result.round <= shared.round:  # a round that changed nothing is over the same model as the next
            return
        shared = advance(shared, result)
        yield shared, result
