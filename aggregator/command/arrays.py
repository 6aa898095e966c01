"""Models and updates as .npz files: what the command reads and writes. Never pickled."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError, StorageError


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of an .npz file by name.

    Raises:
        StorageError: the file cannot be read.
        ParameterError: it is no .npz file, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as loaded:
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ParameterError(f"{path} holds one array, expected an .npz file of named arrays")
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ParameterError(f"{path} is not an .npz file of numeric arrays: {error}") from None


def write_arrays(path: Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write an .npz file; StorageError when the disk refuses."""
    try:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
