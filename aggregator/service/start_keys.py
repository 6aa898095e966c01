"""Idempotency keys: a StartRound that comes twice, since its first answer was lost, starts one round.

A key counts for one operator and one task until the moment that came with it. After that it is forgotten, so a request
that arrives later is refused: it might be a second one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aggregator.errors import Expired, Overloaded, ParameterError
from aggregator.wire.operator_messages import RoundRequest

KEYS_MAX = 10_000  # of each operator, so that none can use up another one's
AHEAD_MAX_S = 86_400.0
SKEW_S = 3_600.0  # clocks differ


@dataclass(frozen=True, slots=True)
class _Start:
    model_hash: bytes
    round: int
    expires_s: float


class StartKeys:
    """The keys that started rounds, until they expire.

    Args:
        now: the wall clock, unix seconds.
        keys_max: how many of one operator are kept at once.
        stored: those that a server knew before it was started again: by whom, with what, and the round.
    """

    def __init__(
        self,
        now: Callable[[], float],
        keys_max: int = KEYS_MAX,
        stored: Iterable[tuple[str, RoundRequest, int]] = (),
    ) -> None:
        self._now = now
        self._keys_max = keys_max
        self._starts: dict[str, dict[tuple[str, str], _Start]] = {}  # by operator; by task and key
        for operator, request, number in stored:
            self.keep(operator, request, number)

    def round_of(self, operator: str, request: RoundRequest) -> int | None:
        """The round that this key started before; None where it is new and there is room for it.

        Raises:
            Expired: the key's time is over.
            ParameterError: it is to be kept too long, or it started a round of another model.
            Overloaded: too many of the operator's keys are kept.
        """
        now = self._now()
        self._check_time(request.key_expires_s, now)
        starts = self._starts.get(operator, {})
        known = starts.get((request.task, request.idempotency_key))
        if known is not None and known.expires_s > now:
            if known.model_hash != request.model_hash:
                raise ParameterError(
                    f"idempotency key {request.idempotency_key!r} started round {known.round} of task {request.task} "
                    "on another model: use a new key"
                )
            return known.round
        if len(starts) >= self._keys_max:
            starts = self._starts[operator] = {key: start for key, start in starts.items() if start.expires_s > now}
        if len(starts) >= self._keys_max:
            raise Overloaded(
                f"this server keeps at most {self._keys_max} idempotency keys of one operator: let them expire sooner"
            )
        return None

    def keep(self, operator: str, request: RoundRequest, round_number: int) -> None:
        """This request started that round."""
        starts = self._starts.setdefault(operator, {})
        starts[request.task, request.idempotency_key] = _Start(request.model_hash, round_number, request.key_expires_s)

    def forget(self, task: str) -> None:
        """A task is gone, and its rounds with it."""
        for operator, starts in self._starts.items():
            self._starts[operator] = {key: start for key, start in starts.items() if key[0] != task}

    def _check_time(self, expires_s: float, now: float) -> None:
        if expires_s <= now:
            raise Expired(
                f"the idempotency key expired {now - expires_s:.0f} seconds ago by this server's clock "
                "(does the caller's clock differ?): whether it has started a round is not known any more"
            )
        if expires_s - now > AHEAD_MAX_S + SKEW_S:
            raise ParameterError(
                f"an idempotency key is kept for a day at most, this one for {expires_s - now:.0f} seconds"
            )
