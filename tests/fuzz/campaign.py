"""A campaign: every target for its share of the inputs, a process each, as many at once as there are cores."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import Any, Final, TypeAlias

from tests.fuzz.short import CASES
from tests.fuzz.target import Target

OUT: Final = Path("build/fuzz")
TIMEOUT_S: Final = 20  # of one input
RSS_MIB_MAX: Final = 1024  # of one process: 400 are numba, numpy, grpc and what libFuzzer counts with
GROWTH_MIB_MAX: Final = 64  # from a quarter of the inputs on: the fuzzer's own corpus and counters take up to 30
LOOK_S: Final = 0.5

Watch: TypeAlias = Callable[[str, int], None]

_LINE: Final = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Share:
    """So many inputs of one target."""

    target: Target
    inputs: int


def divided(targets: Iterable[Target], inputs: int, sequences: int) -> list[Share]:
    """What each target gets; the shares of decoders add up to `inputs`, those of the others to `sequences`."""
    found = []
    for kind, total in ((False, inputs), (True, sequences)):
        ours = [target for target in targets if target.sequences is kind]
        left, weight = total, sum(target.share for target in ours)
        for target in ours:
            part = left * target.share // weight
            left, weight = left - part, weight - target.share
            found.append(Share(target, part))
    return [share for share in found if share.inputs]


def run(shares: Iterable[Share], processes: int, watch: Watch) -> dict[str, dict[str, Any]]:
    """Run them all, the longest first; by target, what came of it.

    Args:
        shares: of the campaign.
        processes: at once.
        watch: is told how many inputs a target has had.
    """
    ordered = sorted(shares, key=lambda share: share.target.share)
    with ThreadPoolExecutor(processes) as pool:
        ended = pool.map(lambda share: _fuzz(share, watch), ordered)
        return {share.target.name: said for share, said in zip(ordered, ended, strict=True)}


def _fuzz(share: Share, watch: Watch) -> dict[str, Any]:
    target, folder = share.target, OUT / share.target.name
    corpus, seeds, found, status = (folder / name for name in ("corpus", "seeds", "found", "status.json"))
    for made in (corpus, seeds, found, CASES / target.name):
        made.mkdir(parents=True, exist_ok=True)
    status.unlink(missing_ok=True)
    for seed in target.seeds():
        (seeds / sha256(seed).hexdigest()[:16]).write_bytes(seed)
    before, known = len(os.listdir(corpus)), set(found.iterdir())
    command = [
        *(sys.executable, "-m", "tests.fuzz.worker", target.name, str(share.inputs), str(status)),
        *(f"-max_len={target.bytes_max}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_MIB_MAX}"),
        *("-keep_seed=1", "-use_value_profile=1"),  # JSON and ASN.1 are read by code that shows no coverage
        *(f"-artifact_prefix={found}/", str(corpus), str(seeds), str(CASES / target.name)),
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while process.poll() is None:
            sleep(LOOK_S)
            watch(target.name, _status(status).get("inputs", 0))
    said, artifacts = _status(status), sorted(set(found.iterdir()) - known)
    lines = _LINE.findall((folder / "log").read_text(errors="replace"))
    return {
        "inputs": max([said.get("inputs", 0), *(int(number) for number, _, _ in lines)]),
        "edges": int(lines[-1][1]) if lines else 0,
        "new": len(os.listdir(corpus)) - before,
        "seconds": said.get("seconds", 0.0),
        "rss_mib": said.get("rss_mib", 0.0),
        "rss_growth_mib": said.get("rss_growth_mib", 0.0),
        "crash": _crash(process.returncode, said, artifacts, folder / "log"),
    }


def _status(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _crash(code: int, said: Mapping[str, Any], artifacts: list[Path], log: Path) -> str:
    """What is wrong, and where to look; nothing where all went well."""
    if artifacts:
        return str(artifacts[0])
    if code:
        return f"exit status {code}: {log}"
    growth = said.get("rss_growth_mib", 0.0)
    return f"memory grew by {growth} MiB: {log}" if growth > GROWTH_MIB_MAX else ""
