"""How long a round was in each step."""

from collections.abc import Sequence

from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind


def step_seconds(events: Sequence[RoundEvent]) -> dict[str, float]:
    """How long a round was in each step, from its events."""
    starts = [event for event in events if event.kind == EventKind.STEP]
    ends = [event.seconds for event in starts[1:]] + [events[-1].seconds]
    return {event.step: end - event.seconds for event, end in zip(starts, ends, strict=True)}
