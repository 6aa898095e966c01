"""How a training goes from model to model, whoever runs it: what both sides' loops need to know of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from aggregator.errors import Equivocation, Gone, NotFound, StaleModel
from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from clients.result import RoundResult

Fetch: TypeAlias = Callable[[Update], Awaitable[RoundResult]]


class Shared(Protocol):
    """What all sites have made so far; the same everywhere, to the bit."""

    @property
    def base(self) -> Update:
        """What the next round starts from."""

    @property
    def round(self) -> int:
        """The server's number of the last round that is in it; 0 before the first."""

    @property
    def closed(self) -> int:
        """How many rounds have made it."""


S = TypeVar("S", bound=Shared)


@dataclass(frozen=True)
class Course(Generic[S]):
    """How a training goes from model to model.

    Args:
        task: whose rounds.
        parameters: of the task, as they were agreed on; nothing of a round with others is believed, or contributed to.
        advance: the model with one more round in it; StaleModel if that started from another one.
        keep: writes it down.
        is_over: whether it needs no further round.
    """

    task: str
    parameters: Parameters
    _: KW_ONLY
    advance: Callable[[S, RoundResult], S]
    keep: Callable[[S], None]
    is_over: Callable[[S], bool]

    async def missed(self, fetch: Fetch, shared: S) -> AsyncIterator[tuple[S, RoundResult]]:
        """For each round that has closed since, in turn, the model with it in it, and its result; then it is kept.

        Args:
            fetch: the result of the last round that closed over a model.
            shared: the model as this side has it.

        Raises:
            StaleModel: the sum of one of the rounds is kept no longer.
            Equivocation: it is of other parameters than were agreed on, or of fewer sites than they allow.
        """
        while not self.is_over(shared):
            try:
                result = await fetch(shared.base)
            except Gone as error:
                raise StaleModel(
                    f"the model here is made by {shared.closed} rounds, and what comes next is missing: {error}. "
                    f"Take the model file of the operator, or of a site that has it"
                ) from None
            except NotFound:
                return
            if result.round <= shared.round:  # a round that changed nothing is over the same model as the next
                return
            self._check(result)
            shared = self.advance(shared, result)
            yield shared, result
            self.keep(shared)

    def _check(self, result: RoundResult) -> None:
        if result.terms.parameters.hash != self.parameters.hash:
            raise Equivocation(f"round {result.round} of {self.task} has other parameters than were agreed on")
        if len(result.participants) < self.parameters.minimum_cohort:
            raise Equivocation(f"round {result.round} of {self.task} is a sum over {len(result.participants)} sites")
