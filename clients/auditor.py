"""The auditor's process in one task: it freezes lists and adds up ciphertexts, and holds no key but its own."""

import asyncio
from typing import cast

from aggregator.crypto.canonical import digest
from aggregator.errors import MessageError
from aggregator.protocol import auditor
from aggregator.protocol.auditor import Recount
from aggregator.protocol.committed_list import sum_fields
from aggregator.protocol.parties import Audit
from aggregator.wire.messages import (
    AuditRequest,
    Chunk,
    CiphertextsRequest,
    FreezeRequest,
    ListSignature,
    ServerBody,
    SumSignature,
)
from clients.audit_ledger import AuditLedger
from clients.party import Answer, Party


class Auditor(Party):
    """An auditor in one task; its `memory` is an `AuditLedger`."""

    async def answer(self, number: int, body: ServerBody) -> Answer:
        """Freeze a list, or sign a sum."""
        match body:
            case FreezeRequest():
                return await self._freeze(number, body)
            case AuditRequest():
                return await self._audit(number, body)
        raise MessageError(f"{type(body).__name__} is no question for an auditor")

    @property
    def _ledger(self) -> AuditLedger:
        return cast("AuditLedger", self._memory)

    async def _freeze(self, number: int, body: FreezeRequest) -> ListSignature:
        terms, roster = self._shown(number, body)
        site = self.credentials.site
        committed, signature = await asyncio.to_thread(auditor.freeze, terms, roster, body.commitments, site)
        self._ledger.freeze(self._key(number), terms.ctx0, committed.root)
        return signature

    async def _audit(self, number: int, body: AuditRequest) -> SumSignature:
        terms, roster = self._shown(number, body)
        site = self.credentials.site
        recount = await asyncio.to_thread(Recount, terms, roster, body.commitments, body.survivors, site)
        key, committed = self._key(number), recount.committed
        if recount.audit is Audit.FROZEN:
            self._ledger.check_frozen(key, terms.ctx0, committed.root)

        def wanted() -> CiphertextsRequest | None:
            client = recount.next_client
            if client is None:
                return None
            return CiphertextsRequest(terms.task, number, whole_sum=False, client=client, first_chunk=recount.chunks)

        async def take(chunk: Chunk) -> None:
            await asyncio.to_thread(recount.take, chunk)

        await self._read(wanted, take)
        signature = await asyncio.to_thread(recount.sign_sum)
        said = digest("sangam/v1/audited", *sum_fields(committed, body.survivors, signature.hash))
        self._ledger.sign_sum(key, terms.ctx0, committed.root, total=said)
        return signature
