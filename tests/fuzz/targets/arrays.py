"""Models and updates in .npz files, which another program wrote."""

import io
import warnings
import zipfile
from collections.abc import Iterator
from typing import Final

import numpy as np

from aggregator.arrays import read_arrays
from aggregator.errors import ParameterError, StorageError
from tests.fuzz.lying import lying
from tests.fuzz.target import Target

NPY: Final = b"\0"


def run(data: bytes) -> None:
    """The first byte says whether the rest is an archive, or an array that is put into one here."""
    content = _archive(data[1:]) if data[:1] == NPY else data[1:]
    try:
        with lying(content, ".npz") as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them, and of names that come twice
            found = read_arrays(path)
    except (ParameterError, StorageError):
        return
    assert not any(array.dtype.hasobject for array in found.values())


def _archive(content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        archive.writestr("x.npy", content)
    return whole.getvalue()


def seeds() -> Iterator[bytes]:
    """Arrays of several types, and archives packed in every way that Python reads."""
    for array in (np.arange(4.0), np.zeros((2, 3), ">i2"), np.float32(1), np.zeros(2, [("a", "u1"), ("b", "S3")])):
        member = io.BytesIO()
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        yield NPY + member.getvalue()
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            yield b"\1" + _archive(member.getvalue(), method)


TARGET: Final = Target("arrays", run, seeds, share=30)
