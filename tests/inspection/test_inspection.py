"""The displays show the numbers that the estimators give, and cover nothing with a legend."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import log_loss, root_mean_squared_error

from fewshot_sklearn import MAMLClassifier, ProtoNetClassifier, RidgeHeadRegressor, TaskMemory
from fewshot_sklearn.inspection import (
    AdaptationDisplay,
    EmbeddingDisplay,
    PrototypeDisplay,
    TaskSimilarityDisplay,
)
from fewshot_sklearn.inspection._drawing import as_image, class_colors, shortened
from fewshot_sklearn.trust import ReliabilityDisplay


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    """Support of three rows a digit and 60 queries, as images."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)
    return X[:30], y[:30], X[30:90], y[30:90]


def overlaps_axes(legend, ax):
    """Whether a legend covers part of the axes, or leaves the figure."""
    ax.figure.canvas.draw()
    box, figure = legend.get_window_extent(), ax.figure.bbox
    inside = figure.x0 <= box.x0 and box.x1 <= figure.x1 and figure.y0 <= box.y0
    return box.overlaps(ax.get_window_extent()) or not (inside and box.y1 <= figure.y1)


# ---------------------------------------------------------------- EmbeddingDisplay
def test_embedding_is_the_pca_of_all_that_is_shown(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"]
    display = EmbeddingDisplay.from_estimator(clf, X[:12], y[:12], X[12:60], y[12:60])
    fitted = clone(clf).fit(X[:12], y[:12])
    Z = np.concatenate([fitted.transform(X[:12]), fitted.prototypes_, fitted.transform(X[12:60])])
    pca = PCA(2, random_state=0)
    places = pca.fit_transform(Z.astype(float))
    shown = np.concatenate([display.support, display.prototypes, display.query])
    np.testing.assert_allclose(shown, places, rtol=1e-3, atol=1e-3)
    first, second = pca.explained_variance_ratio_
    assert display.ax_.get_xlabel() == f"first component ({first:.0%} of the variance)"
    assert display.ax_.get_ylabel() == f"second component ({second:.0%} of the variance)"


def test_crosses_mark_what_is_wrong(digits):
    X, y, X_query, y_query = digits
    clf = ProtoNetClassifier(random_state=0)
    display = EmbeddingDisplay.from_estimator(clf, X, y, X_query, y_query)
    wrong = clone(clf).fit(X, y).predict(X_query) != y_query
    assert 0 < wrong.sum() < len(wrong)
    np.testing.assert_allclose(display.wrong_.get_offsets(), display.query[wrong])
    told = [text.get_text() for text in display.legends_[1].get_texts()]
    assert told[-1] == f"wrong ({wrong.sum()} of 60)"


def test_queries_without_labels_have_the_predicted_colour(digits):
    X, y, X_query, _ = digits
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X, y, X_query)
    predicted = ProtoNetClassifier().fit(X, y).predict(X_query)
    assert display.wrong_ is None
    assert [len(points.get_offsets()) for points in display.query_] == [
        (predicted == label).sum() for label in np.unique(predicted)
    ]
    assert EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X, y).query_ == []


@pytest.mark.parametrize("image_shape", [None, (8, 8)])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_legends_stand_beside_the_axes(digits, n_classes, image_shape):
    X, y, X_query, y_query = digits
    own, asked = y < n_classes, y_query < n_classes
    names = np.array([f"a name of some length, number {i}" for i in range(10)])
    flat, flat_query = X[own].reshape(-1, 64), X_query[asked].reshape(-1, 64)
    y, y_query = names[y[own]], names[y_query[asked]]
    display = EmbeddingDisplay.from_estimator(
        ProtoNetClassifier(), flat, y, flat_query, y_query, image_shape=image_shape
    )
    assert not any(overlaps_axes(legend, display.ax_) for legend in display.legends_)
    assert (display.images is None) == (image_shape is None)


def test_many_classes_can_be_drawn():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.arange(40).repeat(2)
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X, y, X + 0.1, y)
    assert len(display.support_) == 40
    assert not overlaps_axes(display.legends_[0], display.ax_)


def test_embedding_of_an_adapted_encoder(trained, digits_new):
    X, y = digits_new
    display = EmbeddingDisplay.from_estimator(trained["MAMLClassifier"], X[:12], y[:12])
    means = [display.support[y[:12] == label].mean(0) for label in (7, 8, 9)]
    np.testing.assert_allclose(display.prototypes, means, atol=1e-5)  # PCA is linear


def test_any_transformer_reduces(digits):
    X, y, X_query, y_query = digits
    tsne = TSNE(perplexity=10, random_state=0)
    display = EmbeddingDisplay.from_estimator(
        ProtoNetClassifier(), X, y, X_query, y_query, reduction=tsne
    )
    assert display.query.shape == (60, 2)
    assert display.ax_.get_xlabel() == "first component"
    assert not hasattr(tsne, "embedding_")


def test_one_feature_and_one_row_can_be_drawn():
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), [[1.0]], ["a"], [[2.0]], ["b"])
    assert display.query.shape == (1, 2)
    assert display.wrong_.get_offsets().shape == (1, 2)


def test_unlabelled_rows_are_shown_without_a_class(digits):
    X, y, _, _ = digits
    y = np.where(np.arange(30) < 15, y, -1)
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(unlabelled=-1), X, y)
    assert -1 not in display.classes
    fitted = ProtoNetClassifier(unlabelled=-1).fit(X, y)
    distances = cdist(fitted.transform(X), fitted.prototypes_)
    assert (distances.argmin(1) == fitted.predict(X)).all()  # refined ones: those it decides by
    assert len(display.support_) == len(display.classes) + 1


# ---------------------------------------------------------------- AdaptationDisplay
def test_adaptation_is_that_of_fits_with_so_many_steps(trained, task):
    X, y, X_query, y_query = task("MAMLRegressor")
    reg = trained["MAMLRegressor"]
    display = AdaptationDisplay.from_estimator(
        reg, X, y, X_query, y_query, n_steps=7, scoring="neg_root_mean_squared_error"
    )
    for step in (0, 3, 7):
        fitted = clone(reg).set_params(n_steps=step).fit(X, y)
        scale = reg.meta_init.tensors["y_scale"][0]
        loss = np.mean((fitted.predict(X) - y) ** 2) / scale**2
        np.testing.assert_allclose(display.support_loss[step], loss, rtol=1e-4)
        error = root_mean_squared_error(y_query, fitted.predict(X_query))
        np.testing.assert_allclose(display.query_score[step], -error, rtol=1e-5)
    assert display.trained_steps == 5
    assert display.support_loss.shape == display.query_score.shape == (8,)
    assert "root mean squared" in " ".join(display.axes_[1].get_ylabel().split())
    assert display.axes_[0].texts[0].get_text().strip() == "steps in meta-training"


def test_adaptation_of_a_classifier_starts_at_chance(trained, task):
    X, y, X_query, y_query = task("MAMLClassifier")
    clf = trained["MAMLClassifier"]
    display = AdaptationDisplay.from_estimator(clf, X, y, X_query, y_query)
    np.testing.assert_allclose(display.support_loss[0], np.log(3), rtol=1e-5)
    fitted = clone(clf).set_params(n_steps=4).fit(X, y)
    p = fitted.predict_proba(X).astype(float)
    expected = log_loss(y, p / p.sum(1, keepdims=True))
    np.testing.assert_allclose(display.support_loss[4], expected, rtol=1e-4)
    np.testing.assert_allclose(display.query_score[4], fitted.score(X_query, y_query))
    assert len(display.query_score) == 11  # twice the five of meta-training, and the start
    assert display.axes_[1].get_ylabel() == "query accuracy"


@pytest.mark.parametrize("name", ["MAMLPlusPlusClassifier", "MetaSGDClassifier"])
def test_learned_step_sizes_can_be_shown(trained, task, name, margin):
    display = AdaptationDisplay.from_estimator(trained[name], *task(name), n_steps=8)
    margin.below(display.support_loss[-1] / display.support_loss[0], 1)


def test_adaptation_without_past_marks_no_training():
    X, y = np.arange(4.0)[:, None], [0, 0, 1, 1]
    display = AdaptationDisplay.from_estimator(MAMLClassifier(), X, y, X, y, n_steps=3)
    assert display.trained_steps is None
    assert not display.axes_[0].texts


def test_methods_without_steps_are_refused():
    X, y = np.arange(4.0)[:, None], [0, 0, 1, 1]
    for estimator in (ProtoNetClassifier(), LogisticRegression()):
        with pytest.raises(ValueError, match="takes no such steps"):
            AdaptationDisplay.from_estimator(estimator, X, y, X, y)
    with pytest.raises(ValueError, match="n_steps"):
        AdaptationDisplay.from_estimator(MAMLClassifier(), X, y, X, y, n_steps=0)


# ---------------------------------------------------------------- PrototypeDisplay
def test_prototypes_show_rows_nearest_to_the_mean_first(digits):
    X, y, _, _ = digits
    display = PrototypeDisplay.from_estimator(ProtoNetClassifier(), X, y, max_rows=2)
    for label, images in zip(display.classes, display.images, strict=True):
        rows = X[y == label]
        far = np.square(rows - rows.mean(0)).sum((1, 2))
        assert np.array_equal(images, rows[np.argsort(far)[:2]])
    assert len(display.images_) == 20


def test_prototypes_show_the_nearest_past_classes(trained, digits_new):
    clf = trained["ProtoNetClassifier"]
    X, y = load_digits(return_X_y=True)
    past = TaskMemory.from_data(clf, X[y < 7], y[y < 7], keep_rows=True)
    X_new, y_new = digits_new
    display = PrototypeDisplay.from_estimator(
        clf, X_new[:12], y_new[:12], past=past, n_neighbors=2, image_shape=(8, 8)
    )
    prototypes = clone(clf).fit(X_new[:12], y_new[:12]).prototypes_
    ids, distances = past.nearest(prototypes, n_neighbors=2)
    assert np.array_equal(display.past_ids, ids)
    np.testing.assert_allclose(display.past_distances, distances, rtol=1e-4)
    first = past.rows[past.ids == ids[0, 0]].reshape(8, 8)
    assert np.array_equal(display.past_images[0][0], first)
    assert len(display.images_) == 12 + 6


def test_rows_that_are_no_images_are_refused(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"]
    with pytest.raises(ValueError, match="are not images"):
        PrototypeDisplay.from_estimator(clf, X[:9], y[:9])
    with pytest.raises(ValueError, match="does not fit"):
        PrototypeDisplay.from_estimator(clf, X[:9], y[:9], image_shape=(9, 9))
    without = TaskMemory.from_data(clf, X, y)
    with pytest.raises(ValueError, match="keeps no rows"):
        PrototypeDisplay.from_estimator(clf, X[:9], y[:9], past=without, image_shape=(8, 8))
    for display in (PrototypeDisplay, EmbeddingDisplay):
        with pytest.raises(ValueError, match="classifier of this package"):
            display.from_estimator(RidgeHeadRegressor(), X[:9], y[:9])


def test_colour_images_are_drawn_in_colour():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (6, 5, 4, 3)).astype(float)
    display = PrototypeDisplay.from_estimator(ProtoNetClassifier(), X, list("aabbcc"))
    drawn = display.images_[0].get_array()
    assert drawn.shape == (5, 4, 3)
    assert drawn.min() >= 0 and drawn.max() <= 1


# ---------------------------------------------------------------- TaskSimilarityDisplay
@pytest.fixture(scope="module")
def memory():
    """Twelve classes of three groups, which lie far apart."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(12).repeat(5))
    centres = rng.normal(0, 20, (3, 4))[np.arange(12) % 3] + rng.normal(0, 1, (12, 4))
    X = centres[codes] + rng.normal(0, 0.1, (60, 4))
    y = np.array([f"class {i:02}" for i in range(12)])[codes]
    groups = np.array(["one", "two", "three"])[codes % 3]
    return TaskMemory.from_data(ProtoNetClassifier().fit(X, y), X, y, groups)


def test_the_matrix_puts_similar_tasks_side_by_side(memory):
    display = TaskSimilarityDisplay.from_memory(memory)
    np.testing.assert_allclose(display.distances, cdist(memory.means, memory.means), atol=1e-6)
    ordered = memory.groups[display.order_]
    assert (ordered[1:] != ordered[:-1]).sum() == 2  # each group in one piece
    shown = display.image_.get_array()
    assert shown.mask.diagonal().all()
    np.testing.assert_allclose(shown[0, 1], display.distances[tuple(display.order_[:2])])
    names = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert names == memory.ids[display.order_].tolist()


def test_the_map_keeps_euclidean_distances(memory):
    display = TaskSimilarityDisplay.from_memory(memory, kind="map")
    drawn = [collection.get_offsets() for collection in display.ax_.collections]
    assert [len(points) for points in drawn] == [4, 4, 4]
    order = np.argsort(memory.groups, kind="stable")
    found = cdist(np.concatenate(drawn), np.concatenate(drawn))
    pca = PCA(2).fit_transform(memory.means.astype(float))[order]
    np.testing.assert_allclose(found, cdist(pca, pca), atol=1e-3)
    assert not overlaps_axes(display.ax_.get_legend(), display.ax_)


def test_names_on_the_map_do_not_overlap(memory):
    plain = TaskMemory(
        "classes", memory.ids, memory.means, memory.counts, memory.medoids, memory.metric,
        memory.digest,
    )  # fmt: skip
    display = TaskSimilarityDisplay.from_memory(plain, kind="map")
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    assert len(boxes) >= 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_groups_are_as_far_apart_as_their_classes(memory):
    display = TaskSimilarityDisplay.from_memory(memory, by="groups")
    assert display.ids.tolist() == ["one", "three", "two"]
    own, other = (memory.means[memory.groups == g].astype(float) for g in ("one", "two"))
    d = cdist(own, other)
    expected = (d.min(1).mean() + d.min(0).mean()) / 2
    np.testing.assert_allclose(display.distances[0, 2], expected)


def test_tasks_of_a_regression_are_compared_by_what_they_learned(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    reg = trained["RidgeHeadRegressor"]
    memory = TaskMemory.from_data(reg, X, y, groups)
    grid = np.linspace(-5, 5, 30)[:, None]
    display = TaskSimilarityDisplay.from_memory(memory, estimator=reg, X=grid)
    one, other = (clone(reg).fit(X[groups == g], y[groups == g]).predict(grid) for g in (2, 9))
    expected = root_mean_squared_error(one, other)
    np.testing.assert_allclose(display.distances[2, 9], expected, rtol=1e-3)
    colored = display.plot(kind="map", values=memory.y_scale[:, 0], values_label="amplitude")
    np.testing.assert_allclose(colored.points_.get_array(), memory.y_scale[:, 0])


def test_what_a_similarity_needs_is_said(memory, trained, digits_new):
    with pytest.raises(ValueError, match="go together"):
        TaskSimilarityDisplay.from_memory(memory, X=[[0.0]])
    with pytest.raises(ValueError, match="by must be"):
        TaskSimilarityDisplay.from_memory(memory, by="alphabets")
    with pytest.raises(ValueError, match="kind must be"):
        TaskSimilarityDisplay.from_memory(memory, kind="tree")
    plain = TaskMemory.from_data(trained["ProtoNetClassifier"], *digits_new)
    with pytest.raises(ValueError, match="no groups"):
        TaskSimilarityDisplay.from_memory(plain, by="groups")
    X, y = digits_new
    one = TaskMemory.from_data(trained["ProtoNetClassifier"], X[y == 7], y[y == 7])
    with pytest.raises(ValueError, match="two tasks or more"):
        TaskSimilarityDisplay.from_memory(one)


# ---------------------------------------------------------------- all of them
def test_axes_of_ones_own_are_drawn_on(digits, memory):
    X, y, X_query, y_query = digits
    figure, axes = plt.subplots(2, 2)
    first = EmbeddingDisplay.from_estimator(
        ProtoNetClassifier(), X, y, X_query, y_query, ax=axes[0, 0]
    )
    second = PrototypeDisplay.from_estimator(ProtoNetClassifier(), X, y, ax=axes[0, 1])
    third = TaskSimilarityDisplay.from_memory(memory, ax=axes[1, 0])
    flat = X.reshape(30, 64)
    fourth = AdaptationDisplay.from_estimator(
        MAMLClassifier(n_steps=2), flat, y, flat, y, ax=axes[1, 1]
    )
    assert [first.ax_, second.ax_, third.ax_] == [axes[0, 0], axes[0, 1], axes[1, 0]]
    assert {d.figure_ for d in (first, second, third, fourth)} == {figure}
    assert fourth.axes_[0].get_subplotspec().get_topmost_subplotspec() == (
        axes[1, 1].get_subplotspec()
    )
    two = fourth.plot(plt.subplots(2)[1])
    assert two.axes_.shape == (2,)
    with pytest.raises(ValueError, match="one Axes or two"):
        fourth.plot(plt.subplots(3)[1])
    figure.canvas.draw()


def test_a_display_can_be_drawn_again_from_its_numbers(digits):
    X, y, X_query, y_query = digits
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X, y, X_query, y_query)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first


def test_colours_differ():
    for n in (1, 6, 7, 10, 11, 40):
        colors = [plt.matplotlib.colors.to_hex(c) for c in class_colors(n)]
        assert len(set(colors)) == n


@pytest.mark.parametrize(
    ("row", "shape", "expected"),
    [
        ((8, 8), None, (8, 8)), ((8, 8, 1), None, (8, 8)), ((8, 6, 3), None, (8, 6, 3)),
        ((64,), (8, 8), (8, 8)), ((96,), (8, 4, 3), (8, 4, 3)), ((64,), None, None),
        ((8, 8, 5), None, None),
    ],
)  # fmt: skip
def test_rows_become_images(row, shape, expected):
    image = as_image(np.zeros(row), shape)
    assert (image if image is None else image.shape) == expected


def test_long_names_are_cut_in_the_middle():
    assert shortened("short_name") == "short name"
    assert shortened("a very long name indeed/character07", 22) == "a very long…haracter07"
    assert len(shortened("x" * 99, 16)) == 16


# ---------------------------------------------------------------- labels of any kind
def labels_of(kind, codes):
    if kind == "dates":
        return pd.Series(pd.to_datetime("2020-01-01") + pd.to_timedelta(codes, "D"))
    if kind == "Int64":
        return pd.Series(codes, dtype="Int64")
    names = np.array(["no", "so", "yes"])[codes]
    return list(names) if kind == "list" else pd.Series(names).astype(kind)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["string", "category", "object", "list", "Int64", "dates"])
def test_displays_take_labels_of_any_kind(kind):
    codes = np.arange(24) % 3
    X = np.random.default_rng(0).normal(size=(24, 4)) + codes[:, None]
    y, y_query, plain = labels_of(kind, codes[:12]), labels_of(kind, codes), np.array(codes[:12])
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X[:12], y, X, y_query)
    same = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), X[:12], plain, X, codes)
    np.testing.assert_array_equal(display.support, same.support)
    assert (display.wrong_.get_offsets() == same.wrong_.get_offsets()).all()
    for mine, other in zip(display.support_, same.support_, strict=True):
        np.testing.assert_array_equal(mine.get_facecolors(), other.get_facecolors())
    names = {"dates": ["2020-01-01", "2020-01-02", "2020-01-03"], "Int64": ["0", "1", "2"]}
    shown = names.get(kind, ["no", "so", "yes"])
    assert [t.get_text() for t in display.legends_[0].get_texts()] == shown
    lines = PrototypeDisplay.from_estimator(ProtoNetClassifier(), X[:12], y, image_shape=(2, 2))
    assert [t.get_text() for t in lines.ax_.get_yticklabels()] == shown
    AdaptationDisplay.from_estimator(MAMLClassifier(), X[:12], y, X, y_query, n_steps=1)
    fitted = ProtoNetClassifier().fit(X[:12], y)
    ReliabilityDisplay.from_estimator(fitted, X, y_query)
    memory = TaskMemory.from_data(fitted, X, y_query)
    assert TaskSimilarityDisplay.from_memory(memory).ids.astype(str).tolist() == shown


@pytest.mark.filterwarnings("error")
def test_one_row_has_no_variance_to_show():
    display = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), [[1.0, 2.0]], ["a"])
    assert not display.support.any() and display.explained_variance_ratio is None
    assert display.ax_.get_xlabel() == "first component"
    copies = EmbeddingDisplay.from_estimator(ProtoNetClassifier(), np.ones((4, 2)), list("aabb"))
    assert not copies.support.any() and copies.explained_variance_ratio is None
