"""How a line of the log is written: values are let through by their type, and nothing else is.

Text, whole numbers below 2^64, other numbers, truth values, enums and times are written; of anything else its type's
name. So no key, share, vector or message can appear, whoever passes it: as an argument of the sentence, as a field, or
inside an error. An error of ours is written with its sentence, which names ids and counts; of any other error its
type, and where it was raised.

The standard library's logging does the rest, as everywhere in Python: structlog would bring its own way to call it,
and of what this needs, rendering to a line, no more than `json.dumps`.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from traceback import walk_tb
from types import NoneType, TracebackType
from typing import Any, Final, TypeAlias

from aggregator.errors import SangamError

Shown: TypeAlias = str | int | float | bool | None

FIELDS: Final = ("task", "round", "mode", "step", "site", "clients", "seconds", "detail")
TEXT_MAX: Final = 1_000  # characters, of a value and of a sentence
WHOLE_BITS_MAX: Final = 64  # a larger number may be a secret one
FRAMES_MAX: Final = 20
CAUSES_MAX: Final = 5


def shown(value: object) -> Shown:
    """What may be written of a value: itself, or its type's name in angle brackets. Subclasses are other types."""
    write = _WRITTEN.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return shown(value.value) if isinstance(value, str | int) else value.name
    if isinstance(value, SangamError) and all(type(part) is str for part in value.args):
        return _clean("; ".join(value.args))
    return f"<{type(value).__name__}>"


class TextLines(logging.Formatter):
    """Sentences for people, with their fields behind them; time and level are left to whoever keeps them.

    sangam: the step begins (task=lungs, round=7, mode=lattice, step=share_keys, clients=31)
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        facts = _fields(record) | _error(record)
        behind = f" ({', '.join(f'{name}={value}' for name, value in facts.items())})" if facts else ""
        return f"sangam: {level}{_sentence(record)}{behind}"


class JsonLines(logging.Formatter):
    """One JSON object a line, for programs: time, level, logger, event, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level, logger = record.levelname.lower(), _clean(record.name)
        line = {"time": time, "level": level, "logger": logger, "event": _sentence(record)}
        return json.dumps(line | _fields(record) | _error(record))


def _sentence(record: logging.LogRecord) -> str:
    if type(record.msg) is not str:
        return str(shown(record.msg))
    arguments = _arguments(record.msg, record.args)
    try:
        return _clean(record.msg % arguments if arguments else record.msg)
    except (TypeError, ValueError, KeyError):  # a number was promised, and something came that is not shown
        return _clean(f"{record.msg} {arguments}")


def _arguments(sentence: str, arguments: object) -> tuple[Shown, ...] | dict[str, Shown]:
    """A mapping is for a sentence that names its arguments; for any other it is one argument."""
    if isinstance(arguments, Mapping):
        if "%(" not in sentence:
            return (shown(arguments),)
        return {name: shown(value) for name, value in arguments.items() if type(name) is str}
    return tuple(shown(value) for value in arguments) if isinstance(arguments, tuple) else ()


def _fields(record: logging.LogRecord) -> dict[str, Shown]:
    given = vars(record)
    return {name: shown(given[name]) for name in FIELDS if name in given}


def _error(record: logging.LogRecord) -> dict[str, Shown]:
    """What an error is called, what it says if it is ours, what caused it, and where, as `module:line`."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    chain = [_called(one) for one in _causes(error)]
    return {"error": _clean(" from ".join(chain)), "where": _clean(" ".join(_places(error.__traceback__)))}


def _called(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {shown(error)}" if isinstance(error, SangamError) else name


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if one is None:
            return
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _places(traceback: TracebackType | None) -> list[str]:
    frames = [f"{frame.f_globals.get('__name__')}:{line}" for frame, line in walk_tb(traceback)]
    return frames[-FRAMES_MAX:]


def _clean(text: str) -> str:
    """A text on one line, and not without end."""
    printable = "".join(character if character.isprintable() else " " for character in text[: TEXT_MAX + 1])
    return printable if len(printable) <= TEXT_MAX else f"{printable[:TEXT_MAX]}…"


def _whole(number: int) -> Shown:
    return number if number.bit_length() <= WHOLE_BITS_MAX else "<int>"


_WRITTEN: Final[dict[type, Callable[[Any], Shown]]] = {
    NoneType: lambda nothing: nothing,
    bool: lambda truth: truth,
    int: _whole,
    float: lambda number: number,
    str: _clean,
    datetime: datetime.isoformat,
}
