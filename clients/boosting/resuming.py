"""A study's state on disk, and the rounds that closed while somebody was away."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from aggregator.errors import NotFound, ParameterError, StaleModel
from aggregator.files import read_file, replace_file
from aggregator.protocol.context import hash_model
from clients.boosting.settings import Settings
from clients.boosting.state import State
from clients.boosting.training import advanced
from clients.result import RoundResult

SPAN = 400  # rounds that are looked through for those that closed; a server keeps the sums of 100 at most
Fetch: TypeAlias = Callable[[int], Awaitable[RoundResult]]


def loaded(settings: Settings, path: Path) -> State:
    """The file's state, or where there is none the first. ParameterError if the file is of another study."""
    state = State.from_json(read_file(path).decode()) if path.exists() else State.start(settings)
    if state.settings != settings:
        raise ParameterError(f"{path.name} is of other settings than these")
    return state


def after(state: State, result: RoundResult, path: Path) -> State:
    """The state after a round, which is in the file before it is here. StaleModel if the round began elsewhere."""
    if not _follows(state, result):
        raise StaleModel(f"round {result.round} did not start from this side's {len(state.finished_trees)} trees")
    following = advanced(state, result.mean, len(result.participants), result.round)
    replace_file(path, following.to_json().encode())
    return following


async def caught_up(fetch: Fetch, state: State, path: Path) -> State:
    """The state with the rounds that closed meanwhile; the very same object where none did.

    Args:
        fetch: a round's result by its number; 0 is the last one.
        state: as this side has it.
        path: where it is kept.

    Raises:
        StaleModel: one of the rounds is kept no longer, or they are of another training.
    """
    try:
        newest = await fetch(0)
    except NotFound:
        return state
    for number in range(max(state.round + 1, newest.round - SPAN), newest.round):
        if _follows(state, newest):
            break
        with suppress(NotFound):  # the round failed, or is kept no longer, which the newest one shows
            result = await fetch(number)
            state = after(state, result, path) if _follows(state, result) else state
    return state if state.round >= newest.round else after(state, newest, path)


def _follows(state: State, result: RoundResult) -> bool:
    """Whether the round began where this side stands."""
    return result.terms.model_hash == hash_model(state.base)
