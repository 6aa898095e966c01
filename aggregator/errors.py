"""Every error that Sangam raises on purpose.

SangamError
|- ParameterError   the caller's mistake, before any message is sent
|  `- StaleModel    the round starts from another model than the caller's base: fetch the last result
|- MessageError     a message that is malformed or false
|  |- OutOfTurn     a message that this step of the round does not expect
|  `- Equivocation  the other side lies: two answers where the protocol allows one
|- VersionMismatch  the two sides speak no common version of the protocol
|- NotOffered       a service that is switched off on this server, or that it does not know
|- NotAdmitted      an identity, a certificate or a role that does not fit
|- NameTaken        a name under which there is something else
|- NotFound         a task, round or result that this server does not have
|  `- Gone          it was here, and was deleted or has expired
|- Cancelled        the operator ended this task or round
|- Expired          a request that came after the time up to which it was meant to count
|- RoundAborted     too few clients are left, or views are inconsistent
|- Overloaded       no room now; try again later
|- Disconnected     the other side cannot be reached
`- StorageError     our disk or memory, not the caller

Messages name ids and counts; never a seed, a key, a share or a vector.
"""


class SangamError(Exception):
    """The root of the tree: `except SangamError` catches all that Sangam raises on purpose."""


class ParameterError(SangamError):
    """The caller's mistake, found before any message is sent."""


class StaleModel(ParameterError):
    """The round starts from another model than the caller's base; the last result has the newer one."""


class MessageError(SangamError):
    """A message that is malformed or false."""


class OutOfTurn(MessageError):
    """A message that this step of the round does not expect."""


class Equivocation(MessageError):
    """The other side lies: it gave, or asks for, two answers where the protocol allows one."""


class VersionMismatch(SangamError):
    """The two sides speak no common version of the protocol."""


class NotOffered(SangamError):
    """A service that is switched off on this server, or that it does not know."""


class NotAdmitted(SangamError):
    """An identity, a certificate or a role that does not fit."""


class NameTaken(SangamError):
    """A name under which there is something else already."""


class NotFound(SangamError):
    """A task, round or result that this server does not have."""


class Gone(NotFound):
    """A task, round or result that was here, and was deleted or has expired."""


class Cancelled(SangamError):
    """The operator ended this task or round."""


class Expired(SangamError):
    """A request that came after the time up to which it was meant to count."""


class RoundAborted(SangamError):
    """Too few clients are left, or the views of the round are inconsistent; there is no sum."""


class Overloaded(SangamError):
    """No room now; the caller may try again later.

    Args:
        message: one sentence.
        retry_after_s: when to come back, where the server knows; the caller's place is kept until then.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Disconnected(SangamError):
    """The other side cannot be reached."""


class StorageError(SangamError):
    """Our disk or memory failed, not the caller."""


def by_name(name: str) -> type[SangamError] | None:
    """The error class of that name, None for a stranger; how a client names what the server raised."""
    found = [SangamError]
    for kind in found:
        if kind.__name__ == name:
            return kind
        found.extend(kind.__subclasses__())
    return None
