from datetime import UTC, datetime

import pytest

from aggregator.crypto.revocation import read_revoked, write_revoked
from aggregator.errors import StorageError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_what_is_written_reads_back(tmp_path):
    (tmp_path / "revoked").write_bytes(write_revoked([("delhi", 0xAB, NOW), ("cmc", 2**158, NOW)]))
    assert read_revoked(tmp_path / "revoked") == {0xAB, 2**158}
    assert "# delhi, revoked 2026-03-01\n0xab\n" in (tmp_path / "revoked").read_text()


def test_the_list_of_nobody(tmp_path):
    (tmp_path / "revoked").write_bytes(write_revoked(()))
    assert read_revoked(tmp_path / "revoked") == frozenset()


def test_decimal_hexadecimal_comments_and_empty_lines(tmp_path):
    (tmp_path / "revoked").write_text("# ours: 99\n\n0x1F # a laptop\n  17\r\n0X2f\n007")
    assert read_revoked(tmp_path / "revoked") == {0x1F, 17, 0x2F, 7}


@pytest.mark.parametrize("line", ["no number", "1f", "1 2", "-5", "1_000", "0x", "1.5", "0x" + "f" * 41, "\u0661"])
def test_anything_else_is_named_with_its_line(tmp_path, line):
    (tmp_path / "revoked").write_text(f"12\n{line}\n")
    with pytest.raises(StorageError, match=r"revoked, line 2: must hold one serial number per line"):
        read_revoked(tmp_path / "revoked")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(StorageError, match="nowhere: No such file"):
        read_revoked(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(StorageError, match="binary must hold one serial number per line"):
        read_revoked(tmp_path / "binary")
