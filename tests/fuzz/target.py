"""What a fuzzer runs: one decoder, or one protocol, fed with bytes that anybody could have sent."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is fuzzed.

    Attributes:
        name: of the target, and of the folder of its cases.
        run: takes any bytes. It returns when the code did as it says, even by refusing; whatever it raises is a find.
        seeds: valid inputs, made by our own encoders, from which the fuzzer starts.
        bytes_max: inputs are no longer.
        share: of all inputs, relative to the other targets: less where one input takes long.
        sequences: whether an input is a sequence of messages and not something to decode.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    bytes_max: int = BYTES_MAX
    share: int = 100
    sequences: bool = False
