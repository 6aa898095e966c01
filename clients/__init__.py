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
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Deadlines
from clients.blocking import BlockingOperator, BlockingSession, connect_blocking, operate_blocking
from clients.connection import connect
from clients.contribution import Observer
from clients.operator import Operator, default_deadlines, operate
from clients.result import RoundResult
from clients.session import Session

__all__ = [
    "BlockingOperator",
    "BlockingSession",
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
    "Observer",
    "Operator",
    "OutOfTurn",
    "Overloaded",
    "ParameterError",
    "Parameters",
    "RoundAborted",
    "RoundResult",
    "Safeguards",
    "SangamError",
    "Session",
    "StaleModel",
    "StorageError",
    "Tensor",
    "VersionMismatch",
    "connect",
    "connect_blocking",
    "default_deadlines",
    "operate",
    "operate_blocking",
]
