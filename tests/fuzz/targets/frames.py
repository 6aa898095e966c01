"""What a simulation's processes say to each other."""

from collections.abc import Iterator
from typing import Final

from aggregator.errors import MessageError
from aggregator.simulate.frames import NOBODY, Frame
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """A frame as it comes out of the pipe."""
    try:
        frame = Frame.from_bytes(data)
    except MessageError:
        return
    assert Frame.from_bytes(frame.to_bytes()) == frame


def seeds() -> Iterator[bytes]:
    """Of no part, of one, and of two."""
    yield Frame(NOBODY, (b"begin",)).to_bytes()
    yield Frame(0, (), whole=False).to_bytes()
    yield Frame(3, (b"header", bytes(300))).to_bytes()


TARGET: Final = Target("frames", run, seeds, share=60)
