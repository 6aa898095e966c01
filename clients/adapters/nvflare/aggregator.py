"""At NVFlare's server: a Sangam round for each of NVFlare's, started when the model leaves, and its weighted mean.

Sites reply when the round has ended, so it must begin before any reply: it begins with the first task of a round. A
thread watches it, since no reply comes of a round that fails while it waits for sites.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from aggregator.errors import OutOfTurn, ParameterError, SangamError
from clients.adapters.contract import metrics
from clients.adapters.nvflare.model import RECEIPT, Arrays, floats, read
from clients.adapters.nvflare.rounds import Rounds
from clients.result import RoundResult


class SecureModelAggregator(ModelAggregator):  # type: ignore[misc]
    """The aggregator of a recipe.

    Args:
        rounds: the rounds that it runs.
    """

    def __init__(self, rounds: Rounds) -> None:
        super().__init__()
        self._rounds = rounds
        self._watching = ThreadPoolExecutor(1, "sangam-round")
        self._lock = Lock()  # tasks are handed out in several threads
        self._base: Arrays = {}
        self._number: int | None = None
        self._outcome: Future[RoundResult] | None = None
        self._refused: list[str] = []
        self._ended = False

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Start the round with the first task of it; end one that is under way when the job ends."""
        super().handle_event(event_type, fl_ctx)
        try:
            with self._lock:
                if event_type == AppEventType.BEFORE_TRAIN_TASK and self._number is None:
                    self._start(floats(read(fl_ctx.get_prop(AppConstants.TRAIN_SHAREABLE))), fl_ctx.get_engine())
                elif event_type == EventType.END_RUN:
                    self._end()
        except SangamError as error:  # NVFlare would only log it, and sites would wait
            self._panic(error, fl_ctx)

    def reset_stats(self) -> None:
        """A new round of NVFlare's."""
        self._number, self._outcome, self._refused = None, None, []

    def accept_model(self, model: FLModel) -> None:
        """One reply; one that is no receipt of this round makes the round fail."""
        if set(model.params) != {RECEIPT} or model.params[RECEIPT] != self._number:
            self._refused.append(str(model.meta.get("client_name")))

    def aggregate_model(self) -> FLModel:
        """The weighted mean of the changes and of the metrics. Any error ends the job, as NVFlare's own would.

        Raises:
            ParameterError: a site's reply was no receipt: it lacks the filter, and its weights came in the clear.
            OutOfTurn: no task was sent.
            RoundAborted: the round failed, for the reason given.
            SangamError: as `Rounds.outcome`.
        """
        if self._refused:
            raise ParameterError(f"no receipt of this round from {', '.join(self._refused)}: is the filter there?")
        if self._outcome is None:
            raise OutOfTurn("no round was started")
        result = self._outcome.result()
        moved = {name: np.asarray(result.mean[name], array.dtype) for name, array in self._base.items()}
        said = metrics(result.mean)
        facts = {"round": result.round, "participants": list(result.participants), "error_bound": result.error_bound}
        return FLModel(ParamsType.DIFF, moved, metrics=said or None, meta={"sangam": facts})

    def _start(self, base: Arrays, engine: Any) -> None:
        self._base, self._number = base, self._rounds.start(base)
        self._outcome = self._watching.submit(self._watch, self._number, engine)

    def _watch(self, number: int, engine: Any) -> RoundResult:
        try:
            return self._rounds.outcome(number)
        except SangamError as error:
            if not self._ended:
                with engine.new_context() as fl_ctx:
                    self._panic(error, fl_ctx)
            raise

    def _end(self) -> None:
        self._ended = True
        self._watching.shutdown(wait=False)
        if self._number is not None:
            self._rounds.abort(self._number, "NVFlare's job ended")

    def _panic(self, error: SangamError, fl_ctx: FLContext) -> None:
        self.system_panic(f"secure aggregation: {type(error).__name__}: {error}", fl_ctx)
