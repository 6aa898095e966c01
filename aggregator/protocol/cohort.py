"""U1 and all that follows from it: ctx1, the graph, the thresholds. Both sides compute it; nobody accepts it.

U  (whose whole input arrived)  ⊆  U2  (whose shares all arrived)  ⊆  U1  (whose adverts arrived)  ⊆  U0  (roster)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from aggregator.crypto import merkle
from aggregator.crypto.canonical import digest, encode
from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.graph import Graph, build, degree

ClientId: TypeAlias = int


@dataclass(frozen=True, slots=True)
class Cohort:
    """The clients whose adverts arrived, and what they agree on.

    Client ids are indices into the roster, ascending in `members`; the graph speaks of positions in `members`.
    """

    terms: RoundTerms
    ctx1: bytes
    members: tuple[ClientId, ...]
    graph: Graph
    _position: dict[ClientId, int] = field(repr=False)

    @property
    def threshold(self) -> int:
        """t, how many shares recover a secret, and how many signatures make a view."""
        return self.graph.threshold

    @property
    def survivors_least(self) -> int:
        """How many clients a sum must hold by the round's own terms, whatever a client demands beyond."""
        parameters = self.terms.parameters
        fewest = parameters.threat.fewest_survivors(len(self.members))
        return max(parameters.minimum_cohort, self.threshold, fewest)

    @property
    def signatures_least(self) -> int:
        """How many neighbours must have signed a client's view: t, with its own where it holds its own shares."""
        return self.threshold - 1 if self.graph.complete else self.threshold

    def neighbours(self, client: ClientId) -> tuple[ClientId, ...]:
        """N(u): with whom `client` shares pairwise masks; ascending."""
        return tuple(self.members[p] for p in self.graph.neighbours(self._position[client]))

    def holders(self, client: ClientId) -> tuple[ClientId, ...]:
        """Who holds shares of `client`'s secrets, ascending; the place in this tuple is the evaluation point."""
        return tuple(self.members[p] for p in self.graph.holders(self._position[client]))

    def check_subset(self, name: str, clients: Iterable[ClientId]) -> None:
        """Refuse a set that names anybody outside U1.

        Raises:
            MessageError: the first stranger is named.
        """
        for client in clients:
            if client not in self._position:
                raise MessageError(f"{name} names client {client}, whose advert is not in the round")


def freeze(terms: RoundTerms, listed: Sequence[tuple[ClientId, bytes]]) -> Cohort:
    """The cohort of the frozen advert list, ascending (client, advert hash) pairs.

    Raises:
        RoundAborted: fewer than the minimum advertised, or more than the sum may hold.
        MessageError: a client outside the roster.
    """
    members = tuple(client for client, _ in listed)
    parameters = terms.parameters
    if len(members) < parameters.minimum_cohort:
        raise RoundAborted(f"advertise keys: {len(members)} clients, need {parameters.minimum_cohort}")
    if len(members) > parameters.clients_max:
        raise RoundAborted(f"advertise keys: {len(members)} clients, the sum holds at most {parameters.clients_max}")
    if members[-1] >= terms.roster_size:
        raise MessageError(f"the advert list names client {members[-1]}, the roster has {terms.roster_size}")
    size = degree(len(members), terms.roster_size, parameters.threat)
    root = merkle.root([encode(client, advert_hash) for client, advert_hash in listed])
    ctx1 = digest("sangam/v1/ctx1", terms.ctx0, root, len(members), size.k, size.t)
    position = {client: place for place, client in enumerate(members)}
    return Cohort(terms, ctx1, members, build(ctx1, size, len(members)), position)
