"""A task: its parameters, the participants' lines, and its rounds one after the other."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aggregator.crypto.agreement import Entropy
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import NotAdmitted, NotFound, OutOfTurn, ParameterError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.spread import Each
from aggregator.rounds.driver import Driver
from aggregator.rounds.events import EventLog
from aggregator.rounds.lines import Line, Lines
from aggregator.rounds.meter import Meter, stopped_clock
from aggregator.rounds.phase import Completed, Setting
from aggregator.storage.base import Spool
from aggregator.wire import messages, operator_messages
from aggregator.wire.messages import PROTOCOL_VERSION

_LOG = logging.getLogger(__name__)

RESULTS_KEPT = 3  # rounds; an operator fetches a result when its round closes
EVENT_LOGS_KEPT = 1_000
STOPPED = "the server stopped in this step"
NONCE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Host:
    """What the server gives to every task.

    `roster` gives the present one, verified against `authority`; a round keeps the one that it began with. `clock` is
    monotonic, in seconds. `first_round` gives a new task's first round number; it must never recur, even after a
    restart, since clients enter a round once for ever. `each` runs independent parts of the work on a vector, perhaps
    in several threads. `cpu_clock` gives the CPU seconds of the thread that asks, for `Task.cpu_seconds`.
    """

    deployment: str
    authority: Certificate
    roster: Callable[[], Roster] = field(repr=False)
    spool: Spool = field(repr=False)
    entropy: Entropy = field(repr=False)
    clock: Callable[[], float] = field(repr=False)
    first_round: Callable[[], int] = field(repr=False)
    each: Each = field(repr=False, default=map)
    cpu_clock: Callable[[], float] = field(repr=False, default=stopped_clock)


class Task:
    """One task as its operator created it.

    Raises:
        ParameterError: parameters that could overflow or under-protect, or that this roster cannot meet.
    """

    def __init__(self, spec: operator_messages.Task, host: Host) -> None:
        self.spec = spec
        self.lines = Lines(host.clock)
        self._parameters = Parameters.from_message(spec.parameters)
        _check_fits(self._parameters, len(host.roster()))
        self._host = host
        self._driver: Driver | None = None
        self._running: asyncio.Task[None] | None = None
        self._rounds = host.first_round() - 1
        self._results: dict[int, Completed] = {}
        self._events: dict[int, EventLog] = {}
        self._meter = Meter()

    @property
    def last_round(self) -> int:
        """The last round that closed with a result; 0 before the first."""
        return max(self._results, default=0)

    def join(self, site: Certificate, version: int = PROTOCOL_VERSION) -> Line:
        """Open a site's line, and tell it where the task is.

        Raises:
            NotAdmitted: its certificate is neither in the present roster nor in the one of the round that is running.
        """
        client = self._client_now(site)
        if client is None:
            self._host.roster().index_of(site.fingerprint)
        line = self.lines.connect(site.name)
        line.send(0, messages.Welcome(self.spec.name, self.last_round, version))
        if self._driver is not None and client is not None:
            self._driver.greet(client)
        return line

    def start_round(self, model_hash: bytes) -> int:
        """Open the next round; its number.

        Raises:
            OutOfTurn: a round is running.
        """
        if self._running is not None and not self._running.done():
            raise OutOfTurn(f"task {self.spec.name}: round {self._rounds} is still running")
        self._rounds += 1
        host = self._host
        self._meter = Meter(host.cpu_clock)
        each = self._meter.spread(host.each)
        roster = host.roster()
        _check_fits(self._parameters, len(roster))
        setting = Setting(self._terms(model_hash, roster), roster, roster.to_bytes(), host.spool, each)
        shared = not self.spec.result_to_operator_only
        self._driver = Driver(
            setting, self.spec.deadlines, self.lines, result_shared=shared, clock=host.clock, meter=self._meter
        )
        self._events[self._rounds] = self._driver.events
        self._events.pop(self._rounds - EVENT_LOGS_KEPT, None)
        self._running = asyncio.create_task(self._run(self._driver, self._rounds))
        return self._rounds

    @property
    def cpu_seconds(self) -> Mapping[str, float]:
        """What the current or last round has cost so far, by part; see `rounds.meter`."""
        return self._meter.seconds

    def driver(self, round_number: int) -> Driver:
        """The driver of the current round.

        Raises:
            OutOfTurn: that round is not the current one.
        """
        if self._driver is None or round_number != self._rounds:
            raise OutOfTurn(f"task {self.spec.name}: round {round_number} is not the current one")
        return self._driver

    async def deliver(self, site: Certificate, message: messages.ClientMessage) -> None:
        """Take one message of a participant's control stream; errors as `Driver.deliver`.

        Raises:
            OutOfTurn: no round was ever opened.
        """
        if self._driver is None:
            raise OutOfTurn(f"task {self.spec.name} has no round yet")
        await self._driver.deliver(self._driver.client_of(site), message)

    def events(self, round_number: int) -> EventLog:
        """The events of one round. NotFound when there is no such round."""
        if round_number not in self._events:
            raise NotFound(f"task {self.spec.name} has no round {round_number}")
        return self._events[round_number]

    def result(self, round_number: int) -> Completed:
        """The result of one round, 0 for the last.

        Raises:
            NotFound: the round did not close with a result, or the result is no longer kept.
        """
        wanted = round_number or self.last_round
        if wanted not in self._results:
            kept = f"the last {RESULTS_KEPT} are kept" if 0 < wanted <= self.last_round else "there is none yet"
            raise NotFound(f"task {self.spec.name} has no result of round {wanted}: {kept}")
        return self._results[wanted]

    async def close(self) -> None:
        """Stop a running round, so that nothing of it remains, and end every line."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._driver is not None:
            self._driver.end_unexpectedly(STOPPED)  # also a round that had not had its first turn
        self.lines.close()

    def _client_now(self, site: Certificate) -> ClientId | None:
        """A site's place in the current round; None where there is none, as for who entered the roster since."""
        with suppress(NotAdmitted):
            return self._driver.client_of(site) if self._driver is not None else None
        return None

    async def _run(self, driver: Driver, number: int) -> None:
        try:
            end = await driver.run()
        except Exception:
            _LOG.exception("task %s: round %d broke off", self.spec.name, number)
            raise
        finally:
            driver.end_unexpectedly(STOPPED)
        if isinstance(end, Completed):
            self._results[number] = end
            for old in sorted(self._results)[:-RESULTS_KEPT]:
                del self._results[old]

    def _terms(self, model_hash: bytes, roster: Roster) -> RoundTerms:
        return RoundTerms(
            deployment=self._host.deployment,
            task=self.spec.name,
            round=self._rounds,
            server_nonce=self._host.entropy(NONCE_BYTES),
            roster_size=len(roster),
            roster_root=roster.root,
            authority_hash=self._host.authority.fingerprint,
            model_hash=model_hash,
            parameters=self._parameters,
        )


def _check_fits(parameters: Parameters, roster_size: int) -> None:
    if parameters.minimum_cohort > roster_size:
        raise ParameterError(
            f"minimum_cohort is {parameters.minimum_cohort}, the roster has {roster_size} participants"
        )
