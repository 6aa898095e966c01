"""What the starter of a benchmark and its processes say to each other, round by round.

    starter --> server   begin: a round begins; proceed: it has ended
    starter <-- server   at first its port and its idle memory; "begun"; at an end what the round cost, and its peak

    starter --> worker   begin: enter a round; proceed: go
    starter <-- worker   "entered": sessions are open; "ready": one client stands at the start line, its payload
                         prepared; "done": the round is over for all of them, "sent_bytes" the most that a survivor sent

The starter says numbers that only grow (`local.child.Starter`): two of them for each round, counted from 0.
"""


def begin(index: int) -> int:
    """The number with which round `index` begins."""
    return 2 * index + 1


def proceed(index: int) -> int:
    """The number with which it goes on: to a worker "go", to the server "it has ended"."""
    return 2 * index + 2
