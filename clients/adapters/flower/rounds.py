"""The operator's side of a Flower round: a task for each number of nodes, a round for each aggregation."""

import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aggregator.errors import OutOfTurn, RoundAborted
from aggregator.protocol.parameters import Parameters
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Deadlines, Opening
from clients.adapters.flower.records import Arrays
from clients.blocking import operate_blocking
from clients.operator import KEY_BYTES
from clients.result import RoundResult

_LOG = logging.getLogger("clients")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the secure rounds of one training run have in common; see `SecureStrategy` for the arguments."""

    address: str
    identity: Path | str
    task: str
    clip: float
    weight_max: int
    minimum_cohort: int
    value_bits: int
    wait_s: float
    deadlines: Deadlines | None

    def parameters(self, tensors: tuple[Tensor, ...], nodes: int) -> Parameters:
        """How that many nodes encode these tensors."""
        return Parameters(tensors, self.clip, nodes, self.minimum_cohort, self.weight_max, self.value_bits)

    def name(self, kind: str, nodes: int) -> str:
        """The task's name."""
        return f"{self.task}.{kind}.{nodes}"


@dataclass(frozen=True, slots=True)
class Running:
    """A round that has been started."""

    task: str
    number: int


def start(plan: Plan, kind: str, tensors: tuple[Tensor, ...], base: Arrays, nodes: int) -> Running:
    """Start a round, which opens when that many nodes have come, or when the plan's time is over.

    Raises:
        SangamError: as `Operator.create_task` and `start_round`.
    """
    name, parameters = plan.name(kind, nodes), plan.parameters(tensors, nodes)
    opening = Opening(enough=nodes, gather_s=plan.wait_s, sample=nodes)
    with operate_blocking(plan.address, plan.identity) as operator:
        operator.create_task(name, parameters, deadlines=plan.deadlines, opening=opening, result_to_operator_only=True)
        return Running(name, operator.start_round(name, base=base, key=secrets.token_hex(KEY_BYTES)))


def finish(plan: Plan, running: Running, came: int) -> RoundResult | None:
    """Wait for the round's end; its result, or None where it failed, which is logged with the reason.

    Args:
        plan: as for `start`.
        running: what `start` gave.
        came: how many nodes say that they contribute; if too few, nobody waits for the rest.

    Raises:
        SangamError: as `Operator.outcome`.
    """
    task, number = running.task, running.number
    with operate_blocking(plan.address, plan.identity) as operator:
        if came < plan.minimum_cohort:
            with suppress(OutOfTurn):  # it has ended by itself
                operator.abort_round(task, number, f"{came} nodes contribute, need {plan.minimum_cohort}")
        try:
            return operator.outcome(task, number)
        except RoundAborted as error:
            _LOG.warning("no sum of %s: %s", task, error)
            return None
