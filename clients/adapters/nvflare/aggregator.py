"""At NVFlare's server: a Sangam round for each of NVFlare's, started when the model leaves, and its weighted mean.

Sites reply when the round has ended, so it must begin before any reply: it begins with the first task of a round.
"""

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from threading import Lock

import numpy as np
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from aggregator.errors import OutOfTurn, ParameterError, RoundAborted, SangamError
from aggregator.protocol.parameters import Parameters
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Opening
from aggregator.wire.vocabulary import EventKind
from clients.adapters.nvflare.model import METRIC, RECEIPT, Arrays, floats, read
from clients.blocking import BlockingOperator, operate_blocking

KEY_BYTES = 16


class SecureModelAggregator(ModelAggregator):  # type: ignore[misc]
    """The aggregator of a recipe; it creates the Sangam task for the model that it sees first.

    Args:
        address: host:port of Sangam's server.
        identity: the directory of an operator's identity.
        task: Sangam's task, as the filters name it, another one for every job.
        clients: how many sites take part in a round, NVFlare's `min_clients`.
        clip: the largest change of one parameter in one round, times weight over `weight_max`.
        weight_max: the largest weight (samples, or steps) of one site.
        metrics: the largest absolute value of each metric that the sites report.
        minimum_cohort: fewer sites make no sum; by default at least three, and more than half of the roster.
        gather_s: how long a round waits for its sites to train, seconds; after that it goes on with those who came.
    """

    def __init__(
        self,
        address: str,
        identity: str,
        task: str,
        *,
        clients: int,
        clip: float,
        weight_max: int,
        metrics: Mapping[str, float] | None = None,
        minimum_cohort: int | None = None,
        gather_s: float = 3_600.0,
    ) -> None:
        super().__init__()
        self._address = address
        self._identity = identity
        self._task = task
        self._clients = clients
        self._clip = clip
        self._weight_max = weight_max
        self._metrics = metrics
        self._minimum_cohort = minimum_cohort
        self._gather_s = gather_s
        self._lock = Lock()  # tasks are handed out in several threads
        self._created = False
        self._base: Arrays = {}
        self._number: int | None = None
        self._refused: list[str] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Start the round with the first task of it; end one that is under way when the job ends."""
        super().handle_event(event_type, fl_ctx)
        try:
            with self._lock:
                if event_type == AppEventType.BEFORE_TRAIN_TASK and self._number is None:
                    self._start(floats(read(fl_ctx.get_prop(AppConstants.TRAIN_SHAREABLE))))
                elif event_type == EventType.END_RUN and self._number is not None:
                    self._abort(self._number)
        except SangamError as error:  # an exception would only be logged, and sites would wait
            self.system_panic(f"secure aggregation: {type(error).__name__}: {error}", fl_ctx)

    def reset_stats(self) -> None:
        """A new round of NVFlare's."""
        self._number, self._refused = None, []

    def accept_model(self, model: FLModel) -> None:
        """One reply; one that is no receipt of this round makes the round fail."""
        if set(model.params) != {RECEIPT} or int(model.params[RECEIPT]) != self._number:
            self._refused.append(str(model.meta.get("client_name")))

    def aggregate_model(self) -> FLModel:
        """The weighted mean of the changes and of the metrics. Any error ends the job, as NVFlare's own would.

        Raises:
            ParameterError: a site's reply was no receipt: it lacks the filter, and its weights came in the clear.
            OutOfTurn: no task was sent.
            RoundAborted: the round failed, for the reason given.
            SangamError: as `Operator.watch` and `Operator.fetch_result`.
        """
        if self._refused:
            raise ParameterError(f"no receipt of this round from {', '.join(self._refused)}: is the filter there?")
        if self._number is None:
            raise OutOfTurn("no round was started: no model was sent")
        with self._operator() as operator:
            for event in operator.watch(self._task, self._number):
                if event.kind == EventKind.FAILED:
                    raise RoundAborted(f"round {self._number}: {event.detail}")
            result = operator.fetch_result(self._task, self._number)
        moved = {name: np.asarray(result.mean[name], array.dtype) for name, array in self._base.items()}
        metrics = {name: float(result.mean[METRIC + name]) for name in self._metrics or {}}
        facts = {"round": result.round, "participants": list(result.participants), "error_bound": result.error_bound}
        return FLModel(ParamsType.DIFF, moved, metrics=metrics or None, meta={"sangam": facts})

    def _start(self, base: Arrays) -> None:
        with self._operator() as operator:
            if not self._created:
                opening = Opening(gather_s=self._gather_s, sample=self._clients)
                operator.create_task(self._task, self._parameters(operator, base), opening=opening)
                self._created = True
            self._number = operator.start_round(self._task, base=base, key=secrets.token_hex(KEY_BYTES))
        self._base = base

    def _abort(self, number: int) -> None:
        with self._operator() as operator, suppress(OutOfTurn):  # which says that it has ended
            operator.abort_round(self._task, number, "NVFlare's job ended")

    def _parameters(self, operator: BlockingOperator, base: Arrays) -> Parameters:
        sites = sum(1 for _ in operator.sites())
        tensors = [Tensor(name, array.shape) for name, array in base.items()]
        tensors += [Tensor(METRIC + name, (), clip=bound) for name, bound in (self._metrics or {}).items()]
        least = self._minimum_cohort or max(3, sites // 2 + 1)
        return Parameters(tuple(tensors), self._clip, sites, least, self._weight_max)

    def _operator(self) -> AbstractContextManager[BlockingOperator]:
        return operate_blocking(self._address, self._identity)
