"""One file that says what is trained, for the operator and for every site alike.

task = "breast-cancer"
model = "first.npz"        # the first model, relative to this file; arrays by tensor name
rounds = 20
clip = 0.5                 # of what one round may change, in the model's own unit
weight_max = 600           # records of the largest site
minimum_cohort = 3

[metrics]                  # numbers that travel with each update, and how large they may be
loss = 10.0
"""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, ValidationError

from aggregator.arrays import read_arrays
from aggregator.errors import ParameterError, StorageError
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.parties import Audit, Parties
from aggregator.wire.operator_messages import Deadlines, Opening, Retention
from clients.adapters.contract import Combine, layout
from clients.operator import default_deadlines
from clients.training.global_model import GlobalModel

HOUR_S: Final = 3_600.0


class Experiment(BaseModel):
    """A training as its operator states it.

    Attributes:
        task: its name; 1 to 63 of a-z, 0-9, '.', '_', '-'.
        model: the first model's file.
        rounds: how many shall close.
        combine: "mean" of the sites' models, or "sum" of their statistics, as the adapter has it.
        clip, clips, weight_max, clients_max, minimum_cohort, value_bits, rotate, mode: as `clients.Parameters` has
            them; `clips` are of single tensors.
        key_holder, auditor, audit: of homomorphic mode.
        metrics: the largest absolute value of each.
        enough, gather_hours, sample: when a round opens, and to how many sites; as `clients.Opening`.
        deadlines: seconds that a step waits, by step, as `clients.Deadlines` has them; `reconnect_s` is for sites whose
            line is broken. By default what makes sense on a hospital's line.
        keep: how many rounds' sums the server keeps, for sites that were away.
        keep_open: whether the task stays when the training is over, for further rounds; else it is cancelled then,
            which tells sites that were not in the last round.
        failures_max: so many rounds in a row may fail before the training stops; it can be gone on with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    model: Path
    rounds: int = Field(ge=1)
    clip: PositiveFloat
    weight_max: int
    minimum_cohort: int
    combine: Combine = Combine.MEAN
    clips: dict[str, PositiveFloat] = {}
    metrics: dict[str, PositiveFloat] = {}
    clients_max: int = 100
    value_bits: int = 16
    rotate: bool = False
    mode: Mode = Mode.AUTO
    key_holder: str = ""
    auditor: str = ""
    audit: Audit = Audit.FROZEN
    enough: int = Field(0, ge=0)
    gather_hours: float = Field(1.0, gt=0)
    sample: int = Field(0, ge=0)
    deadlines: dict[str, NonNegativeFloat] = {}
    keep: int = Field(3, ge=1, le=100)
    keep_open: bool = False
    failures_max: int = Field(3, ge=0)

    @staticmethod
    def load(path: Path) -> "Experiment":
        """Read an experiment's file.

        Raises:
            StorageError: it cannot be read.
            ParameterError: it is no TOML, or what it says makes no training; names the place.
        """
        try:
            said: dict[str, Any] = tomllib.loads(path.read_text())
            found = Experiment.model_validate(said)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ParameterError(f"{path}: {place}: {first['msg']}") from None
        except ValueError as error:
            raise ParameterError(f"{path} is not TOML: {error}") from None
        return found.model_copy(update={"model": path.parent / found.model})

    def first(self) -> GlobalModel:
        """The model before the first round; errors as `read_arrays` and `GlobalModel`."""
        return GlobalModel(read_arrays(self.model), self.combine)

    def parameters(self, first: GlobalModel) -> Parameters:
        """How updates travel.

        Raises:
            ParameterError: a clip for a tensor that the model does not have; as `Parameters`.
        """
        return Parameters(
            layout(first.tensors, self.metrics, self.clips),
            clip=self.clip,
            clients_max=self.clients_max,
            minimum_cohort=self.minimum_cohort,
            weight_max=self.weight_max,
            value_bits=self.value_bits,
            rotate=self.rotate,
            mode=self.mode,
            parties=Parties(self.key_holder, self.auditor, self.audit) if self.key_holder else None,
        )

    def waits(self, parameters: Parameters) -> Deadlines:
        """How long each step waits; ParameterError where there is no such step."""
        usual = default_deadlines(parameters)
        if strangers := self.deadlines.keys() - {field.name for field in fields(usual)}:
            raise ParameterError(f"deadlines: there is no {min(strangers)!r}")
        return replace(usual, **self.deadlines)

    def is_over_with(self, model: GlobalModel) -> bool:
        """Whether this model needs no further round: as many as are asked for have made it, or it has converged."""
        return model.converged or model.closed >= self.rounds

    @property
    def opening(self) -> Opening:
        """When a round opens."""
        return Opening(self.enough, self.gather_hours * HOUR_S, self.sample)

    @property
    def retention(self) -> Retention:
        """What the server keeps."""
        return Retention(self.keep)
