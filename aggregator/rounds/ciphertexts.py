"""What the auditor reads, and what the key holder reads: whole ciphertexts of each client in U, and their sum."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from aggregator.errors import MessageError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList
from aggregator.storage.base import Staged
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import Chunk


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """What the server has summed: the list, over whom of it, the sum's ciphertexts as they travel, and their hash.

    `list_signature` is the auditor's; empty where nothing was frozen.
    """

    committed: CommittedList
    list_signature: bytes
    survivors: tuple[ClientId, ...]
    octets: memoryview = field(repr=False)
    hash: bytes

    @classmethod
    def of(
        cls, committed: CommittedList, list_signature: bytes, survivors: tuple[ClientId, ...], octets: memoryview
    ) -> "Sum":
        """With its hash."""
        whole = octets.toreadonly().cast("B")
        return cls(committed, list_signature, survivors, whole, sha256(whole).digest())


@dataclass(frozen=True, slots=True, eq=False)
class Ciphertexts:
    """The staged ciphertexts of U, in chunks of the plan."""

    staged: Mapping[ClientId, Staged] = field(repr=False)
    plan: ChunkPlan

    def chunk(self, client: ClientId, index: int) -> Chunk:
        """One chunk of one client.

        Raises:
            MessageError: no such client or chunk.
            StorageError: the disk failed, or they were destroyed since.
        """
        if client not in self.staged or index >= self.plan.chunks:
            raise MessageError(f"there is no chunk {index} of client {client}")
        return Chunk(index, self.staged[client].read(self.plan.start(index), self.plan.size(index)))

    def close(self) -> None:
        """Destroy them."""
        for staged in self.staged.values():
            staged.close()
