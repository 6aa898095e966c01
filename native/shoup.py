"""Arithmetic modulo primes below 2^30 in 32-bit words, folded into the kernels that use it; no branch, no division.

A product with a factor known beforehand takes its quotient floor(factor · 2^32 / prime) along: value · factor minus
floor(value · quotient / 2^32) · prime lies in [0, 2 · prime) for any 32-bit value.

Source: Harvey 2014 (arXiv 1205.2926).
"""

from typing import Any

import numpy as np

from native._jit import inlined


@inlined
def product(value: Any, factor: Any, quotient: Any, prime: Any) -> Any:
    """value · factor mod prime, or that plus prime: for any 32-bit value and a factor below prime."""
    estimate = np.uint32((np.uint64(value) * np.uint64(quotient)) >> np.uint64(32))
    return np.uint32(np.uint32(value * factor) - np.uint32(estimate * prime))


@inlined
def below(value: Any, bound: Any) -> Any:
    """From [0, 2 · bound) to [0, bound): below the bound the difference wraps, and is the larger one."""
    return min(np.uint32(value), np.uint32(value - bound))
