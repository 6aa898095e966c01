"""While the disk takes one upload, the next one's bytes come: its turn is on the line, not on the disk."""

from functools import partial
from threading import Barrier

from aggregator.service import app
from aggregator.service.turns import Turns
from aggregator.storage.spool_directory import KeptUpload
from tests.loopback import check_mean, hub, offers, parameters

N = 4
TOGETHER_S = 20.0


async def test_all_uploads_can_wait_for_the_disk_at_once_though_their_bytes_come_in_turn(tmp_path, monkeypatch):
    on_their_way = Barrier(N)
    persist = KeptUpload.persist

    def persist_together(upload):
        on_their_way.wait(TOGETHER_S)  # broken, and so a failed round, if the turns ended only after the disk
        persist(upload)

    monkeypatch.setattr(KeptUpload, "persist", persist_together)
    monkeypatch.setattr(app, "Turns", partial(Turns, at_once_bytes=1, idle_s=60.0, patience_s=60.0))
    async with hub(tmp_path, N, state=tmp_path / "state") as h:
        spec, offered = parameters((2_000,)), offers(N, (2_000,))
        await h.create(spec)
        run = await h.run_round(offered)
        check_mean(run, offered, range(N), spec.ring_bits)
