"""The judge finds what is wrong; it would be worth nothing otherwise."""

import numpy as np
import pytest

from tests.chaos.evidence import Evidence
from tests.chaos.judge import faults_of_sum, plain_sum

BITS = 23
A = np.array([2**23 - 1, 5, 0], np.uint32)
B = np.array([1, 6, 0], np.uint32)
SUM = np.array([0, 11, 0], np.uint32)


@pytest.fixture
def evidence(tmp_path):
    kept = Evidence(tmp_path)
    kept.mask("sepsis", 1, "a", A)
    kept.mask("sepsis", 1, "b", B)
    return kept


def said(evidence, participants=("a", "b"), words=SUM):
    return faults_of_sum(evidence, "sepsis", 1, participants, words, BITS)


def test_an_exact_sum_is_nothing_to_blame(evidence):
    assert said(evidence) == ""


@pytest.mark.parametrize("place", range(3))
def test_one_wrong_word_is_found(evidence, place):
    words = SUM.copy()
    words[place] += 1
    assert said(evidence, words=words) == "1 of 3 words are wrong"


@pytest.mark.parametrize(
    ("participants", "named"),
    [
        (("a",), "2 of 3 words are wrong"),
        (("a", "b", "c"), "c never uploaded anything"),
        (("a", "b", "b"), "its participants are a, b, b"),
        ((), "its participants are nobody"),
    ],
)
def test_other_participants_are_found(evidence, participants, named):
    assert named in said(evidence, participants)


def test_another_length_is_found(evidence):
    assert said(evidence, words=SUM[:2]) == "it has 2 words of 3"


@pytest.mark.parametrize("bits", [8, 32, 53, 64])
def test_plain_integers_say_the_same(bits):
    vectors = np.random.default_rng(bits).integers(0, 2**bits - 1, (9, 5), np.uint64, endpoint=True)
    expected = [sum(column) % 2**bits for column in zip(*vectors.tolist(), strict=True)]
    assert plain_sum(vectors, bits).tolist() == expected
