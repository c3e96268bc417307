"""R2-D2 against scikit-learn's Ridge, and what it shares with RidgeHeadClassifier."""

from __future__ import annotations

import numpy as np
import pytest
from noisy_digits import assert_learns
from scipy.special import softmax
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge

from fewshot_sklearn import MetaInit, R2D2Classifier, RidgeHeadClassifier
from fewshot_sklearn.algorithms.r2d2 import R2D2
from fewshot_sklearn.encoders import make_encoder


@pytest.mark.parametrize("n", [3, 60], ids=["fewer rows than features", "more"])
@pytest.mark.parametrize("alpha", [0.01, 30.0])
def test_ridge_of_indicators(n, alpha):
    """Equations 4 and 7, with a column of ones that is penalised like the features."""
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    X, y = X[rows] - X.mean(0), y[rows]
    w = np.random.default_rng(1).uniform(0.1, 3, n)
    Y = np.eye(3)[y[:n]][:, np.unique(y[:n])]
    net = R2D2(make_encoder("identity", (4,), {}), (4,), alpha=alpha)
    spec = R2D2Classifier(alpha=alpha)._spec(net)
    state = net.state_dict()
    state["log_scale"].fill_(np.log(3.0))
    state["shift"].fill_(0.7)
    clf = R2D2Classifier(MetaInit.from_state(state, spec), dtype="float64")
    clf.fit(X[:n], y[:n], w)
    ones = np.ones((150, 1))
    theirs = Ridge(alpha=alpha, fit_intercept=False).fit(np.hstack([X, ones])[:n], Y, w)
    scores = 3 * theirs.predict(np.hstack([X, ones])) + 0.7
    np.testing.assert_allclose(clf.predict_proba(X), softmax(scores, 1), rtol=1e-5)
    np.testing.assert_allclose(clf.coef_, theirs.coef_[:, :-1], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(clf.intercept_, theirs.coef_[:, -1], rtol=1e-5, atol=1e-8)
    if len(Y.T) == 3:
        np.testing.assert_allclose(clf.decision_function(X), scores, rtol=1e-5, atol=1e-6)


def test_untrained_it_is_the_ridge_head():
    X, y = load_iris(return_X_y=True)
    ours = R2D2Classifier().fit(X[::7], y[::7])
    theirs = RidgeHeadClassifier().fit(X[::7], y[::7])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)


def test_one_penalty_one_scale_one_shift():
    net = R2D2(make_encoder("identity", (4,), {}), (4,))
    assert {n: p.numel() for n, p in net.named_parameters()} == {
        "log_precision": 1, "log_scale": 1, "shift": 1,
    }  # fmt: skip


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    trained = assert_learns(R2D2Classifier(**net), margin)
    assert trained.meta_init.tensors["log_precision"] != 0.0
