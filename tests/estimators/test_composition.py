"""Meta-trained estimators inside scikit-learn's tools."""

from __future__ import annotations

import copy
import os
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIERS, REGRESSORS, meta_train, sinusoid
from joblib.externals.loky import get_reusable_executor
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import make_blobs
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import DecisionBoundaryDisplay, permutation_importance
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.semi_supervised import SelfTrainingClassifier

import fewshot_sklearn
from fewshot_sklearn import MetaInit, ProtoNetClassifier

every_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
every_regressor = pytest.mark.parametrize("name", REGRESSORS)
every_estimator = pytest.mark.parametrize("name", CLASSIFIERS + REGRESSORS)


@pytest.fixture
def digits(digits_new):
    X, y = digits_new
    return X[:60], y[:60], X[60:260], y[60:260]


@pytest.fixture
def wave():
    """One new sinusoid: 24 rows at equal distances, in random order, and 100 queries."""
    X, y = sinusoid(24)
    rows = np.random.default_rng(0).permutation(24)
    return X[rows], y[rows], *sinusoid(100)


@pytest.fixture
def rows(digits, wave):
    return lambda name: wave if name in REGRESSORS else digits


# ------------------------------------------------------------------ meta-estimators
CLASSIFIER_SETS = {
    "pipeline": lambda clf: make_pipeline(FunctionTransformer(np.abs), clf),
    "bagging": lambda clf: BaggingClassifier(clf, n_estimators=5, random_state=0),
    "bagging of few rows": lambda clf: BaggingClassifier(
        clf, n_estimators=15, max_samples=6, random_state=0
    ),
    "soft voting": lambda clf: VotingClassifier(
        [("few", clf), ("knn", KNeighborsClassifier(3))], voting="soft"
    ),
    "hard voting": lambda clf: VotingClassifier(
        [("few", clf), ("again", clf), ("knn", KNeighborsClassifier(3))]
    ),
    "stacking": lambda clf: StackingClassifier(
        [("few", clf), ("knn", KNeighborsClassifier(3))], LogisticRegression(), cv=3
    ),
    "calibration": lambda clf: CalibratedClassifierCV(clf, cv=3),
    "isotonic": lambda clf: CalibratedClassifierCV(clf, method="isotonic", cv=3),
    "one against the rest": OneVsRestClassifier,
    "one against one": OneVsOneClassifier,
}


@every_classifier
@pytest.mark.parametrize("tool", CLASSIFIER_SETS)
def test_classifier_in(trained, digits, name, tool, margin):
    X, y, X_query, y_query = digits
    model = CLASSIFIER_SETS[tool](trained[name]).fit(X, y)
    margin.above(model.score(X_query, y_query), 0.5)


REGRESSOR_SETS = {
    "pipeline": lambda reg: make_pipeline(FunctionTransformer(), reg),
    "bagging": lambda reg: BaggingRegressor(reg, n_estimators=5, random_state=0),
    "voting": lambda reg: VotingRegressor([("few", reg), ("again", reg)]),
    "stacking": lambda reg: StackingRegressor(
        [("few", reg), ("kernel", KernelRidge(kernel="rbf"))], cv=3
    ),
    "target in other units": lambda reg: TransformedTargetRegressor(
        reg, func=np.log, inverse_func=np.exp, check_inverse=False
    ),
}


@every_regressor
@pytest.mark.parametrize("tool", REGRESSOR_SETS)
def test_regressor_in(trained, wave, name, tool, margin):
    X, y, X_query, y_query = wave
    if tool == "target in other units":
        y, y_query = np.exp(y), np.exp(y_query)
    model = REGRESSOR_SETS[tool](trained[name]).fit(X, y)
    margin.above(model.score(X_query, y_query), 0.4)


@every_regressor
def test_one_regressor_an_output(trained, wave, name, margin):
    X, y, X_query, y_query = wave
    model = MultiOutputRegressor(trained[name]).fit(X, np.column_stack([y, y / 2]))
    margin.above(model.score(X_query, np.column_stack([y_query, y_query / 2])), 0.6)


@every_estimator
def test_column_transformer(trained, rows, name, margin):
    X, y, X_query, y_query = rows(name)
    columns = [f"f{i}" for i in range(X.shape[1])]

    def frame(X):
        return pd.DataFrame(X, columns=columns).assign(customer="c7")[["customer", *columns]]

    select = ColumnTransformer([("features", "passthrough", columns)])
    model = make_pipeline(select, trained[name]).fit(frame(X), y)
    alone = trained[name].fit(X, y)
    assert model.score(frame(X_query), y_query) == alone.score(X_query, y_query)
    margin.above(alone.score(X_query, y_query), 0.5)


@every_classifier
def test_self_training(trained, digits, name, margin):
    X, y, X_query, y_query = digits
    labels = np.where(np.arange(len(y)) < 20, y, -1)
    model = SelfTrainingClassifier(trained[name], threshold=0.4).fit(X, labels)
    assert (model.transduction_[20:] != -1).any()
    margin.above(model.score(X_query, y_query), 0.5)


@every_estimator
def test_frozen(trained, rows, name):
    X, y, X_query, _ = rows(name)
    est = trained[name].fit(X, y)
    frozen = clone(FrozenEstimator(est)).fit(X[::-1], y)
    np.testing.assert_array_equal(frozen.predict(X_query), est.predict(X_query))


@every_classifier
def test_calibration_of_a_frozen_classifier(trained, digits, name, margin):
    X, y, X_query, y_query = digits
    frozen = FrozenEstimator(trained[name].fit(X, y))
    model = CalibratedClassifierCV(frozen).fit(X_query[:100], y_query[:100])
    margin.above(model.score(X_query[100:], y_query[100:]), 0.6)


# ------------------------------------------------------------------ model selection
GRIDS = {
    "ProtoNetClassifier": {"metric": ["euclidean", "cosine"]},
    "MAMLClassifier": {"n_steps": [1, 5, 20], "inner_lr": [0.01, 0.1]},
    "MAMLRegressor": {"n_steps": [1, 5, 20], "inner_lr": [0.01, 0.05]},
}


@every_estimator
def test_grid_search_in_processes(trained, rows, name, margin):
    X, y, X_query, y_query = rows(name)
    grid = GRIDS.get(name, {"dtype": ["float32", "float64"]})
    search = GridSearchCV(trained[name], grid, cv=3, n_jobs=2, error_score="raise").fit(X, y)
    alone = GridSearchCV(trained[name], grid, cv=3, error_score="raise").fit(X, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-5
    )
    assert search.best_estimator_.meta_init is trained[name].meta_init
    margin.above(search.score(X_query, y_query), 0.5)


@pytest.mark.parametrize("name", ["MAMLClassifier", "MAMLRegressor"])
def test_grid_search_tells_settings_apart(trained, rows, name, margin):
    X, y, _, _ = rows(name)
    search = GridSearchCV(trained[name], {"n_steps": [0, 5]}, cv=3).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_ == {"n_steps": [0, 5][scores.argmax()]}
    margin.below((1 - scores[1]) / (1 - scores[0]), 0.8, "error, of that without a step")


@pytest.mark.parametrize("name", ["MAMLClassifier", "MAMLRegressor"])
def test_randomized_search_in_a_pipeline(trained, rows, name, margin):
    X, y, X_query, y_query = rows(name)
    pipeline = make_pipeline(FunctionTransformer(), trained[name])
    space = {f"{name.lower()}__inner_lr": loguniform(1e-3, 1e-1)}
    scoring = "r2" if name in REGRESSORS else "neg_log_loss"
    search = RandomizedSearchCV(pipeline, space, n_iter=4, scoring=scoring, cv=3, random_state=0)
    search.fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    margin.above(search.best_estimator_.score(X_query, y_query), 0.5)


@every_classifier
def test_cross_validate(trained, digits_new, name, margin):
    X, y = (part[:150] for part in digits_new)
    scoring = ["accuracy", "neg_log_loss", "roc_auc_ovr"]
    scores = cross_validate(trained[name], X, y, cv=3, scoring=scoring, error_score="raise")
    margin.above(scores["test_accuracy"].mean(), 0.6, "accuracy")
    margin.above(scores["test_roc_auc_ovr"].mean(), 0.8, "AUROC")
    margin.above(scores["test_neg_log_loss"].mean(), -np.log(3), "log likelihood")


@every_regressor
def test_cross_validate_regressor(trained, wave, name, margin):
    X, y, _, _ = wave
    scores = cross_validate(trained[name], X, y, cv=3, error_score="raise")
    margin.above(scores["test_score"].mean(), 0.6)


@every_classifier
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_cross_val_predict(trained, digits, name, method, margin):
    X, y, _, _ = digits
    answers = cross_val_predict(trained[name], X, y, cv=3, method=method)
    labels = answers if method == "predict" else np.unique(y)[answers.argmax(1)]
    margin.above((labels == y).mean(), 0.5)


@every_classifier
def test_cross_val_predict_of_a_class_absent_from_a_fold(trained, digits, name):
    X, y, _, _ = digits
    sevens, others = np.flatnonzero(y == 7), np.flatnonzero(y != 7)
    folds = [(sevens, others), (others, sevens)]
    with pytest.warns(RuntimeWarning, match="Number of classes"):
        proba = cross_val_predict(trained[name], X, y, cv=folds, method="predict_proba")
    assert np.all(proba[sevens, 0] == 0) and np.all(proba[others, 0] == 1)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)


@every_estimator
def test_learning_curve(trained, digits_new, wave, name, margin):
    X, y = wave[:2] if name in REGRESSORS else digits_new
    sizes, _, scores = learning_curve(
        trained[name], X[:150], y[:150], train_sizes=[6, 12], cv=3, error_score="raise"
    )
    assert list(sizes) == [6, 12] and scores.shape == (2, 3)
    margin.above(scores[1].mean(), 0.45)


# ------------------------------------------------------------------ inspection
@every_estimator
def test_permutation_importance(trained, rows, name, margin):
    X, y, X_query, y_query = rows(name)
    est = trained[name].fit(X, y)
    found = permutation_importance(est, X_query, y_query, n_repeats=2, random_state=0)
    margin.above(np.log10(max(found.importances_mean.max(), 1e-9)), -3, "logarithm")
    constant = np.ptp(X_query, axis=0) == 0
    assert np.all(found.importances_mean[constant] == 0)


@every_classifier
@pytest.mark.parametrize("response_method", ["auto", "predict", "predict_proba"])
def test_decision_boundary_display(name, response_method, margin):
    X, y = make_blobs(400, centers=20, center_box=(-20, 20), random_state=0)
    net = {"encoder": "mlp", "encoder__hidden": (16,)}
    past = y < 17
    clf = meta_train(getattr(fewshot_sklearn, name)(**net), X[past], y[past], n_way=3, max_epochs=1)
    clf.fit(X[~past], y[~past])
    display = DecisionBoundaryDisplay.from_estimator(
        clf, X[~past], grid_resolution=10, response_method=response_method
    )
    assert display.response.shape[:2] == (10, 10)
    margin.above(np.log10(max(np.ptp(display.response), 1e-9)), -3, "logarithm")


# ------------------------------------------------------------------ one artefact for all
@every_estimator
@pytest.mark.parametrize("duplicate", [clone, copy.copy, copy.deepcopy])
def test_copies_share_the_meta_init(trained, rows, name, duplicate):
    X, y, X_query, _ = rows(name)
    est = trained[name]
    assert duplicate(est).meta_init is est.meta_init
    fitted = duplicate(make_pipeline(est.fit(X, y)))[-1]
    assert fitted.meta_init is est.meta_init
    if duplicate is not clone:
        assert fitted.meta_init_ is est.meta_init_
        np.testing.assert_array_equal(fitted.predict(X_query), est.predict(X_query))


@every_estimator
def test_pickle(trained, rows, name):
    X, y, X_query, _ = rows(name)
    est = trained[name].fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    assert again.meta_init == est.meta_init and again.meta_init is again.meta_init_
    np.testing.assert_array_equal(again.predict(X_query), est.predict(X_query))
    np.testing.assert_array_equal(again.fit(X, y).predict(X_query), est.predict(X_query))


@every_estimator
def test_joblib_dump(trained, rows, name, tmp_path):
    X, y, X_query, _ = rows(name)
    est = trained[name].fit(X, y)
    joblib.dump(est, tmp_path / "model.joblib")
    for mmap_mode in (None, "r"):
        again = joblib.load(tmp_path / "model.joblib", mmap_mode=mmap_mode)
        np.testing.assert_array_equal(again.predict(X_query), est.predict(X_query))


@pytest.fixture
def large():
    """A ProtoNet whose meta-init is larger than the 1 MB from which joblib maps arrays."""
    X = np.random.default_rng(0).normal(size=(20, 64))
    y = np.repeat([0, 1], 10)
    net = {"encoder": "mlp", "encoder__hidden": (512, 512), "dtype": "float32"}
    init = ProtoNetClassifier(**net, random_state=0).fit(X, y).meta_init_
    assert init.nbytes > 2**20
    init = pickle.loads(pickle.dumps(init))  # as on another day: nothing rebuilt from it yet
    return ProtoNetClassifier(init, device="cpu"), X, y


def test_pickle_holds_the_meta_init_once(large):
    clf, X, y = large
    assert len(pickle.dumps(clf.fit(X, y))) < 1.1 * clf.meta_init.nbytes + 20_000


def test_fit_copies_no_tensor(large):
    clf, X, y = large
    clf.fit(X, y).predict(X)
    (learner, _), *_ = clf.meta_init.built.values()
    for weight in learner.encoder.parameters():
        assert np.shares_memory(weight.numpy(), clf.meta_init._buffer)


def test_clones_share_one_learner(large):
    clf, X, y = large
    clf.fit(X, y)
    built = clf.meta_init.built.values()
    for _ in range(3):
        clone(clf).fit(X, y).predict(X)
    after = clf.meta_init.built.values()
    assert len(after) == 1 and after[0] is built[0]


# ------------------------------------------------------------------ worker processes
@pytest.fixture(scope="module")
def fresh_workers():
    """Processes that know nothing of the tests before."""
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


def kind_of_buffer():
    # made here, so that it is pickled by value and the workers import no test
    def in_worker(estimator, X, y):
        buffer = estimator.fit(X, y).meta_init_._buffer
        bases = [buffer]
        while getattr(bases[-1], "base", None) is not None:
            bases.append(bases[-1].base)
        return os.getpid(), [type(base).__name__ for base in bases], getattr(buffer, "filename", "")

    return in_worker


@pytest.mark.parametrize("from_file", [True, False])
def test_workers_map_the_meta_init(large, tmp_path, fresh_workers, from_file):
    clf, X, y = large
    path = tmp_path / "init.safetensors"
    clf.meta_init.save(path)
    if from_file:
        clf.set_params(meta_init=MetaInit.load(path))
    call = joblib.delayed(kind_of_buffer())
    for pid, kinds, filename in joblib.Parallel(n_jobs=2)(call(clf, X, y) for _ in range(4)):
        assert pid != os.getpid()
        assert "memmap" in kinds
        # of joblib's own: one of the user's file would change with it, or kill the worker
        assert filename and os.path.abspath(filename) != str(path)


def test_workers_share_the_cores(large, fresh_workers):
    def threads(estimator, X, y):
        import sys

        estimator.fit(X, y).predict(X)
        return torch.get_num_threads(), "conftest" in sys.modules

    clf, X, y = large
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(threads)(clf, X, y) for _ in range(4))
    assert not any(told_by_the_tests for _, told_by_the_tests in found)
    assert max(n for n, _ in found) <= max(1, joblib.cpu_count() // 2)
