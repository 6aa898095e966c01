"""A mod of a Flower ClientApp: the app's reply goes into a secure round, and an empty one goes back to Flower."""

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TypeAlias

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from aggregator.errors import ParameterError, SangamError, StaleModel, StorageError
from aggregator.protocol.encoding import Update
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Safeguards
from clients.adapters.flower.plan import Plan
from clients.adapters.flower.records import Arrays, arrays_of, asked, contribution
from clients.blocking import BlockingSession, connect_blocking

_LOG = logging.getLogger("clients")

Offer: TypeAlias = tuple[Update, int]  # and its weight
Where: TypeAlias = Path | str | Callable[[Context], Path | str]

ADDRESS, IDENTITY = "sangam-address", "sangam-identity"  # keys of a node's configuration, which go first
PATIENCE_S = 60.0  # a mistyped address should show before the day is over
WITHIN_S = 3_900.0  # a round waits for an hour
HANDOVER_S = 30.0  # a simulated node's last round may still be closing its journal in another worker
HANDOVER_POLL_S = 0.02
NOTHING: Offer = ({}, 0)  # fits no task: the session withdraws, and nobody waits for this node
UNFIT = "the node's own update does not fit the round; its log says why"  # all that a server may know


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The round that a message asks for, as the node's own plan has it."""

    task: str
    base: Arrays = field(repr=False)
    parameters: Parameters = field(repr=False)


class SecureMod:
    """Contributes the reply's arrays and metrics to the secure round that the plan has; ClientApp(mods=[...]).

    Nothing of the app's reply goes to the Flower server. A message that asks for no secure round, or for more than one
    among so many nodes, is refused before the app sees it. If the app fails, this node withdraws from the round, and
    Flower gets the app's error as ever.

    Args:
        plan: which task, which parameters and which metrics; no message changes them.
        address: host:port of the aggregator, unless the node's configuration has `sangam-address`.
        identity: directory of this node's identity and journal, unless the node's configuration has `sangam-identity`.
            Both may be functions of the context. Beware of its run_config: that is the submitter's.
        safeguards: what this node insists on.
        patience_s: how long a server that cannot be reached, or a broken line, is tried again, seconds.
        within_s: after how long a round that has not ended is given up, seconds; longer than the strategy's `wait_s`
            and the round itself. A node that comes after the end of its round waits as long.
        background: reply at once, and go through the round in a thread. By default in Flower's simulation, whose few
            workers play many nodes, all of which must be in the round at once; elsewhere the process would end too
            early.
    """

    def __init__(
        self,
        plan: Plan,
        address: Where = "",
        identity: Where = "",
        *,
        safeguards: Safeguards | None = None,
        patience_s: float = PATIENCE_S,
        within_s: float = WITHIN_S,
        background: bool | None = None,
    ) -> None:
        self._plan = plan
        self._address = address
        self._identity = identity
        self._safeguards = safeguards
        self._patience_s = patience_s
        self._within_s = within_s
        self._background = background

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Run the app, contribute what it replies, and reply nothing.

        Raises:
            ParameterError: the message asks for no round of the plan, or the node does not fit it.
            SangamError: as `clients.connect` and `BlockingSession.contribute`.
        """
        nodes, kind = asked(message, self._plan), message.metadata.message_type
        base = arrays_of(message.content)
        wanted = _Wanted(self._plan.name(kind, nodes), base, self._plan.parameters(kind, base, nodes))
        try:
            reply = call_next(message, context)
        except Exception:
            self._withdraw(context, wanted)
            raise
        if reply.has_error():
            self._withdraw(context, wanted)
            return reply
        try:
            offer = contribution(reply.content, base, self._plan, kind)
        except ParameterError as error:
            _LOG.error("no contribution: %s", error)
            self._withdraw(context, wanted)
            raise ParameterError(UNFIT) from None
        self._take_part(context, wanted, offer)
        return Message(RecordDict(), reply_to=message)

    def _withdraw(self, context: Context, wanted: _Wanted) -> None:
        """Tell the round; the app's own error is what the caller should see."""
        try:
            self._take_part(context, wanted, NOTHING)
        except SangamError as error:
            _LOG.warning("could not withdraw from the round: %s", error)

    def _take_part(self, context: Context, wanted: _Wanted, offer: Offer) -> None:
        background = in_simulation() if self._background is None else self._background
        stack = ExitStack()
        for attempt in Retrying(
            retry=retry_if_exception_type(StorageError),
            stop=stop_after_delay(HANDOVER_S if background else 0.0),
            wait=wait_fixed(HANDOVER_POLL_S),
            reraise=True,
        ):
            with attempt:
                session = stack.enter_context(self._connect(context, wanted.task))
        if background:
            Thread(target=self._log_errors, args=(stack, session, wanted, offer), name=f"sangam {wanted.task}").start()
        else:
            self._contribute(stack, session, wanted, offer)

    def _connect(self, context: Context, task: str) -> AbstractContextManager[BlockingSession]:
        address = _where(context, ADDRESS, self._address)
        identity = _where(context, IDENTITY, self._identity)
        if not (address and identity):
            raise ParameterError(f"no aggregator or identity: set {ADDRESS} and {IDENTITY} in the node's configuration")
        return connect_blocking(
            address,
            identity,
            task=task,
            safeguards=self._safeguards,
            patience_s=self._patience_s,
            alike=self._plan.alike,
        )

    def _contribute(self, stack: ExitStack, session: BlockingSession, wanted: _Wanted, offer: Offer) -> None:
        """Go through one round and leave.

        Raises:
            SangamError: as `BlockingSession.contribute`; of a round or update that does not fit only that.
        """
        update, weight = offer
        with stack:
            try:
                session.contribute(
                    update, weight=weight, base=wanted.base, parameters=wanted.parameters, within_s=self._within_s
                )
            except StaleModel:
                raise
            except ParameterError as error:
                if offer is NOTHING:
                    _LOG.info("withdrew from the round: there is no update")
                    return
                _LOG.error("no contribution: %s", error)
                raise ParameterError(UNFIT) from None

    def _log_errors(self, stack: ExitStack, session: BlockingSession, wanted: _Wanted, offer: Offer) -> None:
        """The same in a thread, where nobody waits for errors; the strategy hears of them by the round's events."""
        try:
            self._contribute(stack, session, wanted, offer)
        except SangamError as error:
            _LOG.error("no contribution: %s: %s", type(error).__name__, error)


def _where(context: Context, key: str, otherwise: Where) -> str:
    if key in context.node_config:
        return str(context.node_config[key])
    return str(otherwise(context) if callable(otherwise) else otherwise)


def in_simulation() -> bool:
    """Whether this process is a worker of Flower's simulation, which runs on Ray and lives as long as the run."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
