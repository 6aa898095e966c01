"""What a hospital, an operator or a script imports: sessions that contribute to secure rounds, and that run them."""

from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Safeguards
from aggregator.wire.messages import Deadlines, Tensor
from clients.blocking import connect_blocking, operate_blocking
from clients.contribution import Observer
from clients.operator import Operator, default_deadlines, operate
from clients.result import RoundResult
from clients.session import Session, connect

__all__ = [
    "Deadlines",
    "Observer",
    "Operator",
    "Parameters",
    "RoundResult",
    "Safeguards",
    "Session",
    "Tensor",
    "connect",
    "connect_blocking",
    "default_deadlines",
    "operate",
    "operate_blocking",
]
