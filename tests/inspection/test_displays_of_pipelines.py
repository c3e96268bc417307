"""Displays take pipelines of frozen steps, and show what the last step makes of their rows."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from fewshot_sklearn import (
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskMemory,
    inspection,
)
from fewshot_sklearn.estimators import as_final_sees, final_step
from fewshot_sklearn.inspection import (
    AdaptationDisplay,
    EmbeddingDisplay,
    FewShotCurveDisplay,
    PrototypeDisplay,
    ReliabilityDisplay,
    TaskSimilarityDisplay,
)

FEW = {"n_shot": 3, "n_query": 3, "n_episodes": 8, "max_epochs": 1, "validation_fraction": 0}
FEW |= {"verbose": 0, "device": "cpu", "random_state": 0}
DIGITS, NAMES = load_digits(return_X_y=True)
PAST, NEW = NAMES < 7, np.flatnonzero(NAMES >= 7)
X, y = DIGITS[NEW[:12]], NAMES[NEW[:12]]
X_QUERY, y_query = DIGITS[NEW[12:60]], NAMES[NEW[12:60]]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def scaled(estimator):
    """A pipeline whose first step changes what is nearest to what."""
    return make_pipeline(StandardScaler(), FunctionTransformer(np.tanh), estimator)


def meta_trained(estimator):
    small = scaled(estimator.set_params(encoder="mlp", encoder__hidden=(16,)))
    return MetaTrainer(small, n_way=3, **FEW).fit(DIGITS[PAST], NAMES[PAST]).estimator_


@pytest.fixture(scope="module")
def clf():
    return meta_trained(ProtoNetClassifier())


@pytest.fixture(scope="module")
def maml():
    return meta_trained(MAMLClassifier(n_steps=2, inner_lr=0.1))


@pytest.fixture(scope="module")
def reg():
    """A regressor of tables with a colour, and new rows of them."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(50, 9, 240), "colour": rng.choice(["red", "blue"], 240)})
    groups = np.repeat(np.arange(12), 20)
    target = (groups % 4) * table["x"].to_numpy() + 30 * (table["colour"] == "red")
    steps = make_column_transformer(
        (StandardScaler(), ["x"]), (OneHotEncoder(sparse_output=False), ["colour"])
    )
    pipeline = make_pipeline(steps, RidgeHeadRegressor())
    trainer = MetaTrainer(pipeline, **FEW).fit(table, target, groups=groups)
    return trainer.estimator_, table, target.to_numpy(), groups


def seen(estimator, *rows):
    """The last step, and rows as it sees them."""
    return (as_final_sees(estimator, rows[0])[0], *(as_final_sees(estimator, R)[1] for R in rows))


# ------------------------------------------------------------------ what each shows
def embedding(clf, maml, reg):
    final, seen_X, seen_query = seen(clf, X, X_QUERY)
    options = {"image_shape": (8, 8)}
    mine = EmbeddingDisplay.from_estimator(clf, X, y, X_QUERY, y_query, **options)
    same = EmbeddingDisplay.from_estimator(final, seen_X, y, seen_query, y_query, **options)
    assert np.array_equal(mine.images, X.reshape(-1, 8, 8))  # the drawings as they are
    return [[d.support, d.prototypes, d.query, d.predicted] for d in (mine, same)]


def prototypes(clf, maml, reg):
    final, seen_X, seen_past = seen(clf, X, DIGITS[PAST])
    options = {"image_shape": (8, 8), "n_neighbors": 2}
    shown = []
    for estimator, rows, past in ((clf, X, DIGITS[PAST]), (final, seen_X, seen_past)):
        memory = TaskMemory.from_data(estimator, past, NAMES[PAST], keep_rows=True)
        display = PrototypeDisplay.from_estimator(estimator, rows, y, past=memory, **options)
        shown.append([display.past_ids, display.past_distances])
        if estimator is clf:
            kept = DIGITS[PAST][memory.medoids[memory.ids == display.past_ids[0, 0]]]
            assert np.array_equal(display.past_images[0][0], kept.reshape(8, 8))
            assert {image.tobytes() for line in display.images for image in line} <= {
                row.tobytes() for row in X
            }
    return shown


def adaptation(clf, maml, reg):
    final, seen_X, seen_query = seen(maml, X, X_QUERY)
    mine = AdaptationDisplay.from_estimator(maml, X, y, X_QUERY, y_query)
    same = AdaptationDisplay.from_estimator(final, seen_X, y, seen_query, y_query)
    assert mine.trained_steps == 2 and len(mine.query_score) == 5
    return [[d.support_loss, d.query_score] for d in (mine, same)]


def similarity(clf, maml, reg):
    reg, table, target, groups = reg
    final, rows = seen(reg, table)
    shown = []
    for estimator, given in ((reg, table), (final, rows)):
        memory = TaskMemory.from_data(estimator, given, target, groups, keep_rows=True)
        display = TaskSimilarityDisplay.from_memory(memory, estimator=estimator, X=given[:9])
        near = memory.nearest_tasks(estimator, given[:20], target[:20])
        shown.append([display.distances, *near, memory.rows])
    assert 0 in shown[0][1]  # the task itself is among those that explain its rows
    return shown


def reliability(clf, maml, reg):
    final, seen_X, seen_query = seen(clf, X, X_QUERY)
    fitted = [
        ReliabilityDisplay.from_estimator(clone(one).fit(own, y), asked, y_query)
        for one, own, asked in ((clf, X, X_QUERY), (final, seen_X, seen_query))
    ]
    few = {"n_way": 3, "n_shot": 2, "n_query": 4, "n_episodes": 6}
    episodes = [
        ReliabilityDisplay.from_episodes(one, rows, y_query, **few)
        for one, rows in ((clf, X_QUERY), (final, seen_query))
    ]
    assert {d.name for d in fitted + episodes} == {"ProtoNetClassifier"}
    return [
        [d.bins.confidence, d.bins.accuracy, e.bins.accuracy]
        for d, e in zip(fitted, episodes, strict=True)
    ]


def curves(clf, maml, reg):
    final, rows = seen(clf, X_QUERY)
    few = {"n_way": 3, "n_shots": (1, 2), "n_query": 4, "n_episodes": 6, "baselines": None}
    return [
        [FewShotCurveDisplay.from_estimators(one, asked, y_query, **few).comparison["mean"]]
        for one, asked in ((clf, X_QUERY), (final, rows))
    ]


SHOWN = {
    EmbeddingDisplay: embedding,
    PrototypeDisplay: prototypes,
    AdaptationDisplay: adaptation,
    TaskSimilarityDisplay: similarity,
    ReliabilityDisplay: reliability,
    FewShotCurveDisplay: curves,
}


@pytest.mark.parametrize("display", SHOWN)
def test_a_display_shows_what_the_last_step_makes_of_its_rows(display, clf, maml, reg):
    mine, same = SHOWN[display](clf, maml, reg)
    for one, other in zip(mine, same, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        else:
            assert np.array_equal(one, other)


def test_no_display_is_left_out():
    public = {name for name in inspection.__all__ if name.endswith("Display")}
    assert public == {display.__name__ for display in SHOWN}


def test_what_is_shown_differs_from_rows_that_skip_the_steps(clf):
    mine = EmbeddingDisplay.from_estimator(clf, X, y)
    skipped = EmbeddingDisplay.from_estimator(final_step(clf), X, y)
    assert np.abs(mine.support - skipped.support).max() > 0.1


def test_an_estimator_is_left_as_it_was(clf, maml):
    before = [repr(one) for one in (clf, maml)]
    EmbeddingDisplay.from_estimator(clf, X, y)
    AdaptationDisplay.from_estimator(maml, X, y, X_QUERY, y_query, n_steps=1)
    assert [repr(one) for one in (clf, maml)] == before
    assert not hasattr(final_step(clf), "classes_") and not hasattr(final_step(maml), "classes_")


# ------------------------------------------------------------------ what makes no sense
def calls(estimator):
    """What looks inside an estimator, asked about one."""
    return {
        EmbeddingDisplay: lambda: EmbeddingDisplay.from_estimator(estimator, X, y),
        PrototypeDisplay: lambda: PrototypeDisplay.from_estimator(estimator, X, y),
        AdaptationDisplay: lambda: AdaptationDisplay.from_estimator(estimator, X, y, X, y),
        TaskMemory: lambda: TaskMemory.from_data(estimator, X, y),
    }


@pytest.mark.parametrize("display", calls(None), ids=lambda kind: kind.__name__)
def test_steps_that_every_fit_changes_are_refused(display):
    last = MAMLClassifier() if display is AdaptationDisplay else ProtoNetClassifier()
    with pytest.raises(ValueError, match="must be frozen"):
        calls(make_pipeline(StandardScaler(), last))[display]()


def test_a_regressor_with_loose_steps_is_refused(reg):
    reg, table, target, groups = reg
    memory = TaskMemory.from_data(reg, table, target, groups)
    loose = make_pipeline(StandardScaler(), final_step(reg))
    with pytest.raises(ValueError, match="must be frozen"):
        TaskSimilarityDisplay.from_memory(memory, estimator=loose, X=table[:9])


@pytest.mark.parametrize("display", [EmbeddingDisplay, PrototypeDisplay, TaskMemory])
@pytest.mark.parametrize("frozen", [False, True])
def test_pipelines_that_end_in_another_packages_are_refused(display, frozen):
    scaler = StandardScaler().fit(X)
    other = make_pipeline(FrozenEstimator(scaler) if frozen else scaler, LogisticRegression())
    with pytest.raises(ValueError, match=r"of this package, or a pipeline that ends in one"):
        calls(other)[display]()


def test_rows_that_are_no_numbers_are_no_images(reg):
    regressor, table, *_ = reg
    clf = make_pipeline(regressor[0], ProtoNetClassifier())
    colours = table["colour"][:9]
    assert EmbeddingDisplay.from_estimator(clf, table[:9], colours).images is None
    with pytest.raises(ValueError, match="Only rows of numbers are images"):
        PrototypeDisplay.from_estimator(clf, table[:9], colours)
