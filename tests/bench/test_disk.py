import os

import pytest

from aggregator.bench import disk
from aggregator.bench.disk import Disk
from aggregator.errors import StorageError


def test_files_of_that_size_are_forced_to_the_disk_and_nothing_is_left(tmp_path, monkeypatch):
    sizes = []

    def fdatasync(handle):
        sizes.append(os.fstat(handle).st_size)

    monkeypatch.setattr(disk.os, "fdatasync", fdatasync)
    found = disk.measure(tmp_path, 1_500_000, 3)
    times = disk.TIMES * len(disk.AT_ONCE)
    assert sizes[: 3 * times] == [1_500_000] * 3 * times
    assert sizes[3 * times :] == [disk.SMALL_BYTES * count for count in range(1, disk.SMALL_TIMES + 1)]
    assert found.bytes_per_s > 0
    assert found.fsync_s > 0
    assert list(tmp_path.iterdir()) == []


def test_the_bound_is_linear():
    assert Disk(1e6, 0.001).bound_s(2.5e6) == 2.5


def test_a_disk_that_refuses_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"cannot measure the disk of .*missing"):
        disk.measure(tmp_path / "missing", 1, 1)
