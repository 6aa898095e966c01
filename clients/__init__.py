"""What a hospital, an operator or a script imports: sessions that contribute to secure rounds, and that run them."""

from aggregator.errors import (
    Cancelled,
    Disconnected,
    Equivocation,
    Expired,
    Gone,
    MessageError,
    NameTaken,
    NotAdmitted,
    NotFound,
    NotOffered,
    OutOfTurn,
    Overloaded,
    ParameterError,
    RoundAborted,
    SangamError,
    StaleModel,
    StorageError,
    VersionMismatch,
)
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.participant import Safeguards
from aggregator.protocol.parties import Audit, Parties
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import (
    Deadlines,
    Opening,
    Retention,
    RoundEvent,
    RoundSummary,
    SiteSummary,
    TaskDescription,
    TaskSummary,
)
from clients.blocking import (
    BlockingOperator,
    BlockingSession,
    BlockingSite,
    connect_blocking,
    open_site_blocking,
    operate_blocking,
)
from clients.connection import connect, open_site
from clients.contribution import Observer
from clients.operator import Operator, default_deadlines, operate
from clients.result import RoundResult
from clients.selection import Selection
from clients.session import Session
from clients.site import OpenSite

__all__ = [
    "Audit",
    "BlockingOperator",
    "BlockingSession",
    "BlockingSite",
    "Cancelled",
    "Deadlines",
    "Disconnected",
    "Equivocation",
    "Expired",
    "Gone",
    "MessageError",
    "Mode",
    "NameTaken",
    "NotAdmitted",
    "NotFound",
    "NotOffered",
    "Observer",
    "OpenSite",
    "Opening",
    "Operator",
    "OutOfTurn",
    "Overloaded",
    "ParameterError",
    "Parameters",
    "Parties",
    "Retention",
    "RoundAborted",
    "RoundEvent",
    "RoundResult",
    "RoundSummary",
    "Safeguards",
    "SangamError",
    "Selection",
    "Session",
    "SiteSummary",
    "StaleModel",
    "StorageError",
    "TaskDescription",
    "TaskSummary",
    "Tensor",
    "VersionMismatch",
    "connect",
    "connect_blocking",
    "default_deadlines",
    "open_site",
    "open_site_blocking",
    "operate",
    "operate_blocking",
]
