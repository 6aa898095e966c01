"""TenSEAL CKKS as NVFlare configures and calls it: encrypt one client's vector, deserialise and add it at the server.

Runs in `.venv-peers`, without NVFlare: its homomorphic path is a handful of TenSEAL calls, made here in its order.
- `HEBuilder` (nvflare/lighter/impl/he.py): CKKS, degree 8192, primes of 60, 40 and 40 bits, scale 2^40, symmetric
  encryption; the server's context holds no secret key.
- `HEModelEncryptor` (nvflare/app_opt/he/model_encryptor.py): values times the local iterations, `ckks_vector`,
  `serialize`.
- `HEInTimeAccumulateWeightedAggregator.accept` (intime_accumulate_model_aggregator.py): `ckks_vector_from`, add.

Measured: those calls on one vector, as they are, with TenSEAL's own threads; the bytes that `serialize` gives.
NOT measured: NVFlare's filters, FOBS, transport, the division by the iterations once per round, decryption, and the
context that NVFlare sends again with each tensor on the way back. The decrypted sum is compared with the plain one.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np
import tenseal as ts

DEGREE, PRIME_BITS, SCALE_BITS = 8192, [60, 40, 40], 40
ITERATIONS = 10
WORST_ERROR = 1e-4  # of the sum of values up to ITERATIONS; CKKS gives about 1e-9 per addition here


def main() -> None:
    arguments = parse()
    at_client, at_server = contexts()
    vectors = [np.random.default_rng(seed).uniform(-1, 1, arguments.entries).astype(np.float32) for seed in range(2)]
    sent = [encrypt(at_client, values) for values in vectors]
    encrypting = [seconds(lambda: encrypt(at_client, vectors[0])) for _ in range(arguments.repeats)]
    total = ts.ckks_vector_from(at_server, sent[0])
    deserialising = [seconds(lambda: ts.ckks_vector_from(at_server, sent[1])) for _ in range(arguments.repeats)]
    accepting = [seconds(lambda: accept(at_server, total, sent[1])) for _ in range(arguments.repeats)]
    figures = {
        **timed("client_encrypt", encrypting, arguments.entries),
        **timed("server_deserialise", deserialising, arguments.entries),
        **timed("server_deserialise_and_add", accepting, arguments.entries),
        "bytes_per_value": max(map(len, sent)) / arguments.entries,
        "sum_worst_error": check_sum(at_client, accept(at_server, total, sent[1]), vectors),
    }
    versions = {name: version(name) for name in ("tenseal", "numpy")}
    print(json.dumps({"peer": "nvflare_he", **vars(arguments), **figures, "versions": versions}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Last line of stdout: JSON."
    )
    parser.add_argument("--entries", type=int, default=1_000_000, help="float32 values per client")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def contexts() -> tuple[Any, Any]:
    """The client's and the server's, as `HEBuilder` provisions them."""
    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        poly_modulus_degree=DEGREE,
        coeff_mod_bit_sizes=PRIME_BITS,
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.generate_relin_keys()
    context.global_scale = 2**SCALE_BITS
    kept = {"save_galois_keys": False, "save_relin_keys": True}
    client, server = (
        ts.context_from(context.serialize(save_public_key=full, save_secret_key=full, **kept)) for full in (True, False)
    )
    return client, server


def encrypt(context: Any, values: Any) -> bytes:
    return ts.ckks_vector(context, values * np.float64(ITERATIONS)).serialize()


def accept(context: Any, total: Any, sent: bytes) -> Any:
    return total + ts.ckks_vector_from(context, sent)


def check_sum(context: Any, total: Any, vectors: list[Any]) -> float:
    """The worst error of an entry of the decrypted sum; exits where it is too large."""
    found = np.array(ts.ckks_vector_from(context, total.serialize()).decrypt())
    worst = float(np.abs(found - ITERATIONS * np.sum(vectors, axis=0, dtype=np.float64)).max())
    if not worst <= WORST_ERROR:
        sys.exit(f"TenSEAL's sum is off by {worst}")
    return worst


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def timed(name: str, both: list[tuple[float, float]], entries: int) -> dict[str, float]:
    """Medians and minima of (seconds, CPU seconds), and nanoseconds per value."""
    wall, cpu = zip(*both, strict=True)
    return {
        f"{name}_s": median(wall),
        f"{name}_min_s": min(wall),
        f"{name}_cpu_s": median(cpu),
        f"{name}_cpu_min_s": min(cpu),
        f"{name}_ns_per_value": median(wall) / entries * 1e9,
    }


if __name__ == "__main__":
    main()
