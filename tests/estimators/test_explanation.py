"""What a prediction is said to rest on is what the method compares by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, REGRESSORS
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import fewshot_sklearn
from fewshot_sklearn import (
    DeepKernelRegressor,
    MAMLClassifier,
    MatchingNetClassifier,
    NearestClassMeanClassifier,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    SiameseClassifier,
    TaskMemory,
)
from fewshot_sklearn.estimators import explain


@pytest.fixture
def points():
    """Three classes in four dimensions: support rows, labels, queries."""
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"]).repeat(4)
    X = rng.normal(0, 1, (12, 4)) + rng.normal(0, 4, (3, 4)).repeat(4, 0)
    return X, y, X + rng.normal(0, 1, X.shape)


def near(explained, kind="support"):
    """Columns of one kind as arrays (n_rows, n_neighbors)."""
    of_kind = explained[explained["kind"] == kind]
    k = of_kind["rank"].max()
    return {name: of_kind[name].to_numpy().reshape(-1, k) for name in of_kind}


def test_neighbours_are_those_of_scikit_learn(points):
    X, y, X_query = points
    clf = ProtoNetClassifier().fit(X, y)
    told = near(explain(clf, X_query, X, y, n_neighbors=5))
    distances, rows = NearestNeighbors(n_neighbors=5).fit(X).kneighbors(X_query)
    np.testing.assert_allclose(told["distance"].astype(float), distances)
    assert (told["neighbor"] == rows).all()
    assert (told["y"] == y[rows]).all()
    assert (told["rank"] == np.arange(1, 6)).all()
    assert (told["metric"] == "euclidean").all()


def test_similarity_is_half_where_support_rows_are_as_far_apart(points):
    X, y, X_query = points
    clf = ProtoNetClassifier().fit(X, y)
    told = near(explain(clf, X_query, X, y, n_neighbors=12))
    usual = np.median(cdist(X, X)[np.triu_indices(12, 1)])
    expected = 1 / (1 + told["distance"].astype(float) / usual)
    np.testing.assert_allclose(told["similarity"].astype(float), expected)


def test_prediction_and_probability_are_the_estimators(points):
    X, y, X_query = points
    clf = ProtoNetClassifier().fit(X, y)
    told = explain(clf, X_query, X, y, n_neighbors=1)
    assert (told["prediction"] == clf.predict(X_query)).all()
    np.testing.assert_allclose(told["probability"], clf.predict_proba(X_query).max(1))


def test_features_are_those_of_the_trained_encoder(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"].fit(X[:9], y[:9])
    told = near(explain(clf, X[9:20], X[:9], y[:9], n_neighbors=2))
    expected = np.sort(cdist(clf.transform(X[9:20]), clf.transform(X[:9])), 1)[:, :2]
    np.testing.assert_allclose(told["distance"].astype(float), expected, rtol=1e-4)


@pytest.mark.parametrize("clf", [ProtoNetClassifier(metric="cosine"), MatchingNetClassifier()])
def test_methods_that_compare_directions_are_asked_for_the_cosine(points, clf):
    X, y, X_query = points
    told = near(explain(clf.fit(X, y), X_query, X, y, n_neighbors=12))
    expected = -np.sort(-cosine_similarity(clf.embed(X_query), clf.embed(X)), 1)
    assert (told["metric"] == "cosine").all()
    np.testing.assert_allclose(told["similarity"].astype(float), expected, atol=1e-6)
    np.testing.assert_allclose(told["distance"].astype(float), 1 - expected, atol=1e-6)


@pytest.mark.parametrize("normalization", ["cl2n", "l2n"])
def test_normalised_class_means_decide_by_the_cosine(trained, digits_new, normalization):
    X, y = digits_new
    clf = trained["NearestClassMeanClassifier"].set_params(normalization=normalization)
    clf.fit(X[:9], y[:9])
    told = near(explain(clf, X[9:20], X[:9], y[:9], n_neighbors=9))
    # of vectors of length one the squared distance is twice one minus the cosine
    expected = np.sort(cdist(clf.transform(X[9:20]), clf.transform(X[:9])) ** 2 / 2, 1)
    np.testing.assert_allclose(told["distance"].astype(float), expected, atol=1e-5)


def test_class_means_without_normalisation_decide_by_distance(points):
    X, y, X_query = points
    clf = NearestClassMeanClassifier(normalization="un").fit(X, y)
    assert (explain(clf, X_query, X, y)["metric"] == "euclidean").all()


def test_an_adapted_encoder_is_the_one_that_is_asked(trained, digits_new):
    X, y = digits_new
    clf = trained["MAMLClassifier"].set_params(dtype="float64").fit(X[:9], y[:9])
    told = near(explain(clf, X[9:20], X[:9], y[:9], n_neighbors=9))
    init, state = clf.meta_init.tensors, clf.state_

    def hidden(rows):
        scaled = (rows - init["x_mean"]) / init["x_scale"]
        weight, bias = (state[f"encoder.layers.0.{part}"] for part in ("weight", "bias"))
        return np.maximum(scaled @ weight.T + bias, 0)

    expected = np.sort(cdist(hidden(X[9:20]), hidden(X[:9])), 1)
    np.testing.assert_allclose(told["distance"].astype(float), expected, rtol=1e-6)
    assert not np.allclose(init["encoder.layers.0.weight"], state["encoder.layers.0.weight"])


def test_deep_kernels_are_asked_for_their_kernel():
    X = np.linspace(0, 3, 6)[:, None]
    reg = DeepKernelRegressor().fit(X, X[:, 0] ** 2)
    told = near(explain(reg, [[0.1], [2.0]], X, X[:, 0] ** 2, n_neighbors=6))
    similarity, distance = told["similarity"].astype(float), told["distance"].astype(float)
    log_k = np.log(similarity)  # of a squared exponential: proportional to the squared distance
    squared = (np.array([[0.1], [2.0]]) - told["neighbor"].astype(int) * 0.6) ** 2
    np.testing.assert_allclose(log_k / squared, np.full((2, 6), (log_k / squared)[0, 0]), rtol=1e-5)
    ratio = distance**2 / (2 - 2 * similarity)  # k(0, 0) of a stationary kernel
    np.testing.assert_allclose(ratio, np.full((2, 6), ratio[0, 0]), rtol=1e-5)
    assert set(told["metric"].ravel()) == {"kernel"}


def test_siamese_networks_are_asked_whether_rows_are_of_one_class(points):
    X, y, X_query = points
    X, y = X[::4], y[::4]  # one row a class: its probability is that of its class
    clf = SiameseClassifier().fit(X, y)
    told = explain(clf, X_query, X, y)
    p = told.pivot(index="row", columns="y", values="similarity").to_numpy()
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), clf.predict_proba(X_query), rtol=1e-6)


@pytest.mark.parametrize("name", CLASSIFIERS + REGRESSORS)
def test_every_estimator_can_be_explained(name, points):
    X, y, X_query = points
    y = y if name in CLASSIFIERS else np.arange(12.0)
    estimator = getattr(fewshot_sklearn, name)(random_state=0).fit(X, y)
    told = explain(estimator, X_query, X, y)
    assert len(told) == 3 * len(X_query)
    assert np.isfinite(told[["distance", "similarity"]].to_numpy(float)).all()
    assert (told["similarity"] <= 1 + 1e-9).all()
    self_told = near(explain(estimator, X, X, y, n_neighbors=1))
    if name != "SiameseClassifier":
        assert (self_told["neighbor"][:, 0] == np.arange(12)).all()


def test_labels_of_data_frames_are_kept(points):
    X, y, X_query = points
    names = [f"row {i}" for i in range(12)]
    frame = pd.DataFrame(X, columns=list("pqrs"), index=names)
    asked = pd.DataFrame(X_query[:2], columns=list("pqrs"), index=[70, 90])
    clf = ProtoNetClassifier().fit(frame, y)
    told = explain(clf, asked, frame, pd.Series(y, index=names), n_neighbors=2)
    plain = explain(ProtoNetClassifier().fit(X, y), X_query[:2], X, y, n_neighbors=2)
    assert told["row"].tolist() == [70, 70, 90, 90]
    assert told["neighbor"].tolist() == [names[i] for i in plain["neighbor"]]
    assert told["y"].tolist() == plain["y"].tolist()


def test_regressors_tell_the_standard_deviation_they_have():
    X, y = np.arange(6.0)[:, None], np.arange(6.0)
    reg = RidgeHeadRegressor().fit(X, y)
    told = explain(reg, [[2.2], [9.0]], X, y, n_neighbors=1)
    mean, std = reg.predict([[2.2], [9.0]], return_std=True)
    np.testing.assert_allclose(told["prediction"], mean)
    np.testing.assert_allclose(told["std"], std)
    assert told["y"].tolist() == [2.0, 5.0]


def test_several_targets_have_a_column_each():
    X, y = np.arange(6.0)[:, None], np.arange(12.0).reshape(6, 2)
    reg = RidgeHeadRegressor().fit(X, y)
    told = explain(reg, [[2.2]], X, y, n_neighbors=1)
    assert {"prediction_0", "prediction_1", "std_0", "std_1", "y_0", "y_1"} <= set(told)
    assert told[["y_0", "y_1"]].to_numpy().tolist() == [[4.0, 5.0]]
    np.testing.assert_allclose(told[["prediction_0", "prediction_1"]], reg.predict([[2.2]]))


def test_class_probabilities_as_labels_tell_the_most_probable():
    X = [[0.0], [5.0]]
    y = pd.DataFrame({"no": [0.1, 0.8], "yes": [0.9, 0.2]})
    told = explain(ProtoNetClassifier().fit(X, y), [[4.0]], X, y, n_neighbors=2)
    assert told["y"].tolist() == ["no", "yes"]


@pytest.mark.parametrize("n_rows", [1, 2])
def test_fewer_rows_than_neighbours_are_all_told(n_rows):
    X, y = np.arange(n_rows, dtype=float)[:, None], np.zeros(n_rows)
    told = explain(ProtoNetClassifier().fit(X, y), [[0.25]], X, y, n_neighbors=9)
    assert len(told) == n_rows
    assert told["similarity"].between(0.5, 1).all()


def test_past_classes_stand_beside_the_support(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"].fit(X[:9], y[:9])
    past = TaskMemory.from_data(clf, X[9:], y[9:])
    told = explain(clf, X[20:24], X[:9], y[:9], n_neighbors=2, past=past)
    assert told["kind"].tolist() == ["support", "support", "past", "past"] * 4
    ids, distances = past.nearest(clf.embed(X[20:24]), 2)
    assert set(told["y"].dropna()) <= {7, 8, 9}
    assert str(told["y"].dtype) == "Int64"  # whole numbers stay so, where others are missing
    found = near(told, "past")
    assert (found["neighbor"] == ids).all()
    np.testing.assert_allclose(found["distance"].astype(float), distances, rtol=1e-6)
    assert told.loc[told["kind"] == "past", ["y", "similarity"]].isna().all(axis=None)


def test_past_tasks_of_a_regression_are_those_that_explain_the_support(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    reg = trained["RidgeHeadRegressor"].fit(X[:20], y[:20])
    past = TaskMemory.from_data(reg, X, y, groups)
    told = explain(reg, X[20:23], X[:20], y[:20], n_neighbors=3, past=past)
    ids, errors = past.nearest_tasks(reg, X[:20], y[:20], 3)
    found = near(told, "past")
    assert (found["neighbor"] == ids).all()
    np.testing.assert_allclose(found["distance"].astype(float), np.tile(errors, (3, 1)))
    assert ids[0] == groups[0]  # the very task that the rows are of


def test_without_support_rows_there_is_the_past(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"].fit_prior([7, 8, 9])
    past = TaskMemory.from_data(clf, X, y)
    told = explain(clf, X[:2], None, None, n_neighbors=1, past=past)
    assert told["kind"].tolist() == ["past", "past"]
    np.testing.assert_allclose(told["probability"], 1 / 3)
    with pytest.raises(ValueError, match="nothing to explain by"):
        explain(clf, X[:2], None, None)


def test_what_does_not_fit_is_said(points, trained, digits_new):
    X, y, X_query = points
    clf = ProtoNetClassifier().fit(X, y)
    with pytest.raises(ValueError, match="n_neighbors"):
        explain(clf, X_query, X, y, n_neighbors=0)
    with pytest.raises(ValueError, match="y_support"):
        explain(clf, X_query, X, y[:-1])
    with pytest.raises(ValueError, match="y_support"):
        explain(clf, X_query, X, None)
    with pytest.raises(ValueError, match="of this package"):
        explain(KNeighborsClassifier().fit(X, y), X_query, X, y)
    with pytest.raises(ValueError, match="another meta-init"):
        past = TaskMemory.from_data(trained["ProtoNetClassifier"], *digits_new)
        explain(clf, X_query, X, y, past=past)


def test_explaining_changes_nothing(points):
    X, y, X_query = points
    clf = MAMLClassifier().fit(X, y)
    before = {name: array.copy() for name, array in clf.state_.items()}
    explain(clf, X_query, X, y)
    assert all(np.array_equal(before[name], clf.state_[name]) for name in before)
