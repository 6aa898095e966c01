"""What key holder and auditor have in common: they dial the server, join a task, and answer what they are asked.

A question that comes again, as after a broken line, gets the answer that was given. A question that is refused is
answered with the reason, and the round ends.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from aggregator.crypto.roster import Roster
from aggregator.errors import Disconnected, MessageError, NotFound, SangamError, StorageError
from aggregator.protocol.context import RoundTerms
from aggregator.wire import messages
from aggregator.wire.messages import (
    Chunk,
    CiphertextsRequest,
    ClientBody,
    RoundClosed,
    RoundFailed,
    ServerBody,
    Welcome,
    Withdrawal,
)
from aggregator.wire.vocabulary import sentence
from clients.credentials import Credentials, utc_now
from clients.line import Line
from clients.memory import Memory, RoundKey
from clients.retry import DEFAULT_PATIENCE_S, HEALS, Progress, patiently
from clients.rosters import OF_THIS_PROCESS, Rosters
from clients.transport import PartyTransport
from clients.uploading import WholeUpload, send_whole

_LOG = logging.getLogger("clients")

FAILED_STORAGE = "this party's own disk failed"
TOO_LARGE = "the round's sum is too large for this party's memory"
UNTIL_IT_IS_THERE: Final = (NotFound, *HEALS)

Answer: TypeAlias = ClientBody | WholeUpload


class Request(Protocol):
    """A question that shows the round: its terms and its roster."""

    @property
    def terms(self) -> messages.Terms:
        """Of the round."""

    @property
    def roster(self) -> bytes:
        """Signed by the authority."""


class Party(ABC):
    """One party in one task.

    Args:
        transport: the way to the server.
        credentials: who it is.
        memory: its ledger.
        task: the task's name; empty for the server's only one.
        patience_s: how long a broken line is retried, seconds.
        now: the wall clock, for certificates.
        rosters: those that this process has verified.
    """

    def __init__(
        self,
        transport: PartyTransport,
        credentials: Credentials,
        memory: Memory,
        *,
        task: str = "",
        patience_s: float = DEFAULT_PATIENCE_S,
        now: Callable[[], datetime] = utc_now,
        rosters: Rosters = OF_THIS_PROCESS,
    ) -> None:
        self.credentials = credentials
        self._transport = transport
        self._memory = memory
        self._patience_s = patience_s
        self._now = now
        self._rosters = rosters
        self._line = Line(transport, task, patience_s, lambda _: None, credentials, rosters=rosters)
        self._answered: dict[type, tuple[int, ServerBody, Answer]] = {}  # the last of each kind

    async def attend(self) -> None:
        """Answer until the task ends; waits for a task that is not there yet.

        Raises:
            Cancelled: the operator ended the task.
            NotAdmitted: the task names another party, or the certificate has ended.
            Disconnected: the server was away for longer than this party's patience.
            SangamError: as the server names it.
        """
        try:
            await patiently(self._patience_s, heals=UNTIL_IT_IS_THERE)(self._line.open)
            while True:
                message = await self._line.receive()
                await self._hear(message.round, message.body)
        finally:
            await self._line.close()

    @property
    def task(self) -> str:
        """The task that it joined."""
        return self._line.task

    @abstractmethod
    async def answer(self, number: int, body: ServerBody) -> Answer:
        """The answer to a question that is new. Long work goes to a thread.

        Raises:
            MessageError: it is no question for this party.
            SangamError: refused.
        """

    def over(self, key: RoundKey) -> None:  # noqa: B027
        """A round has ended: what was kept for it goes. Nothing was, unless a party says otherwise."""

    async def _hear(self, number: int, body: ServerBody) -> None:
        if isinstance(body, Welcome):
            _LOG.info("%s: attends task %s", self.credentials.site.certificate.name, self.task)
        elif isinstance(body, RoundClosed | RoundFailed):
            _LOG.info("round %d of task %s has ended", number, self.task)
            self._answered.clear()
            self.over(self._key(number))
        else:
            await self._respond(number, body)

    async def _respond(self, number: int, body: ServerBody) -> None:
        asked = type(body).__name__
        try:
            answer = await self._once(number, body)
        except (SangamError, MemoryError) as error:
            _LOG.warning("round %d of task %s: %s is refused: %s", number, self.task, asked, error or TOO_LARGE)
            await self._line.send(number, Withdrawal(sentence(_told(error))))
            return
        if isinstance(answer, WholeUpload):
            await self._send(number, answer)
        else:
            await self._line.send(number, answer)
        _LOG.info("round %d of task %s: %s is answered", number, self.task, asked)

    async def _once(self, number: int, body: ServerBody) -> Answer:
        known = self._answered.get(type(body))
        if known is not None and known[:2] == (number, body):
            return known[2]
        answer = await self.answer(number, body)
        self._answered[type(body)] = number, body, answer
        return answer

    async def _send(self, number: int, answer: WholeUpload) -> None:
        try:
            await send_whole(self._transport, answer, self._patience_s)
        except SangamError as error:
            _LOG.warning("round %d of task %s: the answer could not be delivered: %s", number, self.task, error)

    def _key(self, number: int) -> RoundKey:
        return self.credentials.site.certificate.deployment, self.task, number

    def _shown(self, number: int, request: Request) -> tuple[RoundTerms, Roster]:
        """The terms and the roster of a question, the latter verified, and never an older one than was seen.

        Raises:
            MessageError: of another round or task than the question.
            SangamError: as `Rosters.verified` and `Memory.roster_version`.
        """
        self.credentials.check()
        terms = RoundTerms.from_message(request.terms)
        self._check_asked(number, terms)
        roster = self._rosters.verified(request.roster, self.credentials.site.authority, self._now())
        self._memory.roster_version(roster.deployment, roster.version, roster.root)
        return terms, roster

    def _check_asked(self, number: int, terms: RoundTerms) -> None:
        if (terms.task, terms.round) != (self.task, number):
            raise MessageError(f"asked for round {number} of {self.task}, shown {terms.round} of {terms.task}")

    async def _read(
        self, wanted: Callable[[], CiphertextsRequest | None], take: Callable[[Chunk], Awaitable[None]]
    ) -> None:
        """Read ciphertexts until nothing is wanted any more; after a broken line, from where it broke.

        Args:
            wanted: whose, and from which chunk on; None when all has been taken.
            take: one chunk; what is wanted afterwards is another one.
        """
        progress, taken = Progress(), 0

        async def stream() -> None:
            nonlocal taken
            while (request := wanted()) is not None:
                whole = False
                async for part in self._transport.fetch_ciphertexts(request):
                    if whole or not isinstance(part.body, Chunk):
                        raise MessageError("the stream of ciphertexts holds more than was asked for")
                    await take(part.body)
                    taken += 1
                    progress.reached(taken)
                    following = wanted()
                    whole = following is None or following.client != request.client
                if not whole:
                    raise Disconnected("the stream of ciphertexts ended too early")

        await patiently(self._patience_s, progress)(stream)


def _told(error: SangamError | MemoryError) -> str:
    """What the server hears of a refusal: of a failed disk not which file."""
    if isinstance(error, MemoryError):
        return TOO_LARGE
    return FAILED_STORAGE if isinstance(error, StorageError) else str(error)
