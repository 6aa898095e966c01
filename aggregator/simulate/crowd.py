"""A process that holds some of the clients. What it hears and says: `frames`. When the starter hangs up, it ends."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.identity import Identity
from aggregator.crypto.roster import Roster
from aggregator.local import child
from aggregator.local.tolerance import minimum_cohort
from aggregator.local.updates import Tally, Updates, WordSum
from aggregator.local.workload import weight
from aggregator.protocol.participant import Safeguards, Site
from aggregator.simulate.client import Client
from aggregator.simulate.frames import NOBODY, Frame
from aggregator.simulate.settings import Settings


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that a process of clients is told when it starts.

    Args:
        directory: its log, and the words that it leaves.
        clients: the number of each client with its certificate and key, PEM; from the starter's memory.
        authority: the consortium's certificate, PEM.
        updates: the file of the updates.
        settings: the simulation.
    """

    directory: Path
    clients: tuple[tuple[int, bytes, bytes], ...] = field(repr=False)
    authority: bytes
    updates: Path
    settings: Settings


def words_file(directory: Path, number: int) -> Path:
    """Where a process leaves the sum of its survivors' words in a round."""
    return directory / f"words-{number}.npy"


def main(invitation: Invitation, pipe: Connection) -> None:
    """Answer until the starter hangs up. The target of its process."""
    child.settle(invitation.directory)
    frames: SimpleQueue[bytes | None] = SimpleQueue()
    Thread(target=_read, args=(pipe, frames), daemon=True).start()
    crowd = Crowd(invitation)
    pipe.send_bytes(Frame(NOBODY, ()).to_bytes())
    while (data := frames.get()) is not None:
        pipe.send_bytes(crowd.take(Frame.from_bytes(data)).to_bytes())


def _read(pipe: Connection, frames: "SimpleQueue[bytes | None]") -> None:
    """Empty the pipe at all times, so that the server never waits for a client that computes."""
    try:
        while True:
            frames.put(pipe.recv_bytes())
    except (EOFError, OSError):
        frames.put(None)


class Crowd:
    """The clients of one process; a client of a round begins with the first message to it."""

    def __init__(self, invitation: Invitation) -> None:
        settings = invitation.settings
        self._directory, self._settings = invitation.directory, settings
        self._updates = Updates(invitation.updates, settings.entries)
        self._parameters = settings.parameters()
        self._authority = Certificate.from_pem(invitation.authority)
        safeguards = Safeguards(minimum_cohort(settings.clients))
        self._sites = {}
        for number, pem, key_pem in invitation.clients:
            who = Identity(Certificate.from_pem(pem), key_pem, self._authority)
            self._sites[number] = Site(who.certificate, who.authority, who.signing_key, safeguards)
        self._rosters: dict[bytes, Roster] = {}
        self._number = 0
        self._begin()

    def take(self, frame: Frame) -> Frame:
        """One client's answer; or, to the word that the round has ended, the same word when all is written down."""
        if frame.client == NOBODY:
            self._total.save(words_file(self._directory, self._number))
            self._begin()
            return frame
        client = self._clients.get(frame.client) or self._new(frame.client)
        parts, whole = client.answer(frame.parts[0])
        if not whole:
            del self._clients[frame.client]
        return Frame(frame.client, parts, whole)

    def _begin(self) -> None:
        self._number += 1
        self._clients: dict[int, Client] = {}
        self._absences = self._settings.absences(self._number)
        self._total = WordSum(self._parameters.entries, self._parameters.ring_bits)

    def _new(self, number: int) -> Client:
        tally, leaves = Tally(self._total), self._absences.get(number)
        client = Client(self._sites[number], self._verified, self._updates.of(number), weight(number), tally, leaves)
        self._clients[number] = client
        return client

    def _verified(self, data: bytes) -> Roster:
        """The roster behind these bytes, checked once for all clients of this process, which trust one authority."""
        if data not in self._rosters:
            roster = rosters.from_bytes(data)
            roster.verify(self._authority, datetime.now(UTC))
            self._rosters = {data: roster}
        return self._rosters[data]
