"""The terms of a round, as a server announces them: bounded work, whatever they say, and the same once read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from aggregator.errors import MessageError, ParameterError
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.parameters import Mode
from aggregator.wire import codec, messages
from aggregator.wire.messages import Tensor
from tests import parties
from tests.consortium import Consortium
from tests.fuzz.target import Target
from tests.harness import parameters


def run(data: bytes) -> None:
    """The first byte says whether they are those of a key holder's draft."""
    draft, data = data[:1] == b"\1", data[1:]
    try:
        terms = RoundTerms.from_message(codec.decode(messages.Terms, data), draft=draft)
    except (MessageError, ParameterError):
        return
    made = terms.parameters
    try:
        plan = made.upload_plan
    except ParameterError:
        return
    assert 1 <= plan.chunks <= messages.CHUNKS_MAX
    assert plan.start(plan.chunks - 1) + plan.size(plan.chunks - 1) == plan.payload_bytes
    assert RoundTerms.from_message(terms.to_message(), draft=draft) == terms


def seeds() -> Iterator[bytes]:
    """Terms of each mode."""
    consortium = Consortium.of(4)
    two = (Tensor("w", (30, 2)), Tensor("b", (), 2.0))
    for made in (
        parameters(4),
        parameters(4, mode=Mode.LATTICE, tensors=two),
        parameters(100, value_bits=8, rotate=True, clients_max=1_000),
    ):
        yield b"\0" + codec.encode(consortium.terms(made).to_message())
    for spec in (parties.FROZEN, parties.TRUST_SERVER):
        message = consortium.terms(parties.parameters(parties=spec)).to_message()
        auditor = bytes(32) if spec.auditor else b""
        message = replace(message, key_holder_hash=bytes(32), auditor_hash=auditor)
        yield b"\1" + codec.encode(message)
        yield b"\0" + codec.encode(replace(message, public_key_hash=bytes(32)))


TARGET: Final = Target("terms", run, seeds, share=120)
