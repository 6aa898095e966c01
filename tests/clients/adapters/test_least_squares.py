"""Least squares from sums over sites: scikit-learn's own estimators of the pooled records."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

from aggregator.local.trial import plain, try_out
from clients.adapters.least_squares import LeastSquares, Moments
from clients.training import Trained

X, Y = load_diabetes(return_X_y=True)
X, Y = X * 20, (Y - 150) / 80  # public constants: features and labels of about one
SITES = (slice(0, 50), slice(50, 300), slice(300, 442))
ESTIMATORS = [
    *(LinearRegression(), LinearRegression(fit_intercept=False), Ridge(alpha=3.0)),
    Ridge(alpha=0.1, fit_intercept=False),
]


def new():
    return Moments.empty(10)


def trains():
    def at(one):
        return lambda moments: Trained(moments.with_records(X[one], Y[one]), len(Y[one]))

    return [at(one) for one in SITES]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_the_federated_model_is_the_pooled_one(estimator):
    moments = plain(LeastSquares(), new, trains(), rounds=1)
    pooled = type(estimator)(**estimator.get_params()).fit(X, Y)
    found = moments.fitted(estimator)
    assert np.allclose(found.coef_, pooled.coef_, atol=1e-10)
    assert found.intercept_ == pytest.approx(pooled.intercept_, abs=1e-10)
    assert np.allclose(found.predict(X), pooled.predict(X), atol=1e-9)


async def test_and_so_it_is_over_secure_rounds():
    found = await try_out(LeastSquares(), new, trains(), rounds=1, clip=64.0, weight_max=250, value_bits=48)
    pooled = Ridge(alpha=3.0).fit(X, Y)
    assert np.allclose(found[0].fitted(Ridge(alpha=3.0)).coef_, pooled.coef_, atol=1e-6)
