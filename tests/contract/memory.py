"""What a site remembers for ever, on disk before the message that depends on it leaves; from docs/contract.md alone."""

import json
import os
from pathlib import Path
from typing import Any


class Refused(Exception):
    """Something that this participant takes no part in."""


def insist(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(otherwise)


class Memory:
    """Facts under names, one line of JSON each; the file only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._facts: dict[str, Any] = dict(json.loads(line) for line in lines)

    def once(self, what: str, *name: object, value: bytes = b"") -> None:
        """Note something that happens once for ever, whatever its value."""
        insist(not self.knows(what, *name), f"{what} {name}: once for ever")
        self._note(_key(what, name), value.hex())

    def same(self, what: str, *name: object, value: bytes) -> None:
        """Note something that never changes."""
        known = self._facts.get(_key(what, name))
        insist(known in (None, value.hex()), f"{what} {name}: was another before")
        if known is None:
            self._note(_key(what, name), value.hex())

    def knows(self, what: str, *name: object) -> bool:
        return _key(what, name) in self._facts

    def roster(self, deployment: str, version: int, root: bytes) -> None:
        """Note the newest roster; never an older one, never two of one version."""
        key = _key("roster", (deployment,))
        known, known_root = self._facts.get(key, (0, ""))
        insist(version >= known, f"roster version {version} is older than {known}")
        insist(version > known or known_root in ("", root.hex()), f"two rosters of version {version}")
        self._note(key, [version, root.hex()])

    def _note(self, key: str, value: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([key, value]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._facts[key] = value


def _key(what: str, name: tuple[object, ...]) -> str:
    return json.dumps([what, *name])
