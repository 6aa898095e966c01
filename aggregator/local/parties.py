"""Key holder and auditor of a local consortium, each in a process of its own, as `sangam keyholder serve` has them."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from aggregator.crypto import custody
from aggregator.local import child
from aggregator.local.consortium import Consortium
from aggregator.local.processes import Child
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER, Parties
from clients.attendance import attend_as_auditor, attend_as_key_holder

CUSTODIANS, THRESHOLD = 3, 2


@dataclass(frozen=True, slots=True)
class Post:
    """All that a party is told when its process starts.

    Args:
        directory: its identity and ledger; a key holder's custodians' files beside them, on this machine only.
        address: host:port of the aggregator.
        task: that it attends.
        number: which party it is.
    """

    directory: Path
    address: str
    task: str
    number: int


def main(post: Post, pipe: Connection) -> None:
    """Attend until the starter hangs up. The target of its process."""
    child.settle(post.directory)
    asyncio.run(_attend(post, pipe))


def start(
    context: ForkServerContext, members: Consortium, parties: Parties, address: str, task: str
) -> Iterator[Child]:
    """Start the parties of a task."""
    for number, name in parties.names.items():
        directory = members.directory / name
        if number == KEY_HOLDER:
            custody.write(directory, custody.split(THRESHOLD, CUSTODIANS, os.urandom))
        yield Child(context, name, directory, main, Post(directory, address, task, number))


async def _attend(post: Post, pipe: Connection) -> None:
    child.Starter(pipe)  # which ends this process when the starter hangs up
    if post.number == AUDITOR:
        await attend_as_auditor(post.address, post.directory, (post.task,))
    else:
        files = [post.directory / custody.file_name(index) for index in range(1, THRESHOLD + 1)]
        await attend_as_key_holder(post.address, post.directory, (post.task,), custody.load(files))
