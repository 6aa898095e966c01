"""The rounds, as the operator runs them, and the comparison that only the owner of all hospitals can make."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from aggregator.demo import plan, training
from aggregator.demo.data import Study
from aggregator.demo.hospital import TASK, Finished
from aggregator.demo.outcome import UNPLANNED, Dropout, Outage, Round
from aggregator.demo.plan import UPLOADING, Absence, Exit
from aggregator.demo.screen import LOST, Bar
from aggregator.demo.training import Model
from aggregator.demo.witness import Words
from aggregator.errors import RoundAborted
from aggregator.local.consortium import PARTIES
from aggregator.local.processes import Child
from aggregator.local.steps import step_seconds
from aggregator.local.tolerance import minimum_cohort
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.operator_messages import Deadlines, RoundEvent
from aggregator.wire.vocabulary import EventKind
from clients.operator import Operator
from clients.result import RoundResult

# On one machine a line only breaks on purpose, so nobody is waited for; and a slow step is slow, not dead.
STEP_S = 60.0
DEADLINES = Deadlines(STEP_S, STEP_S, STEP_S, STEP_S, STEP_S, reconnect_s=0.0)


def parameters(study: Study, mode: Mode = Mode.AUTO) -> Parameters:
    """How the models travel: 16-bit values, weights up to the largest hospital's number of records."""
    sites = len(study.shards)
    return Parameters(
        training.tensors(len(study.names)),
        clip=training.CLIP,
        clients_max=sites,
        minimum_cohort=minimum_cohort(sites),
        weight_max=max(map(len, study.shards)),
        mode=mode,
        parties=PARTIES if mode is Mode.HOMOMORPHIC else None,
    )


class Job:
    """One training. The rounds that closed, the model they made and what the hospitals said are its attributes.

    Args:
        operator: an open session of the operator.
        hospitals: their processes.
        absences: who vanishes when.
        study: the data; only its shape is read here.
        evidence: where the hospitals leave their words.
        hub: the server's process, which goes on at the same port when it is started again.
        mode: how the models travel.
    """

    def __init__(
        self,
        operator: Operator,
        hospitals: Sequence[Child],
        absences: tuple[Absence, ...],
        study: Study,
        evidence: Path,
        *,
        hub: Child,
        mode: Mode = Mode.AUTO,
    ) -> None:
        self.parameters = parameters(study, mode)
        self.model: Model = training.initial(len(study.names))
        self.rounds: list[Round] = []
        self.finished: list[Finished] = []
        self.aborted = ""
        self.outage: Outage | None = None
        self._hub = hub
        self._killed_at = 0.0
        self._operator = operator
        self._hospitals = hospitals
        self._absences = absences
        self._evidence = evidence

    async def run(self, rounds: int, bar: Bar) -> None:
        """Run the rounds; the first that is aborted is the last."""
        for child in self._hospitals:
            child.tell(0)
        for number in range(1, rounds + 1):
            try:
                await self._round(number, bar, kill=number == plan.hub_round(rounds))
            except RoundAborted as error:
                self.aborted = str(error)
                return

    async def _round(self, number: int, bar: Bar, *, kill: bool) -> None:
        await asyncio.gather(*(self._ready(site, number) for site in range(len(self._hospitals))))
        running = await self._operator.start_round(TASK, base=self.model)  # the server's own number
        events = []
        async for event in self._operator.watch(TASK, running):
            bar.show(event)
            events.append(event)
            if kill and event.kind == EventKind.STEP and event.step in UPLOADING:
                await self._restart_hub(bar)
            elif event.kind == EventKind.RESUMED:
                self.outage = Outage(number, perf_counter() - self._killed_at)
        if events[-1].kind == EventKind.FAILED:
            raise RoundAborted(f"round {number}: {events[-1].detail}")
        result = await self._operator.fetch_result(TASK, running)
        exact = is_exact(result, self._evidence, number)
        dropouts = self._dropouts(number, events)
        self.rounds.append(Round(number, dropouts, result.participants, exact, step_seconds(events)))
        self.model = result.mean
        for child in self._hospitals:
            child.tell(number)

    async def _restart_hub(self, bar: Bar) -> None:
        """Kill the hub as `kill -9` does, and start it again."""
        self._killed_at = perf_counter()
        bar.hub_killed()
        self._hub.kill()
        self._hub.start()
        await self._hub.expect("port")

    async def _ready(self, site: int, number: int) -> None:
        """Wait until a hospital stands ready for this round; one that was killed in the last round is started."""
        child, last = self._hospitals[site], plan.of_round(self._absences, number - 1).get(site)
        while True:
            try:
                message = await child.hear()
            except EOFError:
                if last is None or last.exit is not Exit.PROCESS:
                    raise child.ended() from None
                child.start()
                child.tell(number - 1)
                last = None
                continue
            if message == {"ready": number}:
                return
            if "ready" not in message:
                self.finished.append(Finished(**message))

    def _dropouts(self, number: int, events: Sequence[RoundEvent]) -> tuple[Dropout, ...]:
        planned = plan.of_round(self._absences, number)
        exits = {(self._hospitals[site].name, str(absence.step)): absence.exit for site, absence in planned.items()}
        lost = [(event.client, event.step) for event in events if event.kind in LOST]
        return tuple(Dropout(name, step, exits.get((name, step), UNPLANNED)) for name, step in lost)


def is_exact(result: RoundResult, evidence: Path, number: int) -> bool:
    """Whether each word of the sum, weights included, is the plain integer sum of the participants' words.

    Nothing is reduced: words of at most 23 bits from at most 100 hospitals are summed in 64 bits.
    """
    paths = [Words.path(evidence, number, name) for name in result.participants]
    total = np.sum([Words.load(path).encoded for path in paths], axis=0, dtype=np.uint64)
    return bool(np.array_equal(total, result.words))
