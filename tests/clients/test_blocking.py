import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aggregator.errors import NotFound, RoundAborted
from aggregator.wire.operator_messages import Opening
from clients.blocking import BlockingOperator, Loop, connect_blocking, open_site_blocking, operate_blocking
from clients.operator import Operator
from tests.consortium import ANY_COHORT, Consortium
from tests.loopback import BRISK, Watcher, hub, offers, operator, parameters


@pytest.fixture
def served(tmp_path):
    """A server on an event loop in a thread, as it would be in another process."""
    with Loop() as loop:
        context = hub(tmp_path, 3)
        h = loop.run(context.__aenter__())
        yield h
        loop.run(context.__aexit__(None, None, None))


def test_a_round_without_asyncio(served, tmp_path):
    """Three threads contribute, this one leads; all get one mean."""
    offered = offers(3)
    joined = threading.Barrier(4, timeout=20)

    def site(client):
        who, options = Consortium.of(3).identities[client], {"safeguards": ANY_COHORT}
        with connect_blocking(served.address, who, journal=tmp_path / f"{client}", **options) as session:
            joined.wait()
            update, weight = offered[client]
            watcher = Watcher()
            result = session.contribute(update, weight=weight, observer=watcher)
            assert watcher.steps[0] == "advertise_keys"
            assert np.array_equal(session.fetch_result().words, result.words)
            return result

    with operate_blocking(served.address, operator()) as leader, ThreadPoolExecutor(3) as pool:
        assert leader.create_task("sepsis", parameters(), deadlines=BRISK) is False
        sites = [pool.submit(site, client) for client in offered]
        joined.wait()
        result = leader.run_round("sepsis")
        for future in sites:
            assert np.array_equal(future.result().mean["x"], result.mean["x"])
        kinds = [event.kind for event in leader.watch("sepsis", result.round)]
        assert kinds[-1] == "closed"
        assert np.array_equal(leader.fetch_result("sepsis").words, result.words)


def test_errors_come_through(served):
    with operate_blocking(served.address, operator()) as leader:
        with pytest.raises(NotFound, match="there is no task 'lungs' here"):
            leader.start_round("lungs")
        short = BRISK.__class__(0.1, 60.0, 60.0, 60.0, 60.0, 0.0)
        leader.create_task("sepsis", parameters(), deadlines=short)
        with pytest.raises(RoundAborted, match="advertise keys: 0 clients"):
            leader.run_round("sepsis")


def test_a_watch_may_be_left_early(served):
    with operate_blocking(served.address, operator()) as leader:
        leader.create_task("sepsis", parameters(), deadlines=BRISK)
        for event in leader.watch("sepsis", leader.start_round("sepsis")):
            assert event.kind == "step"
            break


def test_a_session_that_cannot_open_leaves_no_thread(served, tmp_path):
    before = threading.active_count()
    who = Consortium.of(3).identities[0]
    with pytest.raises(NotFound), connect_blocking(served.address, who, journal=tmp_path / "journal"):
        pass
    assert threading.active_count() == before


def test_one_site_in_two_tasks_without_asyncio(served, tmp_path):
    who = Consortium.of(3).identities[0]
    with operate_blocking(served.address, operator()) as leader:
        for task in ("sepsis", "stroke"):
            leader.create_task(task, parameters(), deadlines=BRISK)
    with open_site_blocking(served.address, who, journal=tmp_path / "journal") as site:
        with site.join("sepsis") as one, site.join("stroke") as other:
            for session in (one, other):
                with pytest.raises(NotFound, match="has no result"):
                    session.fetch_result()
        with site.join("sepsis"):
            pass


def test_every_call_of_an_operator_has_its_twin():
    ours, twins = ({name for name in vars(kind) if not name.startswith("_")} for kind in (Operator, BlockingOperator))
    assert ours == twins
    for name in ours:
        arguments = [[*inspect.signature(getattr(kind, name)).parameters] for kind in (Operator, BlockingOperator)]
        assert arguments[0] == arguments[1], name


def test_the_twins_work(served):
    with operate_blocking(served.address, operator()) as leader:
        leader.create_task("sepsis", parameters(), deadlines=BRISK, opening=Opening(enough=3), starters=["other"])
        number = leader.start_round("sepsis", key="once")
        assert leader.start_round("sepsis", key="once") == number
        assert leader.abort_round("sepsis", number, "enough").state == "failed"
        assert leader.describe_round("sepsis", number).reason.endswith("enough")
        assert [summary.round for summary in leader.rounds("sepsis", page_size=1)] == [number]
        assert [site.name for site in leader.sites(page_size=2)] == [f"site-{c:04}" for c in range(3)]
        assert leader.describe_task("sepsis").task.starters == ("other",)
        with pytest.raises(NotFound, match="the round failed"):
            leader.delete_result("sepsis", number)
        assert leader.cancel_task("sepsis").summary.state == "cancelled"
        leader.delete_task("sepsis")
        assert list(leader.tasks()) == []
