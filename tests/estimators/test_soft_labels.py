"""Class probabilities as labels: a teacher's answers in place of hard ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import every_classifier
from sklearn.linear_model import LogisticRegression


@every_classifier
def test_one_hot_probabilities_are_labels(trained, task, name):
    X, y, X_query, _ = task(name)
    hard = trained[name].fit(X, y)
    soft = trained[name].fit(X, np.eye(3)[y - 7])
    np.testing.assert_array_equal(soft.classes_, range(3))
    np.testing.assert_allclose(
        soft.predict_proba(X_query), hard.predict_proba(X_query), rtol=1e-5, atol=1e-6
    )


@every_classifier
def test_columns_of_a_frame_are_the_classes(trained, task, name):
    X, y, X_query, _ = task(name)
    frame = pd.DataFrame(np.eye(3)[y - 7], columns=["seven", "eight", "nine"])
    soft = trained[name].fit(X, frame)
    hard = trained[name].fit(X, np.array(frame.columns)[y - 7])
    np.testing.assert_array_equal(soft.classes_, ["eight", "nine", "seven"])
    np.testing.assert_array_equal(soft.predict(X_query), hard.predict(X_query))


@every_classifier
def test_probabilities_that_differ_give_other_answers(trained, task, name, margin):
    X, y, X_query, _ = task(name)
    hard = trained[name].fit(X, np.eye(3)[y - 7]).predict_proba(X_query)
    blurred = 0.4 * np.eye(3)[y - 7] + 0.2
    soft = trained[name].fit(X, blurred).predict_proba(X_query)
    margin.above(np.log10(max(np.abs(soft - hard).max(), 1e-9)), -2, "logarithm")
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)


def test_a_student_of_a_teacher_beats_one_of_few_labels(trained, digits_new, margin):
    """Of 60 rows the teacher's probabilities are known, of none the label."""
    X, y = digits_new
    teacher = LogisticRegression(max_iter=1000).fit(X[300:], y[300:])
    probabilities = pd.DataFrame(teacher.predict_proba(X[:60]), columns=teacher.classes_)
    student = trained["ProtoNetClassifier"].fit(X[:60], probabilities)
    alone = trained["ProtoNetClassifier"].fit(X[:6], y[:6])
    gain = student.score(X[60:300], y[60:300]) - alone.score(X[60:300], y[60:300])
    margin.above(gain, 0)


@pytest.mark.parametrize(
    "y", [[[0.5, 0.4]] * 4, [[1.5, -0.5]] * 4, [["a", "b"]] * 4], ids=["sum", "sign", "strings"]
)
def test_several_columns_that_are_no_probabilities(trained, y):
    with pytest.raises(ValueError, match=r"probabilities|multi"):
        trained["ProtoNetClassifier"].fit(np.zeros((4, 64)), np.array(y))
