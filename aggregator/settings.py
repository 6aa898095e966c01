"""A server's settings: from a TOML file, from SANGAM_... in the environment, and from the command line.

Each of the three overrules the one before it. Every fault is named in one sentence with the place that it came from:

    hub.toml: staging_mib must be a whole number of MiB from 0, not 'much'
    SANGAM_RELOAD_S must be seconds from 0 (on SIGHUP only) to 86400, not '-1'

Paths in a file are relative to that file, others to the working directory.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from aggregator.config import (
    DEFAULT_ADDRESS,
    DEFAULT_CKKS_BYTES,
    DEFAULT_DRAIN_S,
    DEFAULT_KEEPALIVE_S,
    DEFAULT_RELOAD_S,
    DEFAULT_ROUNDS_MAX,
    DEFAULT_SPOOL_BYTES,
    DEFAULT_STAGING_BYTES,
    DEFAULT_TASKS_MAX,
    MIB,
    LogFormat,
    ServerConfig,
)
from aggregator.crypto.certificates import check_name
from aggregator.errors import ParameterError, StorageError

PREFIX: Final = "SANGAM_"
FILE_VARIABLE: Final = "SANGAM_CONFIG"
DEFAULT: Final = "default"
_PATHS: Final = ("identity", "roster", "staging_directory", "state", "revoked")
_STATE: Final = "state"  # beside the identity, unless said
_SHOWN_MAX = 80
_ALIKE = 0.7  # of a variable's name; orchestrators put strangers such as SANGAM_PORT into the environment


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; IPv6 addresses stand in brackets, and come back without.

    Raises:
        ParameterError: not host:port, or no port from 0 to 65535.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bracketed = bare != host
    decimal = port.isascii() and port.isdecimal() and len(port) <= 5
    if not (colon and bare and decimal and int(port) < 1 << 16 and bracketed == (":" in bare)):
        raise ParameterError(f"{text[:_SHOWN_MAX]!r} is not host:port, such as hub.example.org:7443 or [::1]:7443")
    return bare, int(port)


def _address(text: str) -> str:
    try:
        split_address(text)
    except ParameterError as error:
        raise ValueError(str(error)) from None
    return text


def _name(text: str) -> str:
    try:
        check_name("operator", text)
    except ParameterError as error:
        raise ValueError(str(error)) from None
    return text


def _number(value: object) -> object:
    """Python's True is 1; TOML's `true` is no number, nor is the text of it."""
    return repr(value) if isinstance(value, bool) else value


_Whole = Annotated[int, BeforeValidator(_number)]
_Seconds = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class _Values(BaseModel):
    """The settings by name; a description completes the sentence "... must be"."""

    model_config = ConfigDict(frozen=True)

    listen: Annotated[str, AfterValidator(_address), Field(description="host:port; port 0 lets the system choose")] = (
        DEFAULT_ADDRESS
    )
    identity: Annotated[Path, Field(description="the directory with the aggregator's key and certificates")]
    roster: Annotated[Path, Field(description="the file of the signed roster")]
    staging_mib: Annotated[_Whole, Field(ge=0, le=1 << 24, description="a whole number of MiB from 0")] = (
        DEFAULT_STAGING_BYTES // MIB
    )
    spool_mib: Annotated[_Whole, Field(ge=0, le=1 << 24, description="a whole number of MiB from 0")] = (
        DEFAULT_SPOOL_BYTES // MIB
    )
    staging_directory: Annotated[Path | None, Field(description="a directory for uploads beyond staging_mib")] = None
    state: Annotated[Path | None, Field(description="a directory for all that must outlive the server")] = None
    ephemeral: Annotated[bool, Field(description="true or false")] = False
    fsync: Annotated[bool, Field(description="true or false")] = True
    drain_s: Annotated[_Seconds, Field(ge=0, le=86_400, description="seconds from 0 to 86400")] = DEFAULT_DRAIN_S
    revoked: Annotated[Path | None, Field(description="a file of revoked serial numbers, one per line")] = None
    reload_s: Annotated[_Seconds, Field(ge=0, le=86_400, description="seconds from 0 (on SIGHUP only) to 86400")] = (
        DEFAULT_RELOAD_S
    )
    keepalive_s: Annotated[_Seconds, Field(ge=1, le=7_200, description="seconds from 1 to 7200")] = DEFAULT_KEEPALIVE_S
    task_creators: Annotated[
        tuple[Annotated[str, AfterValidator(_name)], ...], NoDecode, Field(description="a list of operators' names")
    ] = ()
    tasks_max: Annotated[_Whole, Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")] = (
        DEFAULT_TASKS_MAX
    )
    rounds_max: Annotated[_Whole, Field(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")] = (
        DEFAULT_ROUNDS_MAX
    )
    ckks: Annotated[bool, Field(description="true or false")] = False
    ckks_mib: Annotated[_Whole, Field(ge=1, le=1 << 24, description="a whole number of MiB from 1")] = (
        DEFAULT_CKKS_BYTES // MIB
    )
    metrics: Annotated[Annotated[str, AfterValidator(_address)] | None, Field(description="host:port")] = None
    insecure_loopback: Annotated[bool, Field(description="true or false")] = False
    log_format: Annotated[LogFormat, Field(description="text or json")] = LogFormat.TEXT


class _Sources(BaseSettings, _Values):
    """The same names, as files and the environment spell them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True)


@dataclass(frozen=True)
class Settings:
    """What the three sources say, and what is wrong with it.

    Args:
        given: the raw values by name.
        places: where each came from, as a person would look for it: a file, SANGAM_..., or --option.
        strangers: a sentence for each name that is no setting.
    """

    given: Mapping[str, object]
    places: Mapping[str, str]
    strangers: tuple[str, ...] = ()

    @cached_property
    def _checked(self) -> tuple[_Values | None, tuple[str, ...]]:
        try:
            return _Values.model_validate(dict(self.given)), ()
        except ValidationError as error:
            found = {str(fault["loc"][0]): fault for fault in error.errors(include_url=False)}
            return None, tuple(self._sentence(name) for name in found)

    @property
    def faults(self) -> tuple[str, ...]:
        """A sentence for every fault; none means that `config` succeeds."""
        return self.strangers + self._checked[1]

    @property
    def config(self) -> ServerConfig:
        """The configuration.

        Raises:
            ParameterError: names every fault.
        """
        values, _ = self._checked
        if values is None or self.faults:
            raise ParameterError("; ".join(self.faults))
        return ServerConfig(
            address=values.listen,
            identity=values.identity,
            roster=values.roster,
            staging_bytes=values.staging_mib * MIB,
            spool_bytes=values.spool_mib * MIB,
            staging_directory=values.staging_directory,
            state=None if values.ephemeral else values.state or values.identity / _STATE,
            fsync=values.fsync,
            drain_s=values.drain_s,
            revoked=values.revoked,
            reload_s=values.reload_s,
            keepalive_s=values.keepalive_s,
            task_creators=values.task_creators,
            tasks_max=values.tasks_max,
            rounds_max=values.rounds_max,
            ckks=values.ckks,
            ckks_bytes=values.ckks_mib * MIB,
            metrics=values.metrics,
            insecure_loopback=values.insecure_loopback,
            log_format=values.log_format,
        )

    def effective(self) -> dict[str, tuple[object, str]]:
        """Every setting that has a value, with the place that it came from; errors as `config`."""
        _ = self.config
        values = self._checked[0]
        return {name: (getattr(values, name), self.places.get(name, DEFAULT)) for name in NAMES}

    def _sentence(self, name: str) -> str:
        description = _Values.model_fields[name].description
        if name not in self.given:
            return f"{name} is not set: give --{name}, {PREFIX}{name.upper()}, or {name} = ... in the file of --config"
        return f"{self.places[name]} must be {description}, not {_shown(self.given[name])}"


def _shown(value: object) -> str:
    """The beginning of a value; numbers of 5,000 digits and tables of 1,000 levels cannot be written out."""
    try:
        return repr(value)[:_SHOWN_MAX]
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__} that is too long to show"


NAMES: Final = tuple(_Values.model_fields)


def read_settings(file: Path | None = None, options: Mapping[str, object] | None = None) -> Settings:
    """Ask the three sources, once.

    Args:
        file: a TOML file; None is the one that SANGAM_CONFIG names, if it names one.
        options: what the command line says, by setting; None is not said.

    Raises:
        StorageError: the file cannot be read.
        ParameterError: it is no TOML file.
    """
    path = file or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    said = {name: value for name, value in (options or {}).items() if value is not None}
    written = _from_file(path) if path is not None else {}
    exported = _from_environment()
    places = {name: f"{path}: {name}" for name in written}
    places |= {name: PREFIX + name.upper() for name in exported}
    places |= {name: f"--{name.replace('_', '-')}" for name in said}
    strangers = [_unknown(path, name) for name in written if name not in NAMES] + _misspelt_variables()
    known = {name: value for name, value in (written | exported | said).items() if name in NAMES}
    return Settings(known, places, tuple(strangers))


def ignored_variables() -> list[str]:
    """Variables of the environment that begin like ours, and are none of ours."""
    ours = {PREFIX + name.upper() for name in NAMES} | {FILE_VARIABLE}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in ours)


def _from_file(path: Path) -> dict[str, object]:
    if not path.is_file():  # which pydantic would take for an empty one
        raise StorageError(f"cannot read {path}: there is no such file")
    try:
        found = TomlConfigSettingsSource(_Sources, path).toml_data
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or a thousand lists in each other
        raise ParameterError(f"{path} is not a TOML file: {error}") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    beside = {name: path.parent / found[name] for name in _PATHS if isinstance(found.get(name), str)}
    return {**found, **beside}


def _from_environment() -> dict[str, object]:
    found: dict[str, object] = EnvSettingsSource(_Sources)()
    names = found.get("task_creators")
    split = {"task_creators": [n.strip() for n in names.split(",") if n.strip()]} if isinstance(names, str) else {}
    return {**found, **split}


def _misspelt_variables() -> list[str]:
    ours = [name.upper() for name in (*NAMES, "config")]
    bare = [name.removeprefix(PREFIX) for name in ignored_variables()]
    pairs = [(name, get_close_matches(name, ours, 1, _ALIKE)) for name in bare]
    return [f"{PREFIX}{name} is no setting: did you mean {PREFIX}{near[0]}?" for name, near in pairs if near]


def _unknown(path: Path | None, name: str) -> str:
    near = get_close_matches(name, NAMES, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}"
    return f"{path}: {name[:_SHOWN_MAX]} is no setting: {hint}"
