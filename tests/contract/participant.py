"""A participant's part in one round, from proto/sangam/v1 and docs/contract.md alone: messages in, messages out.

    advert -> deal -> mask -> sign -> unmask

It makes every check that docs/contract.md calls essential, and raises `Refused` where one fails. It knows no second
line: whatever comes twice is refused.
"""

import os
from datetime import UTC, datetime
from hashlib import sha256
from math import floor
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from aggregator.wire._pb import aggregation_pb2 as pb
from tests.contract.encoding import Numbers, ctx0
from tests.contract.memory import insist
from tests.contract.who import Who, accept, der, name_of, read_roster, signed
from tests.reference import graph, hkdf, lattice, merkle, packing, secagg, shamir
from tests.reference.digest import digest, encode

SELF_SEED, MASK_KEY = "self seed", "mask key"


class Participant:
    """One client in one round. The round's secrets are in here, and nowhere else."""

    def __init__(self, who: Who, terms: Any, roster_file: bytes, words: list[int]) -> None:
        self.who, self.terms, self.words = who, terms, words
        self.numbers, self.ctx0 = Numbers(terms.parameters), ctx0(terms)
        roster = read_roster(roster_file, who, terms)
        accept(terms, who)
        self.keys = [certificate.public_key() for certificate in roster]
        self.names = [name_of(certificate) for certificate in roster]
        self.ends = [certificate.not_valid_after_utc for certificate in roster]
        self.round = terms.deployment, terms.task, terms.round
        who.memory.once("entered", *self.round, value=self.ctx0)
        self.steps = ["deal", "mask", "sign", "unmask"]
        self.me = [der(certificate) for certificate in roster].index(der(who.certificate))
        self.least = max(who.minimum_cohort, terms.parameters.minimum_cohort)
        self.mask_key, self.share_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self.self_seed, self.upload_id = os.urandom(32), os.urandom(16)
        self.held: dict[int, tuple[bytes, bytes]] = {}
        self.complaints: list[Any] = []
        self.survivors: list[int] = []

    def advert(self) -> Any:
        said = (
            self.mask_key.public_key().public_bytes_raw(),
            self.share_key.public_key().public_bytes_raw(),
            os.urandom(32),
            digest("sangam/v1/self-seed", self.ctx0, self.me, self.self_seed),
        )
        self.own_advert = pb.Advert(
            mask_key=said[0],
            share_key=said[1],
            nonce=said[2],
            self_seed_hash=said[3],
            signature=self.who.sign("advert", self.ctx0, self.me, *said),
        )
        return self.own_advert

    def _step(self, name: str) -> None:
        """Each step once, in its order: a second masking, or a second signature, would give this site away."""
        insist(self.steps[:1] == [name], f"{name}: out of order")
        del self.steps[0]

    def deal(self, adverts: Any) -> Any:
        self._step("deal")
        self.freeze(adverts.listed)
        self.who.memory.once("fixed", *self.round, value=self.ctx1)
        listed = {item.client: item.hash for item in adverts.listed}
        insist(listed.get(self.me) == self._advert_hash(self.me, self.own_advert), "the list lacks my own advert")
        insist([item.client for item in adverts.neighbours] == self.neighbours(self.me), "not my neighbours' adverts")
        for item in adverts.neighbours:
            insist(self._advert_hash(item.client, item.advert) == listed[item.client], "an advert not in the list")
            about = self.ctx0, item.client, *_said(item.advert)
            insist(signed(self.keys[item.client], item.advert.signature, "advert", *about), "an unsigned advert")
        self.adverts = {item.client: item.advert for item in adverts.neighbours}
        return self._dealing()

    def freeze(self, listed: Any) -> None:
        """U1, and all that follows from it: n, k, t, ctx1."""
        self.members = [item.client for item in listed]
        n, roster, threat = len(self.members), len(self.keys), self.terms.parameters.threat
        insist(_ascending(self.members, below=roster), "ids that come twice, or are not in the roster")
        insist(all(self.ends[client] > datetime.now(UTC) for client in self.members), "an expired certificate")
        insist(self.least <= n <= self.terms.parameters.clients_max, "too few or too many clients")
        self.complete = n <= 100
        if self.complete:
            self.k, self.t = n - 1, graph.complete_threshold(n, roster)
        else:
            fractions = str(threat.corrupt_fraction), str(threat.dropout_fraction)
            rest = threat.malicious, threat.security_bits, threat.failure_bits
            self.k, self.t = graph.sparse(n, roster, *fractions, *rest)
        root = merkle.root([encode(item.client, item.hash) for item in listed])
        self.ctx1 = digest("sangam/v1/ctx1", self.ctx0, root, n, self.k, self.t)

    def neighbours(self, client: int) -> list[int]:
        if self.complete:
            return [other for other in self.members if other != client]
        near = graph.neighbours(self.ctx1, len(self.members), self.k, self.members.index(client))
        return [self.members[position] for position in near]

    def holders(self, client: int) -> list[int]:
        return self.members if self.complete else self.neighbours(client)

    def _advert_hash(self, client: int, advert: Any) -> bytes:
        return digest("sangam/v1/advert", self.ctx0, client, *_said(advert))

    def _dealing(self) -> Any:
        holders = self.holders(self.me)
        secrets = self.self_seed, self.mask_key.private_bytes_raw()
        halves = zip(*(shamir.split(secret, self.t, len(holders), os.urandom) for secret in secrets), strict=True)
        envelopes = []
        for holder, shares in zip(holders, halves, strict=True):
            sealed = b""
            if holder == self.me:
                self.held[self.me] = shares
            else:
                key = self._sealing_key(self.adverts[holder].share_key, self.me, holder)
                sealed = ChaCha20Poly1305(key).encrypt(bytes(12), shares[0] + shares[1], self.ctx1)
            envelopes.append(self._envelope(sealed, self._share_hashes(self.me, holder, shares)))
        root = merkle.root([_leaf(h, e) for h, e in zip(holders, envelopes, strict=True)])
        return pb.Dealing(envelopes=envelopes, signature=self.who.sign("dealing", self.ctx1, self.me, root))

    def _envelope(self, sealed: bytes, hashes: list[bytes]) -> Any:
        return pb.Envelope(ciphertext=sealed, self_seed_share_hash=hashes[0], mask_key_share_hash=hashes[1])

    def _sealing_key(self, other: bytes, dealer: int, holder: int) -> bytes:
        agreed = self.share_key.exchange(X25519PublicKey.from_public_bytes(other))
        return hkdf.share_key(agreed, self.ctx1, dealer, holder)

    def _share_hashes(self, dealer: int, holder: int, shares: tuple[bytes, bytes]) -> list[bytes]:
        kinds = zip((SELF_SEED, MASK_KEY), shares, strict=True)
        return [digest("sangam/v1/share", self.ctx1, dealer, holder, kind, share) for kind, share in kinds]

    def mask(self, shares: Any) -> bytes:
        self._step("mask")
        self.dealers = list(shares.dealers)
        insist(_ascending(self.dealers, below=len(self.keys)), "dealers that come twice")
        insist(set(self.dealers) <= set(self.members) and self.me in self.dealers, "a false U2")
        partners = [h for h in self.neighbours(self.me) if h in self.dealers]
        insist(len(self.dealers) >= self.least and len(partners) + self.complete >= self.t, "too few dealers")
        insist([item.dealer for item in shares.envelopes] == partners, "not my neighbours' shares")
        for item in shares.envelopes:
            self._receive(item)
        seeds = {h: self._pair_seed(h) for h in partners}
        if self.terms.parameters.mode == "pairwise":
            masked = secagg.masked_vector(self.words, self.me, self.self_seed, seeds, self.ctx1, self.numbers.ring_bits)
            return packing.pack(masked, self.numbers.ring_bits)
        return self._ciphertext(seeds)

    def _ciphertext(self, seeds: dict[int, bytes]) -> bytes:
        seed = os.urandom(32)
        secret = [coefficient % 2**32 for coefficient in lattice.key(seed, self.ctx1)]
        blinded = secagg.masked_vector(secret, self.me, self.self_seed, seeds, self.ctx1, 32)
        n_max = self.terms.parameters.clients_max
        rest = lattice.ciphertexts(self.words, seed, self.ctx1, self.numbers.ring_bits, n_max)
        return packing.pack(blinded, 32) + rest

    def _pair_seed(self, other: int) -> bytes:
        agreed = self.mask_key.exchange(X25519PublicKey.from_public_bytes(self.adverts[other].mask_key))
        return hkdf.pairwise_seed(agreed, self.ctx1, self.me, other)

    def _receive(self, item: Any) -> None:
        holders = self.holders(item.dealer)
        leaf = _leaf(self.me, item.envelope)
        insist(
            merkle.root_from_path(leaf, holders.index(self.me), len(holders), item.proof) == item.root,
            "a share that its dealer did not sign",
        )
        about = self.ctx1, item.dealer, item.root
        insist(signed(self.keys[item.dealer], item.signature, "dealing", *about), "an unsigned dealing")
        key = self._sealing_key(self.adverts[item.dealer].share_key, item.dealer, self.me)
        try:
            opened = ChaCha20Poly1305(key).decrypt(bytes(12), item.envelope.ciphertext, self.ctx1)
        except InvalidTag:
            opened = b""
        shares = opened[:32], opened[32:]
        hashes = item.envelope.self_seed_share_hash, item.envelope.mask_key_share_hash
        if self._share_hashes(item.dealer, self.me, shares) == list(hashes):
            self.held[item.dealer] = shares
        else:
            self.complaints.append(pb.Complaint(dealer=item.dealer, ciphertext=item.envelope.ciphertext))

    def sign(self, said: Any) -> Any:
        self._step("sign")
        self.survivors = list(said.survivors)
        insist(_ascending(self.survivors, below=len(self.keys)), "survivors that come twice")
        alive = set(self.survivors)
        insist(list(said.dealers) == self.dealers, "another U2 than I masked over")
        insist(alive <= set(self.dealers) and self.me in alive, "a false U")
        insist(len(alive) >= max(self.least, self.t, self._fewest()), "too few survivors")
        insist(len(alive & set(self.neighbours(self.me))) + self.complete >= self.t, "too few neighbours survive")
        self.view = self.ctx1, _clients_hash(self.dealers), _clients_hash(self.survivors)
        self.who.memory.once("signed", *self.round, value=self.view[-1])
        return pb.SurvivorSignature(signature=self.who.sign("survivors", *self.view))

    def _fewest(self) -> int:
        """Above 100 clients, n less those whom the threat model lets drop out."""
        n, fraction = len(self.members), self.terms.parameters.threat.dropout_fraction
        return 0 if self.complete else n - floor(graph.Fraction(str(fraction)) * n)

    def unmask(self, said: Any) -> Any:
        self._step("unmask")
        authors = [item.client for item in said.signatures]
        insist(set(authors) <= set(self.neighbours(self.me)) & set(self.survivors), "a stranger's signature")
        insist(len(set(authors)) + self.complete >= self.t, "too few signatures")
        for item in said.signatures:
            insist(signed(self.keys[item.client], item.signature, "survivors", *self.view), "another view was signed")
        alive = set(self.survivors)
        self._remember_answer()
        return pb.Unmasking(
            self_seed_shares=[self._reveal(d, 0) for d in sorted(self.held) if d in alive],
            mask_key_shares=[self._reveal(d, 1) for d in sorted(self.held) if d not in alive],
        )

    def close(self, said: Any) -> None:
        """The round closed: this site's update is in its sum, whether or not its own answer left."""
        insist(self.survivors != [] and list(said.survivors) == self.survivors, "closed over another U")
        if self.steps:
            self._remember_answer()

    def _remember_answer(self) -> None:
        deployment, task, _ = self.round
        self.who.memory.once("answered", deployment, task, self.terms.model_hash.hex())

    def _reveal(self, dealer: int, which: int) -> Any:
        return pb.RevealedShare(client=dealer, share=self.held[dealer][which])


def _ascending(clients: list[int], below: int) -> bool:
    return all(a < b for a, b in zip(clients, [*clients[1:], below], strict=True))


def _said(advert: Any) -> tuple[bytes, bytes, bytes, bytes]:
    return advert.mask_key, advert.share_key, advert.nonce, advert.self_seed_hash


def _leaf(holder: int, envelope: Any) -> bytes:
    hashes = envelope.self_seed_share_hash, envelope.mask_key_share_hash, sha256(envelope.ciphertext).digest()
    return encode(holder, *hashes)


def _clients_hash(clients: list[int]) -> bytes:
    return digest("sangam/v1/clients", tuple(clients))
