"""imbalanced-learn samples rows before an estimator, and ensembles are made of it."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import every_classifier
from sklearn.datasets import make_blobs

import fewshot_sklearn
from fewshot_sklearn import TaskwiseClassifier, few_shot_score

imblearn = pytest.importorskip("imblearn")


def uneven():
    """Two classes of 40 and 8 rows."""
    return make_blobs([40, 8], centers=[[0, 0], [3, 3]], random_state=0)


@every_classifier
def test_every_classifier(name):
    from imblearn.ensemble import BalancedBaggingClassifier
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.pipeline import make_pipeline

    X, codes = uneven()
    y = np.array(["often", "rare"])[codes]
    clf = getattr(fewshot_sklearn, name)(encoder="identity", random_state=0)
    pipeline = make_pipeline(RandomOverSampler(random_state=0), clf).fit(X, y)
    assert pipeline.predict_proba(X).shape == (48, 2)
    assert set(pipeline.predict(X)) <= {"often", "rare"}
    counts = pipeline[-1].state_  # what was adapted to rows of equal numbers
    assert counts and len(pipeline[-1]._support[0]) == 80
    bagged = BalancedBaggingClassifier(clf, n_estimators=2, random_state=0).fit(X, y)
    assert set(bagged.predict(X)) <= {"often", "rare"}


def test_its_pipelines_as_rivals_and_for_each_task():
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline
    from sklearn.linear_model import LogisticRegression

    X, y = make_blobs(240, centers=6, random_state=0)
    pipeline = make_pipeline(SMOTE(k_neighbors=1, random_state=0), LogisticRegression())
    assert few_shot_score(pipeline, X, y, n_way=3, n_shot=3, n_query=5, n_episodes=5).mean > 0.5
    groups = np.arange(240) % 4
    assert TaskwiseClassifier(pipeline).fit(X, y, groups).score(X, y, groups) > 0.5
