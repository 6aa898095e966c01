"""The tasks of one server, by name: whose they are, and who may do what with them."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aggregator.config import DEFAULT_ROUNDS_MAX, DEFAULT_TASKS_MAX
from aggregator.crypto.certificates import check_name
from aggregator.errors import Gone, NameTaken, NotAdmitted, NotFound, OutOfTurn, Overloaded
from aggregator.rounds.task import Host, Task
from aggregator.storage.base import Stored
from aggregator.wire.operator_messages import Task as TaskSpec
from aggregator.wire.operator_messages import TaskDescription, TaskSummary
from aggregator.wire.vocabulary import TaskState

T = TypeVar("T")

DELETED_NAMES_KEPT = 1_000  # of each operator, so that none can free another one's
NAMES_SHOWN = 10


def page_by_name(items: Sequence[T], name: Callable[[T], str], size: int, after: str) -> tuple[Sequence[T], str]:
    """So many of the items, ordered by name, after one; and the name after which the next page begins, or nothing."""
    start = bisect_right(items, after, key=name)
    found = items[start : start + size]
    return found, name(found[-1]) if start + size < len(items) else ""


@dataclass(frozen=True, slots=True, eq=False)
class Owned:
    """A task, the operator who created it, and when: unix seconds."""

    task: Task
    owner: str
    created_s: float

    def is_open_to(self, operator: str) -> bool:
        """Whether this operator may use the task."""
        return operator == self.owner or operator in self.task.spec.starters

    def summary(self) -> TaskSummary:
        """How the task stands."""
        task = self.task
        running = task.history.running
        return TaskSummary(
            name=task.spec.name,
            owner=self.owner,
            state=TaskState.CANCELLED if task.cancelled else TaskState.OPEN,
            mode=task.parameters.mode,
            entries=task.parameters.entries,
            rounds=task.history.started,
            running_round=running.number if running is not None else 0,
            last_round=task.history.last_closed,
            connected=task.connected,
            created_s=self.created_s,
        )

    def description(self) -> TaskDescription:
        """The task as it was created and as it stands."""
        return TaskDescription(self.task.spec, self.summary())


class Tasks:
    """What operators created here.

    Args:
        host: what every task gets from the server.
        creators: the operators that may create tasks; empty for every operator.
        tasks_max: how many tasks one operator may have at once, cancelled ones included.
        rounds_max: how many rounds of one operator's tasks may run at once, whoever starts them.
    """

    def __init__(
        self,
        host: Host,
        creators: frozenset[str] = frozenset(),
        tasks_max: int = DEFAULT_TASKS_MAX,
        rounds_max: int = DEFAULT_ROUNDS_MAX,
    ) -> None:
        self.host = host
        self._creators = creators
        self._tasks_max = tasks_max
        self.draining = False
        self._rounds_max = rounds_max
        self._tasks: dict[str, Owned] = {}
        self._deleted: dict[str, dict[str, None]] = {}  # by owner: names, oldest first

    def create(self, operator: str, spec: TaskSpec) -> bool:
        """Create a task; True when this operator's very same one was there.

        Raises:
            NotAdmitted: this operator may not create tasks.
            NameTaken: by another operator's task, by one with other content, or by one that was deleted.
            ParameterError: the name is malformed, or the parameters don't hold.
            Overloaded: this operator has as many tasks as one may.
        """
        if self._creators and operator not in self._creators:
            raise NotAdmitted(f"operator {operator} may not create tasks on this server")
        check_name("task", spec.name)
        for starter in spec.starters:
            check_name("starter", starter)
        if spec.name in self._tasks:
            return self._same(operator, spec)
        if self._was_deleted(spec.name):
            raise NameTaken(
                f"there was a task {spec.name}, which was deleted: sites have pinned its parameters under this name, "
                "choose another"
            )
        if sum(owned.owner == operator for owned in self._tasks.values()) >= self._tasks_max:
            raise Overloaded(
                f"this server keeps at most {self._tasks_max} tasks of one operator: cancel and delete some"
            )
        Task.check(spec, self.host)
        created_s = self.host.now()
        task = Task(spec, self.host, self.host.records.create(spec, operator, created_s))
        self.host.records.decided("task created", task=spec.name, operator=operator, mode=spec.parameters.mode)
        self._tasks[spec.name] = Owned(task, operator, created_s)
        return False

    async def restore(self, stored: Stored) -> None:
        """Go on with what the records held. StorageError: something of a task is lost."""
        for one in stored.tasks:
            task = Task(one.spec, self.host, one.records)
            await task.restore(one)
            self._tasks[one.spec.name] = Owned(task, one.owner, one.created_s)
        for name, owner in stored.deleted:
            self._deleted.setdefault(owner, {})[name] = None

    def check_rounds(self, owned: Owned) -> None:
        """Whether one more round of this task's owner may start; Overloaded when as many run as may."""
        mine = (other for other in self._tasks.values() if other.owner == owned.owner and other is not owned)
        if sum(other.task.history.running is not None for other in mine) >= self._rounds_max:
            raise Overloaded(
                f"this server runs at most {self._rounds_max} rounds of operator {owned.owner} at once (rounds_max): "
                "wait for one to end, or abort one"
            )

    def find(self, name: str) -> Task:
        """A task by name, for participants; the empty name finds the only one.

        Raises:
            Gone: it was deleted.
            NotFound: no such task, or no name where there are several.
        """
        if not name and len(self._tasks) == 1:
            return next(iter(self._tasks.values())).task
        if name in self._tasks:
            return self._tasks[name].task
        raise self._missing(name, sorted(self._tasks))

    def used_by(self, operator: str, name: str) -> Owned:
        """A task that this operator may use: its own, or one that names it as a starter.

        Raises:
            NotAdmitted: it is another operator's.
            NotFound: no such task.
            Gone: it was deleted.
        """
        if name not in self._tasks:
            raise self._missing(name, self._names(operator))
        found = self._tasks[name]
        if not found.is_open_to(operator):
            raise NotAdmitted(f"task {name} belongs to operator {found.owner}")
        return found

    def owned_by(self, operator: str, name: str) -> Owned:
        """A task of this operator's own; errors as `used_by`."""
        found = self.used_by(operator, name)
        if found.owner != operator:
            raise NotAdmitted(f"task {name} belongs to operator {found.owner}, who alone may cancel and delete it")
        return found

    def all_of(self, operator: str) -> Iterator[Owned]:
        """The tasks that this operator may use, by name."""
        return (self._tasks[name] for name in self._names(operator))

    def page(self, operator: str, size: int, after: str) -> tuple[tuple[Owned, ...], str]:
        """So many of the operator's tasks after a name, and the name after which the next page begins, or nothing."""
        names, following = page_by_name(self._names(operator), str, size, after)
        return tuple(self._tasks[name] for name in names), following

    @property
    def connected(self) -> frozenset[str]:
        """The sites, key holders and auditors whose lines to any task are open."""
        return frozenset[str]().union(*(owned.task.lines.connected for owned in self._tasks.values()))

    async def cancel(self, operator: str, name: str) -> Owned:
        """End a task: its running round too, with its participants told; again changes nothing. As `owned_by`."""
        found = self.owned_by(operator, name)
        if not found.task.cancelled:
            await found.task.cancel(f"operator {operator} cancelled task {name}")
            self.host.records.cancel(name)
            self.host.records.decided("task cancelled", task=name, operator=operator)
        return found

    async def delete(self, operator: str, name: str) -> None:
        """Forget a cancelled task, with its rounds and sums; its name is not given again for a while. As `owned_by`.

        Raises:
            OutOfTurn: it is not cancelled.
        """
        found = self.owned_by(operator, name)
        if not found.task.cancelled:
            raise OutOfTurn(f"task {name} is open: cancel it, then delete it")
        del self._tasks[name]
        self.host.records.delete(name, operator)
        self.host.records.decided("task deleted", task=name, operator=operator)
        deleted = self._deleted.setdefault(operator, {})
        deleted[name] = None
        if len(deleted) > DELETED_NAMES_KEPT:
            freed = next(iter(deleted))
            del deleted[freed]
            self.host.records.free_name(freed)
        await found.task.close()

    async def drain(self) -> None:
        """Start no new rounds; of a server that keeps nothing, wait for those that run."""
        self.draining = True
        if not self.host.records.durable:
            await asyncio.gather(*(owned.task.ended() for owned in self._tasks.values()))

    async def close(self) -> None:
        """Stop every round."""
        for owned in tuple(self._tasks.values()):
            await owned.task.close()

    def _same(self, operator: str, spec: TaskSpec) -> bool:
        found = self._tasks[spec.name]
        if found.owner != operator:
            raise NameTaken(f"task {spec.name} belongs to operator {found.owner}: choose another name")
        if found.task.spec != spec:
            raise NameTaken(
                f"task {spec.name} exists with other content: choose another name, or describe it to compare"
            )
        return True

    def _names(self, operator: str) -> list[str]:
        return sorted(name for name, owned in self._tasks.items() if owned.is_open_to(operator))

    def _was_deleted(self, name: str) -> bool:
        return any(name in names for names in self._deleted.values())

    def _missing(self, name: str, known: list[str]) -> NotFound:
        if self._was_deleted(name):
            return Gone(f"task {name} was deleted")
        shown = ", ".join(known[:NAMES_SHOWN]) or "none yet"
        return NotFound(f"there is no task {name!r} here; tasks: {shown}" if name else f"name a task: {shown}")
