"""scikit-learn's models through the adapters: back and forth without loss, and equal to pooled where they are sums."""

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from clients.adapters.contract import change, moved
from clients.adapters.sklearn import KMeans, Linear, NaiveBayes, Perceptron

RNG = np.random.default_rng(7)
X = RNG.normal(size=(90, 4))
Y = (X[:, 0] + 0.5 * X[:, 1] ** 2 > 0.3).astype(int)
SITES = (slice(0, 20), slice(20, 65), slice(65, 90))


def together(adapter, start, models, weights):
    """What a round makes of the sites' models, computed in the open."""
    changes = [change(adapter.combine, start, adapter.flatten(one), n) for one, n in zip(models, weights, strict=True)]
    mean = {name: np.average([one[name] for one in changes], axis=0, weights=weights) for name in start}
    return moved(adapter.combine, start, mean, sum(weights))


@pytest.mark.parametrize(
    ("adapter", "new"),
    [
        (Linear(), LogisticRegression),
        (Linear(), lambda: SGDClassifier(random_state=0)),
        (Linear(), Ridge),
        (Perceptron(), lambda: MLPClassifier((5, 3), max_iter=3, solver="lbfgs", random_state=0)),
        (Perceptron(), lambda: MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, solver="lbfgs", random_state=0)),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_model_predicts_the_same_after_a_journey(adapter, new):
    there, here = new().fit(X, Y), new().fit(X[::-1], Y)
    assert not np.allclose(there.predict(X), here.predict(X))
    before = {name: array.copy() for name, array in adapter.flatten(there).items()}
    assert adapter.unflatten(here, before) is here
    assert np.array_equal(here.predict(X), there.predict(X))
    assert all(np.array_equal(array, before[name]) for name, array in adapter.flatten(here).items())


@pytest.mark.parametrize(
    ("adapter", "model"),
    [
        (Linear(), Ridge().fit(X, Y)),
        (Perceptron(), MLPRegressor(hidden_layer_sizes=(3,), random_state=0).partial_fit(X, Y)),
    ],
)
def test_flattened_arrays_are_copies(adapter, model):
    before = model.predict(X)
    for array in adapter.flatten(model).values():
        array[...] = 1
    assert np.array_equal(model.predict(X), before)


def test_a_perceptron_goes_on_training_from_the_mean():
    """Its optimiser holds the very arrays, so they must be changed in place."""
    model, other = (MLPClassifier((6,), random_state=seed).partial_fit(X, Y, classes=[0, 1]) for seed in (0, 1))
    Perceptron().unflatten(model, Perceptron().flatten(other))
    before = Perceptron().flatten(model)
    model.partial_fit(X, Y)
    after = Perceptron().flatten(model)
    assert all(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2]])
def test_naive_bayes_is_the_pooled_one(classes):
    labels = np.where((len(classes) > 2) & (X[:, 2] > 0.8), 2, Y)
    sites = [GaussianNB().partial_fit(X[one], labels[one], classes) for one in SITES]
    weights = [one.stop - one.start for one in SITES]
    start = NaiveBayes.empty(len(classes), 4)
    found = NaiveBayes().unflatten(sites[0], together(NaiveBayes(), start, sites, weights))
    pooled = GaussianNB().fit(X, labels)
    for name in ("theta_", "var_", "class_prior_", "class_count_", "epsilon_"):
        assert np.allclose(getattr(found, name), getattr(pooled, name), rtol=1e-12), name
    assert np.allclose(found.predict_proba(X), pooled.predict_proba(X))


def test_naive_bayes_of_no_record_leaves_the_estimator_alone():
    model = GaussianNB()
    assert NaiveBayes().unflatten(model, NaiveBayes.empty(2, 4)) is model
    assert not hasattr(model, "theta_")


def test_k_means_takes_all_sites_records_for_one_batch():
    centres = X[[3, 30, 80]]

    def new():
        return MiniBatchKMeans(3, init=centres, n_init=1, reassignment_ratio=0).partial_fit(centres)

    adapter, shared = KMeans(), KMeans().flatten(new())
    pooled = new()
    for _ in range(3):
        sites = [adapter.unflatten(new(), shared).partial_fit(X[one]) for one in SITES]
        shared = together(adapter, shared, sites, [one.stop - one.start for one in SITES])
        pooled.partial_fit(X)
    found = adapter.unflatten(new(), shared)
    assert np.allclose(found.cluster_centers_, pooled.cluster_centers_, rtol=1e-12)
    assert np.array_equal(found.predict(X), pooled.predict(X))
