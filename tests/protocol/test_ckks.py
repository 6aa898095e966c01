import contextlib
import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tenseal
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto.seal_format import vector_values
from aggregator.errors import MessageError
from aggregator.protocol import ckks
from aggregator.protocol.ckks import Total
from aggregator.storage.spool import MemorySpool
from tests.ciphertexts import ckks_context


def encrypted(x):
    return tenseal.ckks_vector(ckks_context(), x).serialize()


def decrypted(total):
    return np.array(tenseal.ckks_vector_from(ckks_context(), total.serialize()).decrypt())


@pytest.mark.parametrize("entries", [1, 100, 4_096, 4_097, 10_000])
def test_tenseal_decrypts_the_sum(entries, capfd):
    xs = [np.random.default_rng(u).uniform(-10, 10, entries) for u in range(3)]
    total = Total(entries)
    for x in xs:
        total.add(encrypted(x), map)
    want = np.sum(xs, axis=0)
    assert np.abs(decrypted(total) - want).max() < 1e-6 * np.abs(want).max()


def test_the_sum_is_tenseals_own_to_the_bit(capfd):
    """Residues add exactly: what TenSEAL adds by itself decrypts to the same floats."""
    xs = [encrypted(np.linspace(-u, u, 5_000)) for u in (1, 2)]
    ours, theirs = Total(5_000), tenseal.ckks_vector_from(ckks_context(), xs[0])
    for x in xs:
        ours.add(x, map)
    theirs.add_(tenseal.ckks_vector_from(ckks_context(), xs[1]))
    assert decrypted(ours).tolist() == theirs.decrypt()


def test_neither_order_nor_threads_matter(capfd):
    xs = [encrypted(np.full(9_000, u / 7)) for u in range(3)]
    sums = set()
    with ThreadPoolExecutor(4) as pool:
        for order, each in itertools.product(itertools.permutations(xs), (map, pool.map)):
            total = Total(9_000)
            for x in order:
                total.add(x, each)
            sums.add(total.serialize())
    assert len(sums) == 1


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_nothing_cut_or_inserted_changes_the_sum(data):
    whole = honest()
    total = Total(8)
    place = data.draw(st.integers(0, 130) | st.integers(0, len(whole) - 1))
    bad = data.draw(st.sampled_from([whole[:place], whole[:place] + b"\0" + whole[place:]]))
    before = total.serialize()
    with pytest.raises(MessageError):
        total.add(bad, map)
    assert total.serialize() == before


@functools.cache
def honest():
    return encrypted([1.0] * 8)


def test_vectors_of_another_length_or_scale_are_refused():
    total = Total(8)
    with pytest.raises(MessageError, match="not those of 8 values in 1 ciphertexts"):
        total.add(encrypted([1.0] * 9), map)
    other = tenseal.ckks_vector(ckks_context(), [1.0] * 8, 2.0**30).serialize()
    with pytest.raises(MessageError, match="are not its scale"):
        total.add(other, map)


def stored(data, budget_bytes, piece_bytes):
    """The bytes staged as chunks, in memory or on disk."""
    staged = MemorySpool(budget_bytes).stage()
    for start in range(0, len(data), piece_bytes):
        staged.write(data[start : start + piece_bytes])
    return staged


@pytest.mark.parametrize("budget_bytes", [0, 1 << 30])
def test_vectors_are_added_from_wherever_they_lie(budget_bytes, capfd):
    xs = [encrypted(np.linspace(-u, u, 9_000)) for u in (1, 2)]
    held, read = Total(9_000), Total(9_000)
    with ThreadPoolExecutor(4) as pool:
        for x in xs:
            held.add(x, map)
            staged = stored(x, budget_bytes, 100_003)
            read.add_stored(staged, len(x), pool.map)
            staged.close()
    assert read.serialize() == held.serialize()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_cut_or_longer_vectors_on_disk_change_nothing_either(data):
    whole, total = honest(), Total(8)
    size = data.draw(st.integers(0, 30) | st.integers(0, len(whole) + 20).filter(lambda n: n != len(whole)))
    bad = (whole + data.draw(st.binary(min_size=20, max_size=20)))[:size]
    before, staged = total.serialize(), stored(bad, data.draw(st.sampled_from([0, 1 << 20])), 50_000)
    with pytest.raises(MessageError):
        total.add_stored(staged, size, map)
    assert total.serialize() == before
    staged.close()


@pytest.mark.parametrize("entries", [1, 127, 128, 4_096, 4_097, 100_000])
def test_every_length_is_known_beforehand(entries, capfd):
    total = Total(entries)
    total.add(encrypted(np.ones(entries)), map)
    data = total.serialize()
    assert len(data) == ckks.sum_bytes(entries)
    assert len(encrypted(np.ones(entries))) <= ckks.vector_bytes_max(entries)
    assert ckks.memory_bytes(entries) == total._sums.nbytes
    assert vector_values(data) == vector_values(encrypted(np.ones(entries))) == entries


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda raw: b"\x0a" + bytes([len(raw)]) + raw))
def test_any_bytes_say_a_number_of_values_or_are_refused(raw):
    with contextlib.suppress(MessageError):
        assert 0 <= vector_values(raw) < 2**63 * 40
