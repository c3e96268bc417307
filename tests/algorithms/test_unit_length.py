"""Embeddings of length one differ by little; what reads distances has to sharpen them."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from fewshot_sklearn import (
    FEATClassifier,
    GaussianProtoNetClassifier,
    LEOClassifier,
    ProtoNetClassifier,
    TADAMClassifier,
)

OF_DISTANCES = (
    FEATClassifier,
    GaussianProtoNetClassifier,
    LEOClassifier,
    ProtoNetClassifier,
    TADAMClassifier,
)


@pytest.mark.parametrize("kind", OF_DISTANCES)
def test_training_starts_where_classes_that_lie_apart_are_told_apart(kind):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(10, 1, 384)) + 0.5 * rng.normal(size=(10, 2, 384))).astype("float32")
    y = np.arange(10)
    clf = kind(encoder="residual", random_state=0).fit(X[:, 0], y)
    assert log_loss(y, clf.predict_proba(X[:, 1])) < 0.1 * np.log(10)
