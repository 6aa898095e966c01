"""A task as an operator states it: the server makes it, or refuses it, within bounded work."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Final

from aggregator.errors import MessageError, ParameterError
from aggregator.protocol.parameters import Mode
from aggregator.rounds.task import Host
from aggregator.rounds.task import Task as Running
from aggregator.storage.forgetful import Forgetful
from aggregator.wire import codec
from aggregator.wire.operator_messages import Deadlines, Opening, Task
from tests.consortium import TASK, Consortium, drbg
from tests.fuzz.target import Target
from tests.harness import parameters
from tests.parties import parameters as homomorphic

DEADLINES: Final = Deadlines(10.0, 10.0, 10.0, 10.0, 10.0, 3.0)


@cache
def _host() -> Host:
    consortium = Consortium.of(4)
    return Host(
        authority=consortium.authority.certificate,
        roster=lambda: consortium.roster,
        records=Forgetful(),
        entropy=drbg("host"),
        clock=lambda: 0.0,
        now=lambda: 0.0,
        first_round=lambda: 1,
    )


def run(data: bytes) -> None:
    """The message as it comes."""
    try:
        spec = codec.decode(Task, data)
        Running.check(spec, _host())
    except (MessageError, ParameterError):
        return
    task = Running(spec, _host(), _host().records.create(spec, "operator", 0.0))
    assert task.parameters.to_message() == spec.parameters
    assert task.connected == 0


def seeds() -> Iterator[bytes]:
    """Tasks of each mode; one gathers and draws."""
    for made in (parameters(4), parameters(4, mode=Mode.LATTICE, value_bits=20), homomorphic()):
        stated = Task(TASK, made.to_message(), DEADLINES, result_to_operator_only=False)
        yield codec.encode(stated)
        yield codec.encode(replace(stated, opening=Opening(3, 60.0, 3), starters=("a", "b")))


TARGET: Final = Target("tasks", run, seeds, share=60)
