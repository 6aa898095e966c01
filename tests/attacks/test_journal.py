"""What a site's disk gives away, and what it takes to be asked twice: the journal under attack."""

import hashlib
import itertools
import shutil

import pytest

from aggregator.errors import Equivocation, OutOfTurn, StorageError
from aggregator.protocol.context import hash_model
from clients.result import RoundResult
from tests.consortium import drbg
from tests.loopback import hub, offers, parameters
from tests.memory import Room

N = 3


class Recorder:
    """An entropy source that remembers all it gave."""

    def __init__(self, client):
        self.draw, self.given = drbg("secrets", client), []

    def __call__(self, size):
        self.given.append(self.draw(size))
        return self.given[-1]


def all_bytes(directory):
    return b"".join(file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file())


async def test_backup_restore_has_no_secrets(tmp_path):
    """A round of known secrets: no 8 bytes of any of them are on any disk, during the round or after."""
    recorders = [Recorder(client) for client in range(N)]
    room, seen = Room(tmp_path, N, spec=parameters((64,))), []

    def look(message):
        seen.append(all_bytes(tmp_path))
        yield message

    how = {client: {"entropy": recorders[client]} for client in range(N)}
    offered = offers(N, (64,))
    ends = await room.play(offered, how=how, lies={0: look})
    assert all(isinstance(end, RoundResult) for end in ends.values())
    seen.append(all_bytes(tmp_path))
    secrets = [secret for recorder in recorders for secret in recorder.given if len(secret) >= 16]
    assert len(secrets) >= 5 * N, "two private keys, the self-mask seed, coefficients and the rounding's seed"
    secrets += [offered[c][0]["x"].tobytes()[:8] for c in range(N)]
    for disk, secret in itertools.product(seen, secrets):
        assert secret[:8] not in disk
        assert secret[-8:] not in disk
    assert hashlib.sha256(seen[0]).digest() != hashlib.sha256(seen[-1]).digest(), "there was something to look at"


async def test_backup_of_a_journal_is_not_taken_for_its_original(tmp_path):
    """A copy that a second process uses at once enters the same round, and the server takes one line of a site only."""
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with h.join(0) as first:
            copy = tmp_path / "copy.sqlite"
            shutil.copy(h.journal(0), copy)
            async with h.join(0, journal=copy) as second:
                with pytest.raises(OutOfTurn, match="site-0000 opened a newer line"):
                    await first.contribute({"x": [0.0] * 4}, weight=1)
                assert second.task == "sepsis"


async def test_two_processes_on_one_journal(tmp_path):
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with h.join(0):
            with pytest.raises(StorageError, match="is in use by another process of this site"):
                async with h.join(0):
                    pass


async def test_a_journal_remembers_over_the_network_and_a_restart_of_the_server(tmp_path):
    """Rounds of a restarted server have new numbers; the same task under other parameters is refused all the same."""
    offered = offers(N)
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        first = await h.run_round(offered)
    async with hub(tmp_path, N) as h:
        await h.create(parameters(clip=9.0))
        run = await h.run_round(offered)
        assert run.number > first.number
        assert all(isinstance(end, Equivocation) for end in run.results.values()), run.results
        assert all("other parameters than this site agreed to" in str(end) for end in run.results.values())


async def test_a_round_that_lost_its_journal_row_sends_nothing(tmp_path):
    """The disk fails before the advert leaves: the client withdraws, and says nothing of its files to the server."""
    room = Room(tmp_path, N)
    async with room.join(0) as session:
        session._journal.close()
        room.task.start_round(hash_model(None))
        with pytest.raises(StorageError):
            await session.contribute({"x": [0.0] * 4}, weight=1)
    await room.task.close()
    said = [body for body in room.transports[0].sent if type(body).__name__ != "Join"]
    assert [type(body).__name__ for body in said] == ["Withdrawal"]
    assert said[0].reason == "the site's own disk failed"
