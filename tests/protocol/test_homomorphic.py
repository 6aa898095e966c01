import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import tenseal
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto.bfv import Decryptor
from aggregator.crypto.seal_format import Level, read_ciphertext, split_vector, write_vector
from aggregator.errors import MessageError
from aggregator.protocol import homomorphic
from aggregator.protocol.homomorphic import Total
from aggregator.protocol.homomorphic_layout import DEGREE, CipherLayout, noise_max
from native.ring import word_dtype
from tests.ciphertexts import secret_key
from tests.consortium import drbg
from tests.reference import bfv as twin
from tests.reference import rows

CTX0 = bytes(range(32))
SETS = [(2, 2), (8, 100), (16, 2), (16, 100), (16, 1_000), (16, 10_000), (32, 1_000), (54, 10)]


@cache
def keys(value_bits, clients_max):
    layout = CipherLayout(1, value_bits, clients_max)
    return homomorphic.new_keys(layout)


def key_of(layout):
    return homomorphic.read_public_key(keys(layout.value_bits, layout.clients_max).public, layout)


def vector(layout, *label, bits=None):
    draws = np.frombuffer(drbg("vector", *label)(8 * layout.entries), np.uint64)
    return (draws >> np.uint64(64 - (bits or layout.value_bits))).astype(word_dtype(layout.digit_bits))


def contribution(x, layout, *label, each=map):
    return homomorphic.contribute(x, key_of(layout), layout, seed=drbg("bfv", *label)(32), ctx0=CTX0, each=each)


def add(total, payload):
    for chunk in total.plan.cut(payload):
        total.check(chunk.index, chunk.data)
        total.add(chunk.index, chunk.data)


def part(payload, layout, blocks):
    """The bytes of some ciphertexts."""
    words = layout.packed_words(blocks)
    return bytes(payload[4 * words.start : 4 * words.stop])


def opened(total, layout, clients):
    secret = keys(layout.value_bits, layout.clients_max).secret
    return homomorphic.decrypt(total.packed(), secret, layout, clients=clients)


@pytest.mark.parametrize(("value_bits", "clients"), SETS)
def test_tenseal_decrypts_the_sum_of_as_many_full_vectors_as_the_set_allows(value_bits, clients):
    """n_max ciphertexts, each with noise of its own, every entry as large as it gets beside entries that are zero."""
    layout = CipherLayout(4_100, value_bits, clients)
    x = np.full(layout.entries, 2**value_bits - 1, word_dtype(layout.digit_bits))
    x[1::3] = 0
    key, total = key_of(layout), Total(layout)
    for client in range(clients):
        add(total, homomorphic.contribute(x, key, layout, seed=drbg("full", client)(32), ctx0=CTX0, each=map))
    assert opened(total, layout, clients).tolist() == [clients * int(word) for word in x]


@settings(deadline=None, max_examples=15)
@given(entries=st.integers(1, 40_000), pick=st.sampled_from(SETS), clients=st.integers(1, 2))
def test_the_sum_is_the_plain_sum(entries, pick, clients):
    layout = CipherLayout(entries, *pick)
    xs, total = [vector(layout, u, entries) for u in range(clients)], Total(layout)
    for u, x in enumerate(xs):
        add(total, contribution(x, layout, u))
    np.testing.assert_array_equal(opened(total, layout, clients), np.sum(xs, axis=0, dtype=np.uint64))


@pytest.mark.parametrize("blocks", [range(1), range(15, 16)])
def test_the_twin_makes_the_same_bytes(blocks):
    """The first ciphertext, and one in the second wire chunk that is not full."""
    layout = CipherLayout(blocks.start * 8192 + 4_099, 16, 1_000)
    x = vector(layout)
    words = x[layout.words(blocks)].tolist()
    shape = (layout.parameters.primes, layout.parameters.plain_modulus, 26, layout.blocks_together)
    want = twin.ciphertext(words, blocks.start, keys(16, 1_000).public, drbg("bfv")(32), CTX0, shape)
    assert part(contribution(x, layout), layout, blocks) == want


def test_what_the_server_sums_tenseal_decrypts_by_itself():
    """The rows, put into SEAL's form by hand: the slots are the digits, in their order."""
    layout = CipherLayout(3, 16, 1_000)
    total = Total(layout)
    for u in range(2):
        add(total, contribution(np.array([1, 2, 65_535], np.uint32), layout, u))
    context = tenseal.context_from(keys(16, 1_000).secret)
    residues = homomorphic._unpacked(np.frombuffer(total.packed(), np.uint32), layout).reshape(2, -1, DEGREE)
    written = write_vector([residues.astype(np.uint64)], [4], Level.of_ciphertexts(layout.parameters))
    assert tenseal.bfv_vector_from(context, written).decrypt() == [2, 4, 131_070, 0]


def test_ciphertexts_that_tenseal_encrypts_add_to_ours():
    """A platform's own ciphertext under the same public key, stripped to its limbs."""
    layout = CipherLayout(8_192, 16, 1_000)
    x = vector(layout)
    pair = tenseal.context(
        tenseal.SCHEME_TYPE.BFV, DEGREE, layout.parameters.plain_modulus, list(layout.parameters.prime_bits)
    )
    secret = pair.serialize(save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False)
    slots = twin.slots_of(x.tolist(), DEGREE, 26)
    data = tenseal.bfv_vector(pair, slots).serialize()
    level = Level.of_ciphertexts(layout.parameters)
    residues = read_ciphertext(split_vector(data, [DEGREE], level)[0], level).reshape(-1, DEGREE).astype(np.uint32)
    total = Total(layout)
    for _ in range(3):
        add(total, homomorphic._packed(residues, layout).view(np.uint8).data)
    assert (homomorphic.decrypt(total.packed(), secret, layout, clients=3) == 3 * x).all()


def test_the_noise_is_what_the_bound_says():
    """Phase minus message, of 64 ciphertexts and of their sum: the variance of the formula, far below the bound."""
    layout = CipherLayout(DEGREE, 16, 1_000)
    primes, plain = layout.parameters.primes, layout.parameters.plain_modulus
    root = twin.smallest_root(DEGREE, primes[0])
    values = [int(value) for value in secret_key(keys(16, 1_000).secret, layout.parameters)[0]]
    secret = twin.interpolated([values[twin.rev(k, DEGREE)] for k in range(DEGREE)], root, primes[0])
    secret = [value - primes[0] if value > primes[0] // 2 else value for value in secret]
    assert set(secret) == {-1, 0, 1}
    x, total, clients = vector(layout), Total(layout), 64
    for u in range(clients):
        add(total, contribution(x, layout, u))
    m = twin.message([clients * int(word) for word in x], plain)
    noise = []
    for found, wanted in zip(
        twin.phase(total._sums.tolist(), secret, primes), twin.scaled(m, layout.parameters.modulus, plain), strict=True
    ):
        off = (found - wanted) % layout.parameters.modulus
        noise.append(off - layout.parameters.modulus if off > layout.parameters.modulus // 2 else off)
    weight = sum(map(abs, secret))
    variance = clients * (2 / 3 * DEGREE * 10.5 + 10.24 * (1 + weight) + 1 / 12)
    assert 0.85 < np.mean(np.square(noise)) / variance < 1.15
    assert max(map(abs, noise)) < noise_max(clients) / 2


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_noise_of_the_bound_is_exact_and_one_beyond_the_modulus_is_not(sign):
    layout = CipherLayout(1, 16, 1_000)
    modulus, plain = layout.parameters.modulus, layout.parameters.plain_modulus
    bound = noise_max(1_000)
    for m in (0, 1, plain // 2, plain - 1):
        assert decrypted(layout, twin.scaled([m], modulus, plain)[0] + sign * bound)[0] == m
    assert decrypted(layout, sign * (modulus // (2 * plain) + 2))[0] != 0


def decrypted(layout, constant):
    """What TenSEAL makes of the constant polynomial under any key: a ciphertext (c, 0), every slot the same."""
    residues = np.zeros((2, len(layout.parameters.primes), DEGREE), np.uint64)
    residues[0, :, 0] = [constant % prime for prime in layout.parameters.primes]
    residues[1, :, 1] = 0
    return Decryptor(layout.parameters, keys(layout.value_bits, layout.clients_max).secret).decrypt(residues)


def test_threads_change_nothing_and_no_two_ciphertexts_are_the_same():
    layout = CipherLayout(300_000, 16, 1_000)
    x = np.zeros(layout.entries, np.uint32)
    alone = contribution(x, layout)
    with ThreadPoolExecutor(4) as pool:
        assert contribution(x, layout, each=pool.map) == alone
    blocks = [part(alone, layout, range(b, b + 1)) for b in range(layout.blocks)]
    assert len(set(blocks)) == layout.blocks
    assert contribution(x, layout, "other seed") != alone


def test_sums_do_not_depend_on_the_order():
    layout = CipherLayout(9_000, 16, 1_000)
    payloads = [contribution(vector(layout, u), layout, u) for u in range(3)]
    sums = set()
    for order in itertools.permutations(payloads):
        total = Total(layout)
        for payload in order:
            add(total, payload)
        sums.add(bytes(total.packed()))
    assert len(sums) == 1


def test_a_residue_that_is_not_below_its_prime_is_refused_wherever_it_is():
    layout = CipherLayout(15 * 8_192, 16, 1_000)  # two chunks on the wire
    total = Total(layout)
    primes, widths = layout.parameters.primes, layout.parameters.prime_bits[:-1]
    row_bytes = [DEGREE * width // 8 for width in widths]
    for chunk in layout.plan.cut(contribution(vector(layout), layout)):
        total.check(chunk.index, chunk.data)
        for j in range(3):
            bad = bytearray(chunk.data)
            start = sum(row_bytes[:j])
            row = rows.unpack(bytes(bad[start : start + row_bytes[j]]), widths[j])
            row[17] = primes[j]
            bad[start : start + row_bytes[j]] = rows.pack(row, widths[j])
            with pytest.raises(MessageError, match=f"chunk {chunk.index}: a residue is not below its prime"):
                total.check(chunk.index, bytes(bad))
        with pytest.raises(MessageError, match="not below its prime"):
            total.check(chunk.index, bytes(chunk.data)[:-8] + b"\xff" * 8)
    assert not np.frombuffer(total.packed(), np.uint8).any()


def test_public_keys_that_are_none_are_refused():
    layout = CipherLayout(1, 16, 1_000)
    public = keys(16, 1_000).public
    assert len(public) == layout.block_bytes
    for bad in (b"", public[:-1], public + b"\0"):
        with pytest.raises(MessageError, match=f"public key: {len(bad)} bytes, expected {len(public)}"):
            homomorphic.read_public_key(bad, layout)
    with pytest.raises(MessageError, match="public key: a residue is not below its prime"):
        homomorphic.read_public_key(b"\xff" * 8 + public[8:], layout)


def test_sums_that_are_none_are_refused():
    layout = CipherLayout(1, 16, 1_000)
    total = bytes(Total(layout).packed())
    for bad in (b"", total[:-1], total + b"\0"):
        with pytest.raises(MessageError, match=f"sum: {len(bad)} bytes, expected {len(total)}"):
            homomorphic.decrypt(bad, keys(16, 1_000).secret, layout, clients=1)
    with pytest.raises(MessageError, match="sum: a residue is not below its prime"):
        homomorphic.decrypt(b"\xff" * 8 + total[8:], keys(16, 1_000).secret, layout, clients=1)


def test_a_sum_under_another_key_and_a_key_of_other_parameters_are_refused():
    layout, x = CipherLayout(100, 16, 1_000), np.full(100, 7, np.uint32)
    total = Total(layout)
    add(total, contribution(x, layout))
    stranger = homomorphic.new_keys(layout)
    with pytest.raises(MessageError, match="sum: it is no sum of 1 clients' entries"):
        homomorphic.decrypt(total.packed(), stranger.secret, layout, clients=1)
    with pytest.raises(MessageError, match="the secret key is of other parameters"):
        homomorphic.decrypt(total.packed(), keys(16, 100).secret, layout, clients=1)


def test_a_sum_of_more_than_was_signed_is_refused():
    layout, x = CipherLayout(5, 16, 1_000), np.array([0, 0, 65_535, 0, 0], np.uint32)
    total = Total(layout)
    for u in range(3):
        add(total, contribution(x, layout, u))
    assert opened(total, layout, 3).tolist() == [0, 0, 3 * 65_535, 0, 0]
    with pytest.raises(MessageError, match="no sum of 2 clients' entries"):
        opened(total, layout, 2)


def test_secrets_are_in_no_repr():
    pair = keys(16, 1_000)
    assert repr(pair) == "Keys()"
    assert not any(name in repr(key_of(CipherLayout(1, 16, 1_000))) for name in ("array", "["))


def test_only_the_key_holder_loads_tenseal():
    code = "import sys, clients; from aggregator.protocol import ckks, homomorphic; print('tenseal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
