import dataclasses

import numpy as np
import pytest

from aggregator.errors import MessageError, ParameterError
from aggregator.protocol.context import SUITE, KeyTerms, RoundTerms, hash_model
from aggregator.protocol.parameters import Mode
from aggregator.protocol.parties import Audit, Parties
from aggregator.wire import codec, messages
from tests.harness import Consortium, parameters
from tests.reference import digest

CONSORTIUM = Consortium.of(5)
TERMS = CONSORTIUM.terms(parameters(5))


def test_ctx0_is_the_twins():
    threat = (0.1, 0.1, "malicious", 104, 20)
    numbers = ((16, 19, 5, 6), (("x", (4,), 1.0, 1.0 / 32767),), (1.0, 1.0 / 32767, 1_000_000), ("plain", 1))
    want = digest.digest(
        "sangam/v1/ctx0",
        1,
        SUITE,
        "demo",
        "sepsis",
        1,
        bytes(range(32)),
        5,
        CONSORTIUM.roster.root,
        CONSORTIUM.authority.certificate.fingerprint,
        digest.digest("sangam/v1/model", ()),
        ("pairwise", (), *numbers, ("noise: none", 0.0), 2, threat),
    )
    assert TERMS.ctx0 == want


CHANGES = [
    {"deployment": "demo2"},
    {"task": "stroke"},
    {"round": 2},
    {"server_nonce": bytes(32)},
    {"roster_size": 6},
    {"roster_root": bytes(32)},
    {"authority_hash": bytes(32)},
    {"model_hash": bytes(32)},
    {"parameters": parameters(5, clip=2.0)},
    *(
        {"parameters": parameters(5, mode=Mode.HOMOMORPHIC, parties=parties), "key": KeyTerms(*hashes)}
        for parties, *hashes in (
            (Parties("k", "a"), bytes(32), bytes(32), bytes(32)),
            (Parties("k", "a"), b"1" * 32, bytes(32), bytes(32)),
            (Parties("k", "a"), bytes(32), b"1" * 32, bytes(32)),
            (Parties("k", "a"), bytes(32), bytes(32), b"1" * 32),
            (Parties("k2", "a"), bytes(32), bytes(32), bytes(32)),
            (Parties("k", "a2"), bytes(32), bytes(32), bytes(32)),
            (Parties("k", "a", Audit.ONE_SHOT), bytes(32), bytes(32), bytes(32)),
            (Parties("k", "", Audit.TRUST_SERVER), bytes(32), bytes(32), b""),
        )
    ),
]


def test_every_field_changes_ctx0():
    assert {name for change in CHANGES for name in change} == {f.name for f in dataclasses.fields(RoundTerms) if f.init}
    changed = [dataclasses.replace(TERMS, **change) for change in CHANGES]
    assert len({terms.ctx0 for terms in (TERMS, *changed)}) == len(CHANGES) + 1


@pytest.mark.parametrize("change", [{}, *CHANGES], ids=lambda change: next(iter(change), "same"))
def test_the_wire_carries_every_field(change):
    terms = dataclasses.replace(TERMS, **change)
    raw = codec.encode(terms.to_message())
    assert RoundTerms.from_message(codec.decode(messages.Terms, raw)) == terms


def test_another_protocol_version_is_refused():
    message = dataclasses.replace(TERMS.to_message(), protocol_version=2)
    with pytest.raises(MessageError, match="speaks protocol version 2, this side speaks 1"):
        RoundTerms.from_message(message)


def test_terms_with_bad_parameters_are_refused():
    message = TERMS.to_message()
    worse = dataclasses.replace(message.parameters, minimum_cohort=6)
    with pytest.raises(ParameterError, match="minimum_cohort is 6"):
        RoundTerms.from_message(dataclasses.replace(message, parameters=worse))


@pytest.mark.parametrize(
    "change",
    [{"public_key_hash": b""}, {"auditor_hash": b""}, {"key_holder_hash": bytes(31)}],
    ids=lambda change: next(iter(change)),
)
def test_terms_without_their_key_or_parties_are_refused(change):
    terms = dataclasses.replace(TERMS, **CHANGES[9])
    with pytest.raises(MessageError, match="its terms name other parties than homomorphic mode has"):
        RoundTerms.from_message(dataclasses.replace(terms.to_message(), **change))
    masked = dataclasses.replace(TERMS.to_message(), key_holder_hash=bytes(32))
    with pytest.raises(MessageError, match="its terms name other parties than pairwise mode has"):
        RoundTerms.from_message(masked)


def test_hash_model_sees_names_types_shapes_and_every_bit():
    weights = np.arange(6.0).reshape(2, 3)
    flipped = weights.copy()
    flipped[1, 2] = np.nextafter(flipped[1, 2], 9.0)
    models = [
        None,
        {"w": weights},
        {"v": weights},
        {"w": weights.reshape(3, 2)},
        {"w": weights.astype(np.float32)},
        {"w": weights.astype(np.int64)},
        {"w": flipped},
        {"w": weights, "b": np.zeros(1)},
        {"w": np.negative(np.zeros((2, 3)))},
    ]
    assert len({hash_model(model) for model in models}) == len(models)


def test_hash_model_does_not_see_how_an_array_lies_in_memory():
    weights = np.arange(6.0).reshape(2, 3)
    same = [
        {"w": weights, "b": np.ones(2)},
        {"b": np.ones(2), "w": np.asfortranarray(weights)},
        {"b": np.ones(2), "w": weights.astype(">f8")},
        {"b": np.ones(4)[::2], "w": np.repeat(weights, 2, axis=1)[:, ::2]},
    ]
    assert len({hash_model(model) for model in same}) == 1
    assert hash_model(None) == hash_model({})
    assert hash_model({"w": [1.0, 2.0]}) == hash_model({"w": np.array([1.0, 2.0])})
