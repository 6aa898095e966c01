"""The short form: seeds and cases of the same targets, damaged by fixed choices; without coverage, without atheris."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.draws import Draws
from tests.fuzz.target import Target

CASES: Final = Path(__file__).parent / "cases"


def cases(target: Target) -> Iterator[Path]:
    """What a fuzzer found once, a file each."""
    yield from sorted((CASES / target.name).glob("*"))


def damaged(target: Target, count: int) -> Iterator[bytes]:
    """So many inputs: every seed and case as it is, then damaged ones and mixtures, the same in every run."""
    known = [*target.seeds(), *(path.read_bytes() for path in cases(target))]
    yield from known[:count]
    for number in range(len(known), count):
        draws = Draws(hashlib.shake_256(f"{target.name} {number}".encode()).digest(64))
        one, other = (known[draws.below(len(known))] for _ in range(2))
        if draws.below(4) == 0:
            one = one[: draws.below(len(one) + 1)] + other[draws.below(len(other) + 1) :]
        yield draws.damaged(one)[: target.bytes_max]
