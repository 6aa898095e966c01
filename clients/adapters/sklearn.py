"""scikit-learn: linear models, multi-layer perceptrons, naive Bayes and k-means, fitted at each site.

Linear models and perceptrons are averaged. Naive Bayes and k-means are sums over records, so their federated model is
the pooled one, up to quantisation, however the records are spread over the sites.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from clients.adapters.contract import Array, Combine, Tensors


@dataclass(frozen=True, slots=True)
class Linear:
    """Estimators with `coef_` and `intercept_`: logistic regression, SGD, ridge, linear SVM ...

    They must have been fitted once, or given arrays of the right shapes, and go on from there: `warm_start=True`, or
    `partial_fit`. Classes must be the same at all sites, in the same order.
    """

    combine: Combine = Combine.MEAN

    def flatten(self, model: Any, /) -> dict[str, Array]:
        """Copies."""
        return {"coef": np.array(model.coef_, np.float64), "intercept": np.array(model.intercept_, np.float64)}

    def unflatten(self, model: Any, tensors: Tensors, /) -> Any:
        """The same estimator."""
        model.coef_, model.intercept_ = np.array(tensors["coef"]), np.array(tensors["intercept"])
        return model


@dataclass(frozen=True, slots=True)
class Perceptron:
    """`MLPClassifier` and `MLPRegressor` that were fitted once, by `partial_fit`; the optimiser's state stays."""

    combine: Combine = Combine.MEAN

    def flatten(self, model: MLPClassifier | MLPRegressor, /) -> dict[str, Array]:
        """Copies."""
        named = {"weights": model.coefs_, "biases": model.intercepts_}
        return {
            f"{kind}.{layer}": np.array(array) for kind, arrays in named.items() for layer, array in enumerate(arrays)
        }

    def unflatten(self, model: MLPClassifier | MLPRegressor, tensors: Tensors, /) -> MLPClassifier | MLPRegressor:
        """The same estimator; arrays are changed in place, since its optimiser holds them too."""
        for kind, arrays in (("weights", model.coefs_), ("biases", model.intercepts_)):
            for layer, array in enumerate(arrays):
                array[...] = tensors[f"{kind}.{layer}"]
        return model


@dataclass(frozen=True, slots=True)
class NaiveBayes:
    """`GaussianNB`, fitted by one call of `fit` or `partial_fit` in a single round, whose first model is `empty`.

    What travels: the records of each class, the sums of their features, and of the squares. Standardise features first
    by public constants: a clip on squares is wide.
    """

    combine: Combine = Combine.SUM

    @staticmethod
    def empty(classes: int, features: int) -> dict[str, Array]:
        """The model that the round starts from: no record at all."""
        table = np.zeros((classes, features))
        return {"records": np.zeros(classes), "sums": table, "squares": table.copy()}

    def flatten(self, model: GaussianNB, /) -> dict[str, Array]:
        """The sums that make means and variances; nothing of an estimator that has not been fitted."""
        if not hasattr(model, "theta_"):
            return {}
        records, means = model.class_count_[:, None], model.theta_
        squares = records * (model.var_ - model.epsilon_ + means**2)
        return {"records": records[:, 0].copy(), "sums": records * means, "squares": squares}

    def unflatten(self, model: GaussianNB, tensors: Tensors, /) -> GaussianNB:
        """The same estimator, as if it had been fitted to all records; as it is where there are none yet."""
        records, sums, squares = (tensors[name] for name in ("records", "sums", "squares"))
        if not records.any():
            return model
        with np.errstate(invalid="ignore", divide="ignore"):
            model.theta_ = sums / records[:, None]
            variances = np.maximum(squares / records[:, None] - model.theta_**2, 0.0)
        mean = sums.sum(axis=0) / records.sum()
        model.epsilon_ = model.var_smoothing * (squares.sum(axis=0) / records.sum() - mean**2).max()
        model.class_count_, model.var_ = np.array(records), variances + model.epsilon_
        model.class_prior_ = records / records.sum()
        return model


@dataclass(frozen=True, slots=True)
class KMeans:
    """`MiniBatchKMeans`, each round one `partial_fit` at each site: one batch of all sites' records together.

    All sites begin with the same public centres, each counting as one record:
    `MiniBatchKMeans(k, init=centres, n_init=1, reassignment_ratio=0).partial_fit(centres)`. Reassignment of small
    clusters is drawn at random at each site, hence the 0.
    """

    combine: Combine = Combine.SUM

    def flatten(self, model: MiniBatchKMeans, /) -> dict[str, Array]:
        """How many records each cluster has had, and the sums of their features."""
        records = np.array(model._counts, np.float64)  # noqa: SLF001 - the centres alone don't say how firm they are
        return {"records": records, "sums": records[:, None] * model.cluster_centers_}

    def unflatten(self, model: MiniBatchKMeans, tensors: Tensors, /) -> MiniBatchKMeans:
        """The same estimator."""
        records = tensors["records"]
        model.cluster_centers_ = (tensors["sums"] / records[:, None]).astype(model.cluster_centers_.dtype)
        model._counts = records.astype(model._counts.dtype)  # noqa: SLF001
        return model
