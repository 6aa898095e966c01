import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import ParameterError
from aggregator.protocol import lattice
from aggregator.protocol.layout import DEGREE, KEY_BYTES, MODULI, PRIME_COUNT, Layout
from aggregator.protocol.spread import batches
from tests.reference import lattice as twin


@given(clients_max=st.integers(1, 10_000), slot_bits=st.integers(2, 76))
def test_the_parameter_table_leaves_room_for_nine_std_and_wastes_no_bit(clients_max, slot_bits):
    layout = Layout(1, slot_bits, clients_max)
    ring, bits, slots = twin.chosen(slot_bits, clients_max)
    assert (layout.modulus.primes, layout.message_bits, layout.slots) == (ring.primes, bits, slots)
    product = math.prod(layout.modulus.primes)
    bound = math.ceil(9 * math.sqrt(40.5 * clients_max))
    assert 2**bits * (bound + 1) <= product // 2
    assert 2 ** (bits + 1) * (bound + 2) > product // 2
    for other in MODULI:
        room = other.message_bits(clients_max) // slot_bits
        assert room == 0 or other.bits / room >= layout.modulus.bits / slots


@pytest.mark.parametrize(
    ("clients_max", "slot_bits", "chosen", "bytes_per_entry"),
    [
        (32, 21, (25, 65, 3), 3.125),
        (100, 23, (27, 70, 3), 3.375),
        (1_000, 26, (30, 78, 3), 3.75),
        (10_000, 30, (25, 61, 2), 4.6875),
    ],
)
def test_the_parameter_table_has_the_known_values(clients_max, slot_bits, chosen, bytes_per_entry):
    """16-bit values; the largest modulus has 79, 78 and 76 bits for 100, 1,000 and 10,000 clients."""
    layout = Layout(10**7, slot_bits, clients_max)
    assert (layout.modulus.bits, layout.message_bits, layout.slots) == chosen
    assert bytes_per_entry <= layout.plan.payload_bytes / 10**7 <= bytes_per_entry + 0.005
    assert [MODULI[-1].message_bits(n) for n in (100, 1_000, 10_000)] == [79, 78, 76]


@pytest.mark.parametrize("modulus", MODULI, ids=str)
def test_the_primes_are_the_three_largest_that_the_transform_can_use(modulus):
    ring = twin.modulus(modulus.bits)
    assert (modulus.primes, modulus.generators) == (ring.primes, ring.generators)
    for prime in modulus.primes:
        assert prime % (2 * DEGREE) == 1
        assert 2 ** (modulus.bits - 1) < prime < 2**modulus.bits


def test_no_modulus_is_larger_than_the_one_that_the_security_estimate_is_of():
    assert max(math.prod(modulus.primes) for modulus in MODULI) == 1_073_692_673 * 1_073_668_097 * 1_073_651_713


def test_a_row_of_a_stream_has_words_to_spare():
    """At most 256 of 4,352 words may be refused: Chernoff's bound on more, for the prime that refuses most."""
    refused = max(1 - prime / 2**modulus.bits for modulus in MODULI for prime in modulus.primes)
    words, spare = lattice.ROW_WORDS, lattice.ROW_WORDS - DEGREE
    share = spare / words
    divergence = share * math.log2(share / refused) + (1 - share) * math.log2((1 - share) / (1 - refused))
    assert -words * divergence < -300


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
    assert layout.stride(last.start) == twin.stride(entries - layout.words(last).start, layout.slots)
    for run in (*runs[:2], *runs[-2:]):
        assert {layout.stride(block) for block in run} == {layout.stride(run.start)}
    assert layout.residues(last).stop == layout.ciphertext_residues
    plan = layout.plan
    assert plan.payload_bytes == KEY_BYTES + layout.ciphertext_residues * layout.modulus.bits // 8
    assert layout.packed_words(last).stop == (plan.payload_bytes - KEY_BYTES) // 4
    assert (plan.size(0), plan.start(1)) == (KEY_BYTES, KEY_BYTES)
    assert plan.start(plan.chunks - 1) + plan.size(plan.chunks - 1) == plan.payload_bytes
    assert plan.size(1) % (4 * PRIME_COUNT * layout.modulus.bits) == 0
    assert plan.size(1) <= 1 << 20
