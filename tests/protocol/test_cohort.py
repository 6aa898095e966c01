import dataclasses

import pytest

from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol import commitments
from aggregator.protocol.cohort import freeze
from aggregator.protocol.graph import ThreatModel
from aggregator.wire.messages import Advert, Envelope
from tests.harness import Consortium, parameters
from tests.reference import digest, merkle
from tests.reference import graph as twin

TERMS = Consortium.of(10).terms(parameters(10, minimum_cohort=4))


def listed(*members):
    return [(client, bytes([client]) * 32) for client in members]


def test_ctx1_is_the_twins():
    cohort = freeze(TERMS, listed(0, 2, 3, 5, 8, 9))
    leaves = [digest.encode(client, advert_hash) for client, advert_hash in listed(0, 2, 3, 5, 8, 9)]
    want = digest.digest("sangam/v1/ctx1", TERMS.ctx0, merkle.root(leaves), 6, 5, twin.complete_threshold(6, 10))
    assert cohort.ctx1 == want


def test_every_advert_every_member_and_the_terms_change_ctx1():
    others = [
        listed(0, 1, 2, 3, 4),
        listed(0, 1, 2, 3, 5),
        listed(0, 1, 2, 3, 4, 5),
        [*listed(0, 1, 2, 3), (4, bytes(32))],
    ]
    cohorts = [freeze(TERMS, each) for each in others]
    cohorts.append(freeze(dataclasses.replace(TERMS, round=2), others[0]))
    assert len({cohort.ctx1 for cohort in cohorts}) == len(cohorts)


def test_ids_stay_those_of_the_roster():
    cohort = freeze(TERMS, listed(1, 4, 5, 7, 9))
    assert cohort.members == (1, 4, 5, 7, 9)
    assert cohort.neighbours(4) == (1, 5, 7, 9)
    assert cohort.holders(4) == (1, 4, 5, 7, 9)
    assert cohort.threshold == twin.complete_threshold(5, 10) == cohort.graph.threshold


def test_survivors_least_is_the_largest_of_all_demands():
    assert freeze(TERMS, listed(*range(10))).survivors_least == twin.complete_threshold(10, 10) == 7
    greedy = dataclasses.replace(TERMS, parameters=parameters(10, minimum_cohort=9))
    assert freeze(greedy, listed(*range(10))).survivors_least == 9
    threat = ThreatModel(0.0, 0.1, security_bits=40, failure_bits=10)
    large = Consortium.of(104).terms(parameters(104, threat=threat))
    assert freeze(large, listed(*range(104))).survivors_least == 94


def test_too_few_too_many_and_strangers_are_refused():
    with pytest.raises(RoundAborted, match="advertise keys: 3 clients, need 4"):
        freeze(TERMS, listed(0, 1, 2))
    narrow = dataclasses.replace(TERMS, parameters=parameters(5, minimum_cohort=4))
    assert freeze(narrow, listed(0, 1, 2, 3, 4))
    with pytest.raises(RoundAborted, match="6 clients, the sum holds at most 5"):
        freeze(narrow, listed(0, 1, 2, 3, 4, 5))
    with pytest.raises(MessageError, match="names client 10, the roster has 10"):
        freeze(TERMS, listed(0, 1, 2, 10))
    with pytest.raises(RoundAborted, match="3 of 10 clients are too few for any threshold"):
        freeze(dataclasses.replace(TERMS, parameters=parameters(10)), listed(0, 1, 2))


def test_check_subset_names_the_stranger():
    cohort = freeze(TERMS, listed(1, 4, 5, 7, 9))
    cohort.check_subset("U2", (9, 1))
    with pytest.raises(MessageError, match="U2 names client 2, whose advert is not in the round"):
        cohort.check_subset("U2", (1, 2))


ADVERT = Advert(*(bytes([i]) * 32 for i in range(4)), bytes(64))
CTX = bytes(range(32))


def test_commitments_are_the_twins():
    fields = (ADVERT.mask_key, ADVERT.share_key, ADVERT.nonce, ADVERT.self_seed_hash)
    assert commitments.advert_hash(CTX, 3, ADVERT) == digest.digest("sangam/v1/advert", CTX, 3, *fields)
    assert commitments.self_seed_hash(CTX, 3, b"b") == digest.digest("sangam/v1/self-seed", CTX, 3, b"b")
    shared = commitments.share_hash(CTX, 3, 4, commitments.MASK_KEY, b"s")
    assert shared == digest.digest("sangam/v1/share", CTX, 3, 4, "mask key", b"s")
    assert commitments.clients_hash([1, 2]) == digest.digest("sangam/v1/clients", (1, 2))


def test_commitments_tell_rounds_dealers_holders_and_kinds_apart():
    hashes = [
        commitments.share_hash(ctx, dealer, holder, kind, b"s")
        for ctx in (CTX, bytes(32))
        for dealer, holder in ((3, 4), (4, 3), (3, 5))
        for kind in (commitments.SELF_SEED, commitments.MASK_KEY)
    ]
    assert len(set(hashes)) == len(hashes)


def test_an_advert_has_one_hash_whatever_its_signature():
    """ECDSA has two valid signatures for one message: the hash must not change with them."""
    again = dataclasses.replace(ADVERT, signature=b"\x01" * 64)
    assert commitments.advert_hash(CTX, 3, again) == commitments.advert_hash(CTX, 3, ADVERT)
    for name in ("mask_key", "share_key", "nonce", "self_seed_hash"):
        changed = dataclasses.replace(ADVERT, **{name: b"\xff" * 32})
        assert commitments.advert_hash(CTX, 3, changed) != commitments.advert_hash(CTX, 3, ADVERT)


def test_the_dealing_root_covers_holders_ciphertexts_and_both_hashes():
    envelopes = [Envelope(bytes([i]) * 80, bytes([i]) * 32, bytes([9 + i]) * 32) for i in range(3)]
    roots = {commitments.dealing_root((4, 5, 6), envelopes), commitments.dealing_root((4, 5, 7), envelopes)}
    for change in ({"ciphertext": bytes(80)}, {"self_seed_share_hash": b"x" * 32}, {"mask_key_share_hash": b"x" * 32}):
        roots.add(
            commitments.dealing_root(
                (4, 5, 6), [envelopes[0], dataclasses.replace(envelopes[1], **change), envelopes[2]]
            )
        )
    assert len(roots) == 5
    with pytest.raises(ValueError, match="zip"):
        commitments.dealing_root((4, 5), envelopes)
