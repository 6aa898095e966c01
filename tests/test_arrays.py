import io
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.arrays import check_target, read_arrays, read_note, replace_arrays, write_arrays
from aggregator.errors import ParameterError, SangamError, StorageError


@pytest.mark.parametrize("name", ["w", "layers/0/weight", "file", "allow_pickle", "größe", "x.npy", "../x", "a b"])
def test_what_is_written_is_read(tmp_path, name):
    """Whatever the tensor is called."""
    path = tmp_path / "m.npz"
    arrays = {name: np.arange(6.0).reshape(2, 3), "other": np.float32(1.5)}
    write_arrays(path, arrays)
    read = read_arrays(path)
    assert list(read) == list(arrays)
    for key, array in arrays.items():
        assert read[key].dtype == np.asarray(array).dtype
        assert np.array_equal(read[key], array)
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]


def test_numpys_own_files_are_read_and_numpy_reads_ours(tmp_path):
    arrays = {"w": np.arange(6, dtype=np.int16), "b": np.float64(2)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "theirs.npz", **arrays)
        assert {name: array.tolist() for name, array in read_arrays(tmp_path / "theirs.npz").items()} == {
            "w": [0, 1, 2, 3, 4, 5],
            "b": 2.0,
        }
    write_arrays(tmp_path / "ours.npz", arrays)
    with np.load(tmp_path / "ours.npz") as loaded:
        assert np.array_equal(loaded["w"], arrays["w"])


def test_files_that_are_not_there_or_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match=r"cannot read .*none\.npz: No such file"):
        read_arrays(tmp_path / "none.npz")
    with pytest.raises(StorageError, match=r"cannot read .*: Is a directory"):
        read_arrays(tmp_path)
    with pytest.raises(StorageError, match=r"cannot write .*: No such file or directory"):
        write_arrays(tmp_path / "none" / "m.npz", {})
    for target in (tmp_path / "none" / "m.npz", tmp_path):
        with pytest.raises(StorageError, match="its directory must exist"):
            check_target(target)
    check_target(tmp_path / "m.npz")
    check_target(None)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_nothing_is_ever_unpickled(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, w=np.array([Bomb()], dtype=object))
    with pytest.raises(ParameterError, match=r"is not an \.npz file of numeric arrays"):
        read_arrays(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ParameterError, match=r"is not an \.npz file"):
        read_arrays(path)


def test_one_array_alone_is_no_update(tmp_path):
    np.save(tmp_path / "w.npy", np.zeros(3))
    with pytest.raises(ParameterError, match=r"is not an \.npz file"):
        read_arrays(tmp_path / "w.npy")


@pytest.mark.parametrize("header", ["{'descr': '<f8', 7shape': (2,), (", "{'descr': '<f8', 'shape': (2,)"])
def test_a_header_that_is_no_python_is_named(tmp_path, header):
    """NumPy takes it for one of Python 2's, and has its tokens read."""
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(ParameterError, match=r"is not an \.npz file"):
        read_arrays(path)


def saved(save):
    buffer = io.BytesIO()
    save(buffer, w=np.arange(6.0).reshape(2, 3), b=np.float32(1))
    return buffer.getvalue()


GOOD = (saved(np.savez), saved(np.savez_compressed))


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
@settings(deadline=None, max_examples=300)
@given(
    good=st.sampled_from(GOOD),
    keep=st.integers(0, max(map(len, GOOD))),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3),
)
def test_damaged_files_are_named(tmp_path_factory, good, keep, changes):
    data = bytearray(good[: keep if not changes else None])
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(data)
    with suppress(SangamError):  # anything else fails the test
        read_arrays(path)


def test_a_few_kilobytes_do_not_become_gigabytes(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, w=np.zeros(1 << 24))
    with pytest.raises(ParameterError, match="would become 134,217,"):
        read_arrays(path)
    write_arrays(path, {"w": np.zeros(1 << 24, np.uint8)})
    assert read_arrays(path)["w"].size == 1 << 24


def test_a_note_stands_beside_the_arrays(tmp_path):
    path = tmp_path / "noted.npz"
    replace_arrays(path, {"w": np.ones(3)}, "made by rounds 1 to 7")
    assert read_note(path) == "made by rounds 1 to 7"
    assert read_arrays(path)["w"].tolist() == [1, 1, 1]
    assert [one.name for one in tmp_path.iterdir()] == ["noted.npz"]
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ParameterError, match=r"not an \.npz file with a note"):
        read_note(tmp_path / "text")
    with pytest.raises(StorageError, match="cannot read"):
        read_note(tmp_path / "none")
    with pytest.raises(StorageError, match="cannot write"):
        replace_arrays(tmp_path / "none" / "w.npz", {"w": np.ones(3)})
