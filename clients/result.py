"""A round's result as participants and operators get it: the weighted mean, exact counts, and the error's bound."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aggregator.errors import StorageError
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import Floats, RingVector, decode
from aggregator.protocol.spread import Each
from aggregator.wire.messages import ResultMessage, ResultRequest
from clients.download import Download
from clients.retry import patiently

Fetch: TypeAlias = Callable[[ResultRequest], AsyncIterator[ResultMessage]]


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


async def collect(fetch: Fetch, download: Download, patience_s: float = 0.0, each: Each = map) -> RoundResult:
    """Receive and decode a result; a stream that breaks is followed by another one, which goes on where it was.

    Args:
        fetch: opens a stream.
        download: which result.
        patience_s: how long a line without progress is retried, seconds.
        each: decodes independent parts, perhaps in several threads.

    Raises:
        Disconnected: the line stayed broken for too long.
        Equivocation, MessageError: as `Download.take`.
        RoundAborted: the sum cannot have come from that many clients.
        StorageError: this machine has no memory for it: 4 or 8 bytes a word, and then 8 bytes an entry of the mean.
    """

    async def receive() -> None:
        await download.take(fetch(download.request))

    try:
        await patiently(patience_s, download.progress)(receive)
        return _decoded(download, each)
    except MemoryError:
        raise StorageError("this machine has no memory for so long a result") from None


def _decoded(download: Download, each: Each) -> RoundResult:
    header, terms, words = download.whole()
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
