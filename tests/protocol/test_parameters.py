import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.crypto.canonical import encode
from aggregator.errors import MessageError, ParameterError
from aggregator.protocol.graph import ThreatModel
from aggregator.protocol.parameters import CLIP_LEAST, CLIP_MOST, LATTICE_ENTRIES_LEAST, Mode, Parameters
from aggregator.protocol.parties import Audit, Parties
from aggregator.wire import codec, messages
from aggregator.wire.messages import Tensor
from tests.harness import parameters

TWO = (Tensor("w", (3, 4)), Tensor("b", ()))
PARTIES = (
    Parties("k", "a"),
    Parties("k2", "a"),
    Parties("k", "a2"),
    Parties("k", "a", Audit.ONE_SHOT),
    Parties("k", "", Audit.TRUST_SERVER),
)


def test_sixteen_bit_values_of_64_clients_are_22_bits():
    made = parameters(64, 64_000)
    assert (made.ring_bits, made.weight_limbs) == (22, 2)
    assert made.entries == 64_002
    assert made.result_plan.payload_bytes == math.ceil(64_002 * 2.75)


@given(value_bits=st.integers(2, 54), clients_max=st.integers(2, 1024), weight_max=st.integers(1, 2**53))
def test_no_sum_of_allowed_parameters_overflows(value_bits, clients_max, weight_max):
    made = parameters(clients_max, value_bits=value_bits, weight_max=weight_max)
    largest_entry, largest_limb = 2 * made.zero_point, 2**value_bits - 1
    assert clients_max * max(largest_entry, largest_limb) < 2**made.ring_bits <= 2**64
    assert clients_max * largest_limb >= 2 ** (made.ring_bits - 1), "the ring is no wider than it must be"
    assert weight_max < 2 ** (value_bits * made.weight_limbs)
    assert made.scales[0] * made.zero_point == pytest.approx(made.clip)


@pytest.mark.parametrize(
    ("value_bits", "most"), [(54, 1024), (53, 2048), (52, 4096), (51, 8192), (50, messages.CLIENTS_MAX)]
)
def test_overflow_is_refused_at_the_boundary_and_accepted_one_step_below(value_bits, most):
    made = parameters(most, value_bits=value_bits)
    assert made.ring_bits <= 64
    assert most * (2**value_bits - 1) < 2**64
    if most < messages.CLIENTS_MAX:
        assert made.ring_bits == 64
        with pytest.raises(ParameterError, match="need 65 bits, the ring has at most 64: lower value_bits or clients"):
            parameters(most + 1, value_bits=value_bits)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"value_bits": 1}, "value_bits is 1"),
        ({"value_bits": 55}, "value_bits is 55"),
        ({"clients_max": 1}, "clients_max is 1"),
        ({"clients_max": messages.CLIENTS_MAX + 1}, "clients_max"),
        ({"minimum_cohort": 1}, "minimum_cohort is 1"),
        ({"minimum_cohort": 11}, "minimum_cohort is 11, allowed are 2 to 10"),
        ({"weight_max": 0}, "weight_max is 0"),
        ({"weight_max": 2**53 + 1}, "weight_max"),
        ({"clip": 0.0}, "clip"),
        ({"clip": -1.0}, "clip"),
        ({"clip": math.inf}, "clip"),
        ({"clip": math.nan}, "clip"),
        ({"clip": 5e-324}, r"clip is 5e-324, allowed are 1e-200 to 1e\+200"),
        ({"clip": 1e201}, r"clip is 1e\+201"),
        ({"tensors": (Tensor("w", (3,), math.nan),)}, "the clip of tensor 'w' is nan"),
        ({"tensors": (Tensor("w", (3,)), Tensor("b", (3,), math.inf))}, "the clip of tensor 'b' is inf"),
        ({"tensors": (Tensor("w", (3,), 2.0), Tensor("b", (3,), -2.0))}, "the clip of tensor 'b' is -2.0"),
        ({"tensors": (Tensor("w", (3,), 5e-324),)}, "the clip of tensor 'w' is 5e-324"),
        (
            {"tensors": (Tensor("w", (3,), 1e201),)},
            r"tensor 'w' is 1e\+201, allowed are 1e-200 to 1e\+200",
        ),
        ({"tensors": ()}, "at least one tensor"),
        ({"tensors": (Tensor("w", (3,)), Tensor("w", (4,)))}, r"not unique: \['w'\]"),
        ({"tensors": (Tensor("", (3,)),)}, "needs a name"),
        ({"tensors": (Tensor("w", (3, 0)),)}, "dimensions of at least 1"),
        ({"tensors": (Tensor("w", (10**9,)),)}, "1000000002 entries"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    assert parameters(10)
    with pytest.raises(ParameterError, match=named):
        parameters(10, **changes)


def test_a_billion_entries_fit_just():
    assert parameters(10, 10**9 - 2).entries == 10**9


def test_rotation_pads_to_whole_blocks():
    assert (parameters(4, 5000).coded_entries, parameters(4, 5000).rotation_block) == (5000, 1)
    for entries, block, coded in ((1, 1, 1), (3, 4, 4), (4, 4, 4), (4096, 4096, 4096), (4097, 4096, 8192)):
        rotated = parameters(4, entries, rotate=True)
        assert (rotated.rotation_block, rotated.coded_entries) == (block, coded)


def test_a_scalar_is_one_entry():
    assert parameters(4, tensors=TWO).tensor_entries == 13


def test_every_field_is_in_the_canonical_fields():
    base = parameters(10, tensors=TWO)
    changed = [
        {"tensors": (TWO[0], Tensor("c", ()))},
        {"tensors": TWO[::-1]},
        {"tensors": (Tensor("w", (4, 3)), TWO[1])},
        {"tensors": (Tensor("w", (3, 4), np.nextafter(1.0, 2.0).item()), TWO[1])},
        {"tensors": (TWO[0], Tensor("b", (), np.nextafter(1.0, 2.0).item()))},
        {"clip": np.nextafter(1.0, 2.0).item()},
        {"clients_max": 9},
        {"minimum_cohort": 3},
        {"weight_max": 999_999},
        {"value_bits": 15},
        {"rotate": True},
        {"threat": ThreatModel(security_bits=105)},
    ]
    named = {name for change in changed for name in change} | {"mode", "parties"}
    assert named == {f.name for f in dataclasses.fields(Parameters)}
    made = [base, *(dataclasses.replace(base, **change) for change in changed)]
    made += [dataclasses.replace(base, mode=Mode.LATTICE)]
    made += [dataclasses.replace(base, mode=Mode.HOMOMORPHIC, parties=parties) for parties in PARTIES]
    assert len({encode(*each.fields()) for each in made}) == len(made)


CLIPS = st.floats(CLIP_LEAST, CLIP_MOST)


@given(value_bits=st.integers(2, 54), clip=CLIPS, own=st.one_of(st.just(0.0), CLIPS), rotate=st.booleans())
def test_the_wire_carries_every_parameter(value_bits, clip, own, rotate):
    made = parameters(
        9,
        tensors=(TWO[0], Tensor("b", (), own)),
        clip=clip,
        value_bits=value_bits,
        rotate=rotate,
        minimum_cohort=3,
        weight_max=77,
        threat=ThreatModel(0.2, 0.3, malicious=False, security_bits=105, failure_bits=11),
    )
    raw = codec.encode(made.to_message())
    again = Parameters.from_message(codec.decode(messages.Parameters, raw))
    assert (again, again.hash) == (made, made.hash)


def test_a_tensors_own_clip_takes_the_place_of_the_parameters():
    made = parameters(4, tensors=(Tensor("w", (3, 4), 32767.0), Tensor("b", ()), Tensor("c", (2,), clip=2)), clip=0.5)
    assert made.clips == (32767.0, 0.5, 2.0)
    assert made.scales == (1.0, 0.5 / 32767, 2.0 / 32767)
    assert made.scale == 0.5 / 32767


def test_the_hash_covers_the_clip_of_every_tensor_as_it_counts():
    """Whether a clip was written at the tensor or at all of them is no difference; which clip counts where, is."""
    base = parameters(4, tensors=TWO, clip=2.0)
    assert parameters(4, tensors=(Tensor("w", (3, 4), 2.0), TWO[1]), clip=2.0).hash == base.hash
    hashes = {base.hash}
    for own in ((2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (np.nextafter(2.0, 3.0).item(), 2.0)):
        hashes.add(parameters(4, tensors=(Tensor("w", (3, 4), own[0]), Tensor("b", (), own[1])), clip=2.0).hash)
    assert len(hashes) == 5


def test_long_vectors_travel_as_ciphertexts_unless_said_otherwise():
    limb = 1  # of the weight, which is below 2^16
    least = LATTICE_ENTRIES_LEAST - limb
    auto = {entries: parameters(4, entries, mode=Mode.AUTO, weight_max=100) for entries in (least - 1, least)}
    assert [made.mode for made in auto.values()] == [Mode.PAIRWISE, Mode.LATTICE]
    for made in auto.values():
        assert Parameters.from_message(made.to_message()) == made
    assert parameters(4, 10, mode=Mode.LATTICE).mode is Mode.LATTICE
    assert parameters(4, least, mode=Mode.PAIRWISE, weight_max=100).upload_plan == auto[least].result_plan


@given(clients_max=st.integers(2, 10_000), value_bits=st.integers(2, 50))
def test_every_ring_fits_a_ciphertext(clients_max, value_bits):
    made = parameters(clients_max, value_bits=value_bits, mode=Mode.LATTICE)
    assert made.layout.slots >= 1
    assert made.layout.slot_bits == made.ring_bits


def test_the_wire_carries_no_scale_and_no_ring():
    """They are computed by each side; there is no field through which a server could lower them."""
    on_wire = {f.name for f in dataclasses.fields(messages.Parameters)}
    stated = {f.name for f in dataclasses.fields(Parameters)} | {f.name for f in dataclasses.fields(Parties)}
    assert on_wire == stated - {"parties"}


def test_from_message_checks_everything_again():
    message = parameters(1024, value_bits=54).to_message()
    with pytest.raises(
        ParameterError, match="mode 'plain' is unknown: this version has homomorphic, lattice, pairwise"
    ):
        Parameters.from_message(dataclasses.replace(message, mode="plain"))
    with pytest.raises(ParameterError, match="mode 'auto' is unknown"):
        Parameters.from_message(dataclasses.replace(message, mode="auto"))
    with pytest.raises(ParameterError, match="need 65 bits"):
        Parameters.from_message(dataclasses.replace(message, clients_max=1025))
    with pytest.raises(ParameterError, match="must be below 1"):
        Parameters.from_message(dataclasses.replace(message, threat=messages.Threat(0.5, 0.5, True, 104, 20)))
    with pytest.raises(MessageError, match="clip"):
        codec.encode(dataclasses.replace(message, clip=math.nan))
    for clip in (math.nan, math.inf, -1.0):
        with pytest.raises(MessageError, match="clip"):
            codec.encode(dataclasses.replace(message, tensors=(Tensor("w", (3,), clip),)))
    with pytest.raises(ParameterError, match="the clip of tensor 'w' is 1e-290"):
        Parameters.from_message(dataclasses.replace(message, tensors=(Tensor("w", (3,), 1e-290),)))


@pytest.mark.parametrize("parties", PARTIES, ids=str)
def test_the_wire_carries_the_parties(parties):
    made = parameters(10, mode=Mode.HOMOMORPHIC, parties=parties)
    assert Parameters.from_message(codec.decode(messages.Parameters, codec.encode(made.to_message()))) == made


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: parameters(10, mode=Mode.HOMOMORPHIC), "homomorphic mode, and no other, needs a key holder"),
        (lambda: parameters(10, parties=PARTIES[0]), "homomorphic mode, and no other, needs a key holder"),
        (lambda: Parties("k"), "frozen and no auditor"),
        (lambda: Parties("k", "a", Audit.TRUST_SERVER), "trust-server and an auditor"),
        (lambda: Parties("k", "k"), "k cannot both hold the key and audit its use"),
        (lambda: Parties("K", "a"), "key holder 'K': use 1 to 63"),
        (lambda: Parties("k", "a b"), "auditor 'a b': use 1 to 63"),
    ],
)
def test_parties_that_cannot_be(make, named):
    with pytest.raises(ParameterError, match=named):
        make()


def test_an_audit_that_this_version_does_not_know():
    message = parameters(10, mode=Mode.HOMOMORPHIC, parties=PARTIES[0]).to_message()
    with pytest.raises(ParameterError, match="audit 'none' is unknown: this version has frozen, one-shot"):
        Parameters.from_message(dataclasses.replace(message, audit="none"))
