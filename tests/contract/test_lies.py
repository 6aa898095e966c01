"""What docs/contract.md calls essential keeps a participant that follows it from a lying server."""

import asyncio

import pytest

from aggregator.crypto.roster import sign_roster
from aggregator.protocol.graph import ThreatModel
from aggregator.wire import codec
from aggregator.wire._pb import aggregation_pb2 as pb
from tests.consortium import TASK, Consortium
from tests.contract.line import join
from tests.contract.memory import Refused
from tests.contract.participant import Participant
from tests.contract.who import Who
from tests.loopback import hub, offers, parameters

MADE = Consortium.of(4)
SPEC = parameters()


def site(tmp_path):
    """A site as it starts: what it remembers is read from its disk."""
    if not (tmp_path / "site").exists():
        MADE.identities[1].save(tmp_path / "site")
    return Who.load(tmp_path / "site", 2)


def opened(tmp_path, terms, roster=MADE.roster):
    sent = pb.Terms.FromString(codec.encode(terms.to_message()))
    return Participant(site(tmp_path), sent, roster.to_bytes(), [])


def terms_of(number=1, roster=MADE.roster, spec=SPEC, **changes):
    return MADE.terms(spec, round=number, roster_root=roster.root, roster_size=len(roster), **changes)


def test_a_round_is_entered_once_also_under_the_very_same_context_and_after_a_restart(tmp_path):
    opened(tmp_path, terms_of())
    for terms in (terms_of(), terms_of(server_nonce=bytes(32))):
        with pytest.raises(Refused, match=r"entered .*: once for ever"):
            opened(tmp_path, terms)
    opened(tmp_path, terms_of(2))


def test_a_task_keeps_its_parameters(tmp_path):
    """By what a site refuses, a server that changes them reads off the number of its samples."""
    opened(tmp_path, terms_of())
    with pytest.raises(Refused, match=r"parameters .*: was another before"):
        opened(tmp_path, terms_of(2, spec=parameters(weight_max=5)))


def test_an_older_roster_and_two_of_one_version(tmp_path):
    third, other = (sign_roster(MADE.authority, MADE.roster.certificates[:n], 3) for n in (4, 3))
    opened(tmp_path, terms_of(roster=third), third)
    with pytest.raises(Refused, match="version 1 is older than 3"):
        opened(tmp_path, terms_of(2), MADE.roster)
    with pytest.raises(Refused, match="two rosters of version 3"):
        opened(tmp_path, terms_of(2, roster=other), other)


@pytest.mark.parametrize(
    "weaker", [ThreatModel(corrupt_fraction=0.01), ThreatModel(security_bits=40), ThreatModel(malicious=False)]
)
def test_a_weaker_threat_model(tmp_path, weaker):
    with pytest.raises(Refused, match="a weaker threat model"):
        opened(tmp_path, terms_of(spec=parameters(threat=weaker)))


def test_a_model_that_it_has_answered_on(tmp_path):
    first = terms_of()
    site(tmp_path).memory.once("answered", first.deployment, first.task, first.model_hash.hex())
    with pytest.raises(Refused, match="has contributed on this model"):
        opened(tmp_path, terms_of(2))
    opened(tmp_path, terms_of(3, model_hash=bytes(32)))


def double(ids):
    """One client counts as two."""
    return [*ids, ids[-1]]


def listed_twice(body):
    body.listed.append(body.listed[-1])


def dealers_twice(body):
    body.dealers[:] = double(body.dealers)


def survivors_twice(body):
    body.survivors[:] = double(body.survivors)


def again(body):
    """As it was, a second time."""


LIES = {
    "advert_list": ((listed_twice, "ids that come twice"), (again, "deal: out of order")),
    "share_list": ((dealers_twice, "dealers that come twice"), (again, "mask: out of order")),
    "survivors": ((survivors_twice, "survivors that come twice"), (again, "sign: out of order")),
    "signature_list": ((again, "unmask: out of order"),),
}


class Lying:
    """A line over which one kind of message comes false, or a second time."""

    def __init__(self, honest, name, lie):
        self._honest, self._name, self._lie = honest, name, lie
        self._waiting = []

    async def next(self):
        if self._waiting:
            return self._waiting.pop()
        message = await self._honest()
        if message.WhichOneof("body") == self._name:
            self._lie(getattr(message, self._name))
            self._waiting += [message] if self._lie is again else []
        return message


@pytest.mark.parametrize(("name", "lie", "named"), [(name, *lie) for name, lies in LIES.items() for lie in lies])
async def test_a_client_that_counts_twice_and_a_step_that_comes_twice(tmp_path, name, lie, named):
    """A second masking or signature, after the first has left, would give the site away."""
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(parameters())
        h.consortium.identities[1].save(tmp_path / "stranger")
        joining = join(h.address, Who.load(tmp_path / "stranger", 2), TASK)
        async with joining as line, h.join(0) as first, h.join(2) as last:
            line._next = Lying(line._next, name, lie).next
            others = [
                asyncio.create_task(session.contribute(offered[c][0], weight=1))
                for c, session in ((0, first), (2, last))
            ]
            await h.operator.start_round(TASK)
            with pytest.raises(Refused, match=named):
                await line.contribute(*offered[1])
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
