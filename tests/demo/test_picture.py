from pathlib import Path

import numpy as np
import pytest

from aggregator.demo import picture
from aggregator.demo.outcome import Round
from aggregator.demo.witness import Words
from aggregator.errors import StorageError
from aggregator.protocol.parameters import Parameters
from aggregator.wire.messages import Tensor
from native.pack import pack

PARAMETERS = Parameters((Tensor("weights", (30,)), Tensor("bias", ())), 4.0, 4, 3, 100)
ROUNDS = (Round(1, (), ("a", "b"), True, {}), Round(2, (), ("b",), True, {}))


def save(evidence: Path, number: int, hospital: str) -> Words:
    rng = np.random.default_rng(number)
    encoded, masked = rng.integers(0, 2**PARAMETERS.ring_bits, (2, PARAMETERS.entries)).astype(np.uint32)
    words = Words(encoded, pack(masked, PARAMETERS.ring_bits))
    words.save(Words.path(evidence, number, hospital))
    return words


def test_the_sample_is_of_the_most_faithful_hospital(tmp_path: Path) -> None:
    save(tmp_path, 1, "a")
    first, second = save(tmp_path, 1, "b"), save(tmp_path, 2, "b")
    shown = picture.sample(tmp_path, ("a", "b"), ROUNDS, PARAMETERS)
    assert shown.hospital == "b"
    assert np.array_equal(shown.encoded, [first.encoded[:31], second.encoded[:31]])
    assert np.array_equal(shown.masked, [words.masked(PARAMETERS.ring_bits)[:31] for words in (first, second)])


def test_a_round_that_it_was_not_in_is_blank(tmp_path: Path) -> None:
    save(tmp_path, 1, "a")
    shown = picture.sample(tmp_path, ("a",), ROUNDS, PARAMETERS)
    assert np.isnan(shown.encoded[1]).all()
    assert np.isnan(shown.masked[1]).all()


@pytest.mark.parametrize("rounds", [ROUNDS, ROUNDS[:1]])
def test_it_is_a_picture(rounds: tuple[Round, ...], tmp_path: Path) -> None:
    save(tmp_path, 1, "a")
    path = tmp_path / "new" / picture.FILE
    picture.draw(path, picture.sample(tmp_path, ("a",), rounds, PARAMETERS), PARAMETERS)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    save(tmp_path, 1, "a")
    (tmp_path / "file").touch()
    shown = picture.sample(tmp_path, ("a",), ROUNDS, PARAMETERS)
    with pytest.raises(StorageError, match="cannot write"):
        picture.draw(tmp_path / "file" / "one.png", shown, PARAMETERS)
