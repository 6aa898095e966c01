"""A finished study as XGBoost's own JSON: `xgboost.Booster(model_file=...)` predicts with it, no Sangam needed.

Schema: XGBoost 3.2, doc/model.schema and what `Booster.save_model` writes.
"""

import json
from typing import Any, Final

from clients.boosting.state import State
from clients.boosting.trees import NONE, Node, Tree

VERSION: Final = (3, 2, 0)
ROOT_PARENT: Final = 2**31 - 1  # what a root has for a parent


def to_xgboost_json(state: State) -> str:
    """The finished trees as a model file's text."""
    settings, trees = state.settings, state.finished_trees
    features = str(len(settings.features))
    forest = {
        "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
        "iteration_indptr": list(range(len(trees) + 1)),
        "tree_info": [0] * len(trees),
        "trees": [_tree(number, tree, features) for number, tree in enumerate(trees)],
    }
    learner = {
        "attributes": {},
        "feature_names": list(settings.features),
        "feature_types": [],
        "gradient_booster": {"model": forest, "name": "gbtree"},
        "learner_model_param": {
            "base_score": f"[{state.base_score!r}]",
            "boost_from_average": "1",
            "num_class": "0",
            "num_feature": features,
            "num_target": "1",
        },
        "objective": {"name": str(settings.objective), "reg_loss_param": {"scale_pos_weight": "1"}},
    }
    return json.dumps({"learner": learner, "version": VERSION}, allow_nan=False)


def _tree(number: int, tree: Tree, features: str) -> dict[str, Any]:
    nodes = tree.nodes
    return {
        "base_weights": [node.weight for node in nodes],
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": [int(node.default_left) for node in nodes],
        "id": number,
        "left_children": [node.left for node in nodes],
        "loss_changes": [node.gain for node in nodes],
        "parents": [_parent(node) for node in nodes],
        "right_children": [node.right for node in nodes],
        "split_conditions": [node.value for node in nodes],
        "split_indices": [node.feature for node in nodes],
        "split_type": [0] * len(nodes),
        "sum_hessian": [node.hessian for node in nodes],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": features,
            "num_nodes": str(len(nodes)),
            "size_leaf_vector": "1",
        },
    }


def _parent(node: Node) -> int:
    return ROOT_PARENT if node.parent == NONE else node.parent
