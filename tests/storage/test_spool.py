import errno
import os
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from io import FileIO
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import StorageError
from aggregator.storage.base import Spool, Staged
from aggregator.storage.spool import MemorySpool, StagedUpload

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 9_000]))


def piece(number: int, size: int) -> bytes:
    """Every byte tells its piece, and nearly its place."""
    return bytes((number * 31 + place) % 251 for place in range(size))


PIECES = st.lists(SIZES, max_size=12).map(lambda sizes: [piece(*numbered) for numbered in enumerate(sizes)])


class Grudging(FileIO):
    """A raw file that takes and gives at most 7 bytes a call, as a raw file may."""

    def write(self, data: Any) -> int:
        return super().write(memoryview(data)[:7])

    def read(self, size: int | None = -1) -> Any:
        return super().read(min(size if size is not None and size >= 0 else 7, 7))


class Filling(Grudging):
    """Takes 100 bytes, then has no room."""

    def write(self, data: Any) -> int:
        if self.tell() >= 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


class Deaf(FileIO):
    """Takes nothing and does not say why."""

    def write(self, data: Any) -> int:
        return 0


class Sour(FileIO):
    """Complains when it is closed."""

    def close(self) -> None:
        super().close()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def unlinked(kind: type[FileIO], directory: Path | None) -> BinaryIO:
    assert directory is not None
    path = directory / "staged"
    file = kind(path, "w+")
    path.unlink()
    return cast("BinaryIO", file)


def full(directory: Path | None) -> BinaryIO:
    return cast("BinaryIO", open("/dev/full", "r+b", buffering=0))


def no_file(directory: Path | None) -> BinaryIO:
    raise AssertionError("within the budget nothing touches the disk")


def grudging(directory: Path | None) -> BinaryIO:
    return unlinked(Grudging, directory)


@pytest.mark.parametrize("budget", [0, 64, 9_000, 1 << 20])
@settings(deadline=None, max_examples=60)
@given(pieces=PIECES, data=st.data())
def test_bytes_come_back_for_any_split_of_writes(budget: int, pieces: list[bytes], data: st.DataObject) -> None:
    spool = MemorySpool(budget)
    with closing(spool.stage()) as staged:
        whole = b""
        for piece in pieces:
            staged.write(piece)
            whole += piece
            start = data.draw(st.integers(0, len(whole)))
            size = data.draw(st.integers(0, len(whole) - start))
            assert staged.read(start, size) == whole[start : start + size]
            assert spool.held_bytes <= budget
        assert staged.read(0, len(whole)) == whole
    assert spool.held_bytes == 0


def test_it_is_what_rounds_expect() -> None:
    spool: Spool = MemorySpool()
    staged: Staged = spool.stage()
    assert isinstance(staged, StagedUpload)
    staged.close()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["write", "close"]), st.integers(0, 60)), max_size=60))
def test_many_uploads_share_one_budget(steps: list[tuple[int, str, int]]) -> None:
    spool = MemorySpool(200)
    uploads = [spool.stage() for _ in range(6)]
    expected = [b""] * 6
    for number, verb, size in steps:
        if verb == "close":
            uploads[number].close()
            uploads[number], expected[number] = spool.stage(), b""
        else:
            piece = bytes([number]) * size
            uploads[number].write(piece)
            expected[number] += piece
        assert 0 <= spool.held_bytes <= 200
    for upload, whole in zip(uploads, expected, strict=True):
        assert upload.read(0, len(whole)) == whole
        upload.close()
    assert spool.held_bytes == 0


@pytest.mark.parametrize("size", [1 << 18, 4_097, 4_096, 700])
def test_memory_really_stays_near_the_budget(size: int) -> None:
    spool = MemorySpool(4 << 20)
    tracemalloc.start()
    try:
        uploads = [spool.stage() for _ in range(8)]
        for _ in range((1 << 20) // size):
            for upload in uploads:
                upload.write(bytes([7]) * size)  # a new object each time: what is written is kept
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for upload in uploads:
        upload.close()
    assert peak < (4 << 20) * 1.3


@pytest.mark.parametrize("sizes", [[1], [1, 4_097], [2_048, 2_049], [4_096], [0, 0, 3]])
def test_small_pieces_cost_what_is_accounted_for_them(sizes: list[int]) -> None:
    """Views of a large message among them: it must not live on for the sake of one byte."""
    spool = MemorySpool()
    staged = spool.stage()
    tracemalloc.start()
    try:
        while spool.held_bytes < 40_000:
            for size in sizes:
                staged.write(bytes(size) if size > 4_096 else memoryview(bytes(1 << 16))[:size])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < spool.held_bytes * 1.25
    staged.close()


def test_a_piece_is_kept_and_given_without_a_copy() -> None:
    messages = [bytes(11) + bytes([number]) * 100_000 for number in range(3)]
    with closing(MemorySpool().stage()) as staged:
        for message in messages:
            staged.write(memoryview(message)[11:])
        for number, message in enumerate(messages):
            for start, size in ((0, 100_000), (0, 1), (7, 500), (99_999, 1)):
                read = staged.read(number * 100_000 + start, size)
                assert isinstance(read, memoryview)
                assert read.obj is message
                assert read == message[11 + start :][:size]
        assert staged.read(99_999, 100_002) == b"\0" + bytes([1]) * 100_000 + b"\2"


def test_bytes_are_bytes_whatever_the_items_of_a_view(tmp_path: Path) -> None:
    words = memoryview(bytes(range(200)) * 50).cast("I")
    for budget in (0, 10_000, 20_000):  # in a file, in both one after the other, in memory
        spool = MemorySpool(budget, tmp_path)
        with closing(spool.stage()) as staged:
            staged.write(words)
            staged.write(words)
            assert spool.held_bytes in (0, 20_000)
            assert staged.read(9_999, 4) == b"\xc7\0\1\2"
        assert spool.held_bytes == 0


def test_nobody_can_change_what_is_staged() -> None:
    with closing(MemorySpool().stage()) as staged:
        staged.write(memoryview(bytearray(10_000)))
        assert memoryview(staged.read(0, 10_000)).readonly


@pytest.mark.parametrize("size", [10, 10_000])
def test_what_was_read_stays_as_it_is(size: int) -> None:
    """A reader works on in one thread, while another writes, or ends the round."""
    staged = MemorySpool().stage()
    staged.write(b"a" * size)
    read = staged.read(0, size)
    staged.write(b"b" * size)
    staged.close()
    assert read == b"a" * size


def test_within_the_budget_no_file_is_opened() -> None:
    staged = MemorySpool(100, open_file=no_file).stage()
    staged.write(bytes(60))
    staged.write(bytes(40))
    assert staged.read(0, 100) == bytes(100)
    staged.close()


def test_beyond_the_budget_a_file_without_a_name_is_used(tmp_path: Path) -> None:
    spool = MemorySpool(100, directory=tmp_path)
    first, second = spool.stage(), spool.stage()
    first.write(b"a" * 80)
    second.write(b"b" * 20)
    assert spool.held_bytes == 100
    second.write(b"c" * 500)
    assert spool.held_bytes == 80
    assert second.read(10, 20) == b"b" * 10 + b"c" * 10
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) in " ".join(open_files())
    second.close()
    assert str(tmp_path) not in " ".join(open_files())
    first.close()


def open_files() -> list[str]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("only Linux shows a process its files")
    return [os.readlink(path) for path in descriptors.iterdir() if path.is_symlink()]


def test_close_gives_room_back_once() -> None:
    spool = MemorySpool(100)
    first, second = spool.stage(), spool.stage()
    first.write(bytes(60))
    second.write(bytes(40))
    first.close()
    first.close()
    assert spool.held_bytes == 40
    third = spool.stage()
    third.write(bytes(60))
    assert spool.held_bytes == 100
    second.close()
    third.close()


@pytest.mark.parametrize("budget", [0, 100])
def test_a_closed_upload_takes_and_gives_nothing(budget: int) -> None:
    spool = MemorySpool(budget)
    staged = spool.stage()
    staged.write(b"abc")
    staged.close()
    for use in (lambda: staged.write(b"d"), lambda: staged.read(0, 3), lambda: staged.read(0, 0)):
        with pytest.raises(StorageError, match="closed"):
            use()
    assert spool.held_bytes == 0


@pytest.mark.parametrize("budget", [0, 100])
@pytest.mark.parametrize(("start", "size"), [(0, 11), (10, 1), (11, 0), (-1, 2), (5, -1), (4, 10**12)])
def test_bytes_that_were_never_written_are_not_given(budget: int, start: int, size: int) -> None:
    with closing(MemorySpool(budget).stage()) as staged:
        staged.write(bytes(10))
        with pytest.raises(StorageError, match=f"{size} bytes at {start} of 10"):
            staged.read(start, size)
        assert staged.read(10, 0) == b""


def test_a_write_after_a_read_still_appends() -> None:
    staged = MemorySpool(0).stage()
    with closing(staged):
        staged.write(b"abcdef")
        assert staged.read(0, 2) == b"ab"
        staged.write(b"ghi")
        assert staged.read(0, 9) == b"abcdefghi"


def test_short_writes_and_short_reads_are_carried_on(tmp_path: Path) -> None:
    spool = MemorySpool(50, tmp_path, grudging)
    with closing(spool.stage()) as staged:
        staged.write(bytes(range(40)))
        staged.write(bytes(range(40, 200)))
        assert staged.read(0, 200) == bytes(range(200))
        assert staged.read(13, 101) == bytes(range(13, 114))


def test_a_full_disk_loses_one_upload_and_no_other() -> None:
    spool = MemorySpool(100, open_file=full)
    lucky, unlucky = spool.stage(), spool.stage()
    lucky.write(b"a" * 40)
    unlucky.write(b"b" * 60)
    with pytest.raises(StorageError, match="No space left"):
        unlucky.write(b"b")
    assert spool.held_bytes == 40
    lucky.write(b"a" * 60)
    assert lucky.read(0, 100) == b"a" * 100
    lucky.close()
    unlucky.close()
    assert spool.held_bytes == 0


@pytest.mark.parametrize("use", ["write", "read"])
def test_after_a_failed_write_nothing_is_readable(use: str, tmp_path: Path) -> None:
    spool = MemorySpool(0, tmp_path, lambda directory: unlinked(Filling, directory))
    staged = spool.stage()
    staged.write(bytes(90))
    with pytest.raises(StorageError, match="No space left"):
        staged.write(bytes(90))
    with pytest.raises(StorageError, match="an earlier write failed"):
        staged.write(b"") if use == "write" else staged.read(0, 90)
    assert str(tmp_path) not in " ".join(open_files())
    staged.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    spool = MemorySpool(10, directory=tmp_path / "gone")
    staged = spool.stage()
    staged.write(bytes(10))
    with pytest.raises(StorageError, match="No such file"):
        staged.write(b"x")
    assert spool.held_bytes == 0


def test_a_file_that_takes_nothing_does_not_hang(tmp_path: Path) -> None:
    staged = MemorySpool(0, tmp_path, lambda directory: unlinked(Deaf, directory)).stage()
    with pytest.raises(StorageError, match="3 bytes were not taken"):
        staged.write(b"abc")


def test_a_file_that_lost_bytes_is_not_read_as_if_whole(tmp_path: Path) -> None:
    opened: list[BinaryIO] = []

    def kept(directory: Path | None) -> BinaryIO:
        opened.append(unlinked(FileIO, directory))
        return opened[0]

    with closing(MemorySpool(0, tmp_path, kept).stage()) as staged:
        staged.write(bytes(10))
        opened[0].truncate(4)
        with pytest.raises(StorageError, match="6 bytes at 0 are gone"):
            staged.read(0, 10)


def test_close_never_fails(tmp_path: Path) -> None:
    staged = MemorySpool(0, tmp_path, lambda directory: unlinked(Sour, directory)).stage()
    staged.write(b"abc")
    staged.close()
    staged.close()


def while_it_waits(use: Callable[[], object]) -> Thread:
    """Another thread that has had ample time for `use`, unless a lock makes it wait."""
    thread = Thread(target=use)
    thread.start()
    thread.join(0.05)
    return thread


def test_a_round_that_ends_while_a_chunk_is_being_written() -> None:
    """Between the reservation and the copy, close() must wait: what it cannot see it would never give back."""
    threads: list[Thread] = []

    class Interrupted(MemorySpool):
        def take(self, size: int) -> bool:
            taken = super().take(size)
            threads.append(while_it_waits(staged.close))
            return taken

    spool = Interrupted(100)
    staged = spool.stage()
    staged.write(bytes(60))
    threads[0].join()
    assert spool.held_bytes == 0
    with pytest.raises(StorageError, match="closed"):
        staged.read(0, 60)


def test_two_uploads_that_want_the_last_room_at_once() -> None:
    threads: list[Thread] = []

    class Slow(int):
        """A budget; while it is compared, another upload takes its turn."""

        def __lt__(self, other: int) -> bool:
            if not threads:
                threads.append(Thread())
                threads[0] = while_it_waits(lambda: spool.take(60))
            return int(self) < other

    spool = MemorySpool(Slow(100))
    assert spool.take(60)
    threads[0].join()
    assert spool.held_bytes == 60
