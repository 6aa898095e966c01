"""Nothing secret can stand in a line of the log: every message, key, share and vector, in every way in which it may be
passed."""

import importlib
import inspect
import io
import json
import logging
import pkgutil
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519

import aggregator.crypto
import aggregator.protocol
import aggregator.wire
import clients
from aggregator.command.logged import logging_to_stderr
from aggregator.config import LogFormat
from aggregator.errors import MessageError, SangamError
from aggregator.loglines import FIELDS, TEXT_MAX, JsonLines, TextLines, shown
from aggregator.wire.vocabulary import Step

MARK = "7ea5ec4e7"
PACKAGES = (aggregator.wire, aggregator.crypto, aggregator.protocol, clients)


def classes():
    """Every class that these packages define: messages, keys, secrets and states among them."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "._pb" in found.name or found.name.startswith("clients.adapters."):  # frameworks are not installed here
                continue
            module = importlib.import_module(found.name)
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if kind.__module__ == module.__name__ and not issubclass(kind, (Enum, BaseException)):
                    yield kind


def marked(kind):
    """An object of a class, unmade, all of whose fields say the mark, and its repr too."""

    def tell(_):
        return MARK

    told = type(kind.__name__, (kind,), {"__repr__": tell, "__str__": tell})
    told.__abstractmethods__ = frozenset()
    value = object.__new__(told)
    for field in fields(kind) if is_dataclass(kind) else ():
        object.__setattr__(value, field.name, MARK)
    return value


SECRETS = {
    "bytes": MARK.encode(),
    "bytearray": bytearray(MARK.encode()),
    "memoryview": memoryview(MARK.encode()),
    "list": [MARK],
    "tuple": (MARK,),
    "dict": {"seed": MARK},
    "set": {MARK},
    "an array of words": np.array([777_777_777], np.uint32),
    "an array of text": np.array([MARK]),
    "a word of an array": np.uint64(777_777_777),
    "an entry of an update": np.float64(777_777_777.0),
    "a text of an array": np.str_(MARK),
    "a secret number": int.from_bytes(MARK.encode() * 4),
    "an X25519 key": x25519.X25519PrivateKey.generate(),
    "a P-256 key": ec.generate_private_key(ec.SECP256R1()),
} | {f"{kind.__module__}.{kind.__qualname__}": marked(kind) for kind in set(classes())}


def line(form, say):
    """What a logger writes for what `say` does with it."""
    stream, logger = io.StringIO(), logging.getLogger("aggregator.tests")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(form())
    logger.addHandler(handler)
    logger.propagate = False
    try:
        say(logger)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    return stream.getvalue()


def raising(logger, error, cause=None):
    def inner(secret):
        raise secret from cause

    try:
        inner(error)
    except Exception:
        logger.exception("it broke off: %s", error)


WAYS = {
    "as %s": lambda logger, value: logger.error("of %s", value),
    "as %r": lambda logger, value: logger.error("of %r", value),
    "as a number": lambda logger, value: logger.error("of %d and %.3f", value, value),
    "in hexadecimal": lambda logger, value: logger.error("of %#x", value),
    "by name": lambda logger, value: logger.error("of %(seed)s", {"seed": value, "other": [value]}),
    "by a missing name": lambda logger, value: logger.error("of %(key)s", {"seed": value}),
    "as one too many": lambda logger, value: logger.error("of %s", *[value, value]),
    "as the sentence": lambda logger, value: logger.error(value),
    "as a field": lambda logger, value: logger.error("of", extra=dict.fromkeys(FIELDS, value)),
    "as a stranger's field": lambda logger, value: logger.error("of", extra={"seed": value}),
    "in an error": lambda logger, value: raising(logger, ValueError(value)),
    "in an error of ours": lambda logger, value: raising(logger, SangamError(value)),
    "in a cause": lambda logger, value: raising(logger, RuntimeError(), KeyError(value)),
    "in a dictionary's missing key": lambda logger, value: raising(logger, KeyError(str(value))),
    "in an error as an argument": lambda logger, value: logger.error("of %s", ValueError(value)),
}


@pytest.mark.parametrize("form", [TextLines, JsonLines])
@pytest.mark.parametrize("way", WAYS)
def test_no_secret_appears_in_whatever_way_it_is_passed(form, way):
    for name, secret in SECRETS.items():
        said = line(form, lambda logger, secret=secret: WAYS[way](logger, secret))
        assert said.count("\n") == 1, name
        assert MARK not in said, name
        assert "77777" not in said, name  # a time of day has three sevens in a row at most
        assert repr(secret) not in said, name


def test_every_message_and_every_key_was_tried():
    for name in ("aggregator.wire.messages.ShareList", "aggregator.wire.messages.Chunk", "clients.journal.Journal"):
        assert name in SECRETS
    for name in ("aggregator.crypto.identity.Identity", "aggregator.crypto.custody.Safe"):
        assert name in SECRETS
    assert "aggregator.protocol.participant.Masked" in SECRETS
    assert len(SECRETS) > 150
    assert MARK in repr(SECRETS["aggregator.wire.messages.ShareList"]), "or it would not show if it leaked"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (-(2**64) + 1, -(2**64) + 1),
        (2**64, "<int>"),
        (0.25, 0.25),
        ("aiims\n\x1b[31m", "aiims  [31m"),
        ("x" * (TEXT_MAX + 1), "x" * TEXT_MAX + "…"),
        (Step.SHARE_KEYS, "share_keys"),
        (Enum("Kind", {"SEED": MARK.encode()}).SEED, "SEED"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (MessageError("client 3 answered twice"), "client 3 answered twice"),
        (MessageError(b"client 3"), "<MessageError>"),
        (OSError(28, "No space left", MARK), "<OSError>"),
    ],
)
def test_what_is_written_of_a_value(value, written):
    assert shown(value) == written


def test_text_is_a_sentence_with_its_fields_behind_it():
    fields_ = {"task": "lungs", "round": 7, "step": Step.SHARE_KEYS, "seed": "no field of ours"}
    said = line(TextLines, lambda logger: logger.error("the step begins", extra=fields_))
    assert said == "sangam: error: the step begins (task=lungs, round=7, step=share_keys)\n"


def test_json_is_one_object_with_time_level_and_event():
    said = line(JsonLines, lambda logger: logger.warning("%d of %s", 3, "aiims", extra={"site": "cmc"}))
    told = json.loads(said)
    moment = datetime.fromisoformat(told.pop("time"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert told == {"level": "warning", "logger": "aggregator.tests", "event": "3 of aiims", "site": "cmc"}


def test_an_error_is_told_by_type_place_and_cause():
    cause = MessageError("client 3 answered twice")
    told = json.loads(line(JsonLines, lambda logger: raising(logger, OSError(28, MARK), cause)))
    assert told["error"] == "OSError from MessageError: client 3 answered twice"
    assert [place.split(":")[0] for place in told["where"].split()] == [__name__] * 2


def test_ours_and_libraries_go_to_stderr_and_no_longer_than_said(capsys):
    with logging_to_stderr(LogFormat.JSON):
        logging.getLogger("aggregator.service").info("ours")
        logging.getLogger("grpc").warning("theirs %s", MARK.encode())
        logging.getLogger("grpc").info("chatter")
    logging.getLogger("aggregator.service").info("after")
    told = [json.loads(said)["event"] for said in capsys.readouterr().err.splitlines()]
    assert told == ["ours", "theirs <bytes>"]


def test_a_line_that_cannot_be_written_is_not_written_otherwise(capsys):
    with logging_to_stderr(LogFormat.JSON):
        record = logging.LogRecord("aggregator", logging.ERROR, "", 0, "of %s", (MARK.encode(),), None)
        record.created = None  # of which no time can be made
        logging.getLogger().handle(record)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
