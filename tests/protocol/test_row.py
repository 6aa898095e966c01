import numpy as np
import pytest

from aggregator.errors import ParameterError
from aggregator.protocol.row import Row
from aggregator.wire.messages import Tensor


def laid_out(*arrays):
    tensors = tuple(Tensor(f"t{k}", np.shape(array)) for k, array in enumerate(arrays))
    return Row.of({tensor.name: array for tensor, array in zip(tensors, arrays, strict=True)}, tensors)


def read(row, start, stop):
    return row.read(start, stop, np.full(stop - start + 3, np.nan))


def unaligned(array):
    raw = np.frombuffer(b"." + array.tobytes(), array.dtype, array.size, offset=1)
    assert not raw.flags.aligned
    return raw


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float16).reshape(3, 4),
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(12, dtype=np.longdouble).reshape(3, 4),
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.int64).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24.0).reshape(3, 8)[:, ::2] / 2,
        (np.arange(24, dtype=np.float32) / 2)[::2],
        np.arange(11, -1, -1.0)[::-1],
        unaligned(np.arange(12.0)),
        np.broadcast_to(np.arange(12.0), (1, 12)),
        [[float(i) for i in range(12)]],
    ],
)
def test_any_array_is_read_in_c_order(array):
    row = laid_out(array)
    for start, stop in ((0, 12), (0, 5), (5, 7), (11, 12)):
        values = read(row, start, stop)
        assert values.dtype in (np.float32, np.float64)
        assert values.flags.c_contiguous
        assert values.flags.aligned
        assert values.tolist() == [float(i) for i in range(start, stop)]


def test_booleans_and_wide_integers_become_the_nearest_floats():
    row = laid_out(np.array([True, False]), np.array([2**63 + 1, 2**64 - 1], np.uint64))
    assert read(row, 0, 4).tolist() == [1.0, 0.0, 2.0**63, 2.0**64]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_kernels_read_is_not_copied(dtype):
    array = np.arange(12, dtype=dtype).reshape(3, 4)
    assert np.shares_memory(read(laid_out([1.0], array), 3, 9), array)


def test_pieces_cross_tensors_and_end_in_zeros():
    row = laid_out(np.arange(3, dtype=np.float32), 3.0, np.array([4, 5]), np.arange(6.0, 10.0))
    for start in range(10):
        for stop in range(start + 1, 14):
            assert read(row, start, stop).tolist() == [float(i) if i < 10 else 0.0 for i in range(start, stop)]


def test_entries_are_located_in_their_tensors():
    row = laid_out(np.zeros((2, 3)), 0.0, np.zeros(2))
    places = [("t0", (i, j)) for i in range(2) for j in range(3)] + [("t1", ()), ("t2", (0,)), ("t2", (1,))]
    assert [row.locate(i) for i in range(9)] == places


def test_reprs_show_no_value():
    assert "0.125" not in repr(laid_out(np.full(3, 0.125)))


def test_another_shape_is_refused():
    with pytest.raises(ParameterError, match="tensor 'x' has shape"):
        Row.of({"x": np.zeros(3)}, (Tensor("x", (4,)),))
