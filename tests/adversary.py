"""The server in an attacker's hands, with as many clients as it could corrupt: it asks a real key holder and a real
auditor whatever it likes, and shows them whatever bytes it likes.

    evil = Adversary(tmp_path, 3)
    await evil.open()                          the key holder publishes a key; the terms are whole
    named = [evil.commit(c, evil.encrypt(c)) for c in range(3)]
    await evil.freeze(named)                   the auditor's signature over the list
    await evil.audit(named, (0, 1, 2), {...})  over the sum of the ciphertexts shown
    await evil.decrypt(named, ...)             the words

`restart` ends both and starts them anew over the same ledgers.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.crypto import signing
from aggregator.protocol import commitments, homomorphic, homomorphic_coordinator
from aggregator.protocol.committed_list import CommittedList, freeze, sum_fields
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.homomorphic_layout import DEGREE
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER
from aggregator.wire import codec
from aggregator.wire.messages import (
    AuditRequest,
    Chunk,
    CiphertextsRequest,
    DecryptionRequest,
    FreezeRequest,
    InputCommitment,
    KeyRequest,
    ListSignature,
    NamedCommitment,
    PublishedKey,
    ResultMessage,
    SumSignature,
)
from clients.audit_ledger import AuditLedger
from clients.auditor import Auditor
from clients.credentials import Credentials
from clients.key_ledger import KeyLedger
from clients.keyholder import KeyHolder
from clients.uploading import WholeUpload
from native.pack import unpack
from native.ring import Words, word_dtype
from tests.consortium import TASK, Consortium, drbg
from tests.parties import FROZEN, identity, ledger_path, parameters, safe, site
from tests.reference import rows as packing


class Shown:
    """What a party is shown when it fetches ciphertexts: by client, None for the sum."""

    def __init__(self) -> None:
        self.octets: dict[int | None, bytes] = {}
        self.asked: list[CiphertextsRequest] = []
        self.parameters: Parameters = parameters()

    async def fetch_ciphertexts(self, request: CiphertextsRequest) -> AsyncIterator[ResultMessage]:
        self.asked.append(request)
        payload = memoryview(self.octets[None if request.whole_sum else request.client])
        chunk_bytes = self.parameters.upload_plan.chunk_bytes
        for index, start in enumerate(range(0, len(payload), chunk_bytes)):
            if index >= request.first_chunk:
                yield ResultMessage(Chunk(index, payload[start : start + chunk_bytes]))


class Adversary:
    """See above; `clients` are in the roster, and the attacker may use any of their keys."""

    def __init__(self, directory: Path, clients: int, spec: Parameters | None = None) -> None:
        self.consortium = Consortium.of(clients)
        self.spec = spec or parameters()
        self.directory = directory
        self.shown = Shown()
        self.shown.parameters = self.spec
        self.draft: RoundTerms
        self.terms: RoundTerms
        self.published: PublishedKey
        self.attending = {number: identity(number).certificate for number in (KEY_HOLDER, AUDITOR)}
        self._ledgers: list[Any] = []
        self._start()

    def _start(self) -> None:
        keys = KeyLedger(ledger_path(self.directory, KEY_HOLDER))
        audits = AuditLedger(ledger_path(self.directory, AUDITOR))
        self._ledgers = [keys, audits]
        transport: Any = self.shown
        credentials = {number: Credentials(site(identity(number))) for number in (KEY_HOLDER, AUDITOR)}
        options: dict[str, Any] = {"task": TASK, "patience_s": 0.1}
        self.key_holder = KeyHolder(transport, credentials[KEY_HOLDER], keys, safe(), **options)
        self.auditor = Auditor(transport, credentials[AUDITOR], audits, **options)

    def close(self) -> None:
        for ledger in self._ledgers:
            ledger.close()

    def restart(self) -> None:
        """Both parties end, and are back with nothing but their ledgers."""
        self.close()
        self._start()

    async def open(self, number: int = 1, **changes: Any) -> None:
        """A round under a fresh key; `changes` of its terms."""
        self.draft = homomorphic_coordinator.draft(
            self.consortium.terms(self.spec, round=number, **changes), self._parties()
        )
        answer = await self.key_holder.answer(number, KeyRequest(self.draft.to_message()))
        assert isinstance(answer, PublishedKey)
        self.published = codec.decode(PublishedKey, codec.encode(answer))
        self.terms = self.draft.under(self.published.public_key)

    async def begin(
        self, clients: Sequence[int], minimum: int = 2
    ) -> tuple[list[NamedCommitment], dict[int, bytes], bytes]:
        """A round whose list is frozen: commitments, ciphertexts by client, the list's signature."""
        await self.open()
        sent = {client: self.encrypt(client) for client in clients}
        named = [self.commit(client, sent[client], minimum) for client in clients]
        return named, sent, await self.freeze(named)

    def words(self, client: int) -> Words:
        """What a client encodes."""
        rng = np.random.default_rng(client)
        return rng.integers(0, 2**self.spec.value_bits, self.spec.entries, dtype=np.uint32)

    def encrypt(self, client: int, words: Words | None = None) -> bytes:
        """A client's ciphertexts under the round's key."""
        layout = self.spec.ciphertexts
        key = homomorphic.read_public_key(self.published.public_key, layout)
        seed = drbg("ciphertexts", client, self.terms.round)(32)
        chosen = self.words(client) if words is None else words
        return bytes(homomorphic.contribute(chosen, key, layout, seed=seed, ctx0=self.terms.ctx0, each=map))

    def commit(self, client: int, ciphertexts: bytes, minimum: int = 2, author: int | None = None) -> NamedCommitment:
        """A commitment in a client's name, signed by `author`, who is the client unless said."""
        said = (self.terms.ctx0, client, sha256(ciphertexts).digest(), minimum)
        key = self.consortium.signing_keys[client if author is None else author]
        return NamedCommitment(client, InputCommitment(*said[2:], signing.sign(key, commitments.INPUT, *said)))

    def listed(self, named: Sequence[NamedCommitment]) -> CommittedList:
        return freeze(self.terms, {one.client: one.commitment for one in named})

    async def freeze(self, named: Sequence[NamedCommitment]) -> bytes:
        """Ask the auditor to freeze a list."""
        request = FreezeRequest(self.terms.to_message(), self._roster, tuple(named))
        answer = await self.auditor.answer(self.terms.round, request)
        assert isinstance(answer, ListSignature)
        return answer.signature

    async def audit(
        self, named: Sequence[NamedCommitment], survivors: Sequence[int], ciphertexts: Mapping[int, bytes]
    ) -> SumSignature:
        """Ask the auditor to sign the sum of what it is shown."""
        self.shown.octets = dict(ciphertexts)
        request = AuditRequest(self.terms.to_message(), self._roster, tuple(named), tuple(survivors))
        answer = await self.auditor.answer(self.terms.round, request)
        assert isinstance(answer, SumSignature)
        return answer

    async def decrypt(
        self,
        named: Sequence[NamedCommitment],
        survivors: Sequence[int],
        total: bytes,
        signatures: tuple[bytes, bytes],
        **changes: Any,
    ) -> Words:
        """Ask the key holder for the words of a sum; `signatures` over the list and the sum."""
        self.shown.octets = {None: total}
        request = DecryptionRequest(
            **{
                "terms": self.terms.to_message(),
                "roster": self._roster,
                "auditor_certificate": self.attending[AUDITOR].der if self._has_auditor else b"",
                "commitments": tuple(named),
                "list_signature": signatures[0],
                "survivors": tuple(survivors),
                "sum_hash": sha256(total).digest(),
                "sum_signature": signatures[1],
                **changes,
            }
        )
        answer = await self.key_holder.answer(self.terms.round, request)
        assert isinstance(answer, WholeUpload)
        words = np.empty(self.spec.entries, word_dtype(self.spec.ring_bits))
        unpack(np.frombuffer(answer.payload, np.uint8), self.spec.ring_bits, words)
        return words

    def total(self, *ciphertexts: bytes) -> bytes:
        """Their sum."""
        summed = homomorphic.Total(self.spec.ciphertexts)
        for payload in ciphertexts:
            for chunk in self.spec.upload_plan.cut(memoryview(payload)):
                summed.add(chunk.index, chunk.data)
        return bytes(summed.packed())

    def forge_list(self, named: Sequence[NamedCommitment]) -> bytes:
        """What an auditor that colludes would sign."""
        listed = self.listed(named)
        return signing.sign(identity(AUDITOR).signing_key, commitments.FROZEN_LIST, self.terms.ctx0, listed.root)

    def forge_sum(self, named: Sequence[NamedCommitment], survivors: Sequence[int], total: bytes) -> bytes:
        """What an auditor that colludes would sign."""
        said = sum_fields(self.listed(named), tuple(survivors), sha256(total).digest())
        return signing.sign(identity(AUDITOR).signing_key, commitments.SUM, *said)

    def _parties(self) -> dict[int, Any]:
        return {n: c for n, c in self.attending.items() if n == KEY_HOLDER or self._has_auditor}

    @property
    def _has_auditor(self) -> bool:
        return bool((self.spec.parties or FROZEN).auditor)

    @property
    def _roster(self) -> bytes:
        return self.consortium.roster.to_bytes()


def negated(payload: bytes, spec: Parameters) -> bytes:
    """The ciphertexts that decrypt to the negative: each residue r becomes q - r, by the twin of how rows travel."""
    parameters, out, at = spec.ciphertexts.parameters, [], 0
    rows = tuple(zip(parameters.primes, parameters.prime_bits[:-1], strict=True)) * 2
    while at < len(payload):
        for prime, bits in rows:
            size = DEGREE * bits // 8
            residues = packing.unpack(payload[at : at + size], bits)
            out.append(packing.pack([-residue % prime for residue in residues], bits))
            at += size
    return b"".join(out)
