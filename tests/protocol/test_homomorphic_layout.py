import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto.seal_parameters import MODULUS_BITS_MAX, is_prime
from aggregator.errors import ParameterError
from aggregator.protocol import homomorphic
from aggregator.protocol.homomorphic_layout import DEGREE, CipherLayout, noise_max
from aggregator.protocol.spread import batches
from aggregator.wire.messages import CHUNK_BYTES_MAX

VALUE_BITS, CLIENTS = st.integers(2, 32), st.sampled_from([2, 3, 10, 100, 600, 1_000, 10_000])


def test_the_parameter_table_has_the_known_values():
    found = {}
    for value_bits, clients in ((16, 100), (16, 1_000), (16, 10_000), (8, 100), (32, 1_000), (54, 10)):
        layout = CipherLayout(10**7, value_bits, clients)
        sizes = layout.parameters.prime_bits[:-1]
        found[value_bits, clients] = layout.digits, sizes, layout.bytes_per_entry
    assert found == {
        (16, 100): (2, (21, 21, 21), 7.875),
        (16, 1_000): (2, (24, 24, 23), 8.875),
        (16, 10_000): (2, (27, 27, 26), 10.0),
        (8, 100): (3, (21, 21, 20), 31 / 6),
        (32, 1_000): (1, (21, 20, 20), 15.25),
        (54, 10): (1, (25, 24, 24), 18.25),
    }


@settings(deadline=None)
@given(VALUE_BITS, CLIENTS)
def test_every_choice_is_safe_and_leaves_room_for_sum_and_noise(value_bits, clients):
    layout = CipherLayout(1, value_bits, clients)
    parameters, plain = layout.parameters, layout.parameters.plain_modulus
    largest = clients * (2**value_bits - 1)
    assert largest < 2**layout.digit_bits
    assert sum(largest << layout.digit_bits * k for k in range(layout.digits)) * 3 / 2 < plain < 2**60
    assert (largest + 1) ** layout.digits <= plain * 2 / 3 + 1
    assert plain % (2 * DEGREE) == 1
    assert is_prime(plain)
    assert 2 * plain * (noise_max(clients) + 1) <= parameters.modulus
    assert sum(parameters.prime_bits) <= MODULUS_BITS_MAX[DEGREE]
    assert math.log2(math.prod(parameters.key_primes)) < MODULUS_BITS_MAX[DEGREE]
    assert all(q < 2**30 for q in parameters.primes)


@settings(deadline=None)
@given(VALUE_BITS, CLIENTS)
def test_no_other_number_of_digits_takes_fewer_bytes(value_bits, clients):
    layout = CipherLayout(1, value_bits, clients)
    for digits in range(1, 60 // layout.digit_bits + 1):
        top = 3 * clients * (2**value_bits - 1) << layout.digit_bits * (digits - 1) >> 1
        if top < 2**60 - 2**40:
            bits = math.log2(top * 2 * noise_max(clients))  # no modulus is shorter
            assert layout.bytes_per_entry < (bits + 2) / (4 * digits)


@pytest.mark.parametrize("clients", [2, 100, 1_000, 10_000])
def test_the_noise_bound_is_its_formula(clients):
    """In floating point, from the docstring, at exp(-67)."""
    key_error = 10.5 * (4096 + 2 * math.sqrt(4096 * 67) + 2 * 67)
    variance = clients * (2 / 3 * key_error + 10.24 * (1 + 4096))
    bound = math.sqrt(2 * 67 * variance) + clients / 2
    assert bound <= noise_max(clients) <= bound * 1.001 + 3
    assert 2**30 * 2 * math.exp(-67) + math.exp(-67) < 2**-64


@pytest.mark.parametrize(("value_bits", "clients", "bits"), [(54, 100, 61), (47, 10_000, 61), (54, 10_000, 68)])
def test_sums_that_no_slot_holds_are_refused(value_bits, clients, bits):
    CipherLayout(1, 46, 10_000)
    with pytest.raises(ParameterError, match=f"a sum of {clients} clients needs {bits} bits"):
        CipherLayout(1, value_bits, clients)


@settings(deadline=None)
@given(entries=st.one_of(st.integers(1, 10**5), st.integers(1, 10**8)), value_bits=st.integers(2, 40))
def test_blocks_cover_the_vector_and_the_wire_plan_covers_the_blocks(entries, value_bits):
    layout = CipherLayout(entries, value_bits, 1_000)
    pieces = [batch for group in layout.groups for batch in batches(group, homomorphic.BLOCKS_AT_ONCE)]
    for parts in (layout.groups, pieces):
        assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
        assert parts[-1].stop == layout.blocks
    last = range(layout.blocks - 1, layout.blocks)
    assert layout.words(last).start < layout.words(last).stop == entries
    plan = layout.plan
    assert plan.payload_bytes == 4 * layout.packed_words(last).stop
    assert plan.chunk_bytes <= CHUNK_BYTES_MAX < plan.chunk_bytes + layout.block_bytes
    assert plan.chunks == len(layout.groups)
    assert layout.block_bytes % 8 == 0


def test_the_parameter_set_is_part_of_the_context():
    fields = [CipherLayout(10, 16, clients).fields() for clients in (100, 101, 1_000)]
    assert fields[0] != fields[2]
    assert CipherLayout(9, 16, 100).fields() == fields[0]
