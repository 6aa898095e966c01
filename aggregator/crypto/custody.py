"""Custody of a key holder's secrets: one task key, shared among custodians, of whom `threshold` open it together.

The task key is reconstructed in memory only. Under it, each round's secret is wrapped for the disk: ChaCha20-Poly1305
under HKDF-SHA256(task key, salt, deployment ‖ task ‖ round), a fresh salt with each, so that each key seals once.

Source: Shamir 1979; RFC 5869; RFC 8439.
"""

import base64
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aggregator.crypto import aead, shamir
from aggregator.crypto.agreement import Entropy
from aggregator.crypto.canonical import digest, encode
from aggregator.errors import MessageError, NotAdmitted, ParameterError
from aggregator.files import read_file, write_new

FORMAT = "sangam-custodian/1"
KEY_BYTES = 32
SALT_BYTES = 32
CUSTODIANS_MAX = 255
FILE_BYTES_MAX = 4096

_TYPES = {"format": str, "key": str, "index": int, "threshold": int, "custodians": int, "share": str, "checksum": str}


@dataclass(frozen=True, slots=True)
class CustodianFile:
    """One custodian's share of a task key. `key_id` is a digest of the key, the same in all of its files."""

    key_id: str
    index: int
    threshold: int
    custodians: int
    share: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """One JSON object; `from_bytes` reads it back."""
        content = {
            "format": FORMAT,
            "key": self.key_id,
            "index": self.index,
            "threshold": self.threshold,
            "custodians": self.custodians,
            "share": base64.b64encode(self.share).decode(),
            "checksum": self._checksum(),
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> "CustodianFile":
        """Read one file.

        Raises:
            MessageError: it is no custodian's file, of another version, or damaged; `name` is in the sentence.
        """
        try:
            content = json.loads(data[: FILE_BYTES_MAX + 1])
            if {key: type(value) for key, value in content.items()} != _TYPES or content["format"] != FORMAT:
                raise MessageError(f"{name} is no custodian's file that this version reads")
            share = base64.b64decode(content["share"], validate=True)
        except (ValueError, AttributeError, RecursionError):  # JSON's errors and base64's are ValueErrors
            raise MessageError(f"{name} is no custodian's file, or is damaged") from None
        found = cls(content["key"], content["index"], content["threshold"], content["custodians"], share)
        sound = 1 <= found.threshold <= found.custodians <= CUSTODIANS_MAX and 1 <= found.index <= found.custodians
        if not (sound and len(share) == KEY_BYTES and found._fits(content["checksum"])):
            raise MessageError(f"{name} is damaged: its checksum does not fit")
        return found

    def _fits(self, checksum: str) -> bool:
        try:
            return hmac.compare_digest(checksum.encode(), self._checksum().encode())
        except UnicodeEncodeError:  # JSON can hold half a surrogate pair, which has no bytes
            return False

    def _checksum(self) -> str:
        said = (FORMAT, self.key_id, self.index, self.threshold, self.custodians, self.share)
        return digest("sangam/v1/custodian file", *said).hex()


@dataclass(frozen=True, slots=True)
class Safe:
    """A task key in memory, which wraps and unwraps the secrets of rounds; never written."""

    threshold: int
    custodians: int
    key_id: str
    _key: bytes = field(repr=False)

    def wrap(self, where: tuple[str, str, int], secret: bytes, entropy: Entropy) -> bytes:
        """Seal a round's secret. Run by the key holder, before it goes to disk.

        Args:
            where: deployment, task, round.
            secret: of the round.
            entropy: for the salt.
        """
        salt = entropy(SALT_BYTES)
        return salt + aead.seal(self._derived(where, salt), secret, encode(*where))

    def unwrap(self, where: tuple[str, str, int], wrapped: bytes) -> bytes:
        """Open what `wrap` sealed.

        Raises:
            MessageError: of another round, under another task key, or damaged.
        """
        salt, sealed = wrapped[:SALT_BYTES], wrapped[SALT_BYTES:]
        return aead.unseal(self._derived(where, salt), sealed, encode(*where))

    def _derived(self, where: tuple[str, str, int], salt: bytes) -> bytes:
        return HKDF(SHA256(), KEY_BYTES, salt=salt, info=encode("round secret", *where)).derive(self._key)


def split(threshold: int, custodians: int, entropy: Entropy) -> tuple[CustodianFile, ...]:
    """Make a task key and share it. Run once, by the key holder's operator.

    Raises:
        ParameterError: not 1 <= threshold <= custodians <= 255.
    """
    if not 1 <= threshold <= custodians <= CUSTODIANS_MAX:
        raise ParameterError(f"custody: {threshold} of {custodians} custodians; at most {CUSTODIANS_MAX}")
    key = entropy(KEY_BYTES)
    shares = shamir.split(key, threshold, custodians, entropy)
    return tuple(CustodianFile(_id_of(key), i, threshold, custodians, s) for i, s in enumerate(shares, start=1))


def combine(files: Sequence[CustodianFile]) -> Safe:
    """Open the safe. Run by the key holder when it starts.

    Raises:
        ParameterError: no file, one twice, or fewer than the threshold.
        NotAdmitted: files of different task keys.
        MessageError: shares that don't give the key.
    """
    if not files:
        raise ParameterError("custody: no custodian's file was given")
    first = files[0]
    for other in files:
        if (other.key_id, other.threshold, other.custodians) != (first.key_id, first.threshold, first.custodians):
            raise NotAdmitted(f"custodian {other.index}'s file is of another key than custodian {first.index}'s")
    shares = {one.index - 1: one.share for one in files}
    if len(shares) < len(files):
        raise ParameterError("custody: one custodian's file was given twice")
    if len(shares) < first.threshold:
        raise ParameterError(f"custody: {len(shares)} custodians' files were given, need {first.threshold}")
    key = shamir.combine(shares, first.threshold)
    if not hmac.compare_digest(_id_of(key).encode(), first.key_id.encode()):
        raise MessageError("custody: these files do not give the key that they name")
    return Safe(first.threshold, first.custodians, first.key_id, key)


def file_name(index: int) -> str:
    """Of one custodian's file; they are counted from 1."""
    return f"custodian-{index}.json"


def write(directory: Path, files: Sequence[CustodianFile]) -> tuple[Path, ...]:
    """Write each custodian's file, readable by its owner only; errors as `files.write_new`."""
    named = {file_name(one.index): one.to_bytes() for one in files}
    write_new(directory, named, {})
    return tuple(directory / name for name in named)


def load(paths: Sequence[Path]) -> Safe:
    """Open the safe with files.

    Raises:
        StorageError: one cannot be read.
        MessageError, NotAdmitted, ParameterError: as `CustodianFile.from_bytes` and `combine`.
    """
    return combine([CustodianFile.from_bytes(read_file(path), path.name) for path in paths])


def _id_of(key: bytes) -> str:
    """The key has 256 bits of entropy: its digest gives nothing away."""
    return digest("sangam/v1/task key", key).hex()
