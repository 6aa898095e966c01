"""A study's state on disk, and how it goes on."""

from functools import partial
from pathlib import Path

from aggregator.errors import ParameterError, StaleModel
from aggregator.files import read_file, replace_file
from aggregator.protocol.context import hash_model
from clients.boosting.settings import Settings
from clients.boosting.state import State
from clients.boosting.training import advanced
from clients.result import RoundResult
from clients.training.course import Course


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


def course(task: str, settings: Settings, path: Path) -> Course[State]:
    """A study's way from state to state; `path` is where it is kept."""
    keep = partial(kept, path)
    return Course[State](task, settings.parameters, advance=after, keep=keep, is_over=lambda state: state.done)
