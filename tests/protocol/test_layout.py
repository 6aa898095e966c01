import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import ParameterError
from aggregator.protocol import lattice
from aggregator.protocol.layout import DEGREE, GENERATORS, KEY_BYTES, MODULUS, PRIMES, Layout
from aggregator.protocol.spread import batches
from tests.reference import lattice as twin


@given(clients_max=st.integers(1, 10_000))
def test_the_parameter_table_leaves_room_for_nine_std_and_wastes_no_bit(clients_max):
    bits = Layout(1, 8, clients_max).message_bits
    assert bits == twin.message_bits(clients_max)
    bound = math.ceil(9 * math.sqrt(40.5 * clients_max))
    assert 2**bits * (bound + 1) <= MODULUS // 2
    assert 2 ** (bits + 1) * (bound + 2) > MODULUS // 2


def test_the_parameter_table_has_the_known_values():
    assert [Layout(1, 8, n).message_bits for n in (100, 1_000, 10_000)] == [79, 78, 76]
    layout = Layout(10**7, 26, 1_000)
    assert (layout.slots, layout.blocks) == (3, 814)
    assert 4.0 <= layout.plan.payload_bytes / 10**7 <= 4.005


def test_the_primes_are_what_the_transform_needs():
    for prime, generator in zip(PRIMES, GENERATORS, strict=True):
        assert all(prime % d for d in range(2, math.isqrt(prime) + 1))
        assert (prime - 1) % (2 * DEGREE) == 0
        assert pow(generator, (prime - 1) // 2, prime) == prime - 1


def test_parameters_that_leave_no_slot_are_refused():
    Layout(1, 76, 10_000)
    with pytest.raises(ParameterError, match="leave 76 bits for a sum, one entry needs 77"):
        Layout(1, 77, 10_000)


@settings(deadline=None)
@given(entries=st.one_of(st.integers(1, 10**5), st.integers(1, 10**8)), slot_bits=st.integers(20, 64))
def test_blocks_cover_the_vector_and_the_wire_plan_covers_the_blocks(entries, slot_bits):
    layout = Layout(entries, slot_bits, 1_000)
    last = range(layout.blocks - 1, layout.blocks)
    pieces = [batch for group in layout.groups for batch in batches(group, lattice.BLOCKS_AT_ONCE)]
    runs = [run for piece in pieces for run in layout.runs(piece)]
    for parts in (layout.groups, pieces, runs):
        assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
        assert parts[-1].stop == layout.blocks
    assert layout.words(last).stop == entries
    assert layout.words(last).start < entries
    assert 1 <= layout.stride(last.start) <= DEGREE
    assert (layout.stride(last.start) - 1) * layout.slots < entries - layout.words(last).start
    for run in (*runs[:2], *runs[-2:]):
        assert {layout.stride(block) for block in run} == {layout.stride(run.start)}
    assert layout.residues(last).stop == layout.ciphertext_residues
    plan = layout.plan
    assert plan.payload_bytes == KEY_BYTES + 4 * layout.ciphertext_residues
    assert (plan.size(0), plan.start(1)) == (KEY_BYTES, KEY_BYTES)
    assert plan.start(plan.chunks - 1) + plan.size(plan.chunks - 1) == plan.payload_bytes
    assert plan.size(1) % (4 * len(PRIMES)) == 0
    assert plan.size(1) <= 1 << 20
