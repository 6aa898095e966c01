"""One client of a simulation: it answers each message by the real step of the protocol.

What a site has beyond that (journal, network, retries) is left out; see `clients.session`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aggregator.crypto.keystream import SEED_BYTES
from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError
from aggregator.local.updates import Tally, Update
from aggregator.local.workload import TENSOR
from aggregator.protocol import participant
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import encode
from aggregator.protocol.participant import Advertised, Masked, Shared, Signed, Site
from aggregator.wire import codec
from aggregator.wire.messages import (
    UPLOAD_ID_BYTES,
    AdvertList,
    ClientBody,
    ClientMessage,
    RoundOpened,
    ServerMessage,
    ShareList,
    SignatureList,
    Survivors,
    UploadHeader,
    UploadMessage,
)
from aggregator.wire.vocabulary import Step

ANSWERED_IN = {
    RoundOpened: Step.ADVERTISE_KEYS,
    AdvertList: Step.SHARE_KEYS,
    ShareList: Step.MASKED_INPUT,
    Survivors: Step.CONSISTENCY_CHECK,
    SignatureList: Step.UNMASKING,
}


@dataclass(slots=True)
class Client:
    """One client in one round.

    Args:
        site: who it is and what it insists on.
        roster: gives the verified roster behind its bytes.
        update: its values, and `weight`, its number of samples.
        tally: where its words are added in the open, if it stays until its input has arrived.
        leaves: the step that it no longer answers; in the masked-input step half of its input arrives.
    """

    site: Site
    roster: Callable[[bytes], Roster] = field(repr=False)
    update: Update = field(repr=False)
    weight: int
    tally: Tally
    leaves: Step | None
    _state: Advertised | Shared | Masked | Signed | None = field(default=None, repr=False)

    def answer(self, data: bytes) -> tuple[list[bytes], bool]:
        """The encoded messages with which it answers one of the server's, and whether that is all of the answer.

        Raises:
            MessageError: a message that is not the next one.
            SangamError: as the steps of the protocol.
        """
        message = codec.decode(ServerMessage, data)
        step = ANSWERED_IN.get(type(message.body))
        if step is not None and step is self.leaves is not Step.MASKED_INPUT:
            return [], False
        if isinstance(message.body, ShareList):
            return self._upload(message.round, message.body)
        return [codec.encode(ClientMessage(message.round, self._react(message.body)))], True

    def _react(self, body: object) -> ClientBody:
        answer: ClientBody
        match body, self._state:
            case RoundOpened(), None:
                invited = participant.enter(RoundTerms.from_message(body.terms), self.roster(body.roster), self.site)
                self._state = participant.advertise_keys(invited, os.urandom)
                return self._state.advert
            case AdvertList(), Advertised() as advertised:
                self._state, answer = participant.share_keys(advertised, body, os.urandom)
                return answer
            case Survivors(), Masked() as masked:
                self._state = participant.check_consistency(masked, body)
                return self._state.signature
            case SignatureList(), Signed() as signed:
                return participant.unmask(signed, body)
        raise MessageError(f"{self.site.certificate.name}: {type(body).__name__} came out of order")

    def _upload(self, number: int, shares: ShareList) -> tuple[list[bytes], bool]:
        if not isinstance(self._state, Shared):
            raise MessageError(f"{self.site.certificate.name}: ShareList came out of order")
        invited = self._state.advertised.invited
        terms, plan = invited.terms, invited.terms.parameters.upload_plan
        encoded = encode({TENSOR: self.update}, self.weight, terms.parameters, invited.ctx0, os.urandom(SEED_BYTES))
        self._state, payload = participant.mask_input(self._state, shares, encoded.words, os.urandom)
        header = UploadHeader(terms.task, number, len(payload), self._state.complaints, os.urandom(UPLOAD_ID_BYTES))
        bodies: list[Any] = [header, *plan.cut(payload)]
        if self.leaves is Step.MASKED_INPUT:
            return [codec.encode(UploadMessage(body)) for body in bodies[: 1 + plan.chunks // 2]], False
        self.tally.vectors(encoded.words, payload)
        return [codec.encode(UploadMessage(body)) for body in bodies], True
