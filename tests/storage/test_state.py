"""A state directory is closed, or its process killed, and opened again."""

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace

import pytest

from aggregator.errors import StorageError
from aggregator.storage import state as state_module
from aggregator.storage.audit import AUDIT_FILE
from aggregator.storage.base import Stored
from aggregator.storage.schema import LOG_BYTES
from aggregator.storage.spool import MemorySpool
from aggregator.storage.spool_directory import RoundSpool
from aggregator.storage.state import DATABASE_FILE
from aggregator.wire.messages import Advert, RoundClosed, RoundFailed, UploadHeader
from aggregator.wire.operator_messages import Deadlines, RoundEvent, RoundRequest, RoundSummary, Task
from aggregator.wire.vocabulary import EventKind, RoundState, Step, SumState
from tests.consortium import Consortium
from tests.harness import parameters

CONSORTIUM = Consortium.of(3)
TERMS = CONSORTIUM.terms(parameters(3))
SPEC = Task("sepsis", TERMS.parameters.to_message(), Deadlines(1, 1, 1, 1, 1, 1), result_to_operator_only=False)
ROSTER = CONSORTIUM.roster.to_bytes()
ADVERT = Advert(bytes(32), bytes(32), bytes(32), bytes(32), bytes(64))
EVENT = RoundEvent(0.5, EventKind.STEP, Step.ADVERTISE_KEYS, "", "", 3)
SUMMARY = RoundSummary(7, RoundState.FAILED, Step.UNMASKING, 2, "why", 5.0, 1.5, SumState.NONE, 0)
CLOSED = replace(SUMMARY, state=RoundState.CLOSED, result=SumState.KEPT)
NOW = 1_000.0


@dataclass
class State:
    """Records, and what they held at first."""

    records: state_module.State
    stored: Stored

    def __getattr__(self, name):
        return getattr(self.records, name)


@asynccontextmanager
async def opened(path, **options):
    memory = options.pop("memory", None) or MemorySpool()
    async with state_module.opened(path, memory, lambda: NOW, **options) as (state, stored):
        yield State(state, stored)


async def refused(path, *options):
    async with state_module.opened(path, *options):
        raise AssertionError("it was opened")


async def full(state, pages):
    """Let the database have no more than so many pages."""
    await state._writer.read(lambda database: database.execute(f"PRAGMA max_page_count = {pages}").fetchall())


def header(number=7):
    return UploadHeader("sepsis", number, 10, (), bytes(16))


def begun(state, number=7):
    task = state.create(SPEC, "ada", 2.0)
    return task, task.begin(number, 5.0, bytes(32))


async def arrive(records, member, data=b"0123456789", step=Step.MASKED_INPUT):
    staged = records.spool.stage()
    staged.write(data)
    staged.persist()
    records.arrived(step, member, header(), staged)
    staged.close()
    await records.settled()
    return records.spool.directory / staged.name


async def stored_round(path):
    async with opened(path) as state:
        (task,) = state.stored.tasks
        (found,) = task.rounds
        return found


async def test_a_round_is_found_as_it_was_written_down(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.opened(TERMS.to_message(), ROSTER, frozenset({2, 0}), {-1: b"certificate"})
        records.began(Step.ADVERTISE_KEYS, 10.0)
        records.answered(Step.ADVERTISE_KEYS, 2, ADVERT)
        records.noted(EVENT)
        records.ended_step(Step.ADVERTISE_KEYS, {2})
        records.began(Step.MASKED_INPUT, 5.0)  # earlier than the first one's: the order is the protocol's
        await arrive(records, 2)
        await records.keep_sum(Step.MASKED_INPUT, (2,), (b"sum", memoryview(b"med")))
        await records.keep_result(TERMS.to_message(), (0, 2), b"words")
    found = await stored_round(tmp_path)
    assert (found.number, found.started_s, found.model_hash, found.events) == (7, 5.0, bytes(32), (EVENT,))
    assert found.opening.terms == TERMS.to_message()
    assert (found.opening.roster, found.opening.invited) == (ROSTER, frozenset({0, 2}))
    assert found.opening.attending == {-1: b"certificate"}
    first, second = found.steps
    assert (first.step, first.deadline_s, first.answers, first.ended_with) == (
        Step.ADVERTISE_KEYS,
        10.0,
        {2: ADVERT},
        frozenset({2}),
    )
    assert (second.step, second.ended_with) == (Step.MASKED_INPUT, None)
    (upload,) = second.uploads
    assert (upload.member, upload.header, bytes(upload.staged.read(0, 10))) == (2, header(), b"0123456789")
    assert (found.sum.members, bytes(found.sum.octets)) == (frozenset({2}), b"summed")
    assert (found.result.survivors, bytes(found.result.words)) == ((0, 2), b"words")
    assert found.end is None


async def test_tasks_names_and_keys_are_found(tmp_path):
    request = RoundRequest("sepsis", bytes(32), "key", NOW + 60)
    old = replace(request, idempotency_key="old", key_expires_s=NOW - 60)
    async with opened(tmp_path) as state:
        begun(state)
        state.keep_key("ada", old, 6)
        state.keep_key("ada", request, 7)
        state.create(replace(SPEC, name="stroke"), "bob", 3.0)
        state.cancel("stroke")
        for name in ("gone", "forgotten"):
            state.create(replace(SPEC, name=name), "ada", 4.0)
            state.delete(name, "ada")
        state.free_name("forgotten")
    async with opened(tmp_path) as state:
        sepsis, stroke = state.stored.tasks
        assert (sepsis.spec, sepsis.owner, sepsis.created_s, sepsis.cancelled) == (SPEC, "ada", 2.0, False)
        assert (sepsis.started, len(sepsis.rounds)) == (1, 1)
        assert (stroke.spec.name, stroke.cancelled, stroke.rounds) == ("stroke", True, ())
        assert state.stored.deleted == (("gone", "ada"),)
        assert state.stored.keys == (("ada", request, 7),)


async def test_what_a_round_needed_goes_with_its_end_and_what_is_kept_stays(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.opened(TERMS.to_message(), ROSTER, None, {})
        records.began(Step.MASKED_INPUT, 5.0)
        path = await arrive(records, 1)
        await records.keep_result(TERMS.to_message(), (0, 2), b"words")
        records.ended(CLOSED, RoundClosed((0, 2), True), {0, 1})
        await records.settled()
        assert not path.parent.exists()
    found = await stored_round(tmp_path)
    assert (found.end.summary, found.end.ended_s) == (CLOSED, NOW)
    assert (found.end.ending, found.end.told) == (RoundClosed((0, 2), True), frozenset({0, 1}))
    assert (found.steps, found.sum, bytes(found.result.words)) == ((), None, b"words")


async def test_a_sum_that_is_dropped_leaves_no_file(tmp_path):
    async with opened(tmp_path) as state:
        task, records = begun(state)
        records.opened(TERMS.to_message(), ROSTER, None, {})
        await records.keep_result(TERMS.to_message(), (0, 2), b"words")
        task.drop_sum(7, SumState.DELETED)
        await task.settled()
        assert not list((tmp_path / "results" / "sepsis").iterdir())
    assert (await stored_round(tmp_path)).result.state == SumState.DELETED
    async with opened(tmp_path) as state:
        state.stored.tasks[0].records.forget(7)
    async with opened(tmp_path) as state:
        assert not state.stored.tasks[0].rounds


async def test_uploads_that_a_kept_sum_holds_are_let_go(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.began(Step.MASKED_INPUT, 5.0)
        paths = [await arrive(records, member) for member in range(3)]
        await records.keep_sum(Step.MASKED_INPUT, (0,), (b"one",))
        await records.keep_sum(Step.MASKED_INPUT, (0, 1), (b"two",))
        records.let_go(Step.MASKED_INPUT, (0, 1))
        await records.settled()
        assert [path.exists() for path in paths] == [False, False, True]
        assert len(list(paths[0].parent.glob("sum-*"))) == 1
    found = await stored_round(tmp_path)
    assert bytes(found.sum.octets) == b"two"
    assert [upload.staged is None for upload in found.steps[0].uploads] == [True, True, False]


async def test_a_file_that_no_record_names_is_destroyed_at_the_start(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        path = await arrive(records, 1)
        (path.parent / "upload-half").write_bytes(b"half written when the server was killed")
        refused = await arrive(records, 2)
        records.refused(Step.MASKED_INPUT, 2)
        await records.settled()
        assert not refused.exists()
    await stored_round(tmp_path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b"?" + b[1:], lambda b: b""])
async def test_an_upload_that_the_disk_has_changed_is_not_given(tmp_path, spoil, caplog):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.began(Step.MASKED_INPUT, 5.0)
        path = await arrive(records, 1)
        await arrive(records, 2)
        await records.keep_result(TERMS.to_message(), (0, 2), b"words")
    path.write_bytes(spoil(path.read_bytes()))
    (result,) = (tmp_path / "results" / "sepsis").iterdir()
    result.write_bytes(spoil(result.read_bytes()))
    found = await stored_round(tmp_path)
    assert [upload.member for upload in found.steps[0].uploads] == [2]
    assert (found.result.state, found.result.words) == (SumState.LOST, None)
    assert "damaged" in caplog.text or "cannot be read" in caplog.text


async def test_a_second_server_on_one_directory_is_refused_and_the_first_goes_on(tmp_path):
    async with opened(tmp_path) as state:
        with pytest.raises(StorageError, match="in use by another process of this server"):
            await refused(tmp_path, MemorySpool(), lambda: NOW)
        begun(state)
    assert (await stored_round(tmp_path)).number == 7


async def test_a_directory_that_cannot_be_made_or_written_is_named(tmp_path):
    with pytest.raises(StorageError, match="cannot make the state directory /proc/nowhere"):
        await refused(state_module.Path("/proc/nowhere/state"), MemorySpool(), lambda: NOW)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot make the state directory"):
        await refused(tmp_path / "file", MemorySpool(), lambda: NOW)


async def test_records_of_a_newer_version_of_another_program_or_damaged_are_refused_as_they_are(tmp_path):
    async with opened(tmp_path) as state:
        begun(state)
    path = tmp_path / DATABASE_FILE
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="has version 99, this Sangam reads up to 1: update it"):
        await refused(tmp_path, MemorySpool(), lambda: NOW)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")
        database.execute("PRAGMA application_id = 3")
    with pytest.raises(StorageError, match="is a database of another program, not a server's records"):
        await refused(tmp_path, MemorySpool(), lambda: NOW)
    path.write_bytes(whole[:5_000] + bytes(4_000) + whole[9_000:])
    with pytest.raises(StorageError, match=r"records\.sqlite"):
        await refused(tmp_path, MemorySpool(), lambda: NOW)
    path.write_bytes(whole)
    assert (await stored_round(tmp_path)).number == 7


async def test_an_audit_log_that_was_cut_or_changed_at_its_end_is_found_at_the_start(tmp_path):
    async with opened(tmp_path) as state:
        begun(state)
        for what in ("first", "second", "third"):
            state.decided(what, sites=("a", "b"), count=2)
            await state.settled()
    log = tmp_path / AUDIT_FILE
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 3
    for spoilt in (lines[0], whole.replace(b"third", b"THIRD"), b""):
        log.write_bytes(spoilt)
        with pytest.raises(StorageError, match=r"audit\.jsonl was cut or changed"):
            await refused(tmp_path, MemorySpool(), lambda: NOW)
    log.unlink()
    with pytest.raises(StorageError, match="is gone: the records say that it had 3 lines"):
        await refused(tmp_path, MemorySpool(), lambda: NOW)
    log.write_bytes(whole + b'{"half a li')  # the server was killed while it wrote
    async with opened(tmp_path) as state:
        state.decided("fourth")
    assert log.read_bytes().startswith(whole)
    assert len(log.read_bytes().splitlines()) == 4


async def test_a_log_that_lacks_what_the_records_have_gets_it_at_the_start(tmp_path):
    async with opened(tmp_path) as state:
        state.decided("first")
        await state.settled()
        before = (tmp_path / AUDIT_FILE).read_bytes()
        state.decided("second")
    whole = (tmp_path / AUDIT_FILE).read_bytes()
    (tmp_path / AUDIT_FILE).write_bytes(before)  # killed between the records' commit and the log's line
    async with opened(tmp_path):
        assert (tmp_path / AUDIT_FILE).read_bytes() == whole


async def test_records_that_the_disk_refuses_are_written_once_it_takes_them(tmp_path, monkeypatch):
    monkeypatch.setattr("aggregator.storage.writer.RETRY_S", 0.0)
    told = []
    async with opened(tmp_path, failed=told.append) as state:
        _, records = begun(state)
        await state.settled()
        await full(state, 1)
        records.opened(TERMS.to_message(), bytes(2 * LOG_BYTES), None, {})  # more than what is free in the file
        with pytest.raises(StorageError, match="database or disk is full"):
            await records.settled()
        records.noted(EVENT)
        await full(state, 100_000)
        await records.settled()
        assert [one is None for one in told] == [False, True]
    found = await stored_round(tmp_path)
    assert found.events == (EVENT,)


@pytest.mark.parametrize("budget", [4, 1 << 20], ids=["in its file", "in memory"])
async def test_a_disk_that_refuses_an_upload_costs_that_one_and_leaves_nothing_of_it(tmp_path, budget, monkeypatch):
    async with opened(tmp_path, memory=MemorySpool(budget)) as state:
        _, records = begun(state)
        staged = records.spool.stage()
        staged.write(b"0123456789")

        def refuse(spool, file):
            raise StorageError("No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(RoundSpool, "settle", refuse)
            with pytest.raises(StorageError, match="No space left"):
                staged.persist()
        assert not list(records.spool.directory.iterdir())
        with pytest.raises(StorageError, match="it is closed"):
            staged.read(0, 1)
        assert (await arrive(records, 1)).exists()


async def test_an_upload_that_is_closed_before_it_is_whole_leaves_no_file(tmp_path):
    async with opened(tmp_path, memory=MemorySpool(4)) as state:
        _, records = begun(state)
        staged = records.spool.stage()
        staged.write(b"0123456789")
        assert len(list(records.spool.directory.iterdir())) == 1
        staged.close()
        assert not list(records.spool.directory.iterdir())


async def test_a_result_that_the_disk_takes_late_is_written_down_once(tmp_path, monkeypatch):
    monkeypatch.setattr("aggregator.storage.writer.RETRY_S", 0.0)
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.opened(TERMS.to_message(), ROSTER, None, {})
        await state.settled()
        await full(state, 1)
        records.opened(TERMS.to_message(), bytes(2 * LOG_BYTES), None, {})  # more than what is free in the file
        for _ in range(3):
            with pytest.raises(StorageError, match="disk is full"):
                await records.keep_result(TERMS.to_message(), (0, 2), b"words")
        await full(state, 100_000)
        await records.keep_result(TERMS.to_message(), (0, 2), b"words")
        assert len(list((tmp_path / "results" / "sepsis").iterdir())) == 1
        await state.settled()
    assert (tmp_path / AUDIT_FILE).read_text().count('"what":"result"') == 1


async def test_a_round_that_failed_keeps_no_result_that_the_disk_took_too_late(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.opened(TERMS.to_message(), ROSTER, None, {})
        await records.keep_result(TERMS.to_message(), (0, 2), b"words")
        records.ended(SUMMARY, RoundFailed("why"), ())
        await state.settled()
        assert not list((tmp_path / "results" / "sepsis").iterdir())
    assert (await stored_round(tmp_path)).result is None


async def test_the_log_beside_the_records_has_its_full_size_from_the_start_and_does_not_grow(tmp_path):
    log = tmp_path / f"{DATABASE_FILE}-wal"
    for _ in range(2):
        async with opened(tmp_path) as state:
            before = log.stat().st_size
            assert before >= LOG_BYTES
            state.create(replace(SPEC, name=f"task-{len(state.stored.tasks)}"), "ada", 2.0)
            await state.settled()
            assert log.stat().st_size == before
    assert (tmp_path / DATABASE_FILE).stat().st_size < 3 * LOG_BYTES


async def test_an_upload_that_is_given_up_while_the_disk_takes_it_holds_nobody_up_and_is_destroyed(
    tmp_path, monkeypatch
):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        taking, go_on = threading.Event(), threading.Event()

        def slow(spool, file):
            taking.set()
            assert go_on.wait(10)

        monkeypatch.setattr(RoundSpool, "settle", slow)
        staged = records.spool.stage()
        staged.write(b"0123456789")
        persisting = asyncio.create_task(asyncio.to_thread(staged.persist))
        await asyncio.to_thread(taking.wait, 10)
        staged.close()  # at once: the disk is still at it
        assert not go_on.is_set()
        go_on.set()
        with pytest.raises(StorageError, match="given up while it was written"):
            await persisting
        assert not list(records.spool.directory.iterdir())


async def test_an_input_that_does_not_count_goes_with_its_step(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        records.began(Step.MASKED_INPUT, 5.0)
        counted, late = await arrive(records, 0), await arrive(records, 1)
        again = await arrive(records, 0)  # another upload of the same site takes the first one's place
        records.ended_step(Step.MASKED_INPUT, {0})
        await records.settled()
        assert [path.exists() for path in (counted, late, again)] == [False, False, True]
        records.ended(SUMMARY, None, ())
        await arrive(records, 2)  # from a stream that had begun before
        await records.settled()
        assert not again.parent.exists()
    found = await stored_round(tmp_path)
    assert found.steps == ()


async def test_what_is_left_of_a_deleted_task_goes_at_the_next_start(tmp_path):
    async with opened(tmp_path) as state:
        _, records = begun(state)
        await arrive(records, 1)
    for place in ("spool", "results"):
        (tmp_path / place / "gone" / "7").mkdir(parents=True)
        (tmp_path / place / "gone" / "7" / "file").write_bytes(b"a sum")
    assert (await stored_round(tmp_path)).number == 7
    assert not (tmp_path / "spool" / "gone").exists()
    assert not (tmp_path / "results" / "gone").exists()
    assert (tmp_path / "spool" / "sepsis" / "7").exists()


async def test_a_roster_is_there_once_for_all_rounds_that_need_it(tmp_path):
    async with opened(tmp_path) as state:
        task, records = begun(state)
        for number in (8, 9, 10):
            records.opened(TERMS.to_message(), ROSTER, None, {})
            await records.keep_result(TERMS.to_message(), (0, 2), b"words")
            records.ended(replace(CLOSED, round=number - 1), None, ())
            records = task.begin(number, 5.0, bytes(32))
        task.drop_sum(8, SumState.EXPIRED)
    async with opened(tmp_path) as state:
        openings = [one.opening for one in state.stored.tasks[0].rounds]
    assert [opening is None for opening in openings] == [False, True, False, True]
    assert openings[0].roster is openings[2].roster
