"""The operator's side of a Flower round: a task for each number of nodes, a round for each aggregation."""

import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aggregator.errors import OutOfTurn, RoundAborted
from aggregator.wire.operator_messages import Deadlines, Opening
from clients.adapters.flower.plan import Plan
from clients.adapters.flower.records import Arrays
from clients.blocking import operate_blocking
from clients.operator import KEY_BYTES
from clients.result import RoundResult

_LOG = logging.getLogger("clients")


@dataclass(frozen=True, slots=True)
class Running:
    """A round that has been started."""

    task: str
    number: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """The secure rounds of one training run; see `SecureStrategy` for the arguments."""

    plan: Plan
    address: str
    identity: Path | str
    wait_s: float
    deadlines: Deadlines | None

    def start(self, kind: str, base: Arrays, nodes: int) -> Running:
        """Start a round, which opens when that many nodes have come, or when the time for it is over.

        Raises:
            SangamError: as `Operator.create_task` and `start_round`.
        """
        name, parameters = self.plan.name(kind, nodes), self.plan.parameters(kind, base, nodes)
        opening = Opening(enough=nodes, gather_s=self.wait_s, sample=nodes)
        with operate_blocking(self.address, self.identity) as operator:
            operator.create_task(
                name, parameters, deadlines=self.deadlines, opening=opening, result_to_operator_only=True
            )
            return Running(name, operator.start_round(name, base=base, key=secrets.token_hex(KEY_BYTES)))

    def finish(self, running: Running, came: int) -> RoundResult | None:
        """Wait for the round's end; its result, or None where it failed, which is logged with the reason.

        Args:
            running: what `start` gave.
            came: how many nodes say that they contribute; if too few, nobody waits for the rest.

        Raises:
            SangamError: as `Operator.outcome`.
        """
        task, number, least = running.task, running.number, self.plan.minimum_cohort
        with operate_blocking(self.address, self.identity) as operator:
            if came < least:
                with suppress(OutOfTurn):  # it has ended by itself
                    operator.abort_round(task, number, f"{came} nodes contribute, need {least}")
            try:
                return operator.outcome(task, number)
            except RoundAborted as error:
                _LOG.warning("no sum of %s: %s", task, error)
                return None
