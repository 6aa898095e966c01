"""At a site: what training made goes to a Sangam round, and NVFlare's server gets a receipt.

One class stands in two chains of filters. On the way in, after all filters that change the model, it remembers the
model; on the way out it contributes the difference, waits for the round's end, and replaces the result.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FilterKey, FLContextKey, FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode, Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from aggregator.errors import Cancelled, ParameterError
from aggregator.protocol.participant import Safeguards
from clients.adapters.nvflare.model import RECEIPT, Arrays, floats, read, update
from clients.connection import connect
from clients.result import RoundResult

BASE = "sangam.base"
ABORT_CHECK_S = 0.5


class SecureFilter(Filter):  # type: ignore[misc]
    """Task-data and task-result filter of a site.

    Args:
        address: host:port of Sangam's server.
        identity: the directory of this site's identity; `{site}` stands for the name that NVFlare knows it by.
        task: Sangam's task, another one for every job: a site contributes once to a task on the same model.
        minimum_cohort: the fewest sites that this one is summed with; by default at least three, and more than half
            of the roster.
    """

    def __init__(self, address: str, identity: str, task: str, minimum_cohort: int | None = None) -> None:
        super().__init__()
        self._address = address
        self._identity = identity
        self._task = task
        self._minimum_cohort = minimum_cohort

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """A task as it came; of a result that is not an error, only its receipt. Blocks until the round has ended.

        Raises:
            ParameterError: what is no model, or an update that the task does not fit.
            StaleModel: the server started the round from another model than it sent here.
            RoundAborted: the round failed; NVFlare's server is told that this task did.
            Cancelled: the job ended meanwhile.
            SangamError: as `Session.contribute`.
        """
        if fl_ctx.get_prop(FLContextKey.FILTER_DIRECTION) == FilterKey.IN:
            fl_ctx.set_prop(BASE, floats(read(shareable)), private=True, sticky=False)
            return shareable
        if shareable.get_return_code() != ReturnCode.OK:
            return make_reply(shareable.get_return_code())
        result = read(shareable)
        number = self._contribute(result, fl_ctx)
        receipt = FLModel(ParamsType.DIFF, {RECEIPT: number}, current_round=result.current_round)
        return FLModelUtils.to_shareable(receipt)

    def _contribute(self, result: FLModel, fl_ctx: FLContext) -> int:
        base = fl_ctx.get_prop(BASE)
        if base is None:
            raise ParameterError("no model came with this task: the filter belongs into the chain of task data, too")
        offer = Offer(update(result, base), weight(result), base)
        summed = asyncio.run(self._wait(offer, fl_ctx.get_identity_name(), fl_ctx.get_run_abort_signal()))
        if summed is None:
            raise ParameterError(f"task {self._task!r} keeps results for its operator: create it to share them")
        self.log_info(fl_ctx, f"round {summed.round} of {self._task}: one of {len(summed.participants)} sites")
        if summed.clipped_entries:
            self.log_warning(fl_ctx, f"{summed.clipped_entries} entries of this update were clipped: raise the clip")
        return summed.round

    async def _wait(self, offer: "Offer", site: str, aborted: Signal | None) -> RoundResult | None:
        """Contribute, and look now and then whether NVFlare has ended the job: it does not interrupt its filters."""
        identity = self._identity.format(site=site)
        safeguards = Safeguards(minimum_cohort=self._minimum_cohort)
        async with connect(self._address, identity, task=self._task, safeguards=safeguards) as session:
            work = asyncio.create_task(session.contribute(offer.update, weight=offer.weight, base=offer.base))
            while not (await asyncio.wait({work}, timeout=ABORT_CHECK_S))[0]:
                if aborted is not None and aborted.triggered:
                    work.cancel()
                    await asyncio.wait({work})
                    raise Cancelled("NVFlare ended this job")
            return work.result()


@dataclass(frozen=True)
class Offer:
    """What a site contributes."""

    update: Arrays = field(repr=False)
    weight: int = field(repr=False)
    base: Arrays = field(repr=False)


def weight(result: FLModel) -> int:
    """What the client reported as its steps, or samples; 1 where it reported nothing, as NVFlare does.

    Raises:
        ParameterError: not a positive whole number.
    """
    steps: Any = result.meta.get(FLMetaKey.NUM_STEPS_CURRENT_ROUND, 1)
    if type(steps) not in (int, float) or not float(steps).is_integer() or steps < 1:
        raise ParameterError(f"{FLMetaKey.NUM_STEPS_CURRENT_ROUND}, the weight, must be 1, 2, 3, ...")
    return int(steps)
