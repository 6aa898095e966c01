"""How long a broken line is retried: as long as it gets on, and a while beyond."""

import pytest

from aggregator.errors import Disconnected, MessageError
from clients.retry import Progress, patiently


async def attempts_of(progress, chunks, patience_s):
    """How often a transfer is tried that gets to these chunks, one after the other, before its line breaks again."""
    made = []

    async def attempt():
        reached = chunks[len(made)]
        made.append(reached)
        if progress is not None:
            progress.reached(reached)
        raise Disconnected("again") if len(made) < len(chunks) else MessageError("the end")

    with pytest.raises((Disconnected, MessageError)):
        await patiently(patience_s, progress)(attempt)
    return len(made)


async def test_a_line_that_gets_on_is_not_given_up():
    """Five attempts, at least 0.7 s between the first and the last but one."""
    assert await attempts_of(Progress(), [1, 2, 3, 4, 5], patience_s=0.3) == 5


async def test_what_is_sent_again_is_no_progress():
    assert await attempts_of(Progress(), [1, 1, 1, 1, 1], patience_s=0.3) < 5
    assert await attempts_of(Progress(), [3, 2, 1, 2, 3], patience_s=0.3) < 5
    assert await attempts_of(None, [1, 2, 3, 4, 5], patience_s=0.3) < 5
