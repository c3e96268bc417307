"""What comes before and around the methods in a file: steps, missing numbers, calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import meta_train
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from test_exporting import assert_alike, rows, served

from fewshot_sklearn import (
    InContextClassifier,
    MAMLRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TrustedClassifier,
    TrustedRegressor,
    TrustLearner,
    export,
)
from fewshot_sklearn.serving._steps import before_step, drawn_step


def lacking(X, seed=0):
    """The same rows, without some of their numbers."""
    gone = np.random.default_rng(seed).random(X.shape) < 0.2
    return np.where(gone, np.nan, X)


# ------------------------------------------------------------------ steps of pipelines
STEPS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler((-1, 3)),
    MinMaxScaler(clip=True),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    SimpleImputer(),
    SimpleImputer(strategy="median"),
    SimpleImputer(strategy="constant", fill_value=7.0),
    SimpleImputer(keep_empty_features=True),
    FrozenEstimator(SimpleImputer(strategy="most_frequent")),
    make_pipeline(SimpleImputer(), "passthrough", StandardScaler()),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_is_the_arithmetic_that_it_is_in_scikit_learn(step, dtype):
    import torch

    X = (rows(20)[0] * [1, 10, 0.1, 0] + [0, 5, -100, 0.5]).astype(dtype)
    new = (rows(9, seed=1)[0] * 30).astype(dtype)
    if "Imputer" in str(step):
        X, new = lacking(X).astype(dtype), lacking(new, 1).astype(dtype)
        X[:, 3] = np.nan  # a column of which nothing is known
    if isinstance(step, FrozenEstimator):
        step.estimator.fit(X)
    else:
        step.fit(X)
    wanted = step.transform(new)
    got = drawn_step(step)(torch.tensor(new)).numpy()
    assert got.dtype == wanted.dtype
    exact = {"rtol": 1e-12} if dtype == np.float64 else {"rtol": 1e-6, "atol": 1e-5}
    np.testing.assert_allclose(got, wanted, **exact)
    back = before_step(step, wanted)
    assert back.shape == new.shape
    if not getattr(step, "clip", False):
        again = step.transform(back)
        kept = ~np.isnan(back).any(1)
        np.testing.assert_allclose(again[kept], wanted[kept], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_pipeline_is_one_file(suffix, tmp_path):
    if suffix == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    X, _, y = rows()
    pipe = make_pipeline(
        SimpleImputer(), FrozenEstimator(StandardScaler().fit(X)),
        make_pipeline(MinMaxScaler(), RidgeHeadRegressor()),
    ).fit(lacking(X), y)  # fmt: skip
    path = tmp_path / f"model{suffix}"
    export(pipe, path)
    got, told = assert_alike(pipe, path, lacking(rows(seed=3)[0], 1))
    assert told["estimator"] == "RidgeHeadRegressor" and np.isfinite(got["mean"]).all()


def test_a_clone_of_steps_that_meta_training_froze(tmp_path):
    X, labels, _ = rows(60)
    pipe = make_pipeline(StandardScaler(), ProtoNetClassifier(encoder="mlp"))
    few = {"n_way": 2, "n_shot": 2, "n_query": 2, "n_episodes": 2, "max_epochs": 1}
    clf = meta_train(pipe, 100 + 30 * X, labels, **few).fit(100 + 30 * X[:15], labels[:15])
    export(clf, tmp_path / "model.pt2")
    assert_alike(clf, tmp_path / "model.pt2", 100 + 30 * rows(seed=4)[0])


@pytest.mark.parametrize(
    "step",
    [
        PolynomialFeatures(),
        FunctionTransformer(np.log1p),
        SimpleImputer(add_indicator=True),
        type("MyScaler", (StandardScaler,), {})(),
    ],
    ids=lambda step: type(step).__name__,
)
def test_other_steps_say_no(step, tmp_path):
    X, _, y = rows()
    pipe = make_pipeline(step, RidgeHeadRegressor()).fit(abs(X), y)
    with pytest.raises(NotImplementedError, match=f"step {type(step).__name__}.*StandardScaler"):
        export(pipe, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ numbers that are missing
def past_table(**others):
    X, labels, _ = rows(60)
    table = pd.DataFrame(lacking(X), columns=["a", "b", "c", "d"]).assign(c=X[:, 2], **others)
    few = {"n_way": 2, "n_shot": 2, "n_query": 2, "n_episodes": 2, "max_epochs": 1}
    return meta_train(ProtoNetClassifier(encoder="mlp"), table, labels, **few), table, labels


def test_columns_that_lack_numbers_are_filled_in_as_the_past_says(tmp_path):
    clf, table, labels = past_table()
    clf.fit(table[:15], labels[:15])
    assert clf.meta_init_.table is not None
    export(clf, tmp_path / "model.pt2")
    as_numbers = lambda some: some.to_numpy(np.float64)  # noqa: E731
    assert_alike(clf, tmp_path / "model.pt2", table[20:40], as_numbers)
    export(clf.fit_prior(["yes", "no"]), tmp_path / "model.pt2")
    assert_alike(clf, tmp_path / "model.pt2", table[20:40], as_numbers)


def test_categories_say_no(tmp_path):
    colours = np.array(["red", "green", "blue"])[np.arange(60) % 3]
    clf, table, labels = past_table(colour=colours, day=pd.Timestamp("2020-01-01"))
    clf.fit(table[:15], labels[:15])
    with pytest.raises(NotImplementedError, match=r"\['colour', 'day'\] of X hold categories"):
        export(clf, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_a_table_of_ones_own(tmp_path):
    X, labels, _ = rows()
    clf = InContextClassifier().fit(X, labels)
    path = tmp_path / "model.pt2"
    export(clf, path)
    assert_alike(clf, path, lacking(rows(seed=5)[0]))


# ------------------------------------------------------------------ without rows
def test_what_holds_no_rows_is_checked_on_others(tmp_path):
    few = {"n_shot": 3, "n_query": 2, "n_episodes": 2, "max_epochs": 1}
    X, _, y = rows(60)
    reg = meta_train(RidgeHeadRegressor(encoder="mlp"), X, y, np.arange(60) % 6, **few)
    for one in (reg.fit(X[:9], y[:9]).drop_support(), reg.fit_prior()):
        export(one, tmp_path / "model.pt2")
        assert_alike(one, tmp_path / "model.pt2", X)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_targets_far_from_those_of_the_past(tmp_path):
    few = {"n_shot": 3, "n_query": 2, "n_episodes": 2, "max_epochs": 1}
    X, _, y = rows(60)
    for reg in (RidgeHeadRegressor(encoder="mlp"), MAMLRegressor(encoder="mlp")):
        reg = meta_train(reg, X, y, np.arange(60) % 6, **few).fit(X[:9], 1e6 + 1e3 * y[:9])
        assert "target_level" in reg.state_
        export(reg, tmp_path / "model.pt2")
        assert_alike(reg, tmp_path / "model.pt2", X)


def test_classes_that_recur(tmp_path):
    few = {"n_shot": 3, "n_query": 2, "n_episodes": 2, "max_epochs": 1, "classes": "recur"}
    X, labels, _ = rows(120)
    clf = meta_train(ProtoNetClassifier(encoder="mlp"), X, labels, np.arange(120) // 20, **few)
    for one in (clf.fit(X[:9], labels[:9]), clf.fit_prior()):
        assert one.known_classes_ is not None
        export(one, tmp_path / "model.pt2")
        assert_alike(one, tmp_path / "model.pt2", X)


# ------------------------------------------------------------------ calibrated
@pytest.fixture(scope="module")
def learners():
    """Of a classifier alone, of one in a pipeline, and of a regressor."""
    X, _, y = rows(240, seed=6)
    classes = np.repeat(np.arange(24), 10)
    X = X + 3 * np.random.default_rng(1).normal(size=(24, 4))[classes]
    few = {"n_shots": (3,), "n_query": 3, "n_episodes": 8, "random_state": 0}
    clf = TrustLearner(ProtoNetClassifier(), n_way=3, **few).fit(X, classes).estimator_
    pipe = make_pipeline(StandardScaler(), ProtoNetClassifier())
    pipe = TrustLearner(pipe, n_way=3, **few).fit(X, classes).estimator_
    reg = TrustLearner(RidgeHeadRegressor(), **few).fit(X, y, classes).estimator_
    return clf, pipe, reg


@pytest.mark.parametrize("place", [0, 1])
def test_a_calibrated_classifier(place, learners, tmp_path):
    X, labels, _ = rows(9)
    clf = learners[place].fit(X, labels)
    assert clf.temperature_ != 1
    export(clf, tmp_path / "model.pt2")
    assert_alike(clf, tmp_path / "model.pt2", rows(seed=7)[0] * 5)
    bare = served(tmp_path / "model.pt2")[0](X)["probabilities"]
    assert np.abs(bare - clf.estimator_.predict_proba(X)).max() > 1e-3


def test_a_calibrated_regressor(learners, tmp_path):
    X, _, y = rows(9)
    reg = learners[2].fit(X, y)
    export(reg, tmp_path / "model.pt2")
    got, _ = assert_alike(reg, tmp_path / "model.pt2", rows(seed=7)[0])
    assert "std" in got and not np.allclose(reg.calibration_.scale_at(3), 1)


def test_without_a_calibration_it_is_the_bare_estimator(tmp_path):
    X, labels, y = rows()
    for trusted in (TrustedClassifier().fit(X, labels), TrustedRegressor().fit(X, y)):
        export(trusted, tmp_path / "model.pt2")
        assert_alike(trusted, tmp_path / "model.pt2", X)


def test_a_fallback_is_what_is_exported(learners, tmp_path):
    X, labels, y = rows(9)
    for found, target in ((learners[0], labels), (learners[2], y)):
        other = type(found.estimator)()
        trusted = type(found)(
            found.estimator, found.calibration, fallback=make_pipeline(StandardScaler(), other),
            novelty_level=0.999999,
        )  # fmt: skip
        trusted.fit(1e3 * X, target)
        assert trusted.used_fallback_
        export(trusted, tmp_path / "model.pt2")
        assert_alike(trusted, tmp_path / "model.pt2", 1e3 * X)
