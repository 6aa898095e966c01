"""Bytes as a file, for what reads nothing else."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lying(data: bytes, suffix: str = "") -> Iterator[Path]:
    """A file that holds them, for as long as the block lasts."""
    with tempfile.NamedTemporaryFile(suffix=suffix, buffering=0) as file:
        file.write(data)
        yield Path(file.name)
