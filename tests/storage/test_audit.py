import json
from hashlib import sha256

import pytest

from aggregator.errors import StorageError
from aggregator.storage.audit import AuditFile, Chain, Head, verify


def lines(count=4):
    chain = Chain(Head(), lambda: 1_795_938_756.926)
    return [chain.line("decision", {"number": number, "names": ["a", "b"]}) for number in range(count)]


def test_each_line_holds_the_hash_of_the_one_before_as_anybody_can_compute_it():
    made = [json.loads(line) for line in lines()]
    assert [one["seq"] for one in made] == [0, 1, 2, 3]
    assert made[0]["at"] == "2026-11-29T07:52:36.926Z"
    assert made[0]["previous"] == sha256(b"").hexdigest()
    for before, after in zip(lines(), made[1:], strict=False):
        assert after["previous"] == sha256(before.encode()).hexdigest()


def test_a_whole_log_is_whole_and_names_its_head():
    whole = lines()
    assert verify(whole) == Head(3, sha256(whole[3].encode()).hexdigest())
    assert verify(whole, sha256(whole[1].encode()).hexdigest()).seq == 3
    assert verify([]) == Head()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda w: w[:1] + w[2:], "line 2 does not follow"),
        (lambda w: w[1:], "line 1 does not follow"),
        (lambda w: [w[0], w[2], w[1], w[3]], "line 2 does not follow"),
        (lambda w: [w[0], w[1].replace('"a"', '"c"'), *w[2:]], "line 3 does not follow"),
        (lambda w: [*w, w[3]], "line 5 does not follow"),
        (lambda w: [*w, "{}"], "not one of its lines"),
        (lambda w: [*w, "{"], "no JSON"),
    ],
)
def test_a_line_that_was_changed_moved_or_taken_out_is_named(spoil, named):
    with pytest.raises(StorageError, match=named):
        verify(spoil(lines()))


def test_a_noted_head_finds_a_log_that_was_cut_or_written_anew():
    head = sha256(lines()[3].encode()).hexdigest()
    with pytest.raises(StorageError, match=f"no line has the hash {head}"):
        verify(lines()[:3], head)


def test_a_line_that_was_half_written_is_written_whole(tmp_path):
    whole = lines()
    file = AuditFile(tmp_path / "log", whole[:2])
    with (tmp_path / "log").open("ab") as torn:
        torn.write(b"half")
    file.append(whole[2:])
    file.close()
    assert (tmp_path / "log").read_text().splitlines() == whole
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
