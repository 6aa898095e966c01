"""The tasks of one server, by name."""

from aggregator.errors import NotFound, Overloaded, ParameterError
from aggregator.rounds.task import Host, Task
from aggregator.wire.operator_messages import Task as TaskSpec

TASKS_MAX = 1_000


class Tasks:
    """What operators created here."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._tasks: dict[str, Task] = {}

    def create(self, spec: TaskSpec) -> bool:
        """Create a task; True when the very same one was there.

        Raises:
            ParameterError: the name is taken by another task, or the parameters don't hold.
            Overloaded: the server has as many tasks as it keeps.
        """
        if spec.name in self._tasks:
            if self._tasks[spec.name].spec != spec:
                raise ParameterError(f"task {spec.name} exists with other parameters")
            return True
        if len(self._tasks) >= TASKS_MAX:
            raise Overloaded(f"this server keeps at most {TASKS_MAX} tasks")
        self._tasks[spec.name] = Task(spec, self.host)
        return False

    def find(self, name: str) -> Task:
        """A task by name; the empty name finds the only one.

        Raises:
            NotFound: no such task, or no name where there are several.
        """
        if not name and len(self._tasks) == 1:
            return next(iter(self._tasks.values()))
        if name in self._tasks:
            return self._tasks[name]
        known = ", ".join(sorted(self._tasks)[:10]) or "none yet"
        raise NotFound(f"there is no task {name!r} here; tasks: {known}" if name else f"name a task: {known}")

    async def close(self) -> None:
        """Stop every round."""
        for task in self._tasks.values():
            await task.close()
