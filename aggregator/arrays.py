"""Models and updates as .npz files, which may carry a note about themselves. Never pickled."""

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError, StorageError
from aggregator.files import move_into_place

INFLATED, INFLATED_LEAST = 20, 64 << 20  # how many times its size a file may become, and bytes beyond that
SUFFIX = ".npy"  # of a member; its name without it is the tensor's

# What reading a damaged, encrypted or foreign file raises; a header that lies may ask for any amount of memory.
_MALFORMED: Final = (
    ValueError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
)


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of an .npz file by name.

    Raises:
        StorageError: the file cannot be read.
        ParameterError: it is no .npz file, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path.stat().st_size)
            return {name.removesuffix(SUFFIX): _read(archive, name) for name in archive.namelist()}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    except _MALFORMED as error:
        raise ParameterError(f"{path} is not an .npz file of numeric arrays: {error}") from None


def read_note(path: Path) -> str:
    """The note of an .npz file, empty where it has none; errors as `read_arrays`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    except _MALFORMED as error:
        raise ParameterError(f"{path} is not an .npz file with a note: {error}") from None


def write_arrays(path: Path, arrays: Mapping[str, npt.ArrayLike], note: str = "") -> None:
    """Write an .npz file; StorageError when the disk refuses.

    Args:
        path: where to; a file there is overwritten.
        arrays: by name.
        note: about them, at most 65,535 bytes; it stands in the archive's comment, so that numpy reads the file, too.
    """
    try:
        with zipfile.ZipFile(path, "w") as archive:
            archive.comment = note.encode()
            for name, array in arrays.items():
                with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def replace_arrays(path: Path, arrays: Mapping[str, npt.ArrayLike], note: str = "") -> None:
    """The same, whole or not at all, and on the disk: whatever happens meanwhile, the old file is there or the new."""
    staged = path.with_name(f"{path.name}.new")
    write_arrays(staged, arrays, note)
    move_into_place(staged, path)


def _check_size(archive: zipfile.ZipFile, size: int) -> None:
    """A few kilobytes from somebody else must not become gigabytes here."""
    whole = sum(member.file_size for member in archive.infolist())
    if whole > INFLATED_LEAST + INFLATED * size:
        raise ValueError(f"its {size:,} bytes would become {whole:,}: write large arrays uncompressed")


def check_target(path: Path | None) -> None:
    """Find before a round, not after it, that its result could not be written there.

    Raises:
        StorageError: no such directory.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise StorageError(f"cannot write {path}: its directory must exist, and it must not be one itself")


def _read(archive: zipfile.ZipFile, name: str) -> npt.NDArray[np.generic]:
    with archive.open(name) as member:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
        return array
