"""XGBoost's boosted trees over secure rounds: `train` at a site, `conduct` at the operator; neither needs XGBoost.

settings = Settings.from_json(Path("study.json").read_text())                     # the same file everywhere

state = await train(session, Records(values, labels), settings, Path("trees.json"))         # a site
await create(operator, "sepsis", settings)                                        # the operator, once
state = await conduct(operator, "sepsis", settings, Path("trees.json"))                     # the operator
Path("model.json").write_text(to_xgboost_json(state))                             # for any `xgboost.Booster`

Both keep the state in a file after every round and go on from it. Every side finds the same trees from the same sums.
"""

from functools import partial
from pathlib import Path

from aggregator.errors import Cancelled, ParameterError, RoundAborted, StaleModel
from aggregator.protocol.encoding import Update
from aggregator.wire.operator_messages import Deadlines, Opening, Retention
from clients.boosting import Records, Settings, State, contribution
from clients.boosting.resuming import after, caught_up, kept, loaded
from clients.operator import Operator
from clients.result import RoundResult
from clients.session import Session
from clients.training import conducting
from clients.training.conducting import Audience, Course
from clients.training.history import History

HISTORY_SUFFIX = ".history.jsonl"
KEPT = Retention(results=100)  # how many rounds a site may miss


async def train(session: Session, records: Records, settings: Settings, path: Path, *, again: str = "") -> State:
    """A site's part: take part in every round until all trees are there; the state at the end.

    Args:
        session: joined to the study's task.
        records: this site's own.
        settings: the study's.
        path: where the state is, or will be, kept.
        again: why this site may contribute to a round anew after one that failed; in its journal.

    Raises:
        StaleModel: this side's state is not of this training, or so old that the server has forgotten what followed.
        ParameterError: other settings than the file's, or as `contribution`; or `again` was needed.
    """
    state = await caught_up(partial(_over, session), loaded(settings, path), path)
    while not state.done:
        update = contribution(state, records)
        try:
            result = await session.contribute(update, weight=1, base=state.base, again=again)
        except (Cancelled, RoundAborted, StaleModel) as error:  # perhaps rounds closed without this site
            before, state = state, await caught_up(partial(_over, session), state, path)
            if state is before and not isinstance(error, RoundAborted):
                raise
            continue
        if result is None:
            raise ParameterError("this task keeps its results for its operator: no site can grow trees from them")
        state = after(state, result)
        kept(path, state)
    return state


async def create(
    operator: Operator,
    task: str,
    settings: Settings,
    *,
    opening: Opening | None = None,
    deadlines: Deadlines | None = None,
) -> None:
    """Create the study's task, unless it is there; sites may join from now on. Errors as `Operator.create_task`.

    Args:
        operator: who will own the task.
        task: its name; a training has one of its own.
        settings: the study's.
        opening: what each round waits for, by default for all of `sites_max`, or an hour.
        deadlines: how long each step of a round waits, as of any task.
    """
    opening = opening or Opening(enough=settings.sites_max)
    await operator.create_task(task, settings.parameters, opening=opening, retention=KEPT, deadlines=deadlines)


async def conduct(
    operator: Operator, task: str, settings: Settings, path: Path, audience: Audience | None = None
) -> State:
    """The operator's part: run rounds until all trees are there, and go on with it after a restart; the state.

    Args:
        operator: who owns the task, or may start its rounds.
        task: as `create` was told.
        settings: the study's.
        path: where the state is, or will be, kept; what became of each round is in a file beside it.
        audience: is told how it goes.

    Raises:
        ParameterError: other settings than the file's.
        SangamError: as `clients.training.conducting.conduct`.
    """
    course = Course[State](task, advance=after, keep=partial(kept, path), is_over=lambda state: state.done)
    history = History(path.with_suffix(HISTORY_SUFFIX))
    return await conducting.conduct(operator, course, loaded(settings, path), history, audience)


async def _over(session: Session, base: Update) -> RoundResult:
    return await session.fetch_result(base=base)
