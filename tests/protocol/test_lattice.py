import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol import lattice
from aggregator.protocol.lattice import Total
from aggregator.protocol.layout import BLOCKS_TOGETHER, DEGREE, KEY_BYTES, MODULI, Layout
from native.ring import word_dtype
from tests.consortium import drbg
from tests.reference import lattice as twin
from tests.reference import rows as rows_twin

CTX1 = bytes(range(32))
SMALL = Layout(10, 26, 1_000)  # one ciphertext of one lane a prime
WIDTHS = [(2, 39), (16, 4), (26, 3), (40, 1), (64, 1)]  # slot bits, and how many fit a coefficient


def open_blinding(words, *, ring_bits):
    """No masks: what SecAgg+ cancels is tested elsewhere."""
    assert ring_bits == 32
    return words.copy()


def vector(layout, *label, bits=None):
    """Words below 2^bits; by default as many as the smallest sums of that layout allow."""
    bits = bits or max(1, layout.slot_bits - layout.clients_max.bit_length())
    draws = np.frombuffer(drbg("vector", *label)(8 * layout.entries), np.uint64)
    return (draws >> np.uint64(64 - bits)).astype(word_dtype(layout.slot_bits))


def contribution(x, layout, *label, ctx1=CTX1, each=map):
    seed = drbg("lattice", *label)(32)
    return lattice.contribute(x, open_blinding, layout, seed=seed, ctx1=ctx1, each=each)


def add(total, payload):
    for chunk in total.plan.cut(payload):
        total.check(chunk.index, chunk.data)
        total.add(chunk.index, chunk.data)


def public(ctx1, group, modulus):
    """A_j of a whole group; each batch overwrites the one before."""
    return np.concatenate([batch.copy() for batch in lattice.public_polynomials(ctx1, group, modulus)])


def summed(layout, payloads):
    total = Total(layout)
    for payload in payloads:
        add(total, payload)
    return total


@pytest.mark.parametrize(
    ("entries", "slot_bits"),
    [(1, 26), (10, 26), (97, 26), (DEGREE, 40), (3 * DEGREE + 5, 26), (50, 2), (7, 64)],
    ids=str,
)
def test_a_contribution_is_the_twins_byte_for_byte(entries, slot_bits):
    check_against_twin(Layout(entries, slot_bits, 1_000))


@pytest.mark.parametrize("modulus", MODULI, ids=lambda modulus: f"{modulus.bits}-bit")
def test_a_contribution_is_the_twins_with_every_modulus(modulus):
    check_against_twin(layout_over(modulus, 200))


def layout_over(modulus, entries):
    """Some parameters that take this modulus."""
    return next(
        layout
        for slot_bits in range(12, 40)
        for layout in [Layout(entries, slot_bits, 100)]
        if layout.modulus is modulus
    )


def check_against_twin(layout):
    x = vector(layout, layout.entries)
    sent = contribution(x, layout, "u")
    payload, seed = bytes(sent), drbg("lattice", "u")(32)
    assert np.frombuffer(payload[:KEY_BYTES], np.int32).tolist() == twin.key(seed, CTX1)
    assert payload[KEY_BYTES:] == twin.ciphertexts(x.tolist(), seed, CTX1, layout.slot_bits, layout.clients_max)
    np.testing.assert_array_equal(summed(layout, [sent]).open(open_blinding, CTX1, map), x)


def test_the_twin_decrypts_what_the_server_summed():
    layout = Layout(4_100, 40, 1_000)
    xs = [vector(layout, u) for u in range(3)]
    total = summed(layout, [contribution(x, layout, u) for u, x in enumerate(xs)])
    keys = [twin.key(drbg("lattice", u)(32), CTX1) for u in range(3)]
    secret = [sum(column) for column in zip(*keys, strict=True)]
    want = np.sum(xs, axis=0, dtype=np.uint64).tolist()
    assert twin.decrypt(total._ciphertext.tolist(), secret, CTX1, (4_100, 40, 1_000)) == want
    assert total.open(open_blinding, CTX1, map).tolist() == want


@settings(deadline=None, max_examples=25)
@given(
    entries=st.one_of(st.integers(1, 200), st.integers(4_000, 30_000)),
    slot_bits=st.integers(2, 64),
    clients=st.integers(1, 5),
)
def test_the_sum_is_the_plain_sum(entries, slot_bits, clients):
    layout = Layout(entries, slot_bits, 8)
    bits = max(1, slot_bits - 3)
    xs = [vector(layout, u, entries, bits=bits) for u in range(min(clients, 2 ** (slot_bits - bits)))]
    total = summed(layout, [contribution(x, layout, u) for u, x in enumerate(xs)])
    want = np.sum(xs, axis=0, dtype=np.uint64) & np.uint64(2**slot_bits - 1)
    np.testing.assert_array_equal(total.open(open_blinding, CTX1, map), want)


@pytest.mark.parametrize(("slot_bits", "slots"), WIDTHS)
def test_the_worst_admissible_sums_are_exact_and_slots_never_borrow(slot_bits, slots):
    """All slots full beside all slots empty, so that one bit carried or borrowed would show next door."""
    layout = Layout(2 * DEGREE * slots + 3, slot_bits, 1_000)
    assert layout.slots == slots
    full = np.full(layout.entries, 2**slot_bits - 1, word_dtype(slot_bits))
    striped = full.copy()
    striped[::2] = 0
    for x in (full, striped, np.zeros_like(full)):
        np.testing.assert_array_equal(summed(layout, [contribution(x, layout)]).open(open_blinding, CTX1, map), x)


def test_a_thousand_clients_of_full_words_are_exact():
    """The real errors of n_max clients, every word as large as 16 bits go."""
    layout = Layout(30, 26, 1_000)
    x = np.full(30, 2**16 - 1, np.uint32)
    total = summed(layout, (contribution(x, layout, u) for u in range(1_000)))
    assert total.open(open_blinding, CTX1, map).tolist() == [1_000 * (2**16 - 1)] * 30


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_error_of_the_bound_is_exact_and_one_beyond_the_modulus_is_not(sign):
    layout = Layout(3, 26, 1_000)
    top = 2**layout.message_bits
    bound = math.ceil(9 * math.sqrt(40.5 * 1_000))
    for message in (0, 2**78 - 1):
        assert opened(layout, sign * bound * top + message) == slots_of(message)
    beyond = math.prod(layout.modulus.primes) // 2 // top + 1
    assert opened(layout, sign * beyond * top) != slots_of(0)


def opened(layout, value):
    """What the server makes of one coefficient T·E + M under the key zero."""
    total = Total(layout)
    total._ciphertext[:] = np.repeat([value % prime for prime in layout.modulus.primes], 32)
    return total.open(open_blinding, CTX1, map).tolist()


def slots_of(message):
    return [(message >> 26 * k) % 2**26 for k in range(3)]


def test_threads_change_nothing():
    layout = Layout(300_000, 26, 1_000)
    x = vector(layout)
    alone = contribution(x, layout)
    with ThreadPoolExecutor(4) as pool:
        assert contribution(x, layout, each=pool.map) == alone
        total = summed(layout, [alone])
        np.testing.assert_array_equal(total.open(open_blinding, CTX1, pool.map), x)


def test_the_public_polynomial_is_the_same_in_any_order_and_never_the_same_twice():
    groups = [range(20), range(20, 40), range(40, 43)]
    for modulus in (MODULI[0], MODULI[-1]):
        ring = twin.modulus(modulus.bits)
        polynomials = {group: public(CTX1, group, modulus) for group in reversed(groups)}
        for group in groups:
            np.testing.assert_array_equal(public(CTX1, group, modulus), polynomials[group])
            for block, index in itertools.product((group.start, group.start + 1, group.stop - 1), range(3)):
                assert polynomials[group][block - group.start, index].tolist() == twin.uniform(CTX1, block, index, ring)
    rows = [row.tobytes() for group in groups for row in polynomials[group].reshape(-1, DEGREE)]
    rows += [row.tobytes() for row in public(CTX1[::-1], range(1), modulus)[0]]
    assert len(set(rows)) == len(rows)


def spoiled(data, bits, residue, value):
    """A chunk whose residue at this place, among those of its rows, has another value. The last rows may be shorter."""
    whole = len(data) // (512 * bits) * 512 * bits
    rows = [data[at : at + 512 * bits] for at in range(0, whole, 512 * bits)]
    rest = len(data) - whole
    rows += [data[at : at + rest // 3] for at in range(whole, len(data), max(1, rest // 3))]
    row = 0 if residue == 0 else len(rows) - 1
    residues = rows_twin.unpack(rows[row], bits)
    residues[residue] = value
    rows[row] = rows_twin.pack(residues, bits)
    return b"".join(rows)


@pytest.mark.parametrize("modulus", [MODULI[1], MODULI[-1]], ids=lambda modulus: f"{modulus.bits}-bit")
def test_a_residue_that_is_not_below_its_prime_is_refused_wherever_it_is(modulus):
    base = layout_over(modulus, 1)
    layout = layout_over(modulus, (BLOCKS_TOGETHER + 1) * DEGREE * base.slots + 6)  # three chunks, the last is short
    primes = modulus.primes
    chunks = list(layout.plan.cut(contribution(vector(layout), layout)))
    assert len(chunks) == 3
    total = Total(layout)
    total.check(0, b"\xff" * KEY_BYTES)
    for chunk, place in itertools.product(chunks[1:], (0, -1)):
        total.check(chunk.index, chunk.data)
        prime, data = primes[0] if place == 0 else primes[2], bytes(chunk.data)
        for bad in (prime, 2**modulus.bits - 1):
            with pytest.raises(MessageError, match=f"chunk {chunk.index}: a residue is not below its prime"):
                total.check(chunk.index, spoiled(data, modulus.bits, place, bad))
        total.check(chunk.index, spoiled(data, modulus.bits, place, prime - 1))


def test_keys_that_are_no_sum_of_gaussians_abort():
    total = summed(SMALL, [contribution(vector(SMALL), SMALL, u) for u in range(2)])
    for wrong in (91, -91):
        with pytest.raises(RoundAborted, match="what 2 clients blinded is no sum of their lattice keys"):
            total.open(
                lambda words, ring_bits, wrong=wrong: np.full(DEGREE, wrong, np.int32).view(np.uint32), CTX1, map
            )
