"""What participants and the aggregator say, as frozen values with the bounds that the codec enforces.

Names, fields, units and meaning are those of proto/sangam/v1; nothing here knows of rounds, keys or sums. What
operators say: `operator_messages`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from aggregator.wire.bounds import Ascending, Between, Count, Length, Printable

PROTOCOL_VERSION = 1  # the newest that this software speaks
OLDEST_VERSION = 1  # the oldest
CLIENTS_MAX = 10_000
ENTRIES_MAX = 10**9
NAME_BYTES_MAX = 63
REASON_BYTES_MAX = 1_000
CHUNK_BYTES_MAX = 1 << 20
ROSTER_BYTES_MAX = 16 << 20
PUBLIC_KEY_BYTES_MAX = 1 << 20
CERTIFICATE_BYTES_MAX = 8192
CUSTODIANS_MAX = 255
ENVELOPE_BYTES = 80
UPLOAD_ID_BYTES = 16
CHUNKS_MAX = 2_000_000
WEEK_S = 604_800.0
GO_ON_KEY = "sangam-go-on"  # initial metadata: it is this upload's turn, its chunks may come, from this one on
RETRY_AFTER_KEY = "sangam-retry-after"  # trailing metadata, with Overloaded: seconds, decimal; a place is kept so long
ERROR_NAME_KEY = "sangam-error"  # trailing metadata: the error's class, so that the client can raise the same

Bytes32: TypeAlias = Annotated[bytes, Length(32, 32)]
Bytes32OrNone: TypeAlias = Annotated[bytes, Length(0, 32)]
Signature: TypeAlias = Annotated[bytes, Length(64, 64)]
SignatureOrNone: TypeAlias = Annotated[bytes, Length(0, 64)]
CertificateOrNone: TypeAlias = Annotated[bytes, Length(0, CERTIFICATE_BYTES_MAX)]
RosterBytes: TypeAlias = Annotated[bytes, Length(1, ROSTER_BYTES_MAX)]
Name: TypeAlias = Annotated[str, Length(1, NAME_BYTES_MAX), Printable()]
NameOrNone: TypeAlias = Annotated[str, Length(0, NAME_BYTES_MAX), Printable()]
Reason: TypeAlias = Annotated[str, Length(0, REASON_BYTES_MAX)]
Client: TypeAlias = Annotated[int, Between(0, CLIENTS_MAX - 1)]
RoundNumber: TypeAlias = Annotated[int, Between(1, 2**63 - 1)]
RoundOrNone: TypeAlias = Annotated[int, Between(0, 2**63 - 1)]
Clients: TypeAlias = Annotated[tuple[int, ...], Count(1, CLIENTS_MAX), Between(0, CLIENTS_MAX - 1), Ascending()]
Version: TypeAlias = Annotated[int, Between(1, 2**31)]
Counted: TypeAlias = Annotated[int, Between(0, 2**63 - 1)]
Moment: TypeAlias = Annotated[float, Between(0.0, 1e12)]  # seconds since 1970
PayloadBytes: TypeAlias = Annotated[int, Between(1, 8 * ENTRIES_MAX * 2)]


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Who are you?"""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who answers, and which protocol it speaks."""

    oldest_version: Version
    newest_version: Version
    software: Annotated[str, Length(0, 200), Printable()]
    deployment: Name
    roster_version: Counted
    in_roster: bool
    time_s: Moment
    caller: Name


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor of the update."""

    name: Annotated[str, Length(1, 200)]
    shape: Annotated[tuple[int, ...], Count(0, 8), Between(1, ENTRIES_MAX)]
    clip: Annotated[float, Between(0.0, 1e300)] = 0.0


@dataclass(frozen=True, slots=True)
class Threat:
    """The corruption that the round's graph is computed for."""

    corrupt_fraction: Annotated[float, Between(0.0, 1.0)]
    dropout_fraction: Annotated[float, Between(0.0, 1.0)]
    malicious: bool
    security_bits: Annotated[int, Between(40, 128)]
    failure_bits: Annotated[int, Between(10, 64)]


@dataclass(frozen=True, slots=True)
class Parameters:
    """How updates become words of the ring and back."""

    mode: Annotated[str, Length(1, 32)]
    value_bits: Annotated[int, Between(2, 54)]
    clients_max: Annotated[int, Between(2, CLIENTS_MAX)]
    clip: Annotated[float, Between(1e-300, 1e300)]
    weight_max: Annotated[int, Between(1, 2**53)]
    rotate: bool
    minimum_cohort: Annotated[int, Between(2, CLIENTS_MAX)]
    threat: Threat
    tensors: Annotated[tuple[Tensor, ...], Count(1, 10_000)]
    audit: Annotated[str, Length(0, 32)] = ""
    key_holder: NameOrNone = ""
    auditor: NameOrNone = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """All that is known when a round opens."""

    protocol_version: Version
    deployment: Name
    task: Name
    round: RoundNumber
    server_nonce: Bytes32
    roster_size: Annotated[int, Between(1, CLIENTS_MAX)]
    roster_root: Bytes32
    authority_hash: Bytes32
    model_hash: Bytes32
    parameters: Parameters
    public_key_hash: Bytes32OrNone = b""
    key_holder_hash: Bytes32OrNone = b""
    auditor_hash: Bytes32OrNone = b""


@dataclass(frozen=True, slots=True)
class Join:
    """First message of a control stream."""

    oldest_version: Version
    newest_version: Version
    task: NameOrNone
    roster_hash: Annotated[bytes, Length(0, 32)] = b""


@dataclass(frozen=True, slots=True)
class Advert:
    """Step 1: the client's ephemeral public keys, signed."""

    mask_key: Bytes32
    share_key: Bytes32
    nonce: Bytes32
    self_seed_hash: Bytes32
    signature: Signature


@dataclass(frozen=True, slots=True)
class Envelope:
    """One holder's encrypted shares, with the hashes that they must have."""

    ciphertext: Annotated[bytes, Length(0, ENVELOPE_BYTES)]
    self_seed_share_hash: Bytes32
    mask_key_share_hash: Bytes32


@dataclass(frozen=True, slots=True)
class Dealing:
    """Step 2: one envelope per holder, ascending, signed once."""

    envelopes: Annotated[tuple[Envelope, ...], Count(1, CLIENTS_MAX)]
    signature: Signature


@dataclass(frozen=True, slots=True)
class SurvivorSignature:
    """Step 4: the signature over (ctx1, H(U2), H(U))."""

    signature: Signature


@dataclass(frozen=True, slots=True)
class RevealedShare:
    """One share given up in step 5."""

    client: Client
    share: Bytes32 = field(repr=False)


RevealedShares: TypeAlias = Annotated[tuple[RevealedShare, ...], Count(0, CLIENTS_MAX), Ascending("client")]


@dataclass(frozen=True, slots=True)
class Unmasking:
    """Step 5: of each neighbour a share of its seed or of its key, never both."""

    self_seed_shares: RevealedShares
    mask_key_shares: RevealedShares


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The client leaves the round and says why."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """Homomorphic step 1: the key holder's public key for this round, signed."""

    public_key: Annotated[bytes, Length(1, PUBLIC_KEY_BYTES_MAX)] = field(repr=False)
    custody_threshold: Annotated[int, Between(1, CUSTODIANS_MAX)]
    custodians: Annotated[int, Between(1, CUSTODIANS_MAX)]
    signature: Signature


@dataclass(frozen=True, slots=True)
class InputCommitment:
    """Homomorphic step 2: the hash of the client's ciphertexts and its own minimum cohort, signed."""

    hash: Bytes32
    minimum_cohort: Annotated[int, Between(2, CLIENTS_MAX)]
    signature: Signature


@dataclass(frozen=True, slots=True)
class ListSignature:
    """Homomorphic step 3: the auditor's signature over (ctx0, root of the list)."""

    signature: Signature


@dataclass(frozen=True, slots=True)
class SumSignature:
    """Homomorphic step 5: the auditor's signature over (ctx1, H(U), hash of the sum)."""

    hash: Bytes32
    signature: Signature


ClientBody: TypeAlias = (
    Join
    | Advert
    | Dealing
    | SurvivorSignature
    | Unmasking
    | Withdrawal
    | PublishedKey
    | InputCommitment
    | ListSignature
    | SumSignature
)


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """From participant to aggregator, on the control stream."""

    round: RoundOrNone
    body: ClientBody


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to `join`."""

    task: Name
    last_round: RoundOrNone
    protocol_version: Version


@dataclass(frozen=True, slots=True)
class AnnouncedKey:
    """A round's public key, with the certificates of key holder and auditor."""

    published: PublishedKey
    key_holder_certificate: Annotated[bytes, Length(1, CERTIFICATE_BYTES_MAX)] = field(repr=False)
    auditor_certificate: CertificateOrNone = field(repr=False)


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """A round opens, with the signed roster unless the client holds it; in homomorphic mode with the public key."""

    terms: Terms
    roster: Annotated[bytes, Length(0, ROSTER_BYTES_MAX)]
    key: Annotated[tuple[AnnouncedKey, ...], Count(0, 1)] = ()


@dataclass(frozen=True, slots=True)
class NamedAdvert:
    """An advert with its author."""

    client: Client
    advert: Advert


@dataclass(frozen=True, slots=True)
class ListedAdvert:
    """The hash under which an advert stands in the frozen list."""

    client: Client
    hash: Bytes32


@dataclass(frozen=True, slots=True)
class AdvertList:
    """Opens step 2: U1 as hashes, and the neighbours' adverts."""

    listed: Annotated[tuple[ListedAdvert, ...], Count(2, CLIENTS_MAX), Ascending("client")]
    neighbours: Annotated[tuple[NamedAdvert, ...], Count(1, CLIENTS_MAX), Ascending("client")]


@dataclass(frozen=True, slots=True)
class ReceivedEnvelope:
    """What one dealer sent to this holder, with the proof that the dealer signed it."""

    dealer: Client
    envelope: Envelope
    root: Bytes32
    signature: Signature
    proof: Annotated[tuple[bytes, ...], Count(0, 14), Length(32, 32)]


@dataclass(frozen=True, slots=True)
class ShareList:
    """Opens step 3: U2, and the shares addressed to this client."""

    dealers: Clients
    envelopes: Annotated[Sequence[ReceivedEnvelope], Count(0, CLIENTS_MAX), Ascending("dealer")]


@dataclass(frozen=True, slots=True)
class Survivors:
    """Opens step 4: U2 and U."""

    dealers: Clients
    survivors: Clients


@dataclass(frozen=True, slots=True)
class NamedSignature:
    """A signature with its author."""

    client: Client
    signature: Signature


@dataclass(frozen=True, slots=True)
class SignatureList:
    """Opens step 5: the neighbours' signatures on (U2, U)."""

    signatures: Annotated[tuple[NamedSignature, ...], Count(0, CLIENTS_MAX), Ascending("client")]


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """The round ended with a sum."""

    survivors: Clients
    result_shared: bool


@dataclass(frozen=True, slots=True)
class RoundFailed:
    """The round ended without one."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Excluded:
    """The round went on without this client."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Asks the key holder for a public key, for one round under these terms; `public_key_hash` is empty in them."""

    terms: Terms


@dataclass(frozen=True, slots=True)
class NamedCommitment:
    """A commitment with its author."""

    client: Client
    commitment: InputCommitment


Commitments: TypeAlias = Annotated[tuple[NamedCommitment, ...], Count(2, CLIENTS_MAX), Ascending("client")]


@dataclass(frozen=True, slots=True)
class FreezeRequest:
    """Asks the auditor to freeze the list."""

    terms: Terms
    roster: RosterBytes = field(repr=False)
    commitments: Commitments


@dataclass(frozen=True, slots=True)
class FrozenList:
    """Opens the upload: the list as the auditor signed it."""

    commitments: Commitments
    signature: Signature


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """Asks the auditor to add up the ciphertexts of U."""

    terms: Terms
    roster: RosterBytes = field(repr=False)
    commitments: Commitments
    survivors: Clients


@dataclass(frozen=True, slots=True)
class DecryptionRequest:
    """Asks the key holder for the words of the sum."""

    terms: Terms
    roster: RosterBytes = field(repr=False)
    auditor_certificate: CertificateOrNone = field(repr=False)
    commitments: Commitments
    list_signature: SignatureOrNone
    survivors: Clients
    sum_hash: Bytes32
    sum_signature: SignatureOrNone


ServerBody: TypeAlias = (
    Welcome
    | RoundOpened
    | AdvertList
    | ShareList
    | Survivors
    | SignatureList
    | RoundClosed
    | RoundFailed
    | Excluded
    | KeyRequest
    | FreezeRequest
    | FrozenList
    | AuditRequest
    | DecryptionRequest
)


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """From aggregator to participant, on the control stream."""

    round: RoundOrNone
    body: ServerBody


@dataclass(frozen=True, slots=True)
class Complaint:
    """A share that did not decrypt, as this holder received it."""

    dealer: Client
    ciphertext: Annotated[bytes, Length(ENVELOPE_BYTES, ENVELOPE_BYTES)]


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """First message of an upload."""

    task: Name
    round: RoundNumber
    payload_bytes: PayloadBytes
    complaints: Annotated[tuple[Complaint, ...], Count(0, CLIENTS_MAX), Ascending("dealer")]
    upload_id: Annotated[bytes, Length(UPLOAD_ID_BYTES, UPLOAD_ID_BYTES)]
    commitment: Annotated[tuple[InputCommitment, ...], Count(0, 1)] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a packed vector; `data` may be a read-only, contiguous view of bytes that nobody changes any more."""

    index: Annotated[int, Between(0, 2**31)]
    data: Annotated[bytes | memoryview, Length(1, CHUNK_BYTES_MAX)] = field(repr=False)

    def __hash__(self) -> int:  # a view of an array is equal to its bytes, but has no hash
        return hash((self.index, bytes(self.data)))


@dataclass(frozen=True, slots=True)
class UploadMessage:
    """From participant to aggregator, while uploading."""

    body: UploadHeader | Chunk


@dataclass(frozen=True, slots=True)
class UploadReceipt:
    """The whole upload was accepted."""

    already_accepted: bool


@dataclass(frozen=True, slots=True)
class ResultRequest:
    """Which result; round 0 is the last one, over the model of that hash, or over any where it is empty."""

    task: Name
    round: RoundOrNone
    first_chunk: Annotated[int, Between(0, CHUNKS_MAX)] = 0
    model_hash: Bytes32OrNone = b""


@dataclass(frozen=True, slots=True)
class ResultHeader:
    """What the sum means."""

    terms: Terms
    participants: Annotated[tuple[str, ...], Count(1, CLIENTS_MAX), Length(1, NAME_BYTES_MAX), Printable()]
    payload_bytes: PayloadBytes


@dataclass(frozen=True, slots=True)
class ResultMessage:
    """From aggregator to participant or operator, while downloading."""

    body: ResultHeader | Chunk


@dataclass(frozen=True, slots=True)
class CiphertextsRequest:
    """One client's ciphertexts, or their sum."""

    task: Name
    round: RoundNumber
    whole_sum: bool
    client: Client = 0
    first_chunk: Annotated[int, Between(0, CHUNKS_MAX)] = 0
