"""The key holder's process in one task: a fresh key pair for each round, and one decryption under it."""

import asyncio
import logging
import os
from typing import Any, cast

from aggregator.crypto.agreement import Entropy
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.custody import Safe
from aggregator.errors import MessageError
from aggregator.protocol import keyholder
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.keyholder import Custody, Decryption, RoundKey
from aggregator.protocol.parties import Audit
from aggregator.wire import codec
from aggregator.wire.messages import (
    UPLOAD_ID_BYTES,
    Chunk,
    CiphertextsRequest,
    DecryptionRequest,
    KeyRequest,
    PublishedKey,
    ServerBody,
    UploadHeader,
)
from clients import memory
from clients.credentials import Credentials
from clients.key_ledger import KeyLedger, Published
from clients.party import Answer, Party
from clients.transport import PartyTransport
from clients.uploading import WholeUpload
from native.pack import pack

_LOG = logging.getLogger("clients")


class KeyHolder(Party):
    """A key holder in one task; its `memory` is a `KeyLedger`.

    Args:
        transport, credentials, ledger: as `Party`.
        safe: opened by the custodians' files.
        entropy: the source of salts.
        rest: as `Party`.
    """

    def __init__(
        self,
        transport: PartyTransport,
        credentials: Credentials,
        ledger: KeyLedger,
        safe: Safe,
        *,
        entropy: Entropy = os.urandom,
        **rest: Any,
    ) -> None:
        super().__init__(transport, credentials, ledger, **rest)
        self._safe = safe
        self._entropy = entropy

    async def answer(self, number: int, body: ServerBody) -> Answer:
        """Publish a key, or decrypt a sum."""
        match body:
            case KeyRequest():
                return await self._publish(number, RoundTerms.from_message(body.terms, draft=True))
            case DecryptionRequest():
                return await self._decrypt(number, body)
        raise MessageError(f"{type(body).__name__} is no question for a key holder")

    def over(self, key: memory.RoundKey) -> None:
        """Destroy the round's secret, used or not."""
        self._ledger.destroy(key)

    @property
    def _ledger(self) -> KeyLedger:
        return cast("KeyLedger", self._memory)

    async def _publish(self, number: int, draft: RoundTerms) -> PublishedKey:
        self.credentials.check()
        self._check_asked(number, draft)
        key, site = self._key(number), self.credentials.site
        known = self._ledger.published(key)
        if known is not None and known.draft == draft.ctx0:
            return codec.decode(PublishedKey, known.answer)  # the line broke, or this process was started anew
        custody = Custody(self._safe.threshold, self._safe.custodians)
        made: RoundKey = await asyncio.to_thread(keyholder.publish_key, draft, custody, site)
        published = Published(draft.ctx0, made.ctx0, codec.encode(made.published))
        self._ledger.publish(key, published, self._safe.wrap(key, made.secret, self._entropy))
        return made.published

    async def _decrypt(self, number: int, body: DecryptionRequest) -> WholeUpload:
        terms, roster = self._shown(number, body)
        key, site = self._key(number), self.credentials.site
        published = self._ledger.published(key)
        if published is None:
            raise MessageError(f"round {number} of task {self.task} has no key here")
        audit = terms.parameters.parties.audit if terms.parameters.parties else Audit.FROZEN
        if audit is not Audit.FROZEN:
            _LOG.warning("round %d of task %s is audited %s: see SECURITY.md", number, self.task, audit)
        checking = asyncio.to_thread(keyholder.check_decryption, body, terms, roster, published.ctx0, site)
        decryption = await checking
        if body.auditor_certificate:
            Certificate.from_der(body.auditor_certificate).check_valid_at(self._now())
        total = await self._fetch(decryption)
        await asyncio.to_thread(keyholder.check_sum, decryption, total)
        secret = self._safe.unwrap(key, self._ledger.release(key, decryption.sum_hash))
        try:
            words = await asyncio.to_thread(keyholder.decrypt, decryption, total, secret)
        finally:
            self._ledger.destroy(key)
        plan = terms.parameters.result_plan
        payload = pack(words, terms.parameters.ring_bits).data
        header = UploadHeader(terms.task, number, plan.payload_bytes, (), self._entropy(UPLOAD_ID_BYTES))
        return WholeUpload(header, payload, plan)

    async def _fetch(self, decryption: Decryption) -> memoryview:
        """The sum's bytes; memory follows what arrives."""
        terms, total, held = decryption.terms, bytearray(), 0
        plan = terms.parameters.upload_plan

        def wanted() -> CiphertextsRequest | None:
            if held == plan.chunks:
                return None
            return CiphertextsRequest(terms.task, terms.round, whole_sum=True, first_chunk=held)

        async def take(chunk: Chunk) -> None:
            nonlocal held
            plan.check(held, chunk)
            total.extend(chunk.data)
            held += 1

        await self._read(wanted, take)
        return memoryview(total)
