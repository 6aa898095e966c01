"""Least squares by sums: scikit-learn's `LinearRegression` and `Ridge` of all sites' records, exactly, in one round.

experiment's first model    LeastSquares().flatten(Moments.empty(30))
a site's training           lambda moments: Trained(moments.with_records(x, y), len(y))
afterwards                  model = moments.fitted(Ridge(alpha=1.0))
"""

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LinearRegression, Ridge

from clients.adapters.contract import Array, Combine, Tensors

Floats: TypeAlias = npt.NDArray[np.float64]
E = TypeVar("E", LinearRegression, Ridge)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """All that least squares needs of records: sums of products of a one, the features and the label.

    Attributes:
        products: shape (features + 2, features + 2); the first row has the counts and the sums themselves.
    """

    products: Floats = field(repr=False)

    @staticmethod
    def empty(features: int) -> "Moments":
        """Of no record."""
        return Moments(np.zeros((features + 2, features + 2)))

    def with_records(self, features: npt.ArrayLike, labels: npt.ArrayLike) -> "Moments":
        """With further records: features of shape (n, f), labels of shape (n,)."""
        columns = np.column_stack([np.ones(len(np.asarray(labels))), features, labels])
        return Moments(self.products + columns.T @ columns)

    def fitted(self, estimator: E) -> E:
        """The estimator as if it had been fitted to the records; a ridge shrinks by its `alpha`, one number."""
        count, sums = self.products[0, 0], self.products[0, 1:]
        centred = self.products[1:, 1:]
        if estimator.fit_intercept:
            centred = centred - np.outer(sums, sums) / count
        shrink = estimator.alpha if isinstance(estimator, Ridge) else 0.0
        gram = centred[:-1, :-1] + shrink * np.eye(len(sums) - 1)
        estimator.coef_ = np.linalg.lstsq(gram, centred[:-1, -1], rcond=None)[0]
        means = sums / count
        estimator.intercept_ = float(means[-1] - means[:-1] @ estimator.coef_) if estimator.fit_intercept else 0.0
        return estimator


@dataclass(frozen=True, slots=True)
class LeastSquares:
    """The adapter of `Moments`. Standardise first, by public constants: a clip on squares is wide."""

    combine: Combine = Combine.SUM

    def flatten(self, model: Moments, /) -> dict[str, Array]:
        """A copy."""
        return {"products": model.products.copy()}

    def unflatten(self, model: Moments, tensors: Tensors, /) -> Moments:
        """Other moments."""
        return Moments(np.array(tensors["products"], np.float64))
