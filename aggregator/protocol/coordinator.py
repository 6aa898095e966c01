"""The server's steps: the same verbs as the participant's, to be read side by side with it.

    admit_advert      check one advert              advert_list      what U1 looks like to one client
    admit_dealing     check one client's shares     share_lists      what U2 looks like to one client
    admit_complaints  of shares that don't decrypt
    admit_signature   check one signature           signature_list   who signed (U2, U), for one client
    admit_unmasking   check one client's answer     reconstruct      the seeds that the survivors gave up
                                                    remove_masks     the sum

Nothing here keeps state, reads a clock or draws randomness. The server is trusted for availability only.

Source: Bonawitz et al. 2017, Fig. 4; Bell et al. 2020, Algorithm 3 (malicious).
"""

import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

from aggregator.crypto import agreement, merkle, shamir, signing
from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol import commitments, pairwise
from aggregator.protocol.cohort import ClientId, Cohort
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.contribution import Total
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.spread import Each
from aggregator.wire.messages import (
    ENVELOPE_BYTES,
    Advert,
    AdvertList,
    Complaint,
    Dealing,
    ListedAdvert,
    NamedAdvert,
    NamedSignature,
    ReceivedEnvelope,
    RevealedShare,
    ShareList,
    SignatureList,
    SurvivorSignature,
    Unmasking,
)


@dataclass(frozen=True, eq=False)
class View:
    """What the round knows once U is fixed: of each client in U2 either the seed or the key will be recovered.

    Without slots, so that what follows from the fields is found once and not for each of n·k shares.
    """

    cohort: Cohort
    adverts: Mapping[ClientId, Advert] = field(repr=False)
    dealings: Mapping[ClientId, Dealing] = field(repr=False)  # of U2
    survivors: tuple[ClientId, ...]  # U

    @cached_property
    def dealers(self) -> tuple[ClientId, ...]:
        """U2, ascending."""
        return tuple(sorted(self.dealings))

    @cached_property
    def dropped(self) -> tuple[ClientId, ...]:
        """U2 without U, ascending: their masks dangle in the sum."""
        return tuple(sorted(set(self.dealings) - set(self.survivors)))

    @cached_property
    def hashes(self) -> tuple[bytes, bytes]:
        """(H(U2), H(U)), as every survivor signs them."""
        return commitments.clients_hash(self.dealers), commitments.clients_hash(self.survivors)

    @cached_property
    def holders(self) -> dict[ClientId, tuple[ClientId, ...]]:
        """Who holds shares of each client in U2; see `Cohort.holders`."""
        return {dealer: self.cohort.holders(dealer) for dealer in self.dealers}


@dataclass(frozen=True, slots=True)
class Recovered:
    """The seeds that take the masks off: b_u of survivors, s_uh of (survivor, dropped) neighbours; 32 bytes each."""

    self_seeds: Mapping[ClientId, bytes] = field(repr=False)
    dangling: Mapping[tuple[ClientId, ClientId], bytes] = field(repr=False)


def admit_advert(terms: RoundTerms, roster: Roster, client: ClientId, advert: Advert) -> None:
    """Check one advert. Run by the server on receipt.

    Raises:
        MessageError: not signed by the client for this round, or a low-order key, which would stop its neighbours.
    """
    key, said = roster.verifying_key(client), commitments.advert_fields(advert)
    if not signing.verify(key, advert.signature, commitments.ADVERT, terms.ctx0, client, *said):
        raise MessageError(f"the advert of client {client} is not signed by it for round {terms.round}")
    for public in (advert.mask_key, advert.share_key):
        agreement.check_public(public)


def listed_adverts(terms: RoundTerms, adverts: Mapping[ClientId, Advert]) -> tuple[ListedAdvert, ...]:
    """U1 as it is frozen: client and advert hash, ascending."""
    ctx0 = terms.ctx0
    return tuple(ListedAdvert(c, commitments.advert_hash(ctx0, c, adverts[c])) for c in sorted(adverts))


def advert_list(
    cohort: Cohort, listed: tuple[ListedAdvert, ...], adverts: Mapping[ClientId, Advert], client: ClientId
) -> AdvertList:
    """U1 for one client: the whole list, and its neighbours' adverts."""
    return AdvertList(listed, tuple(NamedAdvert(h, adverts[h]) for h in cohort.neighbours(client)))


def admit_dealing(cohort: Cohort, roster: Roster, client: ClientId, dealing: Dealing) -> None:
    """Check one client's shares as far as the server can see them. Run by the server on receipt.

    Raises:
        MessageError: not one envelope per holder, a ciphertext of another length, or not signed.
    """
    holders = cohort.holders(client)
    if len(dealing.envelopes) != len(holders):
        raise MessageError(f"client {client} dealt {len(dealing.envelopes)} envelopes to {len(holders)} holders")
    for holder, envelope in zip(holders, dealing.envelopes, strict=True):
        if len(envelope.ciphertext) != (0 if holder == client else ENVELOPE_BYTES):
            raise MessageError(f"client {client}: the share for holder {holder} has a wrong length")
    root = commitments.dealing_root(holders, dealing.envelopes)
    key = roster.verifying_key(client)
    if not signing.verify(key, dealing.signature, commitments.DEALING, cohort.ctx1, client, root):
        raise MessageError(f"the shares of client {client} are not signed by it for this round")


@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """One client's dealing with the tree that it signed, from which each holder gets its envelope and a proof."""

    dealer: ClientId
    dealing: Dealing
    holders: tuple[ClientId, ...]
    tree: merkle.Tree

    def to(self, holder: ClientId) -> ReceivedEnvelope:
        """What this dealer sent to that holder."""
        place = self.holders.index(holder)
        proof = self.tree.proof(place)
        return ReceivedEnvelope(
            self.dealer, self.dealing.envelopes[place], self.tree.root, self.dealing.signature, proof
        )


@dataclass(frozen=True, slots=True, eq=False)
class Received(Sequence[ReceivedEnvelope]):
    """The envelopes addressed to one holder, each put together when it is asked for.

    Of all holders at once they are n·k objects with a proof each: 45 MB among 1,000 clients.
    """

    holder: ClientId
    dealt: tuple[Dealt, ...]

    @overload
    def __getitem__(self, index: int) -> ReceivedEnvelope: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ReceivedEnvelope, ...]: ...
    def __getitem__(self, index: int | slice) -> ReceivedEnvelope | tuple[ReceivedEnvelope, ...]:
        if isinstance(index, slice):
            return tuple(one.to(self.holder) for one in self.dealt[index])
        return self.dealt[index].to(self.holder)

    def __len__(self) -> int:
        return len(self.dealt)


def share_lists(cohort: Cohort, dealings: Mapping[ClientId, Dealing]) -> dict[ClientId, ShareList]:
    """U2 for each of its clients, with the envelopes addressed to it and the proofs that their dealers signed them."""
    dealers = tuple(sorted(dealings))
    dealt = {dealer: _dealt(dealer, dealings[dealer], cohort.holders(dealer)) for dealer in dealers}
    return {client: ShareList(dealers, Received(client, _around(client, dealt))) for client in dealers}


def admit_complaints(
    cohort: Cohort, dealings: Mapping[ClientId, Dealing], holder: ClientId, complaints: Iterable[Complaint]
) -> None:
    """Check that a holder complains of ciphertexts that its dealers signed. Run by the server on receipt.

    Who is at fault, dealer or holder, cannot be told: a holder may lie about what decrypts.

    Raises:
        MessageError: a complaint about a ciphertext that this dealer did not send to this holder.
    """
    for item in complaints:
        holders = cohort.holders(item.dealer) if item.dealer in dealings else ()
        if holder not in holders or holder == item.dealer:
            raise MessageError(f"client {holder} complains of client {item.dealer}, who dealt nothing to it")
        if dealings[item.dealer].envelopes[holders.index(holder)].ciphertext != item.ciphertext:
            raise MessageError(f"client {holder} complains of a share that client {item.dealer} did not send")


def admit_signature(view: View, roster: Roster, client: ClientId, message: SurvivorSignature) -> None:
    """Check one signature over (ctx1, H(U2), H(U)). Run by the server on receipt.

    Raises:
        MessageError: it is not the client's, or over another view.
    """
    key = roster.verifying_key(client)
    if not signing.verify(key, message.signature, commitments.SURVIVORS, view.cohort.ctx1, *view.hashes):
        raise MessageError(f"client {client} signed other survivors than it was shown")


def signature_list(cohort: Cohort, signatures: Mapping[ClientId, SurvivorSignature], client: ClientId) -> SignatureList:
    """The signatures of one client's neighbours."""
    around = [h for h in cohort.neighbours(client) if h in signatures]
    return SignatureList(tuple(NamedSignature(h, signatures[h].signature) for h in around))


def admit_unmasking(view: View, client: ClientId, answer: Unmasking) -> None:
    """Check every share of one client's answer against what its dealer committed to. Run by the server on receipt.

    Raises:
        MessageError: a share that was not asked for, or that is not the dealer's; dealer and holder are named.
    """
    dealers = {dealer for dealer in view.cohort.holders(client) if dealer in view.dealings}
    dropped = dealers.intersection(view.dropped)
    _check_shares(view, client, answer.self_seed_shares, dealers - dropped, commitments.SELF_SEED)
    _check_shares(view, client, answer.mask_key_shares, dropped, commitments.MASK_KEY)


def reconstruct(view: View, answers: Mapping[ClientId, Unmasking]) -> Recovered:
    """Recover the survivors' seeds and the dropped clients' pair masks. Run by the server once.

    Raises:
        RoundAborted: too few shares of a client, or shares that don't give the secret it committed to.
    """
    seed_shares = _by_dealer((holder, answer.self_seed_shares) for holder, answer in answers.items())
    key_shares = _by_dealer((holder, answer.mask_key_shares) for holder, answer in answers.items())
    self_seeds = {u: _self_seed(view, u, seed_shares[u]) for u in view.survivors}
    dangling = {}
    for dropped in view.dropped:
        agree = agreement.agreeing(_mask_key(view, dropped, key_shares[dropped]))
        for u in set(view.cohort.neighbours(dropped)) & set(view.survivors):
            info = agreement.pair_info(view.cohort.ctx1, u, dropped)
            dangling[u, dropped] = agree(view.adverts[u].mask_key, info)
    return Recovered(self_seeds, dangling)


def remove_masks(view: View, recovered: Recovered, total: Total, each: Each = map) -> RingVector:
    """The sum of the survivors' encoded updates, shape (L,). Run by the server, once all seeds are there.

    Raises:
        RoundAborted: the seeds don't fit what was added.
    """
    ctx1 = view.cohort.ctx1
    return total.open(pairwise.Unmasking(recovered.self_seeds, recovered.dangling, ctx1), ctx1, each)


def _dealt(dealer: ClientId, dealing: Dealing, holders: tuple[ClientId, ...]) -> Dealt:
    leaves = [commitments.envelope_leaf(h, e) for h, e in zip(holders, dealing.envelopes, strict=True)]
    return Dealt(dealer, dealing, holders, merkle.Tree(leaves))


def _around(client: ClientId, dealt: Mapping[ClientId, Dealt]) -> tuple[Dealt, ...]:
    """Of whom a client holds shares, ascending: those who hold shares of it."""
    return tuple(dealt[other] for other in dealt[client].holders if other != client and other in dealt)


def _check_shares(
    view: View, holder: ClientId, shares: Iterable[RevealedShare], wanted: set[ClientId], kind: str
) -> None:
    for item in shares:
        if item.client not in wanted:
            raise MessageError(f"client {holder} gave a {kind} share of client {item.client} that was not asked for")
        got = commitments.share_hash(view.cohort.ctx1, item.client, holder, kind, item.share)
        if not hmac.compare_digest(got, _share_hash(view, item.client, holder, kind)):
            raise MessageError(f"client {holder} gave a {kind} share that dealer {item.client} did not deal")


def _share_hash(view: View, dealer: ClientId, holder: ClientId, kind: str) -> bytes:
    envelope = view.dealings[dealer].envelopes[view.holders[dealer].index(holder)]
    return envelope.self_seed_share_hash if kind == commitments.SELF_SEED else envelope.mask_key_share_hash


def _by_dealer(
    given: Iterable[tuple[ClientId, tuple[RevealedShare, ...]]],
) -> defaultdict[ClientId, dict[ClientId, bytes]]:
    """Shares by dealer, then by holder."""
    found: defaultdict[ClientId, dict[ClientId, bytes]] = defaultdict(dict)
    for holder, shares in given:
        for item in shares:
            found[item.client][holder] = item.share
    return found


def _self_seed(view: View, client: ClientId, shares: Mapping[ClientId, bytes]) -> bytes:
    seed = _combine(view, client, shares)
    got = commitments.self_seed_hash(view.cohort.terms.ctx0, client, seed)
    if not hmac.compare_digest(got, view.adverts[client].self_seed_hash):
        raise RoundAborted(f"unmasking: the shares that client {client} dealt don't give the seed it committed to")
    return seed


def _mask_key(view: View, client: ClientId, shares: Mapping[ClientId, bytes]) -> bytes:
    private = _combine(view, client, shares)
    if not hmac.compare_digest(agreement.public_key(private), view.adverts[client].mask_key):
        raise RoundAborted(f"unmasking: the shares that client {client} dealt don't give the key it advertised")
    return private


def _combine(view: View, client: ClientId, shares: Mapping[ClientId, bytes]) -> bytes:
    threshold = view.cohort.threshold
    if len(shares) < threshold:
        raise RoundAborted(f"unmasking: {len(shares)} shares for client {client}, need {threshold}")
    place = {holder: i for i, holder in enumerate(view.holders[client])}
    return shamir.combine({place[h]: share for h, share in shares.items()}, threshold)
