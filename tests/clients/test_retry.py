"""How long a broken line is retried: as long as it gets on, and a while beyond."""

import pytest

from aggregator.errors import Disconnected, MessageError, Overloaded
from clients.retry import JITTER, Progress, patiently


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


async def told(times, wait_s, patience_s, progress):
    """How a server that says so often when to come back is asked again: the waits, and the last error, if any."""
    ends, waits = [Overloaded("full", wait_s)] * times + [None], []
    attempts = patiently(patience_s, progress)

    async def asked():
        end = ends.pop(0)
        if end is not None:
            raise end

    async def note(seconds):
        waits.append(seconds)

    attempts.sleep = note
    await attempts(asked)
    return waits


async def test_who_is_told_when_to_come_back_comes_then_with_jitter():
    waits = await told(200, 4.0, 60.0, Progress())
    assert len(waits) == 200
    assert all(4.0 <= wait <= 4.0 * (1 + JITTER) for wait in waits)
    assert max(waits) - min(waits) > 0.5, "who was refused together does not come back together"


async def test_a_place_that_is_kept_is_progress_to_a_transfer_and_to_nothing_else():
    progress = Progress()
    progress.last -= 3_600
    assert len(await told(2, 0.0, 60.0, progress)) == 2
    with pytest.raises(Overloaded):
        await told(1, 0.0, 0.0, None)
