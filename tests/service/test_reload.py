"""A server that reads its files again, and sites that go on under a renewed certificate; nobody restarts."""

import asyncio
import logging
import re
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

import clients
from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity, write_chain
from aggregator.crypto.roster import sign_roster
from aggregator.errors import NotAdmitted, SangamError
from aggregator.files import replace_file
from aggregator.service.app import serve
from tests.consortium import ANY_COHORT, DEPLOYMENT, TASK, Consortium
from tests.loopback import (
    BRISK,
    PATIENT,
    TOO_LONG_S,
    Hub,
    Run,
    Watcher,
    aggregator,
    check_mean,
    configured,
    hub,
    issued,
    offers,
    operator,
    parameters,
    until,
)

N = 3
TREE = Consortium.of(0).authority


def renewed(who: Identity, *, days: int = 365, starts: int = -1) -> Identity:
    """A new certificate for the same key, as `sangam pki renew` and `issue` make it."""
    begin = datetime.now(UTC) + timedelta(days=starts)
    role, length = who.certificate.role, timedelta(days=days)
    certificate = authorities.issue(TREE, authorities.renew(who), begin, valid_for=length, role=role)
    return Identity(certificate, who.key_pem, who.authority)


@dataclass
class Federation:
    """A server and its sites, each a long-running session over a directory of its own."""

    hub: Hub
    directory: Path
    members: dict[int, Identity]
    sessions: dict[int, clients.Session] = field(default_factory=dict)
    version: int = 1

    @property
    def reload(self):
        return self.hub.running.reload

    def home(self, client: int) -> Path:
        return self.directory / f"site-{client}"

    def sign(self, *left: int) -> None:
        """The next version of the roster, without those who left."""
        self.version += 1
        certificates = [who.certificate for client, who in self.members.items() if client not in left]
        roster = sign_roster(TREE, certificates, self.version)
        replace_file(self.directory / "roster.json", roster.to_bytes())

    def renew(self, client: int) -> None:
        """A new certificate; neither server nor site have it yet."""
        self.members[client] = renewed(self.members[client])

    def hand_over(self, client: int) -> None:
        """Replace the site's identity.pem, as `sangam pki accept` does."""
        who = self.members[client]
        replace_file(self.home(client) / IDENTITY_FILE, write_chain(who.certificate, who.authority))

    def revoke(self, *serials: int) -> None:
        (self.directory / "revoked").write_text("".join(f"{serial:#x}\n" for serial in serials))

    async def play(self, offered, *, calls=None) -> Run:
        """One round over the open sessions."""
        acts = calls or {}
        run = Run(watchers={c: Watcher(calls=acts.get(c, lambda _: None)) for c in offered})

        async def lead():
            run.number = await self.hub.operator.start_round(TASK)
            async for event in self.hub.operator.watch(TASK, run.number):
                run.events.append(event)
            return await self.hub.operator.fetch_result(TASK, run.number)

        async def take_part(client):
            update, weight = offered[client]
            again = "a test's next round"
            return await self.sessions[client].contribute(
                update, weight=weight, again=again, observer=run.watchers[client]
            )

        ends = await asyncio.gather(lead(), *(take_part(c) for c in offered), return_exceptions=True)
        run.operator, run.results = ends[0], dict(zip(offered, ends[1:], strict=True))
        return run


@asynccontextmanager
async def federation(tmp_path, deadlines=PATIENT, **config):
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    async with hub(tmp_path, N, revoked=revoked, reload_s=0, **config) as h, AsyncExitStack() as stack:
        await h.create(parameters(), deadlines)
        made = Federation(h, tmp_path, dict(enumerate(h.consortium.identities)))
        for client, who in made.members.items():
            who.save(made.home(client))
            joining = clients.connect(h.address, made.home(client), safeguards=ANY_COHORT, patience_s=5.0)
            made.sessions[client] = await stack.enter_async_context(joining)
        yield made


def closes(run: Run, offered, survivors) -> None:
    """As `check_mean`; and nobody gave up."""
    assert not [end for end in run.results.values() if isinstance(end, BaseException)], run.results
    check_mean(run, offered, survivors, parameters().ring_bits)


async def test_a_renewal_and_a_revocation_without_a_restart(tmp_path):
    """Site 1's certificate is renewed: all three go on. Site 2's is revoked: its session ends, the others go on."""
    offered = offers(N)
    async with federation(tmp_path) as made:
        closes(await made.play(offered), offered, range(N))

        made.renew(1)
        made.sign()
        assert await made.reload() == ("roster version 2 of 3 sites",)
        made.hand_over(1)
        before = made.sessions[1]._credentials.site.certificate
        run = await made.play(offered)
        closes(run, offered, range(N))
        assert made.sessions[1]._credentials.site.certificate == made.members[1].certificate != before
        assert made.hub.running.tasks.find(TASK).history.result(run.number).setting.roster.version == 2

        made.sign(2)
        made.revoke(made.members[2].certificate.serial)
        made.sessions[2]._credentials._newest = None  # it waits for no other certificate
        assert set(await made.reload()) == {"roster version 3 of 2 sites", "1 revoked certificates"}
        with pytest.raises(NotAdmitted, match="the certificate of site-0002 was revoked"):
            await made.sessions[2].contribute(*[offered[2][0]], weight=1)
        rest = {client: offered[client] for client in (0, 1)}
        closes(await made.play(rest), rest, (0, 1))


async def test_a_renewal_in_the_midst_of_a_round_does_not_disturb_it(tmp_path):
    """It ends under the roster that it began with, and fetches its result under the old certificate."""
    offered = offers(N)
    async with federation(tmp_path) as made:
        old = made.members[1].certificate

        def change(step):
            if step == "consistency_check":  # a step that runs in the loop
                made.renew(1)
                made.sign()
                made.hand_over(1)
                made.hub.running._watch._members.look()
                made.hub.running._watch._review()

        run = await made.play(offered, calls={0: change})
        closes(run, offered, range(N))
        assert made.hub.running.tasks.find(TASK).history.result(run.number).setting.roster.version == 1
        assert made.hub.running.tasks.host.roster().version == 2
        assert made.sessions[1]._credentials.site.certificate == old
        await made.reload()
        closes(await made.play(offered), offered, range(N))
        assert made.sessions[1]._credentials.site.certificate == made.members[1].certificate


async def test_a_round_that_opens_over_the_line_of_the_old_certificate(tmp_path):
    """Nobody has ended the old line yet: the round's roster says which certificate counts."""
    offered = offers(N)
    async with federation(tmp_path) as made:
        closes(await made.play(offered), offered, range(N))
        made.renew(1)
        made.sign()
        made.hand_over(1)
        made.hub.running._watch._members.look()
        closes(await made.play(offered), offered, range(N))
        assert made.sessions[1]._credentials.site.certificate == made.members[1].certificate


async def test_a_site_that_left_the_roster_keeps_its_line_until_its_round_ends(tmp_path):
    offered = offers(N)
    async with federation(tmp_path) as made:

        def leave(step):
            if step == "consistency_check":
                made.sign(2)
                made.hub.running._watch._members.look()
                made.hub.running._watch._review()

        closes(await made.play(offered, calls={0: leave}), offered, range(N))
        made.sessions[2]._credentials._newest = None
        await made.reload()
        with pytest.raises(NotAdmitted, match="is not in roster version 2"):
            await made.sessions[2].contribute(offered[2][0], weight=1)


async def test_a_site_that_was_revoked_in_the_midst_of_a_round_drops_out_of_it(tmp_path):
    offered = offers(N)
    async with federation(tmp_path, replace(BRISK, share_keys_s=1.0)) as made:
        made.sessions[2]._credentials._newest = None

        def revoke(step):
            if step == "share_keys":
                made.revoke(made.members[2].certificate.serial)
                made.hub.running._watch._members.look()
                made.hub.running._watch._review()

        run = await made.play(offered, calls={2: revoke})
        assert isinstance(run.results[2], NotAdmitted)
        assert isinstance(run.operator, SangamError), "of three, none may drop out: the step waits for its deadline"


async def peer_certificate(port: int, who: Identity, directory: Path) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=who.authority.pem.decode())
    home = directory / f"tls-{port}-{who.certificate.serial}"
    if not home.exists():
        who.save(home)
    context.load_cert_chain(home / IDENTITY_FILE, home / KEY_FILE)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def test_the_aggregators_own_certificate_is_rotated_under_a_running_round(tmp_path):
    offered, fresh = offers(N), renewed(aggregator())
    stranger = authorities.create_authority(DEPLOYMENT, datetime.now(UTC), timedelta(days=2))
    async with federation(tmp_path) as made:

        def rotate(step):
            if step == "share_keys":
                replace_file(tmp_path / "hub" / IDENTITY_FILE, write_chain(fresh.certificate, fresh.authority))
                made.hub.running._watch._members.look()

        port, site = made.hub.port, made.members[0]
        assert await peer_certificate(port, site, tmp_path) == aggregator().certificate.der
        closes(await made.play(offered, calls={0: rotate}), offered, range(N))
        for _ in range(2):
            assert await peer_certificate(port, site, tmp_path) == fresh.certificate.der
        closes(await made.play(offered), offered, range(N))

        key, request = authorities.request("site-0000", Role.PARTICIPANT, DEPLOYMENT)
        foreign = authorities.issue(stranger, request, datetime.now(UTC), valid_for=timedelta(days=1))
        credentials = grpc.ssl_channel_credentials(site.authority.pem, key, foreign.pem)
        for refused in (credentials, grpc.ssl_channel_credentials(site.authority.pem)):
            async with grpc.aio.secure_channel(made.hub.address, refused) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/sangam.v1.Aggregation/Probe")(b"")
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def unsigned(directory, members):
    roster = sign_roster(TREE, [who.certificate for who in members.values()], 2).to_bytes()
    return "roster.json", roster.replace(b'"version": 2', b'"version": 3')


def foreign(directory, members):
    other = authorities.create_authority(DEPLOYMENT, datetime.now(UTC), timedelta(days=2))
    return "roster.json", sign_roster(other, [], 9).to_bytes()


def older(directory, members):
    return "roster.json", sign_roster(TREE, [who.certificate for who in members.values()], 0).to_bytes()


def same_version(directory, members):
    return "roster.json", sign_roster(TREE, [members[0].certificate], 1).to_bytes()


def expired(directory, members):
    who = renewed(aggregator(), days=1, starts=-3)
    return f"hub/{IDENTITY_FILE}", write_chain(who.certificate, who.authority)


def another_role(directory, members):
    return f"hub/{IDENTITY_FILE}", write_chain(members[0].certificate, members[0].authority)


def another_authority(directory, members):
    other = authorities.create_authority(DEPLOYMENT, datetime.now(UTC), timedelta(days=2))
    certificate = authorities.issue(
        other, authorities.renew(aggregator()), datetime.now(UTC), valid_for=timedelta(days=1), role=Role.AGGREGATOR
    )
    return f"hub/{IDENTITY_FILE}", write_chain(certificate, other.certificate)


BAD = [
    (lambda *_: ("roster.json", None), "the new roster is refused, the old one stays: cannot read"),
    (lambda *_: ("roster.json", b"half a ros"), "the new roster is refused.*not a JSON file"),
    (unsigned, "the new roster is refused.*version 3 is not signed by this authority"),
    (foreign, "the new roster is refused.*is not signed by this authority"),
    (older, "the new roster is refused.*version 0 is older than version 1, which is in use"),
    (same_version, "the new roster is refused.*version 1 differs from the one in use"),
    (expired, "the new identity is refused.*the certificate of hub expired on"),
    (another_role, "the new identity is refused.*the private key does not belong to the certificate of site-0000"),
    (another_authority, "the new identity is refused.*hub is of another authority"),
    (lambda *_: (f"hub/{KEY_FILE}", None), "the new identity is refused.*cannot read"),
    (lambda *_: ("revoked", b"no number"), "the new revoked is refused.*one serial number per line"),
    (lambda *_: ("revoked", None), "the new revoked is refused.*cannot read"),
]


@pytest.mark.parametrize(("make", "named"), BAD, ids=[named[8:60] for _, named in BAD])
async def test_a_file_that_does_not_hold_what_it_should_changes_nothing(tmp_path, caplog, make, named):
    (tmp_path / "revoked").write_text("7\n")
    consortium = Consortium.of(N)
    config = configured(tmp_path, consortium, revoked=tmp_path / "revoked", reload_s=0)
    name, content = make(tmp_path, dict(enumerate(consortium.identities)))
    path, before = tmp_path / name, (tmp_path / name).read_bytes()
    async with serve(config) as running:
        present = running._watch._members.present
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        for _ in range(2):
            assert await running.reload() == ()
        kept = running._watch._members.present
        assert kept == present
        assert kept.identity is present.identity  # its key, too
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(said) == 1, "once for each state of the file"
        assert re.search(named, said[0])
        path.unlink(missing_ok=True)
        path.write_bytes(before)
        assert await running.reload() == ()
        assert running._watch._members.present == present


@pytest.mark.parametrize("every_s", [0, 0.01])
async def test_the_files_are_looked_at_again_by_themselves_or_at_a_signal(tmp_path, every_s):
    consortium = Consortium.of(N)
    async with asyncio.timeout(TOO_LONG_S), serve(configured(tmp_path, consortium, reload_s=every_s)) as running:
        roster = sign_roster(TREE, [who.certificate for who in consortium.identities], 2)
        replace_file(tmp_path / "roster.json", roster.to_bytes())
        if not every_s:
            running.reload_soon()
        await until(lambda: running.tasks.host.roster().version == 2)


async def test_a_look_that_fails_unforeseen_is_not_the_last(tmp_path, caplog, monkeypatch):
    consortium = Consortium.of(N)
    async with asyncio.timeout(TOO_LONG_S), serve(configured(tmp_path, consortium, reload_s=0)) as running:
        with monkeypatch.context() as broken:
            broken.setattr(running._watch._members, "look", lambda: 1 / 0)
            running.reload_soon()
            await until(lambda: "could not be looked at" in caplog.text)
        caplog.clear()  # an error in a log fails every other test here
        replace_file(tmp_path / "roster.json", sign_roster(TREE, consortium.roster.certificates, 2).to_bytes())
        running.reload_soon()
        await until(lambda: running.tasks.host.roster().version == 2)


async def test_an_operator_revoked_while_it_watches_hears_no_more(tmp_path):
    async with federation(tmp_path) as made:
        number = await made.hub.operator.start_round(TASK)
        events = made.hub.operator.watch(TASK, number)
        assert (await anext(events)).kind == "step"
        made.revoke(operator().certificate.serial)
        await made.reload()
        made.hub.running.tasks.find(TASK).driver(number).end_unexpectedly("the test ends it")
        with pytest.raises(NotAdmitted, match="the certificate of operator was revoked"):
            await anext(events)


async def test_a_server_says_that_its_own_certificate_ends_soon(tmp_path, caplog):
    soon = issued("hub", Role.AGGREGATOR, ("localhost",), days=20)
    soon.save(tmp_path / "soon")
    async with serve(configured(tmp_path, Consortium.of(N), identity=tmp_path / "soon", reload_s=0)) as running:
        for _ in range(3):
            await running.reload()
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if re.search("this server's certificate ends on 20.*: renew it", text)]) == 1
