import hashlib
import itertools
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.crypto import shamir
from aggregator.errors import ParameterError
from tests.reference import gf16
from tests.reference import shamir as reference

SECRET = bytes(range(200, 232))


def stream(seed: bytes) -> Callable[[int], bytes]:
    """Entropy that two runs share."""
    counter = itertools.count()
    return lambda size: hashlib.shake_256(seed + next(counter).to_bytes(4, "big")).digest(size)


@pytest.mark.parametrize("holders", range(1, 7))
def test_every_subset_of_threshold_shares_gives_the_secret(holders: int) -> None:
    for threshold in range(1, holders + 1):
        shares = shamir.split(SECRET, threshold, holders, os.urandom)
        for size in range(holders + 1):
            for subset in itertools.combinations(range(holders), size):
                given_shares = {holder: shares[holder] for holder in subset}
                if size >= threshold:
                    assert shamir.combine(given_shares, threshold) == SECRET
                else:
                    with pytest.raises(ParameterError, match=f"{size} shares, need {threshold}"):
                        shamir.combine(given_shares, threshold)


@given(secret=st.binary(min_size=32, max_size=32), data=st.data(), holders=st.integers(1, 9))
def test_agrees_with_the_twin(secret: bytes, data: st.DataObject, holders: int) -> None:
    threshold = data.draw(st.integers(1, holders))
    shares = shamir.split(secret, threshold, holders, stream(secret))
    assert list(shares) == reference.split(secret, threshold, holders, stream(secret))
    used = dict(itertools.islice(enumerate(shares), threshold))
    assert shamir.combine(used, threshold) == reference.combine(used) == secret


@pytest.mark.parametrize(("threshold", "known"), [(2, (0,)), (3, (1, 4)), (3, (0, 1)), (4, (0, 2, 3))])
def test_one_share_too_few_is_consistent_with_every_secret(threshold: int, known: tuple[int, ...]) -> None:
    """For every candidate word there is exactly one polynomial through it and the known shares: they say nothing.

    With a constant term c and t - 1 known values, the value at any other point is c·λ0 + constant, and λ0 is not 0:
    so all 65,536 candidates are reached, each by one value of the missing share.
    """
    shares = shamir.split(b"\x12\x34", threshold, 6, os.urandom)
    points = [holder + 1 for holder in known]
    missing_point = 6
    weights = gf16.lagrange_at_zero([*points, missing_point])
    rest = 0
    for holder, weight in zip(known, weights, strict=False):
        rest ^= gf16.multiply(int.from_bytes(shares[holder], "big"), weight)
    for candidate in (0, 1, 0x1234, 0x1235, 0xFFFF):
        value = gf16.multiply(candidate ^ rest, gf16.inverse(weights[-1]))
        forged = {holder: shares[holder] for holder in known} | {5: value.to_bytes(2, "big")}
        assert shamir.combine(forged, threshold) == candidate.to_bytes(2, "big")
    assert len({gf16.multiply(value, weights[-1]) for value in range(65536)}) == 65536


def test_a_share_below_the_threshold_is_uniform() -> None:
    """With t = 2 the share of holder 0 runs through every word as the coefficient does, whatever the secret."""
    for secret in (b"\x00\x00", b"\xab\xcd"):
        seen = {shamir.split(secret, 2, 1 + 1, lambda _, c=c: c.to_bytes(2, "big"))[0] for c in range(0, 65536, 64)}
        assert len(seen) == 1024


def test_only_the_lowest_holders_count() -> None:
    shares = dict(enumerate(shamir.split(SECRET, 2, 4, os.urandom)))
    assert shamir.combine(shares | {2: bytes(32), 3: b"odd"}, 2) == SECRET
    assert shamir.combine(shares | {1: bytes(32)}, 2) != SECRET


def test_weights_serve_every_dealer_with_the_same_holders() -> None:
    weights = shamir.weights([6, 1, 3])
    for secret in (SECRET, bytes(32), b"\x00\x01"):
        shares = shamir.split(secret, 3, 7, os.urandom)
        assert shamir.recover(dict(enumerate(shares)), weights) == secret


def test_the_paper_sized_case() -> None:
    shares = shamir.split(SECRET, 97, 132, os.urandom)
    assert shamir.combine({holder: shares[holder] for holder in range(35, 132)}, 97) == SECRET


def test_entropy_is_taken_for_every_degree_and_no_more() -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    shamir.split(SECRET, 5, 8, entropy)
    assert asked == [32] * 4


@pytest.mark.parametrize(("threshold", "holders"), [(0, 3), (-1, 3), (4, 3), (1, 0), (2, 65536), (65536, 65536)])
def test_impossible_thresholds_are_refused(threshold: int, holders: int) -> None:
    with pytest.raises(ParameterError, match="threshold"):
        shamir.split(SECRET, threshold, holders, os.urandom)


@pytest.mark.parametrize("threshold", [0, -1, 65536])
def test_combining_needs_a_threshold_in_range(threshold: int) -> None:
    with pytest.raises(ParameterError, match="threshold"):
        shamir.combine({0: SECRET}, threshold)


@pytest.mark.parametrize("secret", [b"", b"x", b"xyz"])
def test_secrets_of_odd_length_are_refused(secret: bytes) -> None:
    with pytest.raises(ParameterError, match="16-bit words"):
        shamir.split(secret, 1, 2, os.urandom)
    with pytest.raises(ParameterError, match="16-bit words"):
        shamir.combine({0: secret, 1: secret}, 2)


def test_shares_of_unequal_length_are_refused() -> None:
    with pytest.raises(ParameterError, match="different lengths"):
        shamir.combine({0: bytes(32), 1: bytes(30)}, 2)


@pytest.mark.parametrize("holder", [-1, 65535, 2**32])
def test_holders_out_of_range_are_refused(holder: int) -> None:
    with pytest.raises(ParameterError, match="not in 0"):
        shamir.combine({0: SECRET, holder: SECRET}, 2)


def test_holders_are_distinct_and_present() -> None:
    with pytest.raises(ParameterError, match="distinct"):
        shamir.weights([1, 1])
    with pytest.raises(ParameterError, match="distinct"):
        shamir.weights([])
    with pytest.raises(ParameterError, match="no share of holder 2"):
        shamir.recover({1: SECRET}, shamir.weights([1, 2]))


def test_errors_show_no_share() -> None:
    with pytest.raises(ParameterError) as refusal:
        shamir.combine({0: b"secret", 1: b"secret!!"}, 2)
    assert "secret" not in str(refusal.value)
