"""A mod of a Flower ClientApp: the app's reply goes into a secure round, and an empty one goes back to Flower."""

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from aggregator.errors import ParameterError, SangamError, StaleModel, StorageError
from aggregator.protocol.encoding import Update
from aggregator.protocol.participant import Safeguards
from clients.adapters.flower.records import Arrays, Tag, arrays_of, contribution
from clients.blocking import BlockingSession, connect_blocking

_LOG = logging.getLogger("clients")

Offer: TypeAlias = tuple[Update, int]  # and its weight
Where: TypeAlias = Path | str | Callable[[Context], Path | str]

ADDRESS, IDENTITY = "sangam-address", "sangam-identity"  # keys of a node's configuration, which go first
PATIENCE_S = 60.0  # a mistyped address should show before the day is over
HANDOVER_S = 30.0  # a simulated node's last round may still be closing its journal in another worker
HANDOVER_POLL_S = 0.02
NOTHING: Offer = ({}, 0)  # fits no task: the session withdraws, and nobody waits for this node


class SecureMod:
    """Contributes the reply's arrays and metrics to the secure round that the message names; ClientApp(mods=[...]).

    Nothing of the app's reply goes to the Flower server. A message that names no secure round is refused before the app
    sees it. If the app fails, this node withdraws from the round, and Flower gets the app's error as ever.

    Args:
        address: host:port of the aggregator, unless the node's configuration has `sangam-address`.
        identity: directory of this node's identity and journal, unless the node's configuration has `sangam-identity`.
            Both may be functions of the context.
        safeguards: what this node insists on.
        patience_s: how long a server that cannot be reached, or a broken line, is tried again, seconds.
        again: why this node may contribute to a task more than once on one model; see `Session.contribute`.
        background: reply at once, and go through the round in a thread. By default in Flower's simulation, whose few
            workers play many nodes, all of which must be in the round at once; elsewhere the process would end too
            early.
    """

    def __init__(
        self,
        address: Where = "",
        identity: Where = "",
        *,
        safeguards: Safeguards | None = None,
        patience_s: float = PATIENCE_S,
        again: str = "",
        background: bool | None = None,
    ) -> None:
        self._address = address
        self._identity = identity
        self._safeguards = safeguards
        self._patience_s = patience_s
        self._again = again
        self._background = background

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Run the app, contribute what it replies, and reply nothing.

        Raises:
            ParameterError: the message names no secure round, or the reply does not fit it.
            SangamError: as `clients.connect` and `Session.contribute`.
        """
        tag = Tag.take(message.content)
        base = arrays_of(message.content)
        try:
            reply = call_next(message, context)
            offer = NOTHING if reply.has_error() else contribution(reply.content, base, tag)
        except Exception:
            self._withdraw(context, tag.task, base)
            raise
        if reply.has_error():
            self._withdraw(context, tag.task, base)
            return reply
        self._take_part(context, tag.task, base, offer)
        return Message(RecordDict(), reply_to=message)

    def _withdraw(self, context: Context, task: str, base: Arrays) -> None:
        """Tell the round; the app's own error is what the caller should see."""
        try:
            self._take_part(context, task, base, NOTHING)
        except SangamError as error:
            _LOG.warning("could not withdraw from the round: %s", error)

    def _take_part(self, context: Context, task: str, base: Arrays, offer: Offer) -> None:
        background = in_simulation() if self._background is None else self._background
        stack = ExitStack()
        for attempt in Retrying(
            retry=retry_if_exception_type(StorageError),
            stop=stop_after_delay(HANDOVER_S if background else 0.0),
            wait=wait_fixed(HANDOVER_POLL_S),
            reraise=True,
        ):
            with attempt:
                session = stack.enter_context(self._connect(context, task))
        if background:
            Thread(target=_log_errors, args=(stack, session, base, offer, self._again), name=f"sangam {task}").start()
        else:
            _contribute(stack, session, base, offer, self._again)

    def _connect(self, context: Context, task: str) -> AbstractContextManager[BlockingSession]:
        address = _where(context, ADDRESS, self._address)
        identity = _where(context, IDENTITY, self._identity)
        if not (address and identity):
            raise ParameterError(f"no aggregator or identity: give SecureMod both, or set {ADDRESS} and {IDENTITY}")
        return connect_blocking(address, identity, task=task, safeguards=self._safeguards, patience_s=self._patience_s)


def _where(context: Context, key: str, otherwise: Where) -> str:
    if key in context.node_config:
        return str(context.node_config[key])
    return str(otherwise(context) if callable(otherwise) else otherwise)


def in_simulation() -> bool:
    """Whether this process is a worker of Flower's simulation, which runs on Ray and lives as long as the run."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _contribute(stack: ExitStack, session: BlockingSession, base: Arrays, offer: Offer, again: str) -> None:
    """Go through one round and leave.

    Raises:
        SangamError: as `Session.contribute`; of an update that does not fit only that: what exactly stays in the log.
    """
    update, weight = offer
    with stack:
        try:
            session.contribute(update, weight=weight, base=base, again=again)
        except StaleModel:
            raise
        except ParameterError as error:
            if offer is NOTHING:
                _LOG.info("withdrew from the round: the app failed")
                return
            _LOG.error("no contribution: %s", error)
            raise ParameterError("the node's own update does not fit the round; its log says why") from None


def _log_errors(*how: Any) -> None:
    """The same in a thread, where nobody waits for errors; the strategy hears of them by the round's events."""
    try:
        _contribute(*how)
    except SangamError as error:
        _LOG.error("no contribution: %s: %s", type(error).__name__, error)
