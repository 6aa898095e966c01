"""How work over blocks of a long vector is spread over threads, without the protocol knowing of threads.

A function that works block by block takes a parameter `each: Each = map`. The default does one block after the other in
the caller's thread; `ThreadPoolExecutor(...).map` does as many at once as it has threads, since kernels and AES run
without the GIL. Blocks share nothing that they write, so the result is the same.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """`map` or anything like it: calls the function once for every item, gives the results in the items' order."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """The results; whoever asked reads them all."""
        ...


def batches(blocks: range, at_once: int) -> Iterator[range]:
    """The blocks, `at_once` at a time: what one thread takes in one go."""
    for start in range(blocks.start, blocks.stop, at_once):
        yield range(start, min(start + at_once, blocks.stop))
