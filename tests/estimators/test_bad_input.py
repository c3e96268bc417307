"""Every wrong argument raises one clear error."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import (
    CLASSIFIERS,
    REGRESSORS,
    TRANSDUCTIVE,
    every_classifier,
    every_estimator,
    scores_of,
)
from sklearn.base import clone
from sklearn.utils.validation import NotFittedError

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MAMLRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
)


@every_estimator
def test_predict_before_fit(task, name):
    with pytest.raises(NotFittedError):
        getattr(fewshot_sklearn, name)().predict(task(name)[0])


@every_estimator
def test_rows_of_a_shape_not_meta_trained_on(trained, task, name):
    X, y, _, _ = task(name)
    with pytest.raises(ValueError, match=r"X has rows of shape .*meta-trained on rows of shape"):
        trained[name].fit(np.hstack([X, X]), y)


@every_classifier
def test_predict_of_images_where_fit_saw_flat_rows(trained, task, name):
    X, y, _, _ = task(name)
    est = trained[name].fit(X, y)
    with pytest.raises(ValueError, match="X has"):
        est.predict(X.reshape(-1, 8, 8))


@every_estimator
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_rows(trained, task, name, value):
    X, y, _, _ = task(name)
    est = trained[name].fit(X, y)
    X[2, 0] = value
    with pytest.raises(ValueError, match="Input X contains"):
        trained[name].fit(X, y)
    with pytest.raises(ValueError, match="Input X contains"):
        est.predict(X)


@every_estimator
def test_nan_in_targets(trained, task, name):
    X, y, _, _ = task(name)
    y = y.astype(float)
    y[0] = np.nan
    with pytest.raises(ValueError, match="y contains NaN"):
        trained[name].fit(X, y)


@every_estimator
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder": "conv5"}, "encoder.*conv5"),
        ({"encoder": 3}, "encoder.*3"),
        ({"encoder": "mlp", "encoder__widths": 3}, "encoder.*widths|widths"),
        ({"encoder": "mlp", "encoder__activation": "step"}, "activation.*step"),
        ({"encoder": "conv4"}, "not images|encoder"),
        ({"device": "gpu"}, "device.*gpu"),
        ({"dtype": "float16"}, "dtype.*float16"),
        ({"dtype": np.float32}, "dtype"),
        ({"meta_init": 7}, "meta_init.*7"),
        ({"random_state": "seed"}, "seed"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_parameter(name, params, message):
    est = getattr(fewshot_sklearn, name)(**params)
    with pytest.raises(ValueError, match=message):
        est.fit(np.arange(10.0).reshape(5, 2), [0, 1, 0, 1, 0])


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ProtoNetClassifier(metric="manhattan"), "metric.*manhattan"),
        (MAMLClassifier(n_steps=-1), "n_steps.*-1"),
        (MAMLRegressor(n_steps=2.5), "n_steps.*2.5"),
        (MAMLClassifier(inner_lr=0.0), "inner_lr.*0.0"),
        (MAMLRegressor(inner_lr=float("nan")), "inner_lr.*nan"),
        (RidgeHeadRegressor(alpha=-1.0), "alpha.*-1"),
        (RidgeHeadClassifier(alpha=0.0), "alpha.*0"),
        (RidgeHeadRegressor(noise=0.0), "noise.*0"),
    ],
    ids=str,
)
def test_bad_hyperparameter(estimator, message):
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ProtoNetClassifier", {"metric": "manhattan"}, "metric.*manhattan"),
        ("MAMLClassifier", {"n_steps": -1}, "n_steps.*-1"),
        ("MAMLRegressor", {"inner_lr": -0.1}, "inner_lr.*-0.1"),
        ("RidgeHeadRegressor", {"noise": -1.0}, "noise.*-1"),
        ("RidgeHeadClassifier", {"alpha": -1.0}, "alpha.*-1"),
    ],
)
def test_bad_hyperparameter_with_a_meta_init(trained, task, name, params, message):
    X, y, _, _ = task(name)
    with pytest.raises(ValueError, match=message):
        trained[name].set_params(**params).fit(X, y)


@every_estimator
def test_unknown_argument(name):
    with pytest.raises(TypeError, match=r"unexpected.*learning_rate.*encoder__"):
        getattr(fewshot_sklearn, name)(learning_rate=0.1)
    with pytest.raises(ValueError, match="learning_rate"):
        getattr(fewshot_sklearn, name)().set_params(learning_rate=0.1)


@every_estimator
def test_meta_init_of_another_algorithm(trained, task, name):
    X, y, _, _ = task(name)
    # an encoder of class means is as good for those that move these
    will_do = {"ProtoNetClassifier", "NearestClassMeanClassifier"} if name in TRANSDUCTIVE else ()
    for other in set(CLASSIFIERS + REGRESSORS) - {name, *will_do}:
        with pytest.raises(ValueError, match=f"meta-trained as .*{name} needs"):
            clone(trained[name]).set_params(meta_init=trained[other].meta_init).fit(X, y)


@every_estimator
@pytest.mark.parametrize(
    "params", [{"encoder": "identity"}, {"encoder": "conv4"}, {"encoder__hidden": (3,)}], ids=str
)
def test_encoder_that_clashes_with_the_meta_init(trained, task, name, params):
    X, y, _, _ = task(name)
    made = getattr(fewshot_sklearn, name)(trained[name].meta_init, **params)
    with pytest.raises(ValueError, match="meta-trained with encoder='mlp'"):
        made.fit(X, y)


@every_estimator
def test_estimator_from_the_meta_init_alone(trained, task, name):
    X, y, X_query, _ = task(name)
    alone = getattr(fewshot_sklearn, name)(trained[name].meta_init).fit(X, y)
    np.testing.assert_array_equal(
        scores_of(alone, X_query), scores_of(trained[name].fit(X, y), X_query)
    )


@every_estimator
def test_meta_init_from_a_path(trained, task, name, tmp_path):
    X, y, X_query, _ = task(name)
    path = tmp_path / "past.safetensors"
    trained[name].meta_init.save(path)
    est = trained[name].fit(X, y)
    for given in (path, str(path)):
        loaded = getattr(fewshot_sklearn, name)(given).fit(X, y)
        assert loaded.meta_init == given
        np.testing.assert_array_equal(scores_of(loaded, X_query), scores_of(est, X_query))


@every_estimator
def test_meta_init_path_that_is_not_there(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        getattr(fewshot_sklearn, name)(str(tmp_path / "nowhere")).fit([[0.0], [1.0]], [0, 1])
