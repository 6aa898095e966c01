"""Sangam's rounds as NVFlare's server runs them: the task made for its model, a round started, its outcome."""

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import KW_ONLY, dataclass, field

from aggregator.errors import OutOfTurn
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Safeguards
from aggregator.wire.operator_messages import Opening
from clients.adapters.contract import layout
from clients.adapters.nvflare.model import Arrays
from clients.blocking import BlockingOperator, operate_blocking
from clients.result import RoundResult

KEY_BYTES = 16


@dataclass
class Rounds:
    """The rounds of one task, which is created for the model that the first one starts from.

    Args:
        address: host:port of Sangam's server.
        identity: the directory of an operator's identity.
        task: the task, as the filters name it, another one for every job.
        sites: how many take part in a round, NVFlare's `min_clients`.
        clip: the largest change of one parameter in one round, times weight over `weight_max`.
        weight_max: the largest weight (samples, or steps) of one site.
        metrics: the largest absolute value of each metric that the sites report.
        minimum_cohort: fewer sites make no sum; by default at least three, and more than half of the roster.
        gather_s: how long a round waits for its sites to train, seconds; after that it goes on with those who came.
    """

    address: str
    identity: str
    task: str
    _: KW_ONLY
    sites: int
    clip: float
    weight_max: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    minimum_cohort: int | None = None
    gather_s: float = 3_600.0
    _created: bool = field(default=False, init=False)

    def start(self, base: Arrays) -> int:
        """Start a round for updates of this model; its number.

        Raises:
            NameTaken: there is another task of that name, with other parameters.
            SangamError: as `Operator.create_task` and `Operator.start_round`.
        """
        with self._operator() as operator:
            if not self._created:
                opening = Opening(gather_s=self.gather_s, sample=self.sites)
                operator.create_task(self.task, self._parameters(operator, base), opening=opening)
                self._created = True
            return operator.start_round(self.task, base=base, key=secrets.token_hex(KEY_BYTES))

    def outcome(self, number: int) -> RoundResult:
        """Wait for the end of a round, and fetch its sum.

        Raises:
            RoundAborted: the round failed, for the reason given.
            SangamError: as `Operator.outcome`.
        """
        with self._operator() as operator:
            return operator.outcome(self.task, number)

    def abort(self, number: int, reason: str) -> None:
        """End a round, if it has not ended."""
        with self._operator() as operator, suppress(OutOfTurn):
            operator.abort_round(self.task, number, reason)

    def _parameters(self, operator: BlockingOperator, base: Arrays) -> Parameters:
        roster = sum(1 for _ in operator.sites())
        least = Safeguards(self.minimum_cohort).least(roster)
        return Parameters(layout(base, self.metrics), self.clip, roster, least, self.weight_max)

    def _operator(self) -> AbstractContextManager[BlockingOperator]:
        return operate_blocking(self.address, self.identity)
