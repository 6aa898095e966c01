"""XGBoost's boosted trees over secure rounds: `train` at a site, `conduct` at the operator; neither needs XGBoost.

settings = Settings.from_json(Path("study.json").read_text())                     # the same file everywhere

state = await train(session, Records(values, labels), settings, Path("trees.json"))         # a site
await create(operator, "sepsis", settings)                                        # the operator, once
state = await conduct(operator, "sepsis", settings, Path("trees.json"))                     # the operator
Path("model.json").write_text(to_xgboost_json(state))                             # for any `xgboost.Booster`

Both keep the state in a file after every round and go on from it. Every side finds the same trees from the same sums.
"""

from pathlib import Path

from aggregator.files import make_directory
from aggregator.wire.operator_messages import Deadlines, Opening, Retention
from clients.boosting import Records, Settings, State, contribution
from clients.boosting.resuming import course, loaded
from clients.operator import Operator
from clients.session import Session
from clients.training import conducting
from clients.training.conducting import FAILURES_MAX, OperatorWatch
from clients.training.history import History
from clients.training.taking_part import Input, Nobody, Part, SiteWatch

HISTORY_SUFFIX = ".history.jsonl"
KEPT = Retention(results=100)  # how many rounds a site may miss


async def train(
    session: Session,
    records: Records,
    settings: Settings,
    path: Path,
    *,
    again: str = "",
    watch: SiteWatch | None = None,
) -> State:
    """A site's part: take part in every round until all trees are there, or the operator ends the task; the state then.

    Args:
        session: joined to the study's task.
        records: this site's own.
        settings: the study's.
        path: where the state is, or will be, kept.
        again: why this site may contribute to a round anew after one that failed; in its journal.
        watch: is told how it goes.

    Raises:
        StaleModel: this side's state is not of this training, or so old that the server has forgotten what followed.
        ParameterError: other settings than the file's, or as `contribution`; or `again` was needed.
        SangamError: as `Session.contribute`.
    """
    state = loaded(settings, path)

    def given(state: State) -> Input:
        return Input(contribution(state, records), weight=1)

    return await Part(session, course(session.task, settings, path), given, again, watch or Nobody()).take(state)


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
    operator: Operator,
    task: str,
    settings: Settings,
    path: Path,
    *,
    failures_max: int = FAILURES_MAX,
    keep_open: bool = False,
    watch: OperatorWatch | None = None,
) -> State:
    """The operator's part: run rounds until all trees are there, and go on with it after a restart; the state.

    Args:
        operator: who owns the task.
        task: as `create` was told.
        settings: the study's.
        path: where the state is, or will be, kept; what became of each round is in a file beside it.
        failures_max: so many rounds in a row may fail.
        keep_open: whether the task stays when all trees are there; else it is cancelled then, which tells sites that
            were not in the last round.
        watch: is told how it goes.

    Raises:
        ParameterError: other settings than the file's.
        SangamError: as `clients.training.conducting.conduct`.
    """
    make_directory(path.parent)
    state, history = loaded(settings, path), History(path.with_suffix(HISTORY_SUFFIX))
    if not state.done:
        way = course(task, settings, path)
        state = await conducting.conduct(operator, way, state, history, failures_max=failures_max, watch=watch)
        if not keep_open:
            await operator.cancel_task(task)
    return state
