"""What does homomorphic mode cost beside TenSEAL as NVFlare calls it, on the same vector?

- Server: `ckks_vector_from` and `add_`, against our check and add of a BFV contribution; and against our parse and add
  of the very same CKKS bytes.
- Client: `ckks_vector` and `serialize`, against `contribute`; and TenSEAL's own BFV encryption without serialisation.
- What travels.

Cores: TenSEAL takes all of them by itself; ours at the client too (`Cores`), at the BFV server one.
NOT measured: the network, NVFlare's filters, the auditor, hashing.
"""

import os

import numpy as np
import pytest
import tenseal
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.cores import Cores
from aggregator.protocol import ckks, homomorphic
from aggregator.protocol.homomorphic_layout import CipherLayout
from benchmarks.alternate import alternate, seconds
from benchmarks.peers import nvflare_he

ENTRIES, PAIRS = 1 << 20, 7
SERVER_LEAST, SAME_BYTES_LEAST, CLIENT_LEAST = 10, 1.2, 2.5
BYTES_MOST = {1: 13.6, 2: 9.1}
CTX0 = bytes(32)


def floats(entries: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, entries).astype(np.float32)


def words(layout: CipherLayout) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**layout.value_bits, layout.entries, dtype=np.uint32)


def nanoseconds(took_s: float, entries: int = ENTRIES) -> str:
    return f"{took_s / entries * 1e9:.1f} ns"


@pytest.fixture(scope="module")
def cores() -> Cores:
    return Cores()


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """TenSEAL prints a warning for each vector of more than one ciphertext."""


@pytest.mark.parametrize("clients_max", [100, 1_000, 10_000])
def test_server(benchmark: BenchmarkFixture, clients_max: int) -> None:
    at_client, at_server = nvflare_he.contexts()
    sent = nvflare_he.encrypt(at_client, floats(ENTRIES))
    layout = CipherLayout(ENTRIES, 16, clients_max)
    chunks = list(layout.plan.cut(contribution(layout)))
    total, theirs = homomorphic.Total(layout), tenseal.ckks_vector_from(at_server, sent)

    def accept() -> None:
        for chunk in chunks:
            total.check(chunk.index, chunk.data)
            total.add(chunk.index, chunk.data)

    ours_s, theirs_s, ratio = alternate(
        benchmark, accept, lambda: theirs.add_(tenseal.ckks_vector_from(at_server, sent)), PAIRS
    )
    size, most = layout.plan.payload_bytes / ENTRIES, BYTES_MOST[2] if clients_max <= 1_000 else BYTES_MOST[1]
    benchmark.extra_info["rows"] = [
        (
            f"server, NVFlare's deserialise and add over our check and add, per value: n_max {clients_max:,}",
            f"{1 / ratio:.1f} ({nanoseconds(theirs_s)} over {nanoseconds(ours_s)})",
            f"≥ {SERVER_LEAST}",
        ),
        (
            f"bytes per 16-bit value, {layout.digits} to a slot, n_max {clients_max:,}: {len(sent) / ENTRIES:.1f} over",
            f"{size:.2f}",
            f"≤ {most}",
        ),
    ]


@pytest.mark.parametrize(
    ("entries", "pairs"), [(1, 200), (100, 200), (4_096, 200), (5_000, 100), (65_536, 30), (ENTRIES, 7)]
)
def test_same_bytes(benchmark: BenchmarkFixture, cores: Cores, entries: int, pairs: int) -> None:
    at_client, at_server = nvflare_he.contexts()
    sent = nvflare_he.encrypt(at_client, floats(entries))
    total, theirs = ckks.Total(entries), tenseal.ckks_vector_from(at_server, sent)
    ours_s, theirs_s, ratio = alternate(
        benchmark,
        lambda: total.add(sent, cores.each),
        lambda: theirs.add_(tenseal.ckks_vector_from(at_server, sent)),
        pairs,
    )
    benchmark.extra_info["rows"] = [
        (
            f"the same CKKS bytes, TenSEAL's deserialise and add over ours: {entries:,} values",
            f"{1 / ratio:.2f} ({theirs_s * 1e3:.2f} ms over {ours_s * 1e3:.2f} ms)",
            f"≥ {SAME_BYTES_LEAST}",
        )
    ]


def test_client(benchmark: BenchmarkFixture, cores: Cores) -> None:
    at_client, _ = nvflare_he.contexts()
    x, layout = floats(ENTRIES), CipherLayout(ENTRIES, 16, 1_000)
    key, encoded = homomorphic.read_public_key(homomorphic.new_keys(layout).public, layout), words(layout)
    ours_s, theirs_s, ratio = alternate(
        benchmark,
        lambda: homomorphic.contribute(encoded, key, layout, seed=os.urandom(32), ctx0=CTX0, each=cores.each),
        lambda: nvflare_he.encrypt(at_client, x),
        PAIRS,
    )
    benchmark.extra_info["rows"] = [
        (
            "client, NVFlare's encrypt and serialise over our contribute, per value",
            f"{1 / ratio:.1f} ({nanoseconds(theirs_s)} over {nanoseconds(ours_s)})",
            f"≥ {CLIENT_LEAST}",
        )
    ]


def test_client_beside_tenseals_own_bfv(benchmark: BenchmarkFixture, cores: Cores) -> None:
    """The same parameter set, slots given to TenSEAL as the list of integers that it wants."""
    layout = CipherLayout(ENTRIES, 16, 1_000)
    parameters = layout.parameters
    context = tenseal.context(
        tenseal.SCHEME_TYPE.BFV, parameters.degree, parameters.plain_modulus, list(parameters.prime_bits)
    )
    key, encoded = homomorphic.read_public_key(homomorphic.new_keys(layout).public, layout), words(layout)
    slots = (
        encoded[::2].astype(np.uint64) + (encoded[1::2].astype(np.uint64) << np.uint64(layout.digit_bits))
    ).tolist()
    ours_s, theirs_s, ratio = alternate(
        benchmark,
        lambda: homomorphic.contribute(encoded, key, layout, seed=os.urandom(32), ctx0=CTX0, each=cores.each),
        lambda: tenseal.bfv_vector(context, slots),
        PAIRS,
    )
    benchmark.extra_info["rows"] = [
        (
            "client, TenSEAL's own BFV encryption of the same slots, not serialised, over our contribute",
            f"{1 / ratio:.1f} ({nanoseconds(theirs_s)} over {nanoseconds(ours_s)})",
            "",
        )
    ]


def test_key_holder(benchmark: BenchmarkFixture) -> None:
    layout = CipherLayout(ENTRIES // 4, 16, 1_000)
    keys = homomorphic.new_keys(layout)
    total = homomorphic.Total(layout).packed()
    took_s: list[float] = []
    benchmark.pedantic(
        lambda: took_s.append(seconds(lambda: homomorphic.decrypt(total, keys.secret, layout, clients=1))),
        rounds=5,
        warmup_rounds=1,
    )
    benchmark.extra_info["rows"] = [
        ("key holder, decryption of the sum, per value", nanoseconds(min(took_s), layout.entries), "")
    ]


def contribution(layout: CipherLayout) -> memoryview:
    key = homomorphic.read_public_key(homomorphic.new_keys(layout).public, layout)
    return homomorphic.contribute(words(layout), key, layout, seed=os.urandom(32), ctx0=CTX0, each=map)
