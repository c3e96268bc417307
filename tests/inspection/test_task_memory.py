"""A memory holds the means and medoids of past tasks, and finds those that resemble a new one."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from fewshot_sklearn import (
    DeepKernelRegressor,
    MAMLRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    TaskMemory,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks


@pytest.fixture(scope="module")
def blobs():
    """(X, y, groups) of six named classes of two groups, in random order."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([f"c{i}" for i in range(6)], [1, 2, 9, 9, 12, 12]))
    centres = dict(zip(np.unique(y), rng.normal(0, 4, (6, 3)), strict=True))
    X = np.stack([centres[label] for label in y]) + rng.normal(size=(len(y), 3))
    return X, y, np.where(y < "c3", "low", "high")


@pytest.fixture(scope="module")
def clf(blobs):
    return ProtoNetClassifier().fit(*blobs[:2])


def test_means_counts_and_medoids_are_those_of_pandas(blobs, clf):
    X, y, _ = blobs
    memory = TaskMemory.from_data(clf, X, y)
    by_class = pd.DataFrame(X).groupby(y)
    assert memory.ids.tolist() == sorted(set(y))
    np.testing.assert_allclose(memory.means, by_class.mean(), rtol=1e-5)
    assert memory.counts.tolist() == by_class.size().tolist()
    for label, medoid in zip(memory.ids, memory.medoids, strict=True):
        rows = np.flatnonzero(y == label)
        sums = {i: np.square(X[rows] - X[i]).sum() for i in rows}
        assert sums[medoid] <= min(sums.values()) * (1 + 1e-9)


def test_features_are_the_trained_encoders(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"]
    memory = TaskMemory.from_data(clf, X, y)
    expected = pd.DataFrame(clf.embed(X)).groupby(y).mean()
    np.testing.assert_allclose(memory.means, expected, rtol=1e-4, atol=1e-5)
    assert memory.digest == clf.meta_init.digest


def test_encoders_that_adaptation_changes_are_taken_as_meta_trained(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    reg = trained["MAMLRegressor"]
    memory = TaskMemory.from_data(reg, X, y, groups)
    init = reg.meta_init.tensors
    h = (X - init["x_mean"]) / init["x_scale"]
    for layer in (0, 2):
        parts = (init[f"encoder.layers.{layer}.{part}"] for part in ("weight", "bias"))
        weight, bias = parts
        h = np.maximum(h @ weight.T + bias, 0)
    expected = pd.DataFrame(h).groupby(groups).mean()
    np.testing.assert_allclose(memory.means, expected, rtol=1e-4, atol=1e-5)


def test_nearest_is_scikit_learns(blobs, clf):
    X, y, _ = blobs
    memory = TaskMemory.from_data(clf, X, y)
    ids, distances = memory.nearest(X, n_neighbors=4)
    expected, rows = NearestNeighbors(n_neighbors=4).fit(memory.means).kneighbors(X)
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    assert (ids == memory.ids[rows]).all()
    assert memory.nearest(X[:1], n_neighbors=99)[0].shape == (1, 6)


def test_a_method_that_compares_directions_is_remembered_so(blobs):
    X, y, _ = blobs
    memory = TaskMemory.from_data(ProtoNetClassifier(metric="cosine").fit(X, y), X, y)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = pd.DataFrame(unit).groupby(y).mean().to_numpy()
    np.testing.assert_allclose(memory.means, means, rtol=1e-5)
    np.testing.assert_allclose(
        memory.nearest(X, n_neighbors=6)[1], np.sort(cosine_distances(X, means), 1), atol=1e-6
    )


def test_centred_features_are_centred_again(trained, digits_new, tmp_path):
    X, y = digits_new
    clf = trained["NearestClassMeanClassifier"]
    memory = TaskMemory.from_data(clf, X, y)
    fitted = clone(clf).fit(X, y)
    expected = cosine_distances(fitted.transform(X[:5]), fitted.means_)
    memory.save(tmp_path / "memory")
    for known in (memory, TaskMemory.load(tmp_path / "memory")):
        np.testing.assert_allclose(
            known.nearest(clf.embed(X[:5]))[1], np.sort(expected, 1), atol=1e-5
        )


def test_groups_of_classes_are_kept(blobs, clf):
    X, y, groups = blobs
    memory = TaskMemory.from_data(clf, X, y, groups)
    assert memory.groups.tolist() == ["low"] * 3 + ["high"] * 3
    whole = TaskMemory.from_data(clf, X, y, groups, kind="groups")
    assert whole.ids.tolist() == ["high", "low"]
    np.testing.assert_allclose(whole.means, pd.DataFrame(X).groupby(groups).mean(), rtol=1e-5)


def test_a_class_of_two_groups_is_no_single_thing(blobs, clf):
    X, y, groups = blobs
    groups = groups.copy()
    groups[np.flatnonzero(y == "c4")[0]] = "low"
    with pytest.raises(ValueError, match="'c4' occurs in the groups \\['high', 'low'\\]"):
        TaskMemory.from_data(clf, X, y, groups)


@pytest.mark.parametrize("labels", [np.arange(6), np.arange(6.0) / 2, list("uvwxyz")])
def test_ids_may_be_numbers_or_objects(blobs, clf, labels, tmp_path):
    X, y, _ = blobs
    named = np.array(labels, dtype=object)[np.unique(y, return_inverse=True)[1]]
    named = named if isinstance(labels, list) else named.astype(labels.dtype)
    memory = TaskMemory.from_data(clf, X, named)
    assert memory.ids.tolist() == list(labels)
    memory.save(tmp_path / "memory")
    assert TaskMemory.load(tmp_path / "memory").ids.tolist() == list(labels)


def test_rows_are_kept_only_if_asked(blobs, clf, tmp_path):
    X, y, _ = blobs
    assert TaskMemory.from_data(clf, X, y).rows is None
    kept = TaskMemory.from_data(clf, X, y, keep_rows=True)
    assert np.array_equal(kept.rows, X[kept.medoids])
    kept.save(tmp_path / "memory")
    assert np.array_equal(TaskMemory.load(tmp_path / "memory").rows, kept.rows)


# ---------------------------------------------------------------- regression
@pytest.mark.parametrize("name", ["RidgeHeadRegressor", "MAMLRegressor", "MetaSGDRegressor"])
def test_past_models_predict_what_their_fits_predict(trained, sinusoid_new, name):
    X, y, groups = sinusoid_new
    reg = trained[name].set_params(dtype="float64")
    memory = TaskMemory.from_data(reg, X, y, groups)
    grid = np.linspace(-5, 5, 7)[:, None]
    expected = [clone(reg).fit(X[groups == g], y[groups == g]).predict(grid) for g in memory.ids]
    np.testing.assert_allclose(
        memory.predictions(reg, grid)[..., 0], expected, rtol=1e-6, atol=1e-6
    )


def test_nearest_tasks_are_ordered_by_the_error_of_their_models(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    reg = trained["RidgeHeadRegressor"].set_params(dtype="float64")
    past, new = groups < 15, groups == 17
    memory = TaskMemory.from_data(reg, X[past], y[past], groups[past])
    ids, errors = memory.nearest_tasks(reg, X[new], y[new], n_neighbors=15)
    scale = reg.meta_init.tensors["y_scale"][0]
    expected = {
        g: np.sqrt(
            np.mean((clone(reg).fit(X[groups == g], y[groups == g]).predict(X[new]) - y[new]) ** 2)
        )
        / scale
        for g in range(15)
    }
    assert ids.tolist() == sorted(expected, key=expected.__getitem__)
    np.testing.assert_allclose(errors, sorted(expected.values()), rtol=1e-6)


def test_similar_functions_are_found_where_means_of_inputs_say_nothing(trained, margin):
    """The nearest of 200 past sinusoids, from five rows of a new one: judged on a grid."""
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    new = make_sinusoid_tasks(40, n_shot=5, n_query=100, random_state=7)
    reg = trained["RidgeHeadRegressor"]
    memory = TaskMemory.from_data(reg, past.data, past.target, past.groups)
    by_function, by_features = [], []
    for g in range(40):
        X, y = new.data[new.groups == g], new.target[new.groups == g]
        predicted = memory.predictions(reg, X[5:])[..., 0]
        found = memory.nearest_tasks(reg, X[:5], y[:5], n_neighbors=1)[0][0]
        near = memory.nearest(reg.embed(X[:5]).mean(0, keepdims=True), n_neighbors=1)[0][0, 0]
        by_function.append(np.abs(predicted[found] - y[5:]).mean())
        by_features.append(np.abs(predicted[near] - y[5:]).mean())
    margin.below(np.mean(by_function) / np.mean(by_features), 0.5)


def test_targets_are_described_in_their_units(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    memory = TaskMemory.from_data(trained["RidgeHeadRegressor"], X, y, groups)
    by_task = pd.Series(y).groupby(groups)
    np.testing.assert_allclose(memory.y_mean[:, 0], by_task.mean())
    np.testing.assert_allclose(memory.y_scale[:, 0], by_task.std(ddof=0))


def test_several_targets(tmp_path):
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(30, 2)), np.arange(30) % 3
    slopes = rng.normal(0, 3, (3, 2, 2))
    y = np.einsum("nd,ndk->nk", X, slopes[groups])
    reg = RidgeHeadRegressor().fit(X, y)
    memory = TaskMemory.from_data(reg, X, y, groups)
    memory.save(tmp_path / "memory")
    memory = TaskMemory.load(tmp_path / "memory")
    assert memory.predictions(reg, X[:4]).shape == (3, 4, 2)
    ids, errors = memory.nearest_tasks(reg, X[groups == 2], y[groups == 2])
    assert ids[0] == 2
    assert errors[0] < 0.2 * errors[1]
    with pytest.raises(ValueError, match="1 output"):
        memory.nearest_tasks(reg, X, y[:, 0])


def test_states_that_hold_rows_are_not_kept(sinusoid_new):
    X, y, groups = sinusoid_new  # all tasks have as many rows, so sizes alone would not tell
    reg = DeepKernelRegressor().fit(X[:5], y[:5])
    memory = TaskMemory.from_data(reg, X, y, groups)
    assert not memory.states
    with pytest.raises(ValueError, match="no adapted models"):
        memory.nearest_tasks(reg, X[:5], y[:5])


# ---------------------------------------------------------------- as an object and a file
@pytest.fixture(params=["classes", "sinusoids"])
def memory(request, blobs, clf, trained, sinusoid_new):
    if request.param == "classes":
        return TaskMemory.from_data(clf, *blobs)
    return TaskMemory.from_data(trained["MAMLRegressor"], *sinusoid_new)


def same(one, other):
    arrays = ("ids", "means", "counts", "medoids", "groups", "y_mean", "y_scale", "rows")
    return (
        (one.kind, one.digest, one.metric.name) == (other.kind, other.digest, other.metric.name)
        and all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays)
        and set(one.states) == set(other.states)
        and all(np.array_equal(one.states[name], other.states[name]) for name in one.states)
    )


def test_a_file_and_a_pickle_hold_it_all(memory, tmp_path):
    path = tmp_path / "memory.safetensors"
    memory.save(path)
    memory.save(path)  # over the old one
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert same(TaskMemory.load(path), memory)
    assert same(pickle.loads(pickle.dumps(memory)), memory)
    assert same(copy.deepcopy(memory), memory)
    assert b"pickle" not in path.read_bytes()


def test_nothing_of_it_can_be_changed(memory):
    with pytest.raises(AttributeError):
        memory.kind = "other"
    with pytest.raises(ValueError, match="read-only"):
        memory.means[0] = 0
    with pytest.raises(TypeError):
        memory.states["new"] = np.zeros(3)


def test_what_it_was_made_from_can_be(blobs, clf):
    X, y, groups = (part.copy() for part in blobs)
    memory = TaskMemory.from_data(clf, X, y, groups, keep_rows=True)
    X[:], y[:] = 0, "none"
    assert memory.rows.any()
    assert "none" not in memory.ids


@pytest.mark.parametrize("content", [b"", b"not a memory at all", b"\x10" + b"\0" * 40])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match="does not hold a TaskMemory"):
        TaskMemory.load(tmp_path / "other")


def test_a_meta_init_is_no_memory(trained, tmp_path):
    trained["ProtoNetClassifier"].meta_init.save(tmp_path / "init")
    with pytest.raises(ValueError, match="does not hold a TaskMemory"):
        TaskMemory.load(tmp_path / "init")
    with pytest.raises(FileNotFoundError):
        TaskMemory.load(tmp_path / "nothing")


def test_what_does_not_fit_is_said(blobs, clf, trained, digits_new, sinusoid_new):
    X, y, groups = blobs
    memory = TaskMemory.from_data(clf, X, y)
    with pytest.raises(ValueError, match="another meta-init"):
        memory.check_made_with(trained["ProtoNetClassifier"])
    with pytest.raises(ValueError, match="3 columns"):
        memory.nearest(X[:, :2])
    with pytest.raises(ValueError, match="n_neighbors must be"):
        memory.nearest(X, n_neighbors=0)
    with pytest.raises(ValueError, match="of this package"):
        TaskMemory.from_data(KNeighborsClassifier(), X, y)
    with pytest.raises(ValueError, match="groups is needed"):
        TaskMemory.from_data(clf, X, y, kind="groups")
    with pytest.raises(ValueError, match="kind must be"):
        TaskMemory.from_data(clf, X, y, groups, kind="tasks")
    with pytest.raises(ValueError, match="kind must be"):
        TaskMemory.from_data(trained["MAMLRegressor"], *sinusoid_new, kind="classes")
    with pytest.raises(ValueError, match="inconsistent"):
        TaskMemory.from_data(clf, X, y[:-1])
    with pytest.raises(ValueError, match="rows of shape"):
        TaskMemory.from_data(trained["ProtoNetClassifier"], X, y)
    with pytest.raises(NotFittedError):
        TaskMemory.from_data(RidgeHeadClassifier(), X, y)
    with pytest.raises(NotFittedError):
        TaskMemory.from_data(MAMLRegressor(), *sinusoid_new)


def test_repr_says_what_it_is(blobs, clf):
    memory = TaskMemory.from_data(clf, *blobs[:2])
    assert repr(memory).startswith("TaskMemory(6 classes, 3 features, meta-init ")
    assert len(memory) == 6


# ---------------------------------------------------------------- ids and targets of any kind
TIMES = {
    "days": (pd.to_datetime("2020-01-01") + pd.to_timedelta([0, 1], "D"),
             ["2020-01-01", "2020-01-02"]),
    "hours": (pd.to_datetime("2020-01-01") + pd.to_timedelta([0, 1], "h"),
              ["2020-01-01T00:00", "2020-01-01T01:00"]),
    "with a zone": (pd.to_datetime("2020-01-01", utc=True) + pd.to_timedelta([0, 1], "h"),
                    ["2020-01-01 00:00:00+00:00", "2020-01-01 01:00:00+00:00"]),
    "spans": (pd.to_timedelta([1, 2], "h"), ["1:00:00", "2:00:00"]),
}  # fmt: skip


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_dates_are_read_as_dates(times, tmp_path):
    given, expected = times
    X, ids = np.random.default_rng(0).normal(size=(12, 2)), given[np.arange(12) % 2]
    reg, clf = RidgeHeadRegressor().fit(X, X[:, 0]), ProtoNetClassifier().fit(X, np.arange(12) % 2)
    memories = TaskMemory.from_data(reg, X, X[:, 0], ids), TaskMemory.from_data(clf, X, ids)
    for memory in memories:
        assert memory.ids.tolist() == expected
        memory.save(tmp_path / "memory")
        assert TaskMemory.load(tmp_path / "memory").ids.tolist() == expected
    told = clf.explain(X[:1], past=memories[1])
    assert set(told.loc[told["kind"] != "support", "neighbor"]) <= set(expected)


@pytest.mark.filterwarnings("error")
def test_targets_need_not_lie_as_torch_wants_them():
    X, groups = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) // 4
    y = X[:, 0].copy()
    reg = RidgeHeadRegressor().fit(X, y)
    expected = TaskMemory.from_data(reg, X, y, groups)
    frozen = y.copy()
    frozen.flags.writeable = False
    for given in (y[::-1].copy()[::-1], pd.Series(y), frozen, y.astype(object)):
        memory = TaskMemory.from_data(reg, X, given, groups)
        for name, array in expected.states.items():
            np.testing.assert_array_equal(memory.states[name], array)


def test_a_file_is_the_same_each_time(memory, tmp_path):
    written = set()
    for i in range(6):
        memory.save(tmp_path / str(i))
        written.add((tmp_path / str(i)).read_bytes())
    assert len(written) == 1
