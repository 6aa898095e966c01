import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tenseal
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import MessageError
from aggregator.protocol.ckks import Total
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
