"""Logistic regression on one hospital's part of breast_cancer: a plain Flower app, which knows nothing of Sangam."""

from functools import cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

FEATURES = 30
LOCAL_EPOCHS = 2

# The ranges that the data set's description prints: public, so that every hospital scales alike, without a round.
# Ten measurements of the nuclei; for each the mean, the standard error, and the worst.
LOW = """
    6.981 9.71 43.79 143.5 0.053 0.019 0 0 0.106 0.05 0.112 0.36 0.757 6.802 0.002 0.002 0 0 0.008 0.001
    7.93 12.02 50.41 185.2 0.071 0.027 0 0 0.156 0.055"""
HIGH = """
    28.11 39.28 188.5 2501 0.163 0.345 0.427 0.201 0.304 0.097 2.873 4.885 21.98 542.2 0.031 0.135 0.396 0.053 0.079
    0.03 36.04 49.54 251.2 4254 0.223 1.058 1.252 0.291 0.664 0.208"""
CENTRE, UNITS = 0.3, 6.0  # 0 is 30 % up the range, since all measurements have a long upper tail


@cache
def data(part: int, parts: int) -> tuple[Any, Any, Any, Any]:
    """One hospital's features and labels, for training and held out; scaled alike everywhere."""
    features, labels = load_breast_cancer(return_X_y=True)
    mine = np.random.default_rng(7).permutation(len(labels))[part::parts]
    low, high = (np.array(text.split(), np.float64) for text in (LOW, HIGH))
    scaled = ((features[mine] - low) / (high - low) - CENTRE) * UNITS
    split = train_test_split(scaled, labels[mine], test_size=0.25, random_state=7, stratify=labels[mine])
    return split[0], split[2], split[1], split[3]


def initial() -> ArrayRecord:
    """Where all start."""
    return record(np.zeros((1, FEATURES)), np.zeros(1))


def record(coef: Any, intercept: Any) -> ArrayRecord:
    """A model's numbers, float32."""
    return ArrayRecord({"coef": Array(np.float32(coef)), "intercept": Array(np.float32(intercept))})


def model_of(arrays: ArrayRecord) -> SGDClassifier:
    """A model with these numbers, which goes on learning from there."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, shuffle=False)
    model.classes_ = np.array([0, 1])
    model.coef_, model.intercept_ = (arrays[name].numpy().astype(np.float64) for name in ("coef", "intercept"))
    return model


def client(mods: list[Any]) -> ClientApp:
    """The nodes' side, with these mods around it."""
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        features, labels, _, _ = data(*partition(context))
        model = model_of(message.content["arrays"])
        for _ in range(LOCAL_EPOCHS):
            model.partial_fit(features, labels, classes=model.classes_)
        loss = log_loss(labels, model.predict_proba(features))
        return answer(message, len(labels), {"train_loss": loss}, {"arrays": record(model.coef_, model.intercept_)})

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        _, _, features, labels = data(*partition(context))
        scores = model_of(message.content["arrays"]).predict_proba(features)
        metrics = {"loss": log_loss(labels, scores), "auc": roc_auc_score(labels, scores[:, 1])}
        return answer(message, len(labels), metrics, {})

    return app


def partition(context: Context) -> tuple[int, int]:
    """Which part of the data this node has, and of how many."""
    return int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])


def answer(message: Message, examples: int, metrics: dict[str, float], more: dict[str, ArrayRecord]) -> Message:
    """A reply as Flower's averaging strategies expect it."""
    records = MetricRecord({**{name: float(value) for name, value in metrics.items()}, "num-examples": examples})
    return Message(RecordDict({**more, "metrics": records}), reply_to=message)
