"""What every estimator promises at fit and predict, meta-trained or not."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    CLASSIFIERS,
    IMAGE_CLASSIFIERS,
    REGRESSORS,
    TRANSDUCTIVE,
    every_classifier,
    every_estimator,
    every_inductive,
    every_regressor,
    every_transductive,
    meta_train,
    scores_of,
)
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_score

import fewshot_sklearn
from fewshot_sklearn import MAMLClassifier, MAMLRegressor, ProtoNetClassifier, RidgeHeadRegressor
from fewshot_sklearn.tasks import Task, add_rotations, pad_tasks


def global_random_state():
    return torch.get_rng_state().tolist(), repr(np.random.get_state(legacy=False))  # noqa: NPY002


# ------------------------------------------------------------------ labels
LABELS = {
    "strings": np.array(["seven", "eight", "nine"]),
    "objects": np.array(["seven", "eight", "nine"], dtype=object),
    "ints": np.array([70, 8, 900]),
    "negative ints": np.array([-7, -80, 9]),
    "floats": np.array([7.0, 8.0, 9.0]),
}


@every_classifier
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind(trained, task, name, kind):
    X, y, X_query, _ = task(name)
    plain = trained[name].fit(X, y)
    renamed = trained[name].fit(X, LABELS[kind][y - 7])
    np.testing.assert_array_equal(renamed.classes_, np.unique(LABELS[kind]))
    np.testing.assert_array_equal(
        renamed.predict(X_query), LABELS[kind][plain.predict(X_query) - 7]
    )
    assert renamed.predict(X_query).dtype == LABELS[kind].dtype
    columns = np.searchsorted(renamed.classes_, LABELS[kind])
    np.testing.assert_allclose(
        renamed.predict_proba(X_query)[:, columns], plain.predict_proba(X_query), atol=1e-4
    )


@every_classifier
def test_boolean_labels(trained, task, name, margin):
    X, y, X_query, y_query = task(name)
    clf = trained[name].fit(X, y == 7)
    assert clf.classes_.dtype == bool and clf.predict(X_query).dtype == bool
    margin.above(roc_auc_score(y_query == 7, clf.predict_proba(X_query)[:, 1]), 0.7)


@every_classifier
@pytest.mark.parametrize("dtype", ["category", "string", "Int64", "object"])
def test_pandas_labels(trained, task, name, dtype):
    X, y, X_query, _ = task(name)
    series = pd.Series(y if dtype == "Int64" else y.astype(str))
    clf = trained[name].fit(X, series.astype(dtype))
    plain = trained[name].fit(X, np.asarray(series))
    np.testing.assert_array_equal(clf.classes_, plain.classes_)
    np.testing.assert_array_equal(clf.predict(X_query), plain.predict(X_query))


# ------------------------------------------------------------------ data frames
@every_estimator
def test_data_frame(trained, task, name):
    X, y, X_query, _ = task(name)
    columns = [f"f{i}" for i in range(X.shape[1])]
    est = trained[name].fit(pd.DataFrame(X, columns=columns), y)
    assert list(est.feature_names_in_) == columns and est.n_features_in_ == len(columns)
    np.testing.assert_array_equal(
        scores_of(est, pd.DataFrame(X_query, columns=columns)),
        scores_of(trained[name].fit(X, y), X_query),
    )


@every_estimator
def test_wrong_column_names(trained, task, name):
    X, y, _, _ = task(name)
    columns = [f"f{i}" for i in range(X.shape[1])]
    est = trained[name].fit(pd.DataFrame(X, columns=columns), y)
    with pytest.raises(ValueError, match="feature names"):
        est.predict(pd.DataFrame(X, columns=[f"g{i}" for i in range(X.shape[1])]))


@every_classifier
def test_wrong_column_order(trained, task, name):
    X, y, _, _ = task(name)
    frame = pd.DataFrame(X).rename(columns=str)
    est = trained[name].fit(frame, y)
    with pytest.raises(ValueError, match="same order"):
        est.predict(frame[frame.columns[::-1]])


# ------------------------------------------------------------------ weights
@every_estimator
def test_weight_zero_is_a_row_removed(trained, task, name):
    X, y, X_query, _ = task(name)
    weights = np.ones(len(X))
    weights[::3] = 0
    weighted = trained[name].fit(X, y, sample_weight=weights)
    removed = trained[name].fit(X[weights > 0], y[weights > 0])
    np.testing.assert_allclose(
        scores_of(weighted, X_query), scores_of(removed, X_query), rtol=1e-4, atol=1e-5
    )


@every_estimator
def test_weight_two_is_a_row_twice(trained, task, name, margin):
    X, y, X_query, _ = task(name)
    weights = np.where(np.arange(len(X)) % 3 == 0, 2, 1)
    weighted = trained[name].fit(X, y, sample_weight=weights)
    repeated = trained[name].fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    np.testing.assert_allclose(
        scores_of(weighted, X_query), scores_of(repeated, X_query), rtol=1e-4, atol=1e-5
    )
    unweighted = trained[name].fit(X, y)
    changed = np.abs(scores_of(weighted, X_query) - scores_of(unweighted, X_query)).max()
    margin.above(np.log10(max(changed, 1e-9)), -3, "logarithm")


@every_classifier
@pytest.mark.parametrize("absent", [7, 8, 9])
def test_class_whose_rows_weigh_nothing(trained, task, name, absent):
    X, y, X_query, _ = task(name)
    clf = trained[name].fit(X, y, sample_weight=(y != absent).astype(float))
    proba = clf.predict_proba(X_query)
    assert list(clf.classes_) == [7, 8, 9]
    assert np.all(proba[:, absent - 7] == 0.0) and not np.isnan(proba).any()
    assert absent not in clf.predict(X_query)
    assert np.isfinite(clf.decision_function(X_query)).all()
    others = trained[name].fit(X[y != absent], y[y != absent])
    np.testing.assert_allclose(
        np.delete(proba, absent - 7, 1), others.predict_proba(X_query), rtol=1e-4, atol=1e-5
    )


@every_estimator
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(10), "sample_weight"),
        (-np.ones(10), "sample_weight"),
        (np.full(10, np.nan), "sample_weight"),
        (np.ones(3), "sample_weight"),
    ],
    ids=["zero", "negative", "nan", "short"],
)
def test_bad_weights(trained, task, name, weights, message):
    X, y, _, _ = task(name)
    with pytest.raises(ValueError, match=message):
        trained[name].fit(X[:10], y[:10], sample_weight=weights)


# ------------------------------------------------------------------ any way, any shot
@every_classifier
def test_one_class(trained, task, name):
    X, _, X_query, _ = task(name)
    clf = trained[name].fit(X, ["only"] * len(X))
    assert set(clf.predict(X_query)) == {"only"}
    np.testing.assert_array_equal(clf.predict_proba(X_query), np.ones((len(X_query), 1)))


@every_estimator
def test_one_row(trained, task, name):
    X, y, X_query, _ = task(name)
    est = trained[name].fit(X[:1], y[:1])
    assert np.isfinite(scores_of(est, X_query)).all()
    if name in CLASSIFIERS:
        assert set(est.predict(X_query)) == {y[0]}


@every_classifier
def test_one_row_a_class(trained, digits_new, name, margin):
    X, y = digits_new
    scores, own = [], []
    for draw in range(5):
        first = [np.flatnonzero(y == label)[draw] for label in (7, 8, 9)]
        clf = trained[name].fit(X[first], y[first])
        own.append(clf.score(X[first], y[first]))
        scores.append(clf.score(X, y))
    margin.above(np.mean(own), 0.8, "rows it was fitted on")
    margin.above(np.mean(scores), 0.42, "all rows")


@every_classifier
@pytest.mark.parametrize(("n_classes", "least"), [(2, 0.9), (10, 0.5), (40, 0.05)])
def test_more_or_fewer_classes_than_meta_trained_with(trained, name, n_classes, least, margin):
    if name == "BOILClassifier" and n_classes == 40:
        pytest.skip("rows of its head for classes beyond those met are untrained, and fixed")
    digits = load_digits()
    X, y = add_rotations(digits.images, digits.target)
    y = np.unique(y, return_inverse=True)[1]
    of_class = [np.flatnonzero(y == label) for label in range(0, 40, 40 // n_classes)]
    kept = np.concatenate([rows[: 1000 // n_classes] for rows in of_class])
    X, y = X[kept].reshape(-1, 64), y[kept]
    shots = np.concatenate([np.flatnonzero(y == label)[:5] for label in np.unique(y)])
    clf = trained[name]
    if "n_steps" in clf.get_params():
        clf.set_params(n_steps=50)  # a few steps from a head of zeros hardly tell many apart
    clf.fit(X[shots], y[shots])
    proba = clf.predict_proba(X)
    assert proba.shape == (len(X), n_classes)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    margin.above(clf.score(X, y), least)


@every_estimator
@pytest.mark.parametrize(("of_support", "factor"), [(1e2, 1e2), (1, 1e6)])
def test_rows_far_from_the_past_give_no_nan(trained, task, name, of_support, factor):
    X, y, X_query, _ = task(name)
    est = trained[name].fit(of_support * X, y)
    assert np.isfinite(scores_of(est, factor * X_query)).all()


@every_regressor
@pytest.mark.parametrize(("factor", "offset"), [(1, 1e3), (1e3, 0)])
def test_targets_far_from_the_past_give_no_nan(trained, task, name, factor, offset):
    X, y, X_query, _ = task(name)
    assert np.isfinite(trained[name].fit(X, factor * y + offset).predict(X_query)).all()


@every_regressor
def test_multi_output(multi_output, name, margin):
    reg, X, y = multi_output[name]
    tasks = zip(X[:, :12], y[:, :12], X[:, 12:], strict=True)
    predicted = np.stack([reg.fit(*support).predict(rest) for *support, rest in tasks])
    assert predicted.shape == y[:, 12:].shape
    margin.above(r2_score(y[:, 12:].reshape(-1, 2), predicted.reshape(-1, 2)), 0.7)
    with pytest.raises(ValueError, match=r"y has 1 output\(s\).*meta-trained on 2"):
        reg.fit(X[0], y[0, :, 0])


@pytest.fixture(scope="module")
def multi_output():
    """Regressors meta-trained on two targets, and rows of ten new tasks, by name."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (100, 24, 1))
    slope = rng.normal(0, 1, (100, 1, 2))
    y = np.concatenate([np.sin(X), X], 2) * slope + np.array([3.0, -100.0])
    groups = np.repeat(np.arange(100), 24)
    data = X[10:].reshape(-1, 1), y[10:].reshape(-1, 2), groups[240:]
    net = {"encoder": "mlp", "encoder__hidden": (32,), "encoder__activation": "tanh"}
    differently = {
        "CAVIARegressor": ({}, {"max_epochs": 48, "lr": 5e-3}),
        "MetaSGDRegressor": ({"n_steps": 5}, {}),
        # what has all to learn learns longer
        "InContextRegressor": ({"n_layers": 1, "n_hidden": 32}, {"max_epochs": 60, "lr": 3e-3}),
        "NeuralProcessRegressor": ({"n_hidden": 32}, {"max_epochs": 40, "lr": 5e-3}),
    }
    made = {}
    for name in REGRESSORS:
        own, options = differently.get(name, ({}, {}))
        estimator = getattr(fewshot_sklearn, name)(**net, **own)
        options = {"max_epochs": 12, "lr": 1e-2} | options
        made[name] = meta_train(estimator, *data, **options), X[:10], y[:10]
    return made


#: Steps enough for those that descend to a straight line.
PATIENT = {
    name: {"n_steps": 200, "inner_lr": 0.3}
    for name in REGRESSORS
    if name.startswith(("CAVIA", "IMAML", "MAML", "MetaCurv", "MetaSGD", "Reptile"))
}


@every_regressor
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_multi_output_without_a_meta_init(name, n_outputs, margin):
    reg = getattr(fewshot_sklearn, name)(**PATIENT.get(name, {}))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2))
    y = X @ rng.normal(size=(2, n_outputs)) + [5.0, -1.0, 0.0][:n_outputs]
    predicted = clone(reg).fit(X, y).predict(X)
    assert predicted.shape == y.shape
    for column in range(n_outputs):
        alone = clone(reg).fit(X, y[:, column]).predict(X)
        assert alone.shape == (50,)
        if isinstance(reg, RidgeHeadRegressor):
            np.testing.assert_allclose(predicted[:, column], alone, rtol=1e-6, atol=1e-9)
    margin.above(r2_score(y, predicted), 0.5, "R2")
    if isinstance(reg, RidgeHeadRegressor | MAMLRegressor):  # they can be straight lines
        margin.below(np.abs(predicted - y).max(), 0.15, "largest error")


# ------------------------------------------------------------------ probabilities and transforms
@every_classifier
def test_probabilities(trained, task, name):
    X, y, X_query, _ = task(name)
    clf = trained[name].fit(X, y)
    proba, decision = clf.predict_proba(X_query), clf.decision_function(X_query)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(clf.classes_[proba.argmax(1)], clf.predict(X_query))
    np.testing.assert_array_equal(clf.classes_[decision.argmax(1)], clf.predict(X_query))


@every_classifier
def test_columns_follow_classes_whatever_the_order_of_rows(trained, task, name):
    X, y, X_query, _ = task(name)
    order = np.argsort(-y, kind="stable")
    np.testing.assert_allclose(
        trained[name].fit(X[order], y[order]).predict_proba(X_query),
        trained[name].fit(X, y).predict_proba(X_query),
        rtol=1e-3,
        atol=1e-5,
    )


@every_classifier
def test_binary_decision_function(trained, task, name):
    X, y, X_query, _ = task(name)
    clf = trained[name].fit(X, np.where(y == 7, "b", "a"))
    decision, proba = clf.decision_function(X_query), clf.predict_proba(X_query)
    assert decision.shape == (len(X_query),)
    np.testing.assert_allclose(1 / (1 + np.exp(-decision)), proba[:, 1], rtol=1e-3, atol=1e-6)


def test_set_output_pandas(trained, task):
    X, y, X_query, _ = task("ProtoNetClassifier")
    clf = trained["ProtoNetClassifier"].set_output(transform="pandas").fit(X, y)
    frame = clf.transform(pd.DataFrame(X_query, index=np.arange(len(X_query)) + 5))
    assert isinstance(frame, pd.DataFrame) and frame.index[0] == 5
    assert list(frame.columns) == list(clf.get_feature_names_out())
    assert frame.columns[0] == "protonetclassifier0"
    np.testing.assert_array_equal(
        frame.to_numpy(), clf.set_output(transform="default").transform(X_query)
    )


# ------------------------------------------------------------------ inductive
@every_inductive
def test_inductive(trained, task, name):
    X, y, X_query, _ = task(name)
    est = trained[name].fit(X, y)
    together = scores_of(est, X_query)
    alone = np.concatenate([scores_of(est, row[None]) for row in X_query])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


@every_transductive
def test_transductive(trained, task, name):
    """They answer a row in view of the others, as their names say, whatever the rows' order."""
    X, y, X_query, _ = task(name)
    est = trained[name].fit(X, y)
    together = est.predict_proba(X_query)
    alone = np.concatenate([est.predict_proba(row[None]) for row in X_query[:10]])
    assert np.isfinite(alone).all()
    assert np.abs(together[:10] - alone).max() > 1e-2
    order = np.random.default_rng(0).permutation(len(X_query))
    np.testing.assert_allclose(
        est.predict_proba(X_query[order]), together[order], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("norm", ["group", "layer", "instance", None])
def test_small_convolutions_tell_images_apart(norm, width, margin):
    X = np.random.default_rng(0).random((4, 28, 28))
    net = {"encoder__width": width, "encoder__norm": norm}
    clf = ProtoNetClassifier(encoder="conv4", **net, random_state=0).fit(X, range(4))
    apart = pdist(clf.prototypes_).mean() / np.linalg.norm(clf.prototypes_, axis=1).mean()
    margin.above(np.log10(apart), -4, "logarithm")  # of what is normalised away rounding is left


@pytest.mark.parametrize("flat", [False, True], ids=["images", "flat"])
@pytest.mark.parametrize("norm", ["group", "layer", "instance", None])
@pytest.mark.parametrize(
    "make", [kind for kind in IMAGE_CLASSIFIERS if kind.__name__ not in TRANSDUCTIVE]
)
def test_inductive_on_images(make, norm, flat):
    rng = np.random.default_rng(0)
    X, y = rng.random((6, 28, 28)), np.array([0, 0, 1, 1, 2, 2])
    X_query = rng.random((90, 28, 28))[:: 9 if make is MAMLClassifier else 1]
    if flat:
        X, X_query = X.reshape(len(X), -1), X_query.reshape(len(X_query), -1)
    est = make(encoder="conv4", encoder__width=8, encoder__norm=norm, random_state=0).fit(X, y)
    together = est.predict_proba(X_query)
    some = [0, 3, len(X_query) - 1]
    alone = np.concatenate([est.predict_proba(X_query[i : i + 1]) for i in some])
    np.testing.assert_allclose(together[some], alone, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("make", IMAGE_CLASSIFIERS)
def test_flat_images_are_images(make):
    rng = np.random.default_rng(0)
    X, y = rng.random((6, 8, 8)), np.array([0, 0, 1, 1, 2, 2])
    clf = make(encoder="conv4", encoder__width=4, random_state=0)
    as_images = clone(clf).fit(X, y).predict_proba(X)
    as_rows = clone(clf).fit(X.reshape(6, 64), y).predict_proba(X.reshape(6, 64))
    np.testing.assert_allclose(as_images, as_rows, rtol=1e-10)


@every_estimator
def test_fit_and_predict_are_the_episode_of_meta_training(trained, task, name):
    """Adapted to in a padded batch with another task or by `fit`, a task gets the same answers."""
    X, y, X_query, _ = task(name)
    est = trained[name].fit(X, y)
    codes = y[:, None] if name in REGRESSORS else y - 7
    asked = np.resize(codes[:1], (len(X_query), *codes.shape[1:]))
    tasks = [Task(X, codes, X_query[:9], codes[:9]), Task(X[:6], codes[:6], X_query, asked)]
    learner = est._rebuild(est.meta_init)
    batch, _ = pad_tasks(tasks, tell_queries=learner.transductive)
    with torch.no_grad():
        outputs = learner.forward(**batch)
    if name in CLASSIFIERS:
        answers = outputs.softmax(-1)
    else:
        answers = (outputs if isinstance(outputs, torch.Tensor) else outputs.mean)[..., 0]
    np.testing.assert_allclose(answers[0, :9], scores_of(est, X_query[:9]), rtol=1e-3, atol=1e-5)
    second = answers[1]
    est.fit(X[:6], y[:6])
    if name in CLASSIFIERS:
        second = second[:, est.classes_ - 7]
    np.testing.assert_allclose(second, scores_of(est, X_query), rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------ the meta-init never changes
@every_estimator
def test_refit_equals_fresh_fit(trained, task, name):
    X, y, X_query, _ = task(name)
    used = trained[name].fit(X_query * 2, np.resize(y[::-1], len(X_query))).fit(X, y)
    fresh = trained[name].fit(X, y)
    np.testing.assert_array_equal(scores_of(used, X_query), scores_of(fresh, X_query))


@every_estimator
def test_refit_equals_fresh_fit_without_a_meta_init(task, name):
    X, y, X_query, _ = task(name)
    make = getattr(fewshot_sklearn, name)
    used = make(encoder="mlp", random_state=0).fit(X_query[:, :1], np.resize(y, len(X_query)))
    fresh = make(encoder="mlp", random_state=0).fit(X, y)
    np.testing.assert_array_equal(scores_of(used.fit(X, y), X_query), scores_of(fresh, X_query))


@every_estimator
def test_fit_changes_no_parameter_and_not_the_meta_init(trained, task, name):
    X, y, X_query, _ = task(name)
    est = trained[name]
    params, init = copy.copy(est.get_params()), est.meta_init
    before, digest = bytes(init._buffer), init.digest
    scores_of(est.fit(X, y), X_query)
    after = est.get_params()
    assert params.keys() == after.keys() and all(params[k] is after[k] for k in params)
    assert est.meta_init_ is init and bytes(init._buffer) == before and init.digest == digest
    assert init.fixed_spec == init.spec


@every_estimator
@pytest.mark.parametrize("meta_trained", [True, False])
def test_global_random_state_is_left_alone(trained, task, name, meta_trained):
    X, y, X_query, _ = task(name)
    est = trained[name]
    if not meta_trained:
        est = getattr(fewshot_sklearn, name)(encoder="mlp", random_state=3)
    before = global_random_state()
    scores_of(est.fit(X, y), X_query)
    assert global_random_state() == before


@every_estimator
def test_predict_writes_nothing(trained, task, name):
    X, y, X_query, _ = task(name)
    est = trained[name].fit(X, y)
    before = copy.deepcopy(vars(est))
    scores_of(est, X_query)
    est.predict(X_query)
    assert vars(est).keys() == before.keys()
    for key, value in vars(est).items():
        if key == "state_":
            assert all(np.array_equal(value[k], before[key][k]) for k in value)
        elif key == "_support":
            assert all(map(np.array_equal, value, before[key]))
        else:
            assert np.array_equal(value, before[key]), key


@every_estimator
def test_the_users_arrays_are_left_alone(trained, task, name):
    X, y, X_query, _ = task(name)
    for array in (X, y, X_query):
        array.flags.writeable = False
    est = trained[name].fit(X, y)
    first = scores_of(est, X_query)
    X_writable = X.copy()
    est = trained[name].fit(X_writable, y)
    X_writable[:] = 0
    np.testing.assert_array_equal(scores_of(est, X_query), first)


@every_classifier
@pytest.mark.parametrize("meta_trained", [True, False])
def test_random_labels_score_at_chance_after_a_fit(trained, digits_new, name, meta_trained, margin):
    X = digits_new[0][:300]
    y = np.random.default_rng(0).integers(0, 2, len(X))
    est = trained[name]
    if not meta_trained:
        est = getattr(fewshot_sklearn, name)(encoder="mlp", random_state=0)
    est.fit(X, y)
    margin.below(cross_val_score(est, X, y, cv=5).mean(), 0.68)
