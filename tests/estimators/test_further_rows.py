"""`partial_fit` is a fit on all rows, `forget` one without some classes, for every estimator."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    CLASSIFIERS,
    REGRESSORS,
    every_classifier,
    every_estimator,
    every_regressor,
    meta_train,
    scores_of,
)
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils import get_tags

import fewshot_sklearn
from fewshot_sklearn import (
    GaussianProtoNetClassifier,
    ProtoNetClassifier,
    RidgeHeadClassifier,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import ManyTasks
from fewshot_sklearn.tasks import Support

#: Those that need no rows that were there before, given a meta-init.
INTO_STATE = (
    "CAMLClassifier",
    "DN4Classifier",
    "DeepEMDClassifier",
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "FEATClassifier",
    "FRNClassifier",
    "GaussianProtoNetClassifier",
    "InContextClassifier",
    "InContextRegressor",
    "KernelLogisticClassifier",
    "MatchingNetClassifier",
    "MetaOptNetClassifier",
    "NearestClassMeanClassifier",
    "ProtoNetClassifier",
    "R2D2Classifier",
    "RelationNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "SiameseClassifier",
    "SimpleCNAPSClassifier",
    "TransductiveLaplacianShotClassifier",
    "TransductivePTMAPClassifier",
    "TransductivePropagationClassifier",
    "TransductiveTIMClassifier",
)
into_state = pytest.mark.parametrize("name", INTO_STATE)
classes_into_state = pytest.mark.parametrize("name", [n for n in INTO_STATE if n in CLASSIFIERS])
SMALL = {
    "CAMLClassifier": {"n_layers": 1, "n_hidden": 16, "encoder": "mlp"},
    "InContextClassifier": {"n_layers": 1, "n_hidden": 16, "encoder": "mlp"},
    "InContextRegressor": {"n_layers": 1, "n_hidden": 16},
    "NeuralProcessRegressor": {"n_hidden": 16},
}
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


class Past(dict):
    """Estimators that are meta-trained when they are first asked for, in double precision."""

    def __missing__(self, name):
        sizes = {"encoder": "mlp", "encoder__hidden": (8,)} | SMALL.get(name, {})
        start = getattr(fewshot_sklearn, name)(**sizes, random_state=0)
        few = {"n_shot": 3, "n_query": 3, "n_episodes": 8, "max_epochs": 1}
        if name in CLASSIFIERS:
            X, y = load_digits(return_X_y=True)
            made = meta_train(start, X[y < 7], y[y < 7], n_way=3, **few)
        else:
            tasks = make_sinusoid_tasks(20, n_shot=10, n_query=10, random_state=0)
            made = meta_train(start, tasks.data, 20 * tasks.target + 9, tasks.groups, **few)
        self[name] = made.set_params(dtype="float64")
        return self[name]


@pytest.fixture(scope="module")
def past():
    return Past()


@pytest.fixture(params=["past", "no past"])
def fresh(request, past):
    """Callable name -> an estimator that was not fitted."""

    def make(name):
        if request.param == "past":
            return clone(past[name])
        return getattr(fewshot_sklearn, name)(random_state=0)

    return make


def rows_of(name, n=18):
    """(X, y, weights, X_query): classes 7 to 9 in order, so that they come one after the other."""
    rng = np.random.default_rng(3)
    w = rng.choice([0.5, 1.0, 2.0], n)
    if name in REGRESSORS:
        X = rng.uniform(-5, 5, (n + 10, 1))
        return X[:n], 20 * np.sin(X[:n, 0]) + 9, w, X[n:]
    X, y = load_digits(return_X_y=True)
    each = [np.flatnonzero(y == label) for label in (8, 7, 9)]
    rows = np.concatenate([some[: n // 3] for some in each])
    return X[rows], y[rows], w, X[np.concatenate([some[n:] for some in each])[::30]]


def in_pieces(estimator, X, y, w, cuts):
    for a, b in pairwise([0, *cuts, len(X)]):
        estimator.partial_fit(X[a:b], y[a:b], sample_weight=w[a:b])
    return estimator


# ------------------------------------------------------------------ a fit on all rows
@every_estimator
def test_pieces_are_a_fit_on_all(fresh, name):
    X, y, w, X_query = rows_of(name)
    pieces = in_pieces(fresh(name), X, y, w, [7, 8, 14])  # another class comes with each
    whole = fresh(name).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(scores_of(pieces, X_query), scores_of(whole, X_query), **CLOSE)
    if name in CLASSIFIERS:
        np.testing.assert_array_equal(pieces.classes_, whole.classes_)
    explained = [est.explain(X_query[:2], n_neighbors=3) for est in (pieces, whole)]
    pd.testing.assert_frame_equal(*explained, rtol=1e-5, atol=1e-7)
    again = pickle.loads(pickle.dumps(pieces))
    np.testing.assert_array_equal(scores_of(again, X_query), scores_of(pieces, X_query))
    # nothing of one fit is left in the next
    np.testing.assert_array_equal(
        scores_of(again.fit(X, y, sample_weight=w), X_query), scores_of(whole, X_query)
    )


@every_estimator
def test_the_order_of_rows_and_classes_does_not_matter(past, name):
    X, y, w, X_query = rows_of(name)
    whole = clone(past[name]).fit(X, y, sample_weight=w)
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(X))
        pieces = in_pieces(clone(past[name]), X[order], y[order], w[order], [1, 2, 9])
        np.testing.assert_allclose(
            scores_of(pieces, X_query), scores_of(whole, X_query), rtol=1e-5, atol=1e-7
        )


@into_state
def test_in_single_precision(past, name):
    X, y, w, X_query = rows_of(name)
    pieces = in_pieces(clone(past[name]).set_params(dtype="float32"), X, y, w, range(1, len(X)))
    whole = clone(past[name]).set_params(dtype="float32").fit(X, y, sample_weight=w)
    scale = np.abs(scores_of(whole, X_query)).max()
    assert np.abs(scores_of(pieces, X_query) - scores_of(whole, X_query)).max() < 1e-4 * scale


@every_estimator
def test_rows_of_weight_zero_change_nothing(fresh, name):
    X, y, w, X_query = rows_of(name)
    est = fresh(name).fit(X, y, sample_weight=w)
    before = scores_of(est, X_query)
    est.partial_fit(X[:3] + 1, y[:3], sample_weight=np.zeros(3))
    np.testing.assert_allclose(scores_of(est, X_query), before, rtol=1e-5, atol=1e-7)


@every_estimator
def test_after_fit_prior(past, name):
    X, y, w, X_query = rows_of(name)
    prior = clone(past[name])
    prior = prior.fit_prior([7, 8, 9]) if name in CLASSIFIERS else prior.fit_prior()
    np.testing.assert_array_equal(
        scores_of(prior.partial_fit(X, y, sample_weight=w), X_query),
        scores_of(clone(past[name]).fit(X, y, sample_weight=w), X_query),
    )


# ------------------------------------------------------------------ without the old rows
@every_estimator
def test_without_the_rows_before(past, name):
    X, y, w, X_query = rows_of(name)
    est = clone(past[name]).fit(X[:14], y[:14], sample_weight=w[:14])
    before = scores_of(est, X_query)
    size = len(pickle.dumps(est))
    assert est.drop_support() is est and len(pickle.dumps(est)) < size
    np.testing.assert_array_equal(scores_of(est, X_query), before)
    with pytest.raises(ValueError, match="nothing to explain by"):
        est.explain(X_query)
    est = pickle.loads(pickle.dumps(est))
    if name not in INTO_STATE:
        state = pickle.dumps(est)
        with pytest.raises(ValueError, match=r"rows no more.*adapts to all rows at once"):
            est.partial_fit(X[14:], y[14:])
        assert pickle.dumps(est) == state
        return
    whole = clone(past[name]).fit(X, y, sample_weight=w)
    est.partial_fit(X[14:16], y[14:16], sample_weight=w[14:16])
    est.partial_fit(X[16:], y[16:], sample_weight=w[16:])
    np.testing.assert_allclose(scores_of(est, X_query), scores_of(whole, X_query), **CLOSE)


@classes_into_state
def test_37_new_classes_beside_60(past, name):
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 16, (97, 64))
    labels = np.array([f"class {i:02}" for i in rng.permutation(97)])
    y = np.repeat(np.arange(97), 3)
    X, y, asked = centres[y] + rng.normal(size=(len(y), 64)), labels[y], centres + 0.5
    old = np.isin(y, labels[:60])
    est = clone(past[name]).fit(X[old], y[old]).drop_support()
    est = pickle.loads(pickle.dumps(est)).partial_fit(X[~old], y[~old])
    order = np.r_[np.flatnonzero(old), np.flatnonzero(~old)]
    whole = clone(past[name]).fit(X[order], y[order])
    np.testing.assert_array_equal(est.classes_, whole.classes_)
    np.testing.assert_allclose(est.predict_proba(asked), whole.predict_proba(asked), **CLOSE)


@every_regressor
def test_two_targets_of_unlike_size(past, name):
    X, y, w, X_query = rows_of(name)
    Y = np.c_[1e4 * y, 1e-4 * y**2]
    pieces = in_pieces(getattr(fewshot_sklearn, name)(random_state=0), X, Y, w, [5])
    whole = getattr(fewshot_sklearn, name)(random_state=0).fit(X, Y, sample_weight=w)
    np.testing.assert_allclose(pieces.predict(X_query), whole.predict(X_query), **CLOSE)
    with pytest.raises(ValueError, match=r"axes|output"):
        pieces.partial_fit(X, y)


def test_uncertainty_goes_on(past):
    X, y, w, X_query = rows_of("RidgeHeadRegressor", 30)
    pieces = in_pieces(clone(past["RidgeHeadRegressor"]), X, y, w, range(1, 30))
    whole = clone(past["RidgeHeadRegressor"]).fit(X, y, sample_weight=w)
    for ours, theirs in zip(
        pieces.predict(X_query, return_cov=True), whole.predict(X_query, return_cov=True),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)


# ------------------------------------------------------------------ forgetting
@every_classifier
@pytest.mark.parametrize("gone", [[8], 7, [9, 8]])
def test_forgetting_is_a_fit_without(fresh, name, gone):
    X, y, w, X_query = rows_of(name)
    stay = ~np.isin(y, gone)
    if fresh(name).n_augment == 0:
        est = fresh(name).fit(X, y, sample_weight=w)
        assert est.forget(gone) is est
        whole = fresh(name).fit(X[stay], y[stay], sample_weight=w[stay])
        np.testing.assert_array_equal(est.classes_, whole.classes_)
        np.testing.assert_allclose(
            est.predict_proba(X_query), whole.predict_proba(X_query), rtol=1e-5, atol=1e-8
        )
    est.partial_fit(X[~stay], y[~stay], sample_weight=w[~stay])
    back = fresh(name).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(
        est.predict_proba(X_query), back.predict_proba(X_query), rtol=1e-5, atol=1e-7
    )


@classes_into_state
def test_forgetting_without_the_rows(past, name):
    X, y, w, X_query = rows_of(name, 6)
    est = clone(past[name]).fit(X, y, sample_weight=w).drop_support()
    est.forget([8])
    whole = clone(past[name]).fit(X[y != 8], y[y != 8], sample_weight=w[y != 8])
    np.testing.assert_allclose(est.predict_proba(X_query), whole.predict_proba(X_query), **CLOSE)
    known = {k: v.shape for k, v in whole.state_.items()}
    assert {k: v.shape for k, v in est.state_.items()} == known  # nothing of them is left


def test_a_sum_over_all_classes_forgets_none(past):
    X, y, _, X_query = rows_of("RidgeHeadClassifier", 60)  # more rows than features
    est = clone(past["RidgeHeadClassifier"]).fit(X, y)
    lean = copy.deepcopy(est).drop_support()
    before = lean.predict_proba(X_query)
    with pytest.raises(ValueError, match="rows no more"):
        lean.forget(7)
    np.testing.assert_array_equal(lean.predict_proba(X_query), before)
    whole = clone(est).fit(X[y != 7], y[y != 7])
    np.testing.assert_array_equal(
        est.forget(7).predict_proba(X_query), whole.predict_proba(X_query)
    )


@every_classifier
def test_what_cannot_be_forgotten(past, name):
    X, y, _, X_query = rows_of(name)
    est = clone(past[name]).fit(X, y)
    before = est.predict_proba(X_query)
    for wrong, told in (([6], "6"), (["a", 7], "'a'"), ([7, 8, 9], "all classes")):
        with pytest.raises(ValueError, match=f"classes holds.*{told}"):
            est.forget(wrong)
    np.testing.assert_array_equal(est.predict_proba(X_query), before)
    with pytest.raises(ValueError, match="all classes that have rows"):
        clone(past[name]).partial_fit(X[:2], y[:2], classes=[1, 8]).forget(8)


def test_a_prior_forgets(past):
    est = clone(past["ProtoNetClassifier"]).fit_prior(["a", "b", "c"], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(est.forget("b").predict_proba(np.zeros((1, 64))), [[2 / 3, 1 / 3]])


# ------------------------------------------------------------------ kinds of labels and rows
@every_classifier
def test_classes_announced(past, name):
    X, y, _, X_query = rows_of(name)
    est = clone(past[name]).partial_fit(X[:12], y[:12], classes=[9, 8, 7, 5])
    assert list(est.classes_) == [5, 7, 8, 9]
    proba = est.predict_proba(X_query)
    assert (proba[:, [0, 3]] == 0).all()
    two = clone(past[name]).fit(X[:12], y[:12])
    np.testing.assert_allclose(proba[:, 1:3], two.predict_proba(X_query), rtol=1e-5, atol=1e-8)
    est.partial_fit(X[12:], y[12:], classes=[2])
    assert list(est.classes_) == [2, 5, 7, 8, 9]
    whole = clone(past[name]).fit(X, y)
    np.testing.assert_allclose(
        est.predict_proba(X_query)[:, 2:], whole.predict_proba(X_query), rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize("refinement", ["soft", "distractors"])
def test_unlabelled_rows(refinement):
    X, y, w, X_query = rows_of("ProtoNetClassifier")
    y = np.where(np.arange(18) % 3 == 0, -1, y)
    start = ProtoNetClassifier(unlabelled=-1, refinement=refinement)
    pieces = in_pieces(clone(start), X, y, w, [9])
    pieces.partial_fit(X_query[:2], [-1, -1])
    whole = clone(start).fit(np.r_[X, X_query[:2]], np.r_[y, -1, -1], sample_weight=np.r_[w, 1, 1])
    np.testing.assert_array_equal(pieces.predict_proba(X_query), whole.predict_proba(X_query))
    pieces.forget(7)
    stay = np.r_[y, -1, -1] != 7
    whole.fit(np.r_[X, X_query[:2]][stay], np.r_[y, -1, -1][stay],
              sample_weight=np.r_[w, 1, 1][stay])  # fmt: skip
    np.testing.assert_array_equal(pieces.predict_proba(X_query), whole.predict_proba(X_query))


def double(X, rng):
    return X + rng.normal(size=X.shape)


@pytest.mark.parametrize("make", [ProtoNetClassifier, RidgeHeadClassifier])
def test_altered_copies(past, make):
    X, y, w, X_query = rows_of(make.__name__)
    start = clone(past[make.__name__]).set_params(n_augment=2, augment=double, random_state=3)
    pieces, whole = in_pieces(clone(start), X, y, w, [9]), clone(start).fit(X, y, sample_weight=w)
    np.testing.assert_array_equal(pieces.predict_proba(X_query), whole.predict_proba(X_query))
    with pytest.raises(ValueError, match="altered copies"):
        pieces.drop_support().partial_fit(X, y)


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier"])
def test_class_probabilities(past, name):
    X, _, w, X_query = rows_of(name)
    y = np.random.default_rng(0).dirichlet(np.ones(3), 18)
    frame = pd.DataFrame(y, columns=["b", "c", "a"])
    est = clone(past[name]).fit(X[:9], frame[:9], sample_weight=w[:9])
    est.partial_fit(X[9:], frame[9:], sample_weight=w[9:])
    whole = clone(past[name]).fit(X, frame, sample_weight=w)
    np.testing.assert_allclose(est.predict_proba(X_query), whole.predict_proba(X_query), **CLOSE)
    pd.testing.assert_frame_equal(*(e.explain(X_query[:2]) for e in (est, whole)))
    more = pd.DataFrame(np.eye(2)[[0, 1]], columns=["a", "d"])
    assert list(est.partial_fit(X[:2], more).classes_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="held class probabilities before, and now class labels"):
        est.partial_fit(X[:2], ["a", "b"])
    with pytest.raises(ValueError, match="forget needs labels"):
        est.forget("a")
    hard = clone(past[name]).fit(X[:2], ["a", "b"])
    with pytest.raises(ValueError, match="held class labels before, and now class probabilities"):
        hard.partial_fit(X[9:], frame[9:])


@pytest.mark.parametrize("dtype", [None, object, "string", "category"])
def test_strings_grow(past, dtype):
    X, _, _, X_query = rows_of("ProtoNetClassifier", 6)
    y = pd.Series(["b", "b", "a", "longer", "a", "z"], dtype=dtype)
    est = clone(past["ProtoNetClassifier"]).fit(X[:3], y[:3]).partial_fit(X[3:], y[3:])
    whole = clone(past["ProtoNetClassifier"]).fit(X, y)
    assert est.classes_.tolist() == ["a", "b", "longer", "z"]
    np.testing.assert_allclose(est.predict_proba(X_query), whole.predict_proba(X_query), **CLOSE)
    assert set(est.predict(X_query)) <= set(y)


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier"])
@pytest.mark.parametrize("other", [["1", "2"], [True, False]])
def test_labels_of_another_kind_are_refused(past, name, other):
    X, y, _, X_query = rows_of(name)
    est = clone(past[name]).fit(X, y)
    before = pickle.dumps(est)
    with pytest.raises(ValueError, match="one kind"):
        est.partial_fit(X[:2], other)
    assert pickle.dumps(est) == before
    assert len(est.predict(X_query))


def test_names_of_rows_and_columns(past):
    X, y, _, _ = rows_of("ProtoNetClassifier")
    columns = [f"f{i}" for i in range(64)]
    frame = pd.DataFrame(X, [f"row {i}" for i in range(18)], columns)
    est = clone(past["ProtoNetClassifier"]).fit(frame[:9], y[:9])
    est.partial_fit(frame[9:], y[9:])
    whole = clone(est).fit(frame, y)
    pd.testing.assert_frame_equal(est.explain(frame[5:14]), whole.explain(frame[5:14]))
    with pytest.raises(ValueError, match="feature names"):
        est.partial_fit(frame.rename(columns={"f0": "g"}), y)
    plain = clone(est).fit(pd.DataFrame(X)[:9], y[:9]).partial_fit(pd.DataFrame(X)[9:], y[9:])
    assert plain._support[2] is None


def test_rows_of_a_table():
    table = pd.DataFrame({
        "size": [1.0, 2.0, 5.0, 6.0, 1.5, 5.5, 9.0, 9.5], "kind": list("aabbabcc"),
    })  # fmt: skip
    many = pd.concat([table] * 6, ignore_index=True)
    noise = np.random.default_rng(0).normal(size=len(many))
    many["size"] += 0.1 * noise
    labels = np.tile([0, 0, 1, 1, 0, 1, 2, 2], 6)
    for make in (ProtoNetClassifier, fewshot_sklearn.MAMLClassifier):
        start = make(encoder="mlp", random_state=0)
        learned = meta_train(start, many, labels, n_way=2, n_shot=1, n_query=1, n_episodes=4,
                             max_epochs=1).set_params(dtype="float64")  # fmt: skip
        est = clone(learned).fit(table[:5], [7, 7, 8, 8, 7])
        est.partial_fit(table[5:], [8, 9, 9])
        whole = clone(learned).fit(table, [7, 7, 8, 8, 7, 8, 9, 9])
        np.testing.assert_allclose(est.predict_proba(table), whole.predict_proba(table), **CLOSE)


# ------------------------------------------------------------------ refused, or left as it was
@every_estimator
def test_what_is_refused_changes_nothing(fresh, name):
    X, y, w, _ = rows_of(name)
    est = fresh(name).fit(X, y, sample_weight=w)
    before = pickle.dumps(est)
    wrong = [
        (X[:3, :0], y[:3], None), (np.c_[X, X][:3], y[:3], None), (X[:3], y[:2], None),
        (X[:3], y[:3], [-1, 1, 1]), (X[:0], y[:0], None),
        (X[:3], [np.nan, 1, 2], None), (np.full((3, X.shape[1]), "x"), y[:3], None),
        (X[:3] * (np.inf if get_tags(est).input_tags.allow_nan else np.nan), y[:3], None),
    ]  # fmt: skip
    for rows, known, weights in wrong:
        with pytest.raises(ValueError):
            est.partial_fit(rows, known, sample_weight=weights)
    assert pickle.dumps(est) == before
    with pytest.raises(ValueError):
        fresh(name).partial_fit(X * np.nan, y)
    never = fresh(name)
    with pytest.raises(ValueError):
        never.partial_fit(X, y, sample_weight=np.zeros(len(X)))
    assert not hasattr(never, "state_")


@into_state
def test_a_parameter_that_changed_is_a_fit_anew(past, name):
    X, y, w, X_query = rows_of(name)
    other = copy.deepcopy(past[name].meta_init)
    tensors = other.state_dict()
    key = next(k for k in tensors if k.endswith("weight"))
    changed = type(other).from_state({**tensors, key: 2 * tensors[key]}, other.spec)
    est = clone(past[name]).fit(X[:9], y[:9], sample_weight=w[:9]).set_params(meta_init=changed)
    est.partial_fit(X[9:], y[9:], sample_weight=w[9:])
    whole = clone(past[name]).set_params(meta_init=changed).fit(X, y, sample_weight=w)
    np.testing.assert_array_equal(scores_of(est, X_query), scores_of(whole, X_query))
    gone = clone(past[name]).fit(X[:9], y[:9]).drop_support().set_params(meta_init=changed)
    with pytest.raises(ValueError, match="parameters have changed"):
        gone.partial_fit(X[9:], y[9:])


@into_state
def test_a_state_that_came_without_rows_is_not_forgotten(past, name):
    """As estimators of one task of many are made: they must not start from nothing."""
    X, y, _, _ = rows_of(name)
    fitted, handed = clone(past[name]).fit(X, y), clone(past[name])
    told = ("n_features_in_", "meta_init_", "state_", "_y_ndim", "classes_")
    vars(handed).update({k: v for k, v in vars(fitted).items() if k in told})
    with pytest.raises(ValueError, match="rows no more"):
        handed.partial_fit(X[:2], y[:2])


@pytest.mark.parametrize("units", [(1e-14, 1e-14), (1e-14, 1.0), (1.0, 1e-14), (1.0, 1e14)])
@pytest.mark.parametrize("cuts", [[9], [1], [1, 2, 17]])
def test_units_without_a_past(units, cuts):
    """The unit of rows, where it is unusual, is that of all of them."""
    X, y, w, X_query = rows_of("ProtoNetClassifier")
    X = X * np.where(np.arange(18) < cuts[0], *units)[:, None]
    pieces = in_pieces(ProtoNetClassifier(), X, y, w, cuts)
    whole = ProtoNetClassifier().fit(X, y, sample_weight=w)
    for asked in (X, X_query * units[0]):
        np.testing.assert_allclose(
            pieces.predict_proba(asked), whole.predict_proba(asked), rtol=1e-6, atol=1e-9
        )
    lean = ProtoNetClassifier().fit(X[:1], y[:1]).drop_support()
    if max(units) > 1:
        with pytest.raises(ValueError, match="scale is that of all rows"):
            lean.partial_fit(X, y)


# ------------------------------------------------------------------ batches of tasks
def batch_of(name, n_tasks=3):
    X, y, w, X_query = rows_of(name)
    X, w = torch.from_numpy(X), torch.from_numpy(w)
    if name in CLASSIFIERS:
        targets = torch.from_numpy((y[:, None] == [7, 8, 9]).astype(float))
    else:
        targets = torch.from_numpy(y)[:, None]
    turns = [torch.arange(18).roll(i) for i in range(n_tasks)]
    whole = [torch.stack([t[turn] for turn in turns]) for t in (X, targets, w)]
    return whole, torch.from_numpy(X_query)


@into_state
def test_batches_of_states(past, name):
    (X, y, w), X_query = batch_of(name)
    est = past[name]
    learner = est._rebuild(est.meta_init)
    n_tasks = len(X)
    Z = learner.embed(X.flatten(0, 1)).unflatten(0, (n_tasks, 18))
    Z_query = learner.embed(X_query).expand(n_tasks, -1, -1)
    index = None
    known = y
    if name in CLASSIFIERS:  # one class is new, in the middle
        known, index = y[..., [0, 2]], torch.tensor([0, -1, 1])
        w = w.clone()
        w[:, :12] *= 1 - y[:, :12, 1]
    first = learner.adapt_features(Z[:, :12], known[:, :12], w[:, :12])
    first |= learner.statistics(Z[:, :12], known[:, :12], w[:, :12])
    state = learner.take_in_features(first, Z[:, 12:], y[:, 12:], w[:, 12:], index)
    whole = learner.adapt_features(Z, y, w)
    ours, theirs = (learner.predict_features(s, Z_query) for s in (state, whole))
    for got, expected in zip(*((t,) if torch.is_tensor(t) else t for t in (ours, theirs)),
                             strict=True):  # fmt: skip
        np.testing.assert_allclose(got, expected, **CLOSE)
    many = ManyTasks(est, X.flatten(0, 1).numpy())
    together = many.adapted_to_take_in(Z[:, :12], known[:, :12], w[:, :12])
    together = many.taken_in(together, Z[:, 12:], y[:, 12:], w[:, 12:], index)
    assert together.keys() == state.keys()
    for key, t in together.items():
        np.testing.assert_allclose(t, state[key], rtol=1e-10)
    for i in range(n_tasks):  # and each by itself
        alone = learner.adapt_to_take_in(Support(X[i, :12], known[i, :12], w[i, :12]))
        alone = learner.take_in(alone, Support(X[i, 12:], y[i, 12:], w[i, 12:]), index)
        one = learner.predict(alone, X_query)
        got, expected = (t if torch.is_tensor(t) else t.mean for t in (one, theirs))
        np.testing.assert_allclose(got, expected[i], **CLOSE)
    if name not in CLASSIFIERS:
        return
    kept = torch.tensor([2, 0])
    left = learner.leave_out(state, kept)
    stays = (y[..., kept].sum(-1) > 0).to(w)
    if left is None:
        assert name in ("R2D2Classifier", "RidgeHeadClassifier")  # of more rows than features
        return
    alone = learner.adapt_features(Z, y[..., kept], w * stays)
    np.testing.assert_allclose(
        learner.predict_features(left, Z_query), learner.predict_features(alone, Z_query), **CLOSE
    )


def test_gaussian_pooling_by_sum(past):
    X, y, w, _ = rows_of("GaussianProtoNetClassifier")
    start = GaussianProtoNetClassifier(pooling="sum", precision="diagonal", random_state=0)
    pieces = in_pieces(clone(start), X + 1e6, y, w, [3, 10])
    whole = clone(start).fit(X + 1e6, y, sample_weight=w)
    np.testing.assert_allclose(pieces.state_["precisions"], whole.state_["precisions"], rtol=1e-12)
    np.testing.assert_allclose(pieces.state_["prototypes"], whole.state_["prototypes"], rtol=1e-14)


def test_a_ridge_head_may_see_single_rows_forever(past):
    X, y, w, X_query = rows_of("RidgeHeadClassifier", 60)
    pieces = in_pieces(clone(past["RidgeHeadClassifier"]), X, y, w, range(1, 60))
    whole = clone(past["RidgeHeadClassifier"]).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(pieces.predict_proba(X_query), whole.predict_proba(X_query), **CLOSE)
