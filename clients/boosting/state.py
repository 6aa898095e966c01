"""Where a study stands: the settings, the cut points and the trees so far; the same at every site, to the bit.

Its JSON is what a site or the operator goes on from after a restart, and its hash is the base of the next round: who
stands elsewhere does not take part in it.
"""

import json
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from functools import cached_property
from operator import attrgetter
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError
from clients.boosting.cuts import Cuts, Sketch
from clients.boosting.objective import margin, transformed
from clients.boosting.settings import Settings
from clients.boosting.trees import Node, Tree

Floats32: TypeAlias = npt.NDArray[np.float32]

FORMAT = 1
IN_ORDER = attrgetter(*(one.name for one in fields_of(Node)))


@dataclass(frozen=True)
class State:
    """Before a round.

    Attributes:
        settings: what was agreed on.
        round: the server's number of the last round whose sum is in here; 0 before the first.
        closed: how many rounds are in here.
        counted: how many of them were rounds of counts.
        sketch: the cells that the next round counts; None once there are cut points.
        cuts: the cut points; None before.
        base_score: where predictions start; NaN before the cut points.
        trees: the last one may still grow.
    """

    settings: Settings
    round: int = 0
    closed: int = 0
    counted: int = 0
    sketch: Sketch | None = field(default=None, repr=False)
    cuts: Cuts | None = field(default=None, repr=False)
    base_score: float = float("nan")
    trees: tuple[Tree, ...] = field(default=(), repr=False)

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Before the first round."""
        return cls(settings, sketch=Sketch.start(len(settings.features), settings.cells))

    @property
    def finished_trees(self) -> tuple[Tree, ...]:
        """Those that don't grow any more."""
        return self.trees[:-1] if self.trees and self.trees[-1].open else self.trees

    @property
    def done(self) -> bool:
        """Whether all trees are finished."""
        return len(self.finished_trees) == self.settings.trees

    @property
    def base(self) -> dict[str, npt.NDArray[np.uint8]]:
        """What the next round starts from, as sessions and operators take it."""
        return {"state": np.frombuffer(self.to_json().encode(), np.uint8)}

    def margins(self, values: Floats32, trees: int | None = None) -> Floats32:
        """Margins of records, shape (n, features), by the first trees, by default by all that are finished."""
        margins = np.full(len(values), margin(self.settings.objective, self.base_score), np.float32)
        for tree in self.finished_trees[:trees]:
            margins += tree.values[tree.leaves(values)]
        return margins

    def predict(self, values: npt.ArrayLike, trees: int | None = None) -> Floats32:
        """Probabilities or labels of records, as XGBoost predicts them.

        Args:
            values: shape (n, features); NaN is a missing value.
            trees: how many of the finished trees to use, by default all.
        """
        return transformed(self.settings.objective, self.margins(np.asarray(values, np.float32), trees))

    def to_json(self) -> str:
        """One line, the same for the same state on every machine."""
        return self._json

    @cached_property
    def _json(self) -> str:  # a round asks for it several times, of thousands of nodes
        fields = {
            "format": FORMAT,
            "settings": json.loads(self.settings.to_json()),
            "round": self.round,
            "closed": self.closed,
            "counted": self.counted,
            "edges": None if self.sketch is None else self.sketch.edges.tolist(),
            "cuts": None if self.cuts is None else self.cuts.values,
            "base_score": None if self.cuts is None else self.base_score,
            "trees": [{"nodes": list(map(IN_ORDER, tree.nodes)), "open": tree.open} for tree in self.trees],
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote.

        Raises:
            ParameterError: something else, or another version's.
        """
        try:
            fields = json.loads(text)
            if fields["format"] != FORMAT:
                raise ParameterError(f"this state is of format {fields['format']}, this version reads {FORMAT}")
            return cls(
                settings=Settings.from_json(json.dumps(fields["settings"])),
                round=fields["round"],
                closed=fields["closed"],
                counted=fields["counted"],
                sketch=None if fields["edges"] is None else Sketch(np.array(fields["edges"], np.int64)),
                cuts=None if fields["cuts"] is None else Cuts(tuple(map(tuple, fields["cuts"]))),
                base_score=float("nan") if fields["base_score"] is None else fields["base_score"],
                trees=tuple(_tree(one, len(fields["settings"]["features"])) for one in fields["trees"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ParameterError(f"this is no state of a study: {error!r}") from None


def _tree(fields: dict[str, Any], features: int) -> Tree:
    tree = Tree(tuple(Node(*node) for node in fields["nodes"]), tuple(fields["open"]))
    places = range(-1, len(tree.nodes))
    for node in tree.nodes:
        if not all(type(place) is int and place in places for place in (node.parent, node.left, node.right)):
            raise ValueError("a node has relatives that are not there")
        if type(node.feature) is not int or not 0 <= node.feature < features:
            raise ValueError("a node asks for a feature that is not there")
    if not all(type(leaf) is int and 0 <= leaf < len(tree.nodes) for leaf in tree.open):
        raise ValueError("a leaf is open that is not there")
    return tree
