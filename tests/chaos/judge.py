"""The sum again, from what the sites wrote down; this shares no code with the server or the protocol."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tests.chaos.evidence import Evidence


def plain_sum(vectors: Iterable[npt.NDArray[np.unsignedinteger]], ring_bits: int) -> npt.NDArray[np.uint64]:
    """Plain integers, modulo 2^ring_bits. Numbers of 64 bits wrap at 2^64, which a power of two below divides."""
    total = np.uint64(0) + sum(np.asarray(vector, np.uint64) for vector in vectors)
    return np.asarray(total & np.uint64(2**ring_bits - 1))


def faults_of_sum(
    evidence: Evidence,
    task: str,
    number: int,
    participants: Sequence[str],
    words: npt.NDArray[np.unsignedinteger],
    ring_bits: int,
) -> str:
    """What is wrong with a round's sum, in words; empty where nothing is."""
    masked = {site: evidence.masked(task, number, site) for site in participants}
    vectors = [vector for vector in masked.values() if vector is not None]
    if len(set(participants)) != len(participants) or not participants:
        return f"its participants are {', '.join(participants) or 'nobody'}"
    if len(vectors) < len(masked):
        silent = sorted(site for site, vector in masked.items() if vector is None)
        return f"{', '.join(silent)} never uploaded anything"
    expected = plain_sum(vectors, ring_bits)
    if expected.shape != words.shape:
        return f"it has {words.size} words of {expected.size}"
    different = int(np.count_nonzero(expected != words))
    return f"{different} of {words.size} words are wrong" if different else ""
