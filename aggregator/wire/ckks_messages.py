"""What an operator's platform and the aggregator say about CKKS vectors; see `messages` for how to read them.

Names, fields, units and meaning are those of proto/sangam/v1/ckks.proto.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from aggregator.wire.bounds import Between
from aggregator.wire.messages import ENTRIES_MAX, Chunk

VECTORS_MAX = 1_000_000

CkksBytes: TypeAlias = Annotated[int, Between(1, 2**36)]  # 10^9 values make 64.4·10^9 bytes


@dataclass(frozen=True, slots=True)
class CkksHeader:
    """What all vectors of one sum have in common."""

    values: Annotated[int, Between(1, ENTRIES_MAX)]


@dataclass(frozen=True, slots=True)
class CkksVector:
    """One client's vector begins."""

    payload_bytes: CkksBytes


@dataclass(frozen=True, slots=True)
class CkksMessage:
    """From operator to aggregator."""

    body: CkksHeader | Chunk | CkksVector


@dataclass(frozen=True, slots=True)
class CkksGoOn:
    """What comes next may be sent."""

    vectors: Annotated[int, Between(0, VECTORS_MAX)]


@dataclass(frozen=True, slots=True)
class CkksSum:
    """The sum begins."""

    vectors: Annotated[int, Between(1, VECTORS_MAX)]
    payload_bytes: CkksBytes


@dataclass(frozen=True, slots=True)
class CkksAnswer:
    """From aggregator to operator."""

    body: CkksGoOn | Chunk | CkksSum
