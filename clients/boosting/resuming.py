"""A study's state on disk, and the rounds that closed while somebody was away."""

from functools import partial
from pathlib import Path

from aggregator.errors import ParameterError, StaleModel
from aggregator.files import read_file, replace_file
from aggregator.protocol.context import hash_model
from clients.boosting.settings import Settings
from clients.boosting.state import State
from clients.boosting.training import advanced
from clients.result import RoundResult
from clients.training.catching_up import Fetch, missed


def loaded(settings: Settings, path: Path) -> State:
    """The file's state, or where there is none the first. ParameterError if the file is of another study."""
    state = State.from_json(read_file(path).decode()) if path.exists() else State.start(settings)
    if state.settings != settings:
        raise ParameterError(f"{path.name} is of other settings than these")
    return state


def kept(path: Path, state: State) -> None:
    """Write a state; StorageError when the disk refuses."""
    replace_file(path, state.to_json().encode())


def after(state: State, result: RoundResult) -> State:
    """The state after a round. StaleModel if the round began elsewhere."""
    if result.terms.model_hash != hash_model(state.base):
        raise StaleModel(f"round {result.round} did not start from this side's {len(state.finished_trees)} trees")
    return advanced(state, result.mean, len(result.participants), result.round)


async def caught_up(fetch: Fetch, state: State, path: Path) -> State:
    """The state with the rounds that closed meanwhile; the very same object where none did.

    Args:
        fetch: the result of the last round that closed over a state.
        state: as this side has it.
        path: where it is kept.

    Raises:
        StaleModel: one of the rounds is kept no longer.
    """
    newest = state
    keep = partial(kept, path)
    async for newest, _ in missed(fetch, state, after):
        keep(newest)
    return newest
