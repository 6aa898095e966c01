"""One client's spans of one round, in the trace that all its participants share."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from opentelemetry.trace import INVALID_SPAN, Span

from aggregator import tracing
from aggregator.protocol.context import RoundTerms


class RoundTrace:
    """The span of a round from this client's side; of no round, it does nothing."""

    def __init__(self, span: Span = INVALID_SPAN) -> None:
        self._span = span

    @classmethod
    def of(cls, terms: RoundTerms, site: str) -> Self:
        """Begin; linked to what the caller is tracing.

        Args:
            terms: of the round, checked.
            site: the client's name.
        """
        root = tracing.of_round(terms.authority_hash, terms.task, terms.round)
        facts = {"task": terms.task, "round": terms.round, "site": site}
        return cls(tracing.begun("contribute", tracing.under(root), facts, linked=True))

    @contextmanager
    def part(self, name: str, facts: Mapping[str, object] = tracing.NO_FACTS) -> Iterator[None]:
        """A span around one part of the client's work."""
        with tracing.span(name, tracing.under(self._span), facts):
            yield

    def end(self, error: BaseException | None = None) -> None:
        """The client is done with the round; again changes nothing."""
        if error is not None:
            tracing.failed(self._span, error)
        self._span.end()
        self._span = INVALID_SPAN
