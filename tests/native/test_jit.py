"""The cache policy: machine code is stored once per source, shared by processes, and never needed."""

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from native import _jit

REPOSITORY = Path(__file__).parents[2]


async def output_of(code: str, **environment: str) -> bytes:
    """What a fresh Python process prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=REPOSITORY, env=os.environ | environment, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].strip()


def count_files(directory: Path, pattern: str) -> int:
    return len(list(directory.rglob(pattern)))


async def test_cold_processes_share_one_compilation(tmp_path: Path) -> None:
    code = "import numpy as np; from native import ring; a = np.ones(3, np.uint32); ring.add(a, a); print(a.sum())"
    outputs = await asyncio.gather(*(output_of(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(3)))
    assert outputs == [b"6"] * 3
    # One index; two signatures, two data files: no process stored a copy of its own.
    assert count_files(tmp_path, "ring.add-*.nbi") == 1
    assert count_files(tmp_path, "ring.add-*.nbc") == 2


def test_kernels_work_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit, "_cache_bases", lambda: [Path("/dev/null/nowhere")])

    @_jit.kernel("int64(int64)")
    def successor(value: int) -> int:
        return value + 1

    assert successor(4) == 5


def test_a_signature_is_never_compiled_late() -> None:
    @_jit.kernel("void(uint32[::1])")
    def clear(values: np.ndarray) -> None:
        values[:] = 0

    with pytest.raises(TypeError):
        clear(np.ones(3, np.float32))


def test_the_setting_of_others_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = _jit.numba.config
    monkeypatch.setattr(config, "CACHE_DIR", "theirs")
    monkeypatch.setattr(_jit, "_cache_bases", lambda: [tmp_path])
    with _jit._locked_cache() as directory:
        assert str(directory) == config.CACHE_DIR
    assert config.CACHE_DIR == "theirs"


def test_new_sources_get_a_new_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_jit, "_PACKAGE", tmp_path)
    (tmp_path / "kernel.py").write_text("a")
    before = _jit._source_hash()
    (tmp_path / "kernel.py").write_text("b")
    assert _jit._source_hash() != before
