"""One regression tree, grown a level at a time: nodes in the order in which XGBoost numbers them; its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from clients.boosting.cuts import Cuts
from clients.boosting.settings import Settings
from clients.boosting.splits import Split, Sums, weight

Floats32: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.intp]

NONE = -1


@dataclass(frozen=True, slots=True)
class Node:
    """An inner node, or a leaf, which has no children.

    Attributes:
        value: what an inner node compares with, left is `<`; what a leaf adds to the margin.
        feature, default_left, gain, left, right: of an inner node.
        parent: its index, -1 for the root.
    """

    value: float
    weight: float
    hessian: float
    parent: int = NONE
    left: int = NONE
    right: int = NONE
    feature: int = 0
    default_left: bool = False
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree; while it grows, `open` are the leaves that the next round decides about."""

    nodes: tuple[Node, ...] = field(repr=False)
    open: tuple[int, ...] = ()

    @classmethod
    def seed(cls) -> "Tree":
        """A root of which nothing is known."""
        return cls((Node(0.0, 0.0, 0.0),), (0,))

    @property
    def depth(self) -> int:
        """Of the deepest node; the root's is 0."""
        depths = [0]
        for node in self.nodes[1:]:
            depths.append(depths[node.parent] + 1)
        return max(depths)

    def rooted(self, whole: Sums, settings: Settings) -> "Tree":
        """With a root that is worth something even if it is never split."""
        return replace(self, nodes=(_leaf(whole, NONE, settings), *self.nodes[1:]))

    def grown(self, splits: Mapping[int, Split | None], cuts: Cuts, settings: Settings) -> "Tree":
        """Split the open leaves, in their order; their children are open as long as there is depth left."""
        nodes = list(self.nodes)
        born: list[int] = []
        for index in self.open:
            if (split := splits[index]) is None:
                continue
            left, right = len(nodes), len(nodes) + 1
            nodes[index] = _inner(nodes[index], split, (left, right), cuts, settings)
            nodes += [_leaf(split.left, index, settings), _leaf(split.right, index, settings)]
            born += [left, right]
        grown = Tree(tuple(nodes), tuple(born))
        return grown if grown.depth < settings.max_depth else replace(grown, open=())

    def leaves(self, values: Floats32) -> Indices:
        """The leaf of each record, shape (n,), of records of shape (n, features); NaN is a missing value."""
        left, right, feature = (
            np.array([getattr(n, name) for n in self.nodes]) for name in ("left", "right", "feature")
        )
        threshold, default_left = self.values, np.array([node.default_left for node in self.nodes])
        at, records = np.zeros(len(values), np.intp), np.arange(len(values))
        for _ in range(self.depth):
            seen = values[records, feature[at]]
            goes_left = np.where(np.isnan(seen), default_left[at], seen < threshold[at])
            at = np.where(left[at] == NONE, at, np.where(goes_left, left[at], right[at]))
        return at

    @property
    def values(self) -> Floats32:
        """Of each node, as XGBoost keeps them."""
        return np.array([node.value for node in self.nodes], np.float32)


def _leaf(sums: Sums, parent: int, settings: Settings) -> Node:
    value = float(weight(sums, settings) * np.float32(settings.eta))
    return Node(value, value, float(np.float32(sums.hessian)), parent)


def _inner(leaf: Node, split: Split, children: tuple[int, int], cuts: Cuts, settings: Settings) -> Node:
    """Weight and hessian are of the sums that the split was found in, though another round may have made the leaf."""
    whole = Sums(split.left.gradient + split.right.gradient, split.left.hessian + split.right.hessian)
    return replace(
        leaf,
        value=cuts.left_of(split.feature, split.first_right),
        weight=float(weight(whole, settings)),
        hessian=float(np.float32(whole.hessian)),
        left=children[0],
        right=children[1],
        feature=split.feature,
        default_left=split.default_left,
        gain=split.gain,
    )
