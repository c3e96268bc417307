"""SimpleShot against scikit-learn's nearest centroid and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.neighbors import NearestCentroid

from fewshot_sklearn import NearestClassMeanClassifier, few_shot_score
from fewshot_sklearn.tasks import Task, add_rotations, pad_tasks

pytestmark = pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
LOADERS = {"iris": load_iris, "wine": load_wine, "digits": load_digits}
every_normalization = pytest.mark.parametrize("normalization", ["un", "l2n", "cl2n"])


@pytest.fixture(params=LOADERS)
def data(request):
    X, y = LOADERS[request.param](return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def digits():
    """(X, y, new): turned digits beside noise, and which rows are of 7 to 9, kept from training."""
    images = load_digits()
    X, y = add_rotations(images.images, images.target)
    X = X.reshape(len(X), -1)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 5, X.shape)])
    return X, y, np.array([label[0] in "789" for label in y])


@pytest.fixture(scope="module")
def pretrained(digits):
    X, y, new = digits
    few = {"n_way": 5, "n_shot": 5, "n_query": 10, "n_episodes": 160, "max_epochs": 6}
    net = NearestClassMeanClassifier(encoder="mlp", encoder__hidden=(64,))
    return meta_train(net, X[~new][::3], y[~new][::3], **few)


def unit(X):
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)


def normalized(Z, normalization, centre=0.0):
    """Equations 3 and 4 of the paper."""
    if normalization == "un":
        return Z
    return unit(Z - centre) if normalization == "cl2n" else unit(Z)


def class_means(Z, y, w=None):
    return np.array([np.average(Z[y == k], axis=0, weights=None if w is None else w[y == k])
                     for k in np.unique(y)])  # fmt: skip


def mlp(init, X):
    """The pretrained encoder, in numpy and float64."""
    t = {name: array.astype(float) for name, array in init.tensors.items()}
    Z = (X - t["x_mean"] - t["x_rest"]) / t["x_scale"]
    return np.maximum(Z @ t["encoder.layers.0.weight"].T + t["encoder.layers.0.bias"], 0)


# ------------------------------------------------------------------ without a past
@every_normalization
def test_nearest_centroid(data, normalization):
    X, y = data
    ours = NearestClassMeanClassifier(normalization=normalization).fit(X[:30], y[:30])
    Z = normalized(X, normalization)
    theirs = NearestCentroid().fit(Z[:30], y[:30])
    np.testing.assert_allclose(ours.means_, theirs.centroids_, rtol=1e-10, atol=1e-15)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(Z))
    np.testing.assert_allclose(ours.transform(X), Z, rtol=1e-12)


@every_normalization
def test_probabilities(data, normalization):
    X, y = data
    X = X / X.std()
    w = np.random.default_rng(1).uniform(0.1, 3, len(y))
    Z = normalized(X, normalization)
    distance = cdist(Z, class_means(Z, y, w), "sqeuclidean")
    clf = NearestClassMeanClassifier(normalization=normalization, scale=4.0)
    expected = softmax(-4.0 * distance, axis=1)
    np.testing.assert_allclose(
        clf.fit(X, y, sample_weight=w).predict_proba(X), expected, rtol=1e-6, atol=1e-12
    )


def test_means_are_not_brought_to_length_one_again():
    X, y = [[1.0, 0.0], [0.0, 1.0], [-3.0, 0.0]], [0, 0, 1]
    clf = NearestClassMeanClassifier().fit(X, y)
    np.testing.assert_allclose(clf.means_, [[0.5, 0.5], [-1.0, 0.0]])
    # (-0.6, 0.8) is nearer to the first mean but for its length: 1.3 against 0.8
    assert clf.predict([[-0.6, 0.8]]) == [1]
    np.testing.assert_allclose(np.dot([-0.6, 0.8], unit(clf.means_).T), [0.1414, 0.6], atol=1e-4)


def test_a_row_of_zeros_stays_zero():
    clf = NearestClassMeanClassifier().fit([[0.0, 0.0], [0.0, 2.0], [3.0, 0.0]], [0, 0, 1])
    np.testing.assert_allclose(clf.means_, [[0.0, 0.5], [1.0, 0.0]])
    assert np.isfinite(clf.predict_proba([[0.0, 0.0], [1e-300, 0.0]])).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [({"normalization": "l1"}, r"normalization .*'un', 'l2n', 'cl2n'.* 'l1'"),
     ({"scale": 0.0}, r"scale must be .*positive.*got 0.0"),
     ({"scale": float("nan")}, r"scale must be .*positive.*got nan")],
)  # fmt: skip
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        NearestClassMeanClassifier(**params).fit([[0.0], [1.0]], [0, 1])


# ------------------------------------------------------------------ with a past
def test_the_centre_is_the_mean_feature_of_the_past(digits, pretrained):
    X, _, new = digits
    init, past = pretrained.meta_init, X[~new][::3]
    assert len(past) < 2000  # all are looked at
    Z = mlp(init, past)
    np.testing.assert_allclose(init.tensors["centre"], Z.mean(0), rtol=1e-4, atol=1e-5)
    for i, normalization in enumerate(("un", "l2n", "cl2n")):
        parts = normalized(Z, normalization, Z.mean(0))
        spread = np.square(parts - parts.mean(0)).sum(1).mean()
        np.testing.assert_allclose(init.tensors["spread"][i], spread, rtol=1e-4)


@every_normalization
def test_pretrained(digits, pretrained, normalization, margin):
    X, y, new = digits
    X, y = X[new], y[new]
    clf = clone(pretrained).set_params(normalization=normalization, dtype="float64")
    rows = np.random.default_rng(0).permutation(len(X))[:60]
    clf.fit(X[rows], y[rows])
    t = clf.meta_init.tensors
    Z = normalized(mlp(clf.meta_init, X), normalization, t["centre"].astype(float))
    means = class_means(Z[rows], y[rows])
    np.testing.assert_allclose(clf.means_, means, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(clf.transform(X), Z, rtol=1e-7, atol=1e-9)
    spread = float(t["spread"][["un", "l2n", "cl2n"].index(normalization)])
    expected = softmax(-10.0 / spread * cdist(Z, means, "sqeuclidean"), axis=1)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-5, atol=1e-10)
    blunt = clone(clf).set_params(scale=0.1).fit(X[rows], y[rows])
    np.testing.assert_array_equal(blunt.predict(X), clf.predict(X))
    margin.below(blunt.predict_proba(X).max(), 0.3)


def test_pretraining_helps_with_new_classes(digits, pretrained, margin):
    X, y, new = digits
    few = {"n_way": 5, "n_shot": 5, "n_query": 10}
    untrained = NearestClassMeanClassifier(encoder="mlp", encoder__hidden=(64,))
    untrained = meta_train(untrained, X[~new][::3], y[~new][::3], **few, max_epochs=0)
    options = {"n_way": 5, "n_shot": 5, "n_episodes": 200, "random_state": 0}
    before, after = (
        few_shot_score(e, X[new], y[new], **options).mean for e in (untrained, pretrained)
    )
    margin.above(after, 0.75, "accuracy")
    margin.above(after - before, 0.04, "gain")


def test_ragged_tasks_in_one_batch(digits, pretrained):
    X, y, new = digits
    codes = np.unique(y[new], return_inverse=True)[1]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(codes < 4))
    X, codes = X[new][rows], codes[rows]
    tasks = [Task(X[:20], codes[:20], X[20:25], codes[20:25]),
             Task(X[:9], codes[:9] % 2, X[30:40], codes[30:40] % 2)]  # fmt: skip
    batch, _ = pad_tasks(tasks)
    with torch.no_grad():
        outputs = pretrained._rebuild(pretrained.meta_init).forward(**batch).softmax(-1)
    for task, answers in zip(tasks, outputs.numpy(), strict=True):
        alone = clone(pretrained).fit(task.X, task.y)
        expected = alone.predict_proba(task.X_query)
        found = answers[: len(expected), alone.classes_]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
