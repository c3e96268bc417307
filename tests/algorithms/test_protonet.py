"""Prototypical networks against scikit-learn's nearest centroid and plain numpy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.neighbors import NearestCentroid

from fewshot_sklearn import ProtoNetClassifier

pytestmark = pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
LOADERS = {"iris": load_iris, "wine": load_wine, "digits": load_digits}


@pytest.fixture(params=LOADERS)
def data(request):
    X, y = LOADERS[request.param](return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    return X[rows], y[rows]


def class_means(X, y, w=None):
    return np.array([np.average(X[y == k], axis=0, weights=None if w is None else w[y == k])
                     for k in np.unique(y)])  # fmt: skip


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def mlp(init, X):
    """The meta-trained encoder, in numpy and float64."""
    t = {name: array.astype(float) for name, array in init.tensors.items()}
    Z = (X - t["x_mean"] - t["x_rest"]) / t["x_scale"]
    for name in sorted(k for k in t if k.startswith("encoder.") and k.endswith("weight")):
        Z = np.maximum(Z @ t[name].T + t[name.replace("weight", "bias")], 0)
    return Z


def test_nearest_centroid(data):
    X, y = data
    ours, theirs = ProtoNetClassifier().fit(X[:30], y[:30]), NearestCentroid().fit(X[:30], y[:30])
    np.testing.assert_allclose(ours.prototypes_, theirs.centroids_, rtol=1e-12)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_nearest_centroid_far_from_the_origin(data):
    X, y = data
    expected = NearestCentroid().fit(X[:30], y[:30]).predict(X)
    far = ProtoNetClassifier().fit(X[:30] + 1e8, y[:30])
    np.testing.assert_array_equal(far.predict(X + 1e8), expected)


def test_prototypes_are_weighted_means(data):
    X, y = data
    w = np.random.default_rng(1).uniform(0.1, 3, len(y))
    clf = ProtoNetClassifier().fit(X, y, sample_weight=w)
    np.testing.assert_allclose(clf.prototypes_, class_means(X, y, w), rtol=1e-10)


def test_probabilities_are_the_softmax_of_minus_squared_distances(data):
    X, y = data
    X = X / X.std()
    expected = softmax(-cdist(X, class_means(X, y), "sqeuclidean"), axis=1)
    np.testing.assert_allclose(
        ProtoNetClassifier().fit(X, y).predict_proba(X), expected, rtol=1e-7, atol=1e-12
    )


def test_cosine(data):
    X, y = data
    means = class_means(unit(X), y)
    clf = ProtoNetClassifier(metric="cosine").fit(X, y)
    np.testing.assert_allclose(clf.prototypes_, means, rtol=1e-10)
    expected = softmax(10 * (1 - cdist(X, means, "cosine")), axis=1)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-6)


def test_cosine_sees_no_length(data):
    X, y = data
    length = np.random.default_rng(0).uniform(0.1, 10, (len(X), 1))
    plain = ProtoNetClassifier(metric="cosine").fit(X, y)
    scaled = ProtoNetClassifier(metric="cosine").fit(X * length, y)
    np.testing.assert_allclose(scaled.predict_proba(X), plain.predict_proba(X), rtol=1e-9)


def test_transform_gives_the_rows_that_prototypes_average(data):
    X, y = data
    for metric in ("euclidean", "cosine"):
        clf = ProtoNetClassifier(metric=metric).fit(X, y)
        Z = clf.transform(X)
        np.testing.assert_allclose(Z, unit(X) if metric == "cosine" else X, rtol=1e-12)
        np.testing.assert_allclose(class_means(Z, y), clf.prototypes_, rtol=1e-10)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_meta_trained(trained, digits_new, metric):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"].set_params(metric=metric, dtype="float64")
    clf.fit(X[:12], y[:12])
    Z, scale = mlp(clf.meta_init, X), np.exp(clf.meta_init.tensors["log_scale"].astype(float))
    assert scale != 1.0  # it was learned
    if metric == "cosine":
        Z = unit(Z)
        closeness = 1 - cdist(Z, class_means(Z[:12], y[:12]), "cosine")
    else:
        closeness = -cdist(Z, class_means(Z[:12], y[:12]), "sqeuclidean")
    np.testing.assert_allclose(clf.transform(X), Z, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        clf.predict_proba(X), softmax(scale * closeness, axis=1), rtol=1e-6, atol=1e-12
    )


def test_one_row_a_class_is_nothing_to_warn_of(data):
    X, _ = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = ProtoNetClassifier().fit(X[:25], np.arange(25))
    assert len(clf.classes_) == 25


def test_distances_of_many_features_start_where_a_softmax_can_learn():
    wide, usual = (
        ProtoNetClassifier(encoder="mlp", encoder__hidden=(n,))._new_learner((4,), None, 0)
        for n in (256, 64)
    )
    assert usual.log_scale.exp().item() == 1.0
    assert wide.log_scale.exp().item() == pytest.approx(0.25)
