"""When a round writes down what, and waits for the disk: all that makes it outlive its server.

write_opening  its terms; before anybody hears of them, `begin` waits for them
begin          the step that it is in, with its deadline
answered       an answer, without waiting
keep           an upload, before its receipt leaves; `refused` takes it back
fold           a sum in the place of many uploads
end_step       whose answers counted, before the next step is announced
close          its result, before anybody hears of it
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from aggregator.errors import StorageError
from aggregator.protocol.cohort import ClientId
from aggregator.rounds.phase import Completed, Phase, Setting
from aggregator.rounds.stand import Stand
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.storage.base import RoundRecords
from aggregator.wire.messages import ClientBody
from aggregator.wire.vocabulary import Step

_LOG = logging.getLogger(__name__)

FOLD_BYTES: Final = 1 << 30
FOLD_UPLOADS: Final = 8  # so that writing sums costs an eighth of writing uploads, at most
DISK_RETRY_S: Final = 1.0  # as the records try it themselves; this only asks how they fare
DISK_PATIENCE_S: Final = 60.0


class Writing:
    """What one round writes down.

    Args:
        records: where.
        setting: the round's.
        now: the wall clock, unix seconds.
    """

    def __init__(self, records: RoundRecords, setting: Setting, now: Callable[[], float]) -> None:
        self._records = records
        self._setting = setting
        self._now = now
        self._unfolded_bytes = 0  # of uploads that no kept sum holds

    @property
    def durable(self) -> bool:
        """Whether any of it outlives the process."""
        return self._records.durable

    async def begin(self, stand: Stand, wait_s: float) -> Stand:
        """The step that a round is in has begun; with its deadline, which holds even if the server is away until then.

        Raises:
            StorageError: the disk does not take it.
        """
        deadline_s = self._now() + wait_s
        self._records.began(stand.phase.step, deadline_s)
        await on_disk(self._records.written)
        return replace(stand, deadline_s=deadline_s)

    def answered(self, phase: Phase[Any], client: ClientId, body: ClientBody) -> None:
        """An answer was accepted; one that is lost with the server is asked for again."""
        if phase.written_down:
            self._records.answered(phase.step, client, body)

    async def keep(self, phase: Uploads[Any], upload: Upload) -> None:
        """Before an upload counts, it is on the disk: nothing acknowledged is lost. StorageError: the disk refuses."""
        if not self.durable:
            return
        try:
            await self._records.persist(upload.staged)
        except StorageError:
            phase.abandon(upload)
            raise
        self._records.arrived(phase.step, upload.client, upload.header, upload.staged)
        await self._records.written()

    def refused(self, phase: Uploads[Any], client: ClientId) -> None:
        """What was kept of this client does not count, unless a newer stream of the same upload has made it count."""
        if client not in phase.answers:
            self._records.refused(phase.step, client)

    async def fold(self, phase: Uploads[Any]) -> None:
        """Let uploads go once a sum on the disk holds them, so that a round takes the room of some, not of all.

        Where the disk refuses, they stay, and the next upload tries again.
        """
        if not self.durable or phase.keeps_sum:
            return
        payload_bytes = self._setting.terms.parameters.upload_plan.payload_bytes
        self._unfolded_bytes += payload_bytes
        if self._unfolded_bytes <= max(FOLD_BYTES, FOLD_UPLOADS * payload_bytes):
            return
        members = tuple(phase.answers)
        try:
            await self._records.keep_sum(phase.step, members, phase.sum_octets)
        except StorageError as error:
            _LOG.warning("round %d: its running sum is not written: %s", self._setting.terms.round, error)
            return
        self._records.let_go(phase.step, members)
        self._unfolded_bytes = 0

    async def end_step(self, stand: Stand, following: Stand, wait_s: float) -> Stand:
        """Before the next step is announced, what it is made of is on the disk; the next one, with its deadline.

        Raises:
            StorageError: the disk does not take it.
        """
        phase = stand.phase
        if isinstance(phase, Uploads) and phase.keeps_sum and self.durable:
            octets = await asyncio.to_thread(lambda: phase.sum_octets)
            await on_disk(partial(self._records.keep_sum, phase.step, tuple(phase.counted), octets))
            if following.phase.step is not Step.AUDIT:  # nobody is to read them
                self._records.let_go(phase.step, phase.counted)
        if phase.frees is not None:
            self._records.let_go(phase.frees, stand.summed)
        self._records.ended_step(phase.step, phase.counted)
        names = sorted(map(self._setting.name, phase.counted))
        self._records.decided("step ended", step=phase.step, answered=names)
        return await self.begin(following, wait_s)

    async def close(self, total: Completed) -> None:
        """The round's result. StorageError: the disk does not take it."""
        terms = total.setting.terms.to_message()
        await on_disk(partial(self._records.keep_result, terms, total.survivors, total.total.data))

    def left_s(self, stand: Stand, wait_s: float) -> float:
        """Of a step's time; a clock that was set back meanwhile makes it no longer."""
        return wait_s if stand.deadline_s is None else min(wait_s, stand.deadline_s - self._now())


def write_opening(records: RoundRecords, setting: Setting, invited: frozenset[ClientId] | None) -> None:
    """A round opens: its terms, its roster, whom it invites, and the parties' certificates."""
    terms = setting.terms
    attending = {number: certificate.der for number, certificate in setting.attending.items()}
    records.opened(terms.to_message(), setting.roster_bytes, invited, attending)
    records.decided(
        "round opened",
        mode=str(terms.parameters.mode),
        ctx0=terms.ctx0.hex(),
        roster=setting.roster.root.hex(),
        model=terms.model_hash.hex(),
        invited=len(setting.roster) if invited is None else len(invited),
    )


async def on_disk(write: Callable[[], Awaitable[None]]) -> None:
    """Until the disk takes it, which may be full for a while; StorageError when it stays so."""
    await _patiently(write)


_patiently: Final = AsyncRetrying(
    retry=retry_if_exception_type(StorageError),
    wait=wait_fixed(DISK_RETRY_S),
    stop=stop_after_delay(DISK_PATIENCE_S),
    reraise=True,
)
