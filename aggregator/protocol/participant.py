"""The client's steps. Each takes the state before it and the server's message, checks all of it, and gives the state
after it and the client's answer. States are frozen and hold their secrets out of every repr.

    enter ── advertise_keys ── share_keys ── mask_input ── check_consistency ── unmask
    Invited    Advertised        Shared        Masked           Signed          answer

The server is not trusted: whatever it says is recomputed, or is signed by the other clients, or is refused.

Source: Bonawitz et al. 2017, Fig. 4; Bell et al. 2020, Algorithm 3 (malicious).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from aggregator.crypto import aead, agreement, merkle, shamir, signing
from aggregator.crypto.agreement import Entropy, KeyPair
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.crypto.signing import SigningKey
from aggregator.errors import Equivocation, MessageError, NotAdmitted, ParameterError, RoundAborted
from aggregator.protocol import commitments, modes, pairwise
from aggregator.protocol.cohort import ClientId, Cohort, freeze
from aggregator.protocol.commitments import Shares
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.contribution import Blinding
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.graph import ThreatModel
from aggregator.protocol.parameters import Mode
from aggregator.protocol.parties import Audit
from aggregator.protocol.spread import Each
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    Complaint,
    Dealing,
    Envelope,
    NamedAdvert,
    ReceivedEnvelope,
    RevealedShare,
    ShareList,
    SignatureList,
    Survivors,
    SurvivorSignature,
    Unmasking,
)

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Safeguards:
    """What this site insists on, whatever the server proposes.

    minimum_cohort: clients in a sum; None means max(3, more than half the roster), so that no two disjoint cohorts
        exist. Two is only ever an explicit choice.
    threat: the weakest threat model accepted.
    modes: the modes in which this site takes part; `lattice` and `homomorphic` rest on ring-LWE besides, and the latter
        on no two of server, key holder and auditor acting together.
    audits: in homomorphic mode, what it accepts between server and key holder.
    """

    minimum_cohort: int | None = None
    threat: ThreatModel = field(default_factory=ThreatModel)
    modes: frozenset[Mode] = frozenset({Mode.PAIRWISE, Mode.LATTICE, Mode.HOMOMORPHIC})
    audits: frozenset[Audit] = frozenset({Audit.FROZEN})

    def __post_init__(self) -> None:
        if self.minimum_cohort is not None and self.minimum_cohort < 2:
            raise ParameterError(
                f"minimum_cohort is {self.minimum_cohort}: a sum over one client is that client's update"
            )

    def least(self, roster_size: int) -> int:
        """The minimum cohort for a roster of this size, clients."""
        return max(3, roster_size // 2 + 1) if self.minimum_cohort is None else self.minimum_cohort


@dataclass(frozen=True, slots=True)
class Site:
    """Who this client is, whom it trusts, and what it insists on; the same in every round."""

    certificate: Certificate
    authority: Certificate
    signing_key: SigningKey = field(repr=False)
    safeguards: Safeguards


@dataclass(frozen=True, slots=True)
class Invited:
    """A round whose terms this client accepts."""

    terms: RoundTerms
    ctx0: bytes
    roster: Roster = field(repr=False)
    me: ClientId
    minimum: int
    expired: frozenset[ClientId]
    signing_key: SigningKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Advertised:
    """The advert is made; its secrets are here and nowhere else."""

    invited: Invited
    advert: Advert
    mask_pair: KeyPair = field(repr=False)
    share_pair: KeyPair = field(repr=False)
    self_seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shared:
    """U1 is known and the shares are dealt."""

    advertised: Advertised
    cohort: Cohort
    adverts: Mapping[ClientId, Advert] = field(repr=False)
    own_shares: Shares | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Masked:
    """U2 is known and the input is masked over it."""

    shared: Shared
    dealers: tuple[ClientId, ...]
    held: Mapping[ClientId, Shares] = field(repr=False)
    complaints: tuple[Complaint, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """U is known and signed; nothing else will ever be signed or unmasked in this round."""

    masked: Masked
    survivors: tuple[ClientId, ...]
    survivors_hash: bytes
    signature: SurvivorSignature


def enter(terms: RoundTerms, roster: Roster, site: Site, expired: frozenset[ClientId] = frozenset()) -> Invited:
    """Check a round's terms against what this site knows. Run by the client before anything leaves.

    `roster` must have been verified against the site's authority; `expired` are those of it whose certificates have
    ended, by this site's clock; update and model are the session's to check.

    Raises:
        NotAdmitted: another deployment or authority, or this client is not in the roster.
        Equivocation: the terms name another roster than the one shown.
        ParameterError: the terms protect less than this site's safeguards.
    """
    certificate, safeguards = site.certificate, site.safeguards
    terms.check_consortium(roster, certificate, site.authority)
    minimum = max(safeguards.least(len(roster)), terms.parameters.minimum_cohort)
    _check_safeguards(terms, minimum, safeguards)
    me = roster.index_of(certificate.fingerprint)
    return Invited(terms, terms.ctx0, roster, me, minimum, expired, site.signing_key)


def advertise_keys(invited: Invited, entropy: Entropy) -> Advertised:
    """Draw the round's secrets and sign their public side under ctx0. Run by the client, once per round."""
    mask_pair, share_pair = agreement.generate(entropy), agreement.generate(entropy)
    self_seed, nonce = entropy(SECRET_BYTES), entropy(SECRET_BYTES)
    seed_hash = commitments.self_seed_hash(invited.ctx0, invited.me, self_seed)
    said = (mask_pair.public, share_pair.public, nonce, seed_hash)
    signature = signing.sign(invited.signing_key, commitments.ADVERT, invited.ctx0, invited.me, *said)
    return Advertised(invited, Advert(*said, signature), mask_pair, share_pair, self_seed)


def share_keys(state: Advertised, adverts: AdvertList, entropy: Entropy) -> tuple[Shared, Dealing]:
    """Check U1 and every neighbour's advert; deal shares of both secrets to the holders. Run by the client.

    Raises:
        Equivocation: an advert that is not in the list, or not signed for this round by its author.
        MessageError: the list names strangers; a low-order share key.
        RoundAborted: fewer clients than this site's minimum.
    """
    invited = state.invited
    cohort = freeze(invited.terms, [(item.client, item.hash) for item in adverts.listed])
    listed = {item.client: item.hash for item in adverts.listed}
    if listed.get(invited.me) != commitments.advert_hash(invited.ctx0, invited.me, state.advert):
        raise Equivocation(f"client {invited.me}: the advert list does not hold this client's own advert")
    _check_enough("advertise keys", len(cohort.members), invited.minimum)
    if late := invited.expired.intersection(cohort.members):
        raise NotAdmitted(f"the certificates of clients {sorted(late)} have expired")
    by_client = {item.client: item.advert for item in adverts.neighbours}
    if tuple(by_client) != cohort.neighbours(invited.me):
        raise Equivocation(f"client {invited.me}: the adverts received are not those of its neighbours")
    for item in adverts.neighbours:
        _check_advert(invited, item, listed[item.client])
    return _deal(state, cohort, by_client, entropy)


def mask_input(
    state: Shared, shares: ShareList, x: RingVector, entropy: Entropy, each: Each = map
) -> tuple[Masked, memoryview]:
    """Open the shares received and blind the input over N(u) ∩ U2. Run by the client, once per round.

    A share that does not decrypt becomes a complaint; its pair mask still applies. The bytes returned are the whole
    contribution: a resend sends these. A second call would put another lattice key under the same masks, and if both
    left, the keys' difference would be known.

    Raises:
        Equivocation: U2 and the envelopes don't fit together, or a dealer did not sign its envelope.
        MessageError: U2 names strangers; a low-order mask key.
        RoundAborted: U2 lacks this client, or is too small.
    """
    me, cohort = state.advertised.invited.me, state.cohort
    cohort.check_subset("U2", shares.dealers)
    if me not in shares.dealers:
        raise RoundAborted(f"share keys: the round goes on without client {me}")
    partners = tuple(sorted(set(cohort.neighbours(me)) & set(shares.dealers)))
    _check_enough("share keys", len(shares.dealers), state.advertised.invited.minimum)
    _check_enough("share keys", len(partners) + cohort.graph.complete, cohort.threshold)
    if tuple(envelope.dealer for envelope in shares.envelopes) != partners:
        raise Equivocation(f"client {me}: the shares received are not those of its neighbours in U2")
    held, complaints = _open_envelopes(state, shares.envelopes)
    masked = Masked(state, shares.dealers, held, tuple(complaints))
    blind = _blinding(state, partners)
    parameters = state.advertised.invited.terms.parameters
    return masked, modes.contribute(x, blind, parameters, ctx1=cohort.ctx1, entropy=entropy, each=each)


def check_consistency(state: Masked, survivors: Survivors) -> Signed:
    """Check (U2, U) and sign it. Run by the client; the caller makes H(U) durable before the signature leaves.

    Raises:
        Equivocation: U2 is not the one that this client masked over, or U is not within U2.
        RoundAborted: U lacks this client, or is too small for its safeguards.
    """
    invited, cohort = state.shared.advertised.invited, state.shared.cohort
    me, alive = invited.me, set(survivors.survivors)
    if survivors.dealers != state.dealers:
        raise Equivocation(f"client {me}: U2 is not the set that it masked over")
    if not alive <= set(state.dealers):
        raise Equivocation(f"client {me}: U names clients {sorted(alive - set(state.dealers))}, who are not in U2")
    if me not in alive:
        raise RoundAborted(f"masked input: the round goes on without client {me}")
    _check_enough("masked input", len(alive), max(invited.minimum, cohort.survivors_least))
    around = len(alive.intersection(cohort.neighbours(me))) + cohort.graph.complete
    _check_enough("masked input", around, cohort.threshold)
    seen = _view(cohort, survivors)
    signature = signing.sign(invited.signing_key, commitments.SURVIVORS, *seen)
    return Signed(state, survivors.survivors, seen[-1], SurvivorSignature(signature))


def unmask(state: Signed, signatures: SignatureList) -> Unmasking:
    """Give up one share per neighbour, b of survivors or the mask key of the dropped. Run by the client, once.

    Raises:
        Equivocation: a signature that is not its author's over this very (U2, U).
        RoundAborted: too few signatures.
    """
    shared = state.masked.shared
    me = shared.advertised.invited.me
    _check_signatures(state, signatures)
    alive, held = set(state.survivors), state.masked.held
    revealed = {dealer: held[dealer] for dealer in sorted(held)}
    if shared.own_shares is not None:
        revealed[me] = shared.own_shares
    return Unmasking(
        tuple(RevealedShare(d, revealed[d].self_seed) for d in sorted(revealed) if d in alive),
        tuple(RevealedShare(d, revealed[d].mask_key) for d in sorted(revealed) if d not in alive),
    )


def _check_safeguards(terms: RoundTerms, minimum: int, safeguards: Safeguards) -> None:
    parameters, wanted = terms.parameters, safeguards.threat
    if parameters.mode not in safeguards.modes:
        raise ParameterError(f"the round is in {parameters.mode} mode: this site takes no part in that")
    if parameters.parties is not None and parameters.parties.audit not in safeguards.audits:
        raise ParameterError(
            f"the round is audited {parameters.parties.audit}: this site takes no part in that; "
            f"a weaker audit is an explicit choice of this site"
        )
    if minimum > min(terms.roster_size, parameters.clients_max):
        raise ParameterError(
            f"this site sums over at least {minimum} clients, the roster has {terms.roster_size} and the round holds "
            f"at most {parameters.clients_max}; a smaller minimum_cohort is an explicit choice of this site"
        )
    offered = parameters.threat
    weaker = (
        offered.corrupt_fraction < wanted.corrupt_fraction
        or offered.security_bits < wanted.security_bits
        or (wanted.malicious and not offered.malicious)
    )
    if weaker:
        raise ParameterError("the round's threat model is weaker than this site's safeguards")


def _check_enough(step: str, have: int, need: int) -> None:
    if have < need:
        raise RoundAborted(f"{step}: {have} clients, this client needs {need}")


def _check_advert(invited: Invited, item: NamedAdvert, listed_hash: bytes) -> None:
    if commitments.advert_hash(invited.ctx0, item.client, item.advert) != listed_hash:
        raise Equivocation(f"the advert of client {item.client} is not the one in the list")
    key = invited.roster.verifying_key(item.client)
    said = commitments.advert_fields(item.advert)
    if not signing.verify(key, item.advert.signature, commitments.ADVERT, invited.ctx0, item.client, *said):
        raise Equivocation(f"the advert of client {item.client} is not signed by it for this round")


def _deal(
    state: Advertised, cohort: Cohort, adverts: Mapping[ClientId, Advert], entropy: Entropy
) -> tuple[Shared, Dealing]:
    me, holders = state.invited.me, cohort.holders(state.invited.me)
    halves = (
        shamir.split(state.self_seed, cohort.threshold, len(holders), entropy),
        shamir.split(state.mask_pair.private, cohort.threshold, len(holders), entropy),
    )
    dealt = {h: Shares(b, k) for h, b, k in zip(holders, *halves, strict=True)}
    agree = agreement.agreeing(state.share_pair.private)
    keys = {h: agree(adverts[h].share_key, agreement.share_info(cohort.ctx1, me, h)) for h in adverts}
    envelopes = tuple(_envelope(cohort, me, h, dealt[h], keys.get(h)) for h in holders)
    root = commitments.dealing_root(holders, envelopes)
    signature = signing.sign(state.invited.signing_key, commitments.DEALING, cohort.ctx1, me, root)
    return Shared(state, cohort, adverts, dealt.get(me)), Dealing(envelopes, signature)


def _envelope(cohort: Cohort, me: ClientId, holder: ClientId, shares: Shares, key: bytes | None) -> Envelope:
    """Seal one holder's shares; the dealer's own place stays without ciphertext."""
    ctx1 = cohort.ctx1
    hashes = (
        commitments.share_hash(ctx1, me, holder, commitments.SELF_SEED, shares.self_seed),
        commitments.share_hash(ctx1, me, holder, commitments.MASK_KEY, shares.mask_key),
    )
    if key is None:
        return Envelope(b"", *hashes)
    return Envelope(aead.seal(key, shares.self_seed + shares.mask_key, ctx1), *hashes)


def _open_envelopes(
    state: Shared, received: Sequence[ReceivedEnvelope]
) -> tuple[dict[ClientId, Shares], list[Complaint]]:
    held, complaints = {}, []
    me, ctx1 = state.advertised.invited.me, state.cohort.ctx1
    agree = agreement.agreeing(state.advertised.share_pair.private)
    for item in received:
        _check_dealt(state, item)
        key = agree(state.adverts[item.dealer].share_key, agreement.share_info(ctx1, item.dealer, me))
        shares = _open(state, item.dealer, item.envelope, key)
        if shares is None:
            complaints.append(Complaint(item.dealer, item.envelope.ciphertext))
        else:
            held[item.dealer] = shares
    return held, complaints


def _check_dealt(state: Shared, item: ReceivedEnvelope) -> None:
    invited, cohort = state.advertised.invited, state.cohort
    holders = cohort.holders(item.dealer)
    leaf = commitments.envelope_leaf(invited.me, item.envelope)
    place = holders.index(invited.me)
    if not merkle.includes(leaf, place, len(holders), item.proof, item.root):
        raise Equivocation(f"the share of dealer {item.dealer} is not in what it signed")
    key = invited.roster.verifying_key(item.dealer)
    if not signing.verify(key, item.signature, commitments.DEALING, cohort.ctx1, item.dealer, item.root):
        raise Equivocation(f"the shares of dealer {item.dealer} are not signed by it for this round")


def _open(state: Shared, dealer: ClientId, envelope: Envelope, key: bytes) -> Shares | None:
    me, ctx1 = state.advertised.invited.me, state.cohort.ctx1
    try:
        opened = aead.unseal(key, envelope.ciphertext, ctx1)
    except MessageError:
        return None
    shares = Shares(opened[:SECRET_BYTES], opened[SECRET_BYTES:])
    hashes = (
        commitments.share_hash(ctx1, dealer, me, commitments.SELF_SEED, shares.self_seed),
        commitments.share_hash(ctx1, dealer, me, commitments.MASK_KEY, shares.mask_key),
    )
    return shares if hashes == (envelope.self_seed_share_hash, envelope.mask_key_share_hash) else None


def _blinding(state: Shared, partners: tuple[ClientId, ...]) -> Blinding:
    advertised, ctx1, me = state.advertised, state.cohort.ctx1, state.advertised.invited.me
    agree = agreement.agreeing(advertised.mask_pair.private)
    seeds = {h: agree(state.adverts[h].mask_key, agreement.pair_info(ctx1, me, h)) for h in partners}
    return pairwise.Masking(advertised.self_seed, seeds, me, ctx1)


def _view(cohort: Cohort, survivors: Survivors) -> tuple[bytes, bytes, bytes]:
    """What the consistency check signs: (ctx1, H(U2), H(U))."""
    return cohort.ctx1, commitments.clients_hash(survivors.dealers), commitments.clients_hash(survivors.survivors)


def _check_signatures(state: Signed, signatures: SignatureList) -> None:
    """See that as many neighbours in U signed the very same view as the threshold asks for beside this client.

    More would tell nothing more, at 60 µs of a core each: where t agree on one view, no other view finds t.
    """
    masked = state.masked
    invited, cohort = masked.shared.advertised.invited, masked.shared.cohort
    allowed = set(cohort.neighbours(invited.me)) & set(state.survivors)
    seen = _view(cohort, Survivors(masked.dealers, state.survivors))
    by_author = {item.client: item.signature for item in signatures.signatures}
    if strangers := by_author.keys() - allowed:
        raise Equivocation(f"client {min(strangers)} cannot have signed for client {invited.me}")
    _check_enough("consistency check", len(by_author) + cohort.graph.complete, cohort.threshold)
    for author, signature in islice(by_author.items(), cohort.signatures_least):
        if not signing.verify(invited.roster.verifying_key(author), signature, commitments.SURVIVORS, *seen):
            raise Equivocation(f"client {author} did not sign the survivors that client {invited.me} saw")
