import asyncio
import sqlite3
import threading

import pytest

from aggregator.database import Database
from aggregator.errors import StorageError
from aggregator.storage import writer as writer_module
from aggregator.storage.writer import Writer
from tests.loopback import until


class Notes(Database):
    what, holder, application_id = "notes", "test", 7
    migrations = ("CREATE TABLE notes (text TEXT)",)


class Moved(Notes):
    migrations = (*Notes.migrations, "ALTER TABLE notes ADD COLUMN place INTEGER; UPDATE notes SET place = 1")


class Broken(Notes):
    migrations = (*Notes.migrations, "ALTER TABLE notes ADD COLUMN place INTEGER; NOTHING")


async def opened(path, told=lambda _: None):
    writer = Writer(told)
    await writer.open(lambda: Notes(path), sync=True)
    return writer


async def written(writer):
    return await writer.read(lambda database: [text for (text,) in database.execute("SELECT text FROM notes")])


async def test_statements_are_written_in_order_and_acts_follow_them(tmp_path):
    writer, done = await opened(tmp_path / "notes"), []
    for number in range(100):
        writer.say("INSERT INTO notes VALUES (?)", str(number))
        writer.afterwards(lambda number=number: done.append(number))
    await writer.settled()
    assert await written(writer) == [str(number) for number in range(100)]
    assert done == list(range(100))
    await writer.close()


async def test_one_batch_is_all_or_nothing_and_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RETRY_S", 0.0)
    writer, broken = await opened(tmp_path / "notes"), [OSError(28, "No space left on device")]

    def act():
        if broken:
            raise StorageError(broken.pop().strerror)

    writer.say("INSERT INTO notes VALUES ('once')")
    writer.afterwards(act)
    writer.say("INSERT INTO notes VALUES ('too')")
    with pytest.raises(StorageError, match="No space left"):
        await writer.settled()
    await until(lambda: not broken)
    await writer.settled()
    assert await written(writer) == ["once", "too"]
    await writer.close()


async def test_who_waits_learns_of_the_first_refusal_and_the_watcher_of_the_change(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RETRY_S", 0.0)
    told = []
    writer = await opened(tmp_path / "notes", told.append)
    writer.say("INSERT INTO elsewhere VALUES (1)")
    waiting = [asyncio.create_task(writer.settled()) for _ in range(3)]
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(end) for end in ends} == {f"{tmp_path / 'notes'}: no such table: elsewhere"}
    await writer.read(lambda database: database.execute("CREATE TABLE elsewhere (x)"))
    await writer.settled()
    assert [one is None for one in told] == [False, True]
    await writer.close()


async def test_nothing_to_write_is_settled_at_once_and_closing_writes_what_is_left(tmp_path):
    writer = await opened(tmp_path / "notes")
    await writer.settled()
    writer.say("INSERT INTO notes VALUES ('last')")
    await writer.close()
    writer = await opened(tmp_path / "notes")
    assert await written(writer) == ["last"]
    await writer.close()


async def test_a_mishap_leaves_nobody_waiting(tmp_path, caplog):
    writer = await opened(tmp_path / "notes")

    def mishap():
        raise RuntimeError("nobody foresaw")

    writer.afterwards(mishap)
    with pytest.raises(StorageError, match="records broke off: RuntimeError"):
        await writer.settled()
    assert "records broke off" in caplog.text
    await writer.close()


def test_an_older_schema_is_taken_to_the_newest_with_what_it_holds(tmp_path):
    with Notes(tmp_path / "notes") as notes, notes.transaction() as database:
        database.execute("INSERT INTO notes VALUES ('kept')")
    with Moved(tmp_path / "notes") as moved:
        assert moved.connection.execute("SELECT * FROM notes").fetchall() == [("kept", 1)]
    with pytest.raises(StorageError, match="has version 2, this Sangam reads up to 1"):
        Notes(tmp_path / "notes")


def test_a_migration_that_fails_changes_nothing(tmp_path):
    Notes(tmp_path / "notes").close()
    with pytest.raises(StorageError, match="syntax error"):
        Broken(tmp_path / "notes")
    with Notes(tmp_path / "notes") as notes:
        columns = notes.connection.execute("SELECT name FROM pragma_table_info('notes')").fetchall()
    assert columns == [("text",)]
    assert sqlite3.sqlite_version_info >= (3, 35)


async def test_what_is_written_does_not_wait_for_what_follows(tmp_path):
    writer, released, done = await opened(tmp_path / "notes"), threading.Event(), []

    def act():
        done.append(released.wait(20.0))

    writer.say("INSERT INTO notes VALUES ('first')")
    writer.afterwards(act)
    await writer.written()
    writer.say("INSERT INTO notes VALUES ('second')")
    await writer.written()
    assert await written(writer) == ["first", "second"]
    assert not done
    released.set()
    await writer.settled()
    assert done == [True]
    await writer.close()


async def test_a_file_that_the_disk_refuses_holds_no_row_up(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RETRY_S", 0.0)
    told, full, taken = [], [True], asyncio.Event()

    def tell(reason):
        told.append(reason)
        if reason is None:
            taken.set()

    writer = await opened(tmp_path / "notes", tell)

    def act():
        if full:
            raise StorageError("no room")

    writer.say("INSERT INTO notes VALUES ('first')")
    writer.afterwards(act)
    with pytest.raises(StorageError, match="no room"):
        await writer.settled()
    writer.say("INSERT INTO notes VALUES ('second')")
    await writer.written()
    assert told == ["no room"]
    full.clear()
    await taken.wait()
    assert told == ["no room", None]
    await writer.settled()
    await writer.close()
