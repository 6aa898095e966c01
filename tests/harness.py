"""A consortium in memory: real identities, real steps on both sides, every message through the codec; no clock.

    consortium = Consortium.of(5)
    terms = consortium.terms(parameters(5))
    outcome = play(consortium, terms, words, stops={3: Step.MASKED_INPUT})
    outcome.end            Completed | Failed, or the phase named by `until`
    outcome.players[c]     one client: its states by step, and the error that ended it
    outcome.transcript     what was said, in order, both ways

Certificates, keys and entropy come from fixed seeds, so that a failure repeats.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import SangamError
from aggregator.protocol import encoding, participant
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import RingVector, Update
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.participant import Safeguards, Site
from aggregator.rounds.advertise_keys import AdvertiseKeys
from aggregator.rounds.masked_input import MaskedInput
from aggregator.rounds.phase import Completed, Failed, Phase, Setting
from aggregator.wire import codec
from aggregator.wire.messages import (
    AdvertList,
    Chunk,
    ClientMessage,
    RoundOpened,
    ServerBody,
    ServerMessage,
    ShareList,
    SignatureList,
    Survivors,
    Tensor,
    Unmasking,
    UploadHeader,
    UploadMessage,
)
from aggregator.wire.vocabulary import Step
from native.ring import word_dtype
from tests.consortium import ANY_COHORT, Consortium, Entropy, drbg
from tests.reference import packing

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Body: TypeAlias = Any  # ServerBody | ClientBody | UploadHeader | Chunk
Tamper: TypeAlias = Callable[[Step, int, Body], Body | None]  # None: not sent at all


def parameters(clients: int, entries: int = 4, **changes: Any) -> Parameters:
    """Small parameters for that many clients: one tensor `x`, 16-bit values, a minimum of two; pairwise unless said."""
    fields = {
        "tensors": (Tensor("x", (entries,)),),
        "clip": 1.0,
        "clients_max": clients,
        "minimum_cohort": 2,
        "weight_max": 1_000_000,
        "mode": Mode.PAIRWISE,
    }
    return Parameters(**{**fields, **changes})


def ring_words(terms: RoundTerms, clients: Sequence[int], seed: int = 0) -> dict[int, RingVector]:
    """Random words over the whole ring, one vector per client."""
    bits, rng = terms.parameters.ring_bits, np.random.default_rng(seed)
    shape, dtype = terms.parameters.entries, word_dtype(bits)
    return {c: rng.integers(0, 2**bits - 1, shape, np.uint64, endpoint=True).astype(dtype) for c in clients}


def quantised_words(terms: RoundTerms, clients: Sequence[int], seed: int = 0) -> dict[int, RingVector]:
    """Random words as large as encoded ones are; in a ciphertext larger ones would carry into their neighbours."""
    words, bits = ring_words(terms, clients, seed), terms.parameters
    return {c: x >> x.dtype.type(bits.ring_bits - bits.value_bits) for c, x in words.items()}


def encode_all(terms: RoundTerms, updates: Mapping[int, tuple[Update, int]]) -> dict[int, encoding.Encoded]:
    """Encode (update, weight) of every client, rounding from fixed seeds."""
    ctx0 = terms.ctx0
    return {
        client: encoding.encode(update, weight, terms.parameters, ctx0, drbg("rounding", client)(32))
        for client, (update, weight) in updates.items()
    }


class Player:
    """One client's side of a round: it answers each message by the real step, and keeps every state."""

    def __init__(self, site: Site, words: RingVector, entropy: Entropy) -> None:
        self.site = site
        self.words = words
        self.entropy = entropy
        self.states: dict[Step, Any] = {}
        self.error: SangamError | None = None

    def react(self, body: ServerBody) -> tuple[Body, ...]:
        """The answer: one message, or an upload's header and chunks. A message refused changes nothing."""
        match body:
            case RoundOpened():
                return (self._enter(body),)
            case AdvertList():
                state, answer = participant.share_keys(self.states[Step.ADVERTISE_KEYS], body, self.entropy)
                return self._became(Step.SHARE_KEYS, state, answer)
            case ShareList():
                state, payload = participant.mask_input(self.states[Step.SHARE_KEYS], body, self.words, self.entropy)
                return self._became(Step.MASKED_INPUT, state, *upload(state, payload))
            case Survivors():
                signed = participant.check_consistency(self.states[Step.MASKED_INPUT], body)
                return self._became(Step.CONSISTENCY_CHECK, signed, signed.signature)
            case SignatureList():
                return (participant.unmask(self.states[Step.CONSISTENCY_CHECK], body),)
        raise AssertionError(f"no step answers {type(body).__name__}")

    @property
    def secrets(self) -> dict[str, bytes]:
        """b_u and both private keys, once they are drawn."""
        state = self.states[Step.ADVERTISE_KEYS]
        keys = {"mask key": state.mask_pair.private, "share key": state.share_pair.private}
        return {"self seed": state.self_seed, **keys}

    def _enter(self, opened: RoundOpened) -> Body:
        roster = _verified(opened.roster, self.site.authority)
        invited = participant.enter(RoundTerms.from_message(opened.terms), roster, self.site)
        self.states[Step.ADVERTISE_KEYS] = participant.advertise_keys(invited, self.entropy)
        return self.states[Step.ADVERTISE_KEYS].advert

    def _became(self, step: Step, state: Any, *answer: Body) -> tuple[Body, ...]:
        self.states[step] = state
        return answer


@cache
def _verified(roster_bytes: bytes, authority: Certificate) -> Roster:
    """Every client checks the roster; the same bytes are checked once, since n·n signatures would take seconds."""
    roster = rosters.from_bytes(roster_bytes)
    roster.verify(authority, NOW)
    return roster


def upload(state: participant.Masked, payload: memoryview) -> tuple[Body, ...]:
    """A contribution as it travels: header and chunks."""
    terms = state.shared.cohort.terms
    plan = terms.parameters.upload_plan
    return UploadHeader(terms.task, terms.round, plan.payload_bytes, state.complaints, bytes(16)), *plan.cut(payload)


@dataclass(frozen=True, slots=True)
class Said:
    """One message on the wire, in one direction."""

    step: Step
    client: int
    to_server: bool
    body: Body
    raw: bytes = field(repr=False)


@dataclass
class Outcome:
    """How a round ended, and all that was said."""

    terms: RoundTerms
    end: Completed | Failed | Phase[Any]
    players: dict[int, Player]
    setting: Setting
    transcript: list[Said] = field(default_factory=list, repr=False)
    refusals: dict[int, SangamError] = field(default_factory=dict)

    @property
    def errors(self) -> dict[int, SangamError]:
        """What ended each client that gave up by itself."""
        return {client: player.error for client, player in self.players.items() if player.error is not None}

    @property
    def total(self) -> list[int]:
        """The sum, as plain integers."""
        assert isinstance(self.end, Completed), self.end
        return [int(word) for word in self.end.total]

    def said(self, kind: type, client: int | None = None) -> Iterator[Any]:
        """The bodies of one kind, of one client or of all."""
        return (s.body for s in self.transcript if isinstance(s.body, kind) and client in (None, s.client))

    def payload(self, client: int) -> bytes:
        """The packed masked vector as the server received it, whole or not."""
        return b"".join(chunk.data for chunk in self.said(Chunk, client))

    def masked(self, client: int) -> list[int]:
        """The masked vector as the server received it, unpacked by the twin."""
        return packing.unpack(self.payload(client), self.terms.parameters.entries, self.terms.parameters.ring_bits)

    def shares_given(self) -> dict[int, dict[str, set[int]]]:
        """By dealer: who gave the server a share of its seed, and who one of its mask key."""
        given: dict[int, dict[str, set[int]]] = {}
        for said in (s for s in self.transcript if s.to_server and isinstance(s.body, Unmasking)):
            for kind in ("self_seed_shares", "mask_key_shares"):
                for share in getattr(said.body, kind):
                    of = given.setdefault(share.client, {"self_seed_shares": set(), "mask_key_shares": set()})
                    of[kind].add(said.client)
        return given


def honest(step: Step, client: int, body: Body) -> Body:
    """Tamper with nothing."""
    return body


def play(
    consortium: Consortium,
    terms: RoundTerms,
    words: Mapping[int, RingVector],
    *,
    stops: Mapping[int, str] | None = None,
    safeguards: Safeguards = ANY_COHORT,
    lie: Tamper = honest,
    cheat: Tamper = honest,
    order: Sequence[int] | None = None,
    until: Step | None = None,
    seed: object = 0,
) -> Outcome:
    """One round of the clients in `words`, one after the other in each step; the rest of the roster never comes.

    Args:
        consortium: who is in the roster.
        terms: what the server opens the round with.
        words: each client's encoded input.
        stops: client -> the step that it no longer answers; in masked_input it vanishes in the midst of its upload.
        safeguards: what every client insists on.
        lie: changes what the server says to a client, before it is sent.
        cheat: changes what a client says to the server, before it is sent.
        order: in which clients answer; ascending if not given.
        until: stop before this step collects anything; `end` is then its phase.
        seed: of the clients' entropy.
    """
    setting = consortium.setting(terms)
    players = {c: Player(consortium.site(c, safeguards), x, drbg("client", c, seed)) for c, x in words.items()}
    outcome = Outcome(terms, AdvertiseKeys(setting), players, setting)
    stops = stops or {}
    while isinstance(outcome.end, Phase) and outcome.end.step != until:
        phase = outcome.end
        for client in order or sorted(players):
            if client in phase.awaited and players[client].error is None:
                _turn(outcome, phase, client, stops.get(client) == phase.step, lie, cheat)
        outcome.end = phase.finish()
    return outcome


def tell(outcome: Outcome, client: int, body: ServerBody, step: Step) -> tuple[Body, ...]:
    """One message through the codec to one client, and its answer; a client that refuses is out."""
    message = ServerMessage(outcome.terms.round, body)
    raw = codec.encode(message)
    outcome.transcript.append(Said(step, client, to_server=False, body=body, raw=raw))
    return outcome.players[client].react(codec.decode(ServerMessage, raw).body)


def deliver(outcome: Outcome, phase: Phase[Any], client: int, answer: Sequence[Body]) -> bool:
    """A client's answer through the codec to the phase; False when it was there already. An upload needs its header."""
    bodies = [_carry(outcome, phase.step, client, body) for body in answer]
    if not isinstance(bodies[0], UploadHeader):
        return phase.accept(client, bodies[0])
    assert isinstance(phase, MaskedInput)
    begun = phase.begin(client, bodies[0])
    if begun is None:
        return False
    for chunk in bodies[1 + begun.chunks :]:
        phase.receive(begun, chunk)
    phase.commit(begun)
    return True


def _turn(outcome: Outcome, phase: Phase[Any], client: int, stops: bool, lie: Tamper, cheat: Tamper) -> None:
    body = lie(phase.step, client, phase.announcement(client))
    if body is None or (stops and phase.step is not Step.MASKED_INPUT):
        return
    try:
        answer = tell(outcome, client, body, phase.step)
    except SangamError as error:
        outcome.players[client].error = error
        return
    sent = [changed for item in answer if (changed := cheat(phase.step, client, item)) is not None]
    try:
        if stops:
            _vanish(outcome, phase, client, sent)
        elif sent:
            deliver(outcome, phase, client, sent)
    except SangamError as error:
        outcome.refusals[client] = error


def _vanish(outcome: Outcome, phase: Phase[Any], client: int, answer: Sequence[Body]) -> None:
    """All of an upload but its last chunk; whole chunks only, so a short vector is just announced."""
    header, *chunks = (_carry(outcome, phase.step, client, body) for body in answer[:-1])
    assert isinstance(phase, MaskedInput)
    begun = phase.begin(client, header)
    assert begun is not None
    for chunk in chunks:
        phase.receive(begun, chunk)


def _carry(outcome: Outcome, step: Step, client: int, body: Body) -> Body:
    uploaded = isinstance(body, UploadHeader | Chunk)
    message = UploadMessage(body) if uploaded else ClientMessage(outcome.terms.round, body)
    raw = codec.encode(message)
    outcome.transcript.append(Said(step, client, to_server=True, body=body, raw=raw))
    return codec.decode(type(message), raw).body


def never_both_secrets(outcome: Outcome) -> None:
    """From the transcript: of one client the server holds shares of its seed or of its mask key, never of both.

    One share of each kind would already be too much: the honest give one kind only, so a mixture shows two views.
    """
    for dealer, given in outcome.shares_given().items():
        assert not (given["self_seed_shares"] and given["mask_key_shares"]), f"both secrets of client {dealer}"


def no_secret_on_the_wire(outcome: Outcome) -> None:
    """No seed and no private key ever travels, in whole or in half; shares travel only inside `Unmasking`."""
    wire = b"".join(said.raw for said in outcome.transcript)
    for client, player in outcome.players.items():
        for name, secret in player.secrets.items() if player.states else ():
            assert secret not in wire, f"{name} of client {client}"
            assert secret[:16] not in wire, f"half of the {name} of client {client}"


def short_round(n: int, entries: int = 4, *, seed: object = 0, **how: Any) -> Outcome:
    """A round of all n clients on random words; `how` goes to `play`."""
    consortium = Consortium.of(n)
    terms = consortium.terms(parameters(n, entries))
    return play(consortium, terms, ring_words(terms, range(n)), seed=seed, **how)


def plain_sum(outcome: Outcome, clients: Sequence[int]) -> list[int]:
    """What the sum of these clients' inputs is, in plain integers."""
    columns = zip(*(outcome.players[c].words.tolist() for c in clients), strict=True)
    return [sum(column) % 2**outcome.terms.parameters.ring_bits for column in columns]
