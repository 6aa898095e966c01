"""A task: its parameters, the participants' lines, and its rounds one after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Final

from aggregator.crypto.agreement import Entropy
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import Cancelled, Disconnected, NotAdmitted, OutOfTurn, SangamError, StorageError
from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.parties import ROLES, Audit
from aggregator.protocol.spread import Each
from aggregator.rounds.driver import Driver, first
from aggregator.rounds.events import EventLog
from aggregator.rounds.history import History
from aggregator.rounds.lines import Line, Lines
from aggregator.rounds.meter import Meter, stopped_clock
from aggregator.rounds.observing import Observe, Observer, unobserved
from aggregator.rounds.opening import Gathering, check_fits, present
from aggregator.rounds.phase import Completed, Failed, Setting
from aggregator.rounds.restoring import Restorer, destroy_uncounted
from aggregator.rounds.round import Round
from aggregator.rounds.stand import Stand, replay
from aggregator.rounds.writing import write_opening
from aggregator.storage.base import Records, StoredRound, StoredTask, TaskRecords
from aggregator.wire import messages, operator_messages
from aggregator.wire.messages import PROTOCOL_VERSION
from aggregator.wire.vocabulary import EventKind

_LOG = logging.getLogger(__name__)

STOPPED = "the server stopped in this step"
PARTY_ROLES: Final = frozenset(ROLES.values())
NONCE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Host:
    """What the server gives to every task.

    `roster` gives the present one, verified against `authority`; a round keeps the one that it opened with. `clock` is
    monotonic, in seconds; `now` is the wall clock, in seconds since 1970. `first_round` gives a new task's first round
    number; it must never recur, even after a restart, since clients enter a round once for ever. `each` runs
    independent parts of the work on a vector, perhaps in several threads. `cpu_clock` gives the CPU seconds of the
    thread that asks, for `Task.cpu_seconds`. `observe` gives who looks on a round of a task: its name, number and mode.
    """

    authority: Certificate
    roster: Callable[[], Roster] = field(repr=False)
    records: Records = field(repr=False)
    entropy: Entropy = field(repr=False)
    clock: Callable[[], float] = field(repr=False)
    now: Callable[[], float] = field(repr=False)
    first_round: Callable[[], int] = field(repr=False)
    each: Each = field(repr=False, default=map)
    cpu_clock: Callable[[], float] = field(repr=False, default=stopped_clock)
    observe: Observe = field(repr=False, default=unobserved)


class Task:
    """One task as its operator created it.

    Args:
        spec: what the operator said; `check` has found it in order.
        host: what the server gives to every task.
        records: where the task is written down.
    """

    def __init__(self, spec: operator_messages.Task, host: Host, records: TaskRecords) -> None:
        self.spec = spec
        self.parameters = Parameters.from_message(spec.parameters)
        self._records = records
        parties = self.parameters.parties
        if parties is not None and parties.audit is not Audit.FROZEN:
            _LOG.warning("task %s is audited %s: see SECURITY.md", spec.name, parties.audit)
        self.lines = Lines(host.clock)
        self.history = History(spec.name, spec.retention, host.clock, records)
        self.cancelled = False
        self._gathering = Gathering.of(spec.opening, self.parameters)
        self._host = host
        self._driver: Driver | None = None  # of the last round that opened
        self._attending: dict[ClientId, Certificate] = {}  # key holder and auditor, as they came last
        self._running: asyncio.Task[None] | None = None
        self._number = host.first_round() - 1
        self._meter = Meter()
        self._suspended = False

    @staticmethod
    def check(spec: operator_messages.Task, host: Host) -> None:
        """Whether there can be such a task here.

        Raises:
            ParameterError: parameters that could overflow or under-protect, or that this roster cannot meet.
        """
        check_fits(Parameters.from_message(spec.parameters), spec.opening, len(host.roster()))

    async def restore(self, stored: StoredTask) -> None:
        """Go on where the server was killed: with what was kept, and with the round that ran.

        Run before anybody can call: nobody meets a round whose steps are being gone through once more.

        Raises:
            StorageError: something of a round that has ended is lost.
        """
        host = self._host
        restorer = Restorer(self.parameters, host.each, host.clock, host.now, self._observer)
        self.cancelled = stored.cancelled
        rounds = [restorer.round(one, self._gathered) for one in stored.rounds]
        self.history.restore(rounds, stored.started)
        if rounds:
            self._number = max(self._number, rounds[-1].number)
            await self._go_on(restorer, stored.rounds[-1], rounds[-1])

    async def _go_on(self, restorer: Restorer, stored: StoredRound, round_: Round) -> None:
        """With the last round: to tell its clients how it ended, or to end it."""
        if round_.runs:
            conduct = await self._resumed(restorer, stored, round_)
            self._running = asyncio.create_task(self._run(round_, conduct))
        elif stored.opening is not None and stored.end is not None and stored.end.ending is not None:
            setting = restorer.setting(stored, stored.opening)
            self._driver = self._new_driver(first(setting), setting, round_)
            self._driver.restore_end(stored.end.ending, stored.end.told)

    async def _resumed(self, restorer: Restorer, stored: StoredRound, round_: Round) -> Callable[[], Awaitable[object]]:
        """What is left to do of a round that ran when the server was killed."""
        if stored.opening is None:
            round_.events.add(EventKind.RESUMED, None)
            return partial(self._conduct, round_, stored.model_hash)
        setting, total = restorer.setting(stored, stored.opening), restorer.completed(stored)
        stand, invited = first(setting, stored.opening.invited), stored.opening.invited
        try:
            if total is None:
                destroy_uncounted(stored)
                stand = await asyncio.to_thread(replay, stand.phase, stored.steps, stored.sum)
        except StorageError as error:
            round_.driver = self._driver = self._new_driver(first(setting, invited), setting, round_)
            return partial(self._driver.conclude, Failed(self._driver.step, str(error)))
        driver = round_.driver = self._driver = self._new_driver(stand, setting, round_)
        return driver.run if total is None else partial(driver.conclude, total)

    def join(self, site: Certificate, version: int = PROTOCOL_VERSION, roster_hash: bytes = b"") -> Line:
        """Open a site's line, and tell it where the task is; without the roster if it holds the one of this hash.

        Raises:
            Cancelled: the task was cancelled.
            NotAdmitted: its certificate is neither in the present roster nor in the one of the last round. When that
                has ended, a site that has left may hear how, but not take a line from another that bears its name.
                Of key holder and auditor: the task names another.
        """
        self._check_open()
        if site.role in PARTY_ROLES:
            self._attending[self._party(site)] = site
        client = self._client_now(site)
        if client is None or self.lines.is_connected(site.name):
            self.check_member(site)
        line = self.lines.connect(site.name, roster_hash)
        line.send(0, messages.Welcome(self.spec.name, self.history.last_closed, version))
        if self._driver is not None and client is not None:
            self._driver.greet(client)
        return line

    def check_member(self, site: Certificate) -> None:
        """Whether a site may keep its line; one that the roster has left out since stays until the running round ends.

        Raises:
            NotAdmitted: its certificate is neither in the present roster nor in the one of the round that is running.
        """
        if site.role in PARTY_ROLES:
            self._party(site)
        elif self.history.running is None or self._client_now(site) is None:
            self._host.roster().index_of(site.fingerprint)

    def start_round(self, model_hash: bytes, by: str = "") -> int:
        """Start the next round, which opens at once or gathers first; its number.

        Args:
            model_hash: of the model that all start from.
            by: which operator starts it.

        Raises:
            Cancelled: the task was cancelled.
            OutOfTurn: a round is running.
            ParameterError: the roster has become too small for the task.
        """
        self._check_open()
        if self.history.running is not None:
            raise OutOfTurn(f"task {self.spec.name}: round {self._number} is still running")
        host, number = self._host, self._number + 1
        check_fits(self.parameters, self.spec.opening, len(host.roster()))
        self._number = number  # whatever becomes of it: no number comes twice
        records = self._records.begin(number, host.now(), model_hash)
        records.decided("round started", operator=by)
        events = EventLog(host.clock, self._observer(number), records.noted)
        round_ = Round(number, host.now(), model_hash, events, self._gathered, records)
        if self._gathering.waits(self.lines):
            missing = " and ".join(sorted(self._gathering.parties - self.lines.connected))
            round_.events.add(EventKind.GATHERING, None, clients=self._gathering.enough, detail=missing)
        else:
            self._open(round_, model_hash, None)
        self.history.begin(round_)
        self._running = asyncio.create_task(self._run(round_, partial(self._conduct, round_, model_hash)))
        return number

    async def abort_round(self, number: int, reason: str) -> None:
        """End the running round without a sum; who is in it is told why.

        Raises:
            NotFound: there is no such round.
            OutOfTurn: it has ended already.
        """
        round_ = self.history.find(number)
        if not round_.runs:
            raise OutOfTurn(f"task {self.spec.name}: round {number} has ended already, it {round_.summary().state}")
        await self._stop(reason)

    async def cancel(self, reason: str) -> None:
        """End the task: a running round is aborted, lines are closed, results stay. Again changes nothing."""
        self.cancelled = True
        await self._stop(reason)
        self.lines.close(Cancelled(reason))

    @property
    def cpu_seconds(self) -> Mapping[str, float]:
        """What the current or last round has cost so far, by part; see `rounds.meter`."""
        return self._meter.seconds

    def driver(self, round_number: int) -> Driver:
        """The driver of the current round.

        Raises:
            OutOfTurn: that round is not the current one.
        """
        self._check_here()
        if self._driver is None or round_number != self._driver.round:
            raise OutOfTurn(f"task {self.spec.name}: round {round_number} is not the current one")
        return self._driver

    @property
    def connected(self) -> int:
        """How many participants' lines are open; key holder's and auditor's do not count."""
        return len(self.lines.connected - self._gathering.parties)

    async def deliver(self, site: Certificate, message: messages.ClientMessage) -> None:
        """Take one message of a participant's control stream; errors as `Driver.deliver`.

        Raises:
            OutOfTurn: no round was ever opened.
        """
        self._check_here()
        if self._driver is None:
            raise OutOfTurn(f"task {self.spec.name} has no round yet")
        await self._driver.deliver(self._driver.client_of(site), message)

    async def ended(self) -> None:
        """Wait until no round runs."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """Stop a running round, which goes on at the next start where it is written down, and end every line."""
        if self._host.records.durable:
            self._suspended = True
            await self._break_off()
        else:
            await self._stop(STOPPED)
        self.lines.close()
        self.history.close()

    def _check_here(self) -> None:
        if self._suspended:
            raise Disconnected("this server is stopping: the round goes on when it is back")

    def _check_open(self) -> None:
        self._check_here()
        if self.cancelled:
            raise Cancelled(f"task {self.spec.name} was cancelled by its operator")

    def _party(self, site: Certificate) -> ClientId:
        if self.parameters.parties is None:
            raise NotAdmitted(f"task {self.spec.name} is in {self.parameters.mode} mode, which needs no {site.role}")
        return self.parameters.parties.number_of(site)

    def _client_now(self, site: Certificate) -> ClientId | None:
        """A site's place in the current round; None where there is none, as for who entered the roster since."""
        with suppress(NotAdmitted):
            return self._driver.client_of(site) if self._driver is not None else None
        return None

    async def _run(self, round_: Round, conduct: Callable[[], Awaitable[object]]) -> None:
        try:
            await conduct()
        except SangamError as error:
            await self._fail(round_, str(error))
        except asyncio.CancelledError:
            if not self._host.records.durable:
                await self._fail(round_, STOPPED)
            raise
        except Exception:
            _LOG.exception("task %s: round %d broke off", self.spec.name, round_.number)
            await self._fail(round_, STOPPED)
            raise

    async def _conduct(self, round_: Round, model_hash: bytes) -> None:
        driver = round_.driver
        if driver is None:
            here = await self._gathering.wait(self.lines, self._host.roster, self._host.clock, round_.events.seconds)
            driver = self._open(round_, model_hash, self._gathering.invited(here, self._host.entropy))
        await driver.run()

    def _open(self, round_: Round, model_hash: bytes, invited: frozenset[str] | None) -> Driver:
        host, roster, records = self._host, self._host.roster(), round_.records
        check_fits(self.parameters, self.spec.opening, len(roster))
        self._meter = Meter(host.cpu_clock)
        each = self._meter.spread(host.each)
        terms = self._terms(round_.number, model_hash, roster)
        setting = Setting(terms, roster, _encoded(roster), records.spool, each, dict(self._attending))
        names = (certificate.name for certificate in roster.certificates)
        whom = None if invited is None else frozenset(i for i, name in enumerate(names) if name in invited)
        write_opening(records, setting, whom)
        round_.driver = self._driver = self._new_driver(first(setting, whom), setting, round_)
        return self._driver

    def _new_driver(self, stand: Stand, setting: Setting, round_: Round) -> Driver:
        return Driver(
            stand,
            setting,
            self.spec.deadlines,
            self.lines,
            round_.records,
            result_shared=not self.spec.result_to_operator_only,
            clock=self._host.clock,
            now=self._host.now,
            ended=partial(self._ended, round_),
            events=round_.events,
            meter=self._meter,
        )

    def _observer(self, number: int) -> Observer:
        return self._host.observe(self.spec.name, number, self.parameters.mode)

    def _gathered(self) -> int:
        return len(present(self.lines, self._host.roster()))

    async def _stop(self, reason: str) -> None:
        """End the running round, if there is one; only then stop its work, so that the reason is this one."""
        round_ = self.history.running
        if round_ is None:
            return await self._break_off()
        self._mark_failed(round_, reason)
        await self._break_off()
        await self._tell_end(round_)
        return None

    async def _break_off(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _ended(self, round_: Round, end: Completed | Failed) -> None:
        """The phases have ended a round: write that down before anybody is told."""
        if round_.runs:
            self._mark_ended(round_, end if isinstance(end, Completed) else None)
        await self._write_end(round_)

    async def _fail(self, round_: Round, reason: str) -> None:
        """A round ends without a sum for another reason than its phases'; nothing where it has ended already."""
        if round_.runs:
            self._mark_failed(round_, reason)
            await self._tell_end(round_)

    async def _tell_end(self, round_: Round) -> None:
        await self._write_end(round_)
        if self._driver is not None and self._driver.round == round_.number:
            self._driver.tell()

    async def _write_end(self, round_: Round) -> None:
        """Where the disk refuses, clients are told nevertheless: the worst is that a killed server goes on with it."""
        try:
            await round_.records.written()
        except StorageError as error:
            _LOG.warning("task %s: the end of round %d is not written: %s", self.spec.name, round_.number, error)

    def _mark_failed(self, round_: Round, reason: str) -> None:
        if round_.driver is not None:
            round_.driver.end_unexpectedly(reason)
        elif round_.events.end is None:
            round_.events.add(EventKind.FAILED, None, detail=reason)
        self._mark_ended(round_, None)

    def _mark_ended(self, round_: Round, total: Completed | None) -> None:
        driver = round_.driver
        self.history.end(round_, total)
        ending, told = (None, frozenset[ClientId]()) if driver is None else (driver.ending, driver.told)
        round_.records.ended(round_.summary(), ending, told)
        if total is None:
            round_.records.decided("round failed", reason=round_.summary().reason)
        else:
            names = [total.setting.name(client) for client in total.survivors]
            round_.records.decided("round closed", survivors=names)

    def _terms(self, number: int, model_hash: bytes, roster: Roster) -> RoundTerms:
        terms = RoundTerms(
            deployment=self._host.authority.deployment,
            task=self.spec.name,
            round=number,
            server_nonce=self._host.entropy(NONCE_BYTES),
            roster_size=len(roster),
            roster_root=roster.root,
            authority_hash=self._host.authority.fingerprint,
            model_hash=model_hash,
            parameters=self.parameters,
        )
        homomorphic = self.parameters.parties is not None
        return coordinator.draft(terms, self._attending) if homomorphic else terms


@lru_cache(maxsize=2)
def _encoded(roster: Roster) -> bytes:
    """A roster's bytes, once for all tasks: with 1,000 sites they are a megabyte, and each task keeps its last ones."""
    return roster.to_bytes()
