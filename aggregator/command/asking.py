"""One question to the aggregator: connect as an operator, ask, leave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from clients.operator import Operator

T = TypeVar("T")


def ask(address: str, identity: Path, question: Callable[["Operator"], Coroutine[Any, Any, T]]) -> T:
    """The answer to one question; errors as the operator's session raises them."""
    from clients.operator import operate

    async def run() -> T:
        async with operate(address, identity) as operator:
            return await question(operator)

    return asyncio.run(run())


async def collected(items: AsyncIterator[T]) -> list[T]:
    """All that an iterator gives, page after page."""
    return [item async for item in items]
