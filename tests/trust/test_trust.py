"""What is learned from past tasks holds on new ones, and estimators carry it like any others."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from fewshot_sklearn import (
    EpisodeSplit,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskCalibration,
    TrustedClassifier,
    TrustedRegressor,
    TrustLearner,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.model_selection import EpisodeAnswers, logits_of, means_of
from fewshot_sklearn.trust import ReliabilityDisplay


def blobs(n_classes=40, n_rows=12, n_features=4, seed=0, names="c"):
    """Classes around means of their own, with string labels; every third feature in millions."""
    rng = np.random.default_rng(seed)
    code = rng.permutation(np.repeat(np.arange(n_classes), n_rows))
    X = 2 * rng.normal(size=(n_classes, n_features))[code] + rng.normal(
        size=(len(code), n_features)
    )
    X[:, ::3] *= 1e6
    return X, np.array([f"{names}{i:03}" for i in code])


def lines(n_tasks=60, n_rows=20, n_outputs=1, seed=0, slope=1.0):
    """Noisy lines through the origin, each with a slope of its own."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 1))
    slopes = slope * rng.normal(size=(n_tasks, n_outputs))
    y = slopes[groups] * X + 0.3 * rng.normal(size=(len(groups), n_outputs))
    return X, (y[:, 0] if n_outputs == 1 else y), groups


SCALED = make_pipeline(StandardScaler(), NearestCentroid())


@pytest.fixture(scope="module")
def learned():
    """A learner of scikit-learn's naive Bayes, on 40 classes."""
    learner = TrustLearner(GaussianNB(), n_shots=(2, 6), n_query=5, n_episodes=40, random_state=0)
    return learner.fit(*blobs())


@pytest.fixture(scope="module")
def learned_lines():
    """A learner of ridge regression, on 60 lines."""
    learner = TrustLearner(Ridge(0.1), n_shots=(3, 10), n_query=8, n_episodes=60, random_state=0)
    return learner.fit(*lines())


@pytest.mark.parametrize("estimator", [TrustedClassifier(), TrustedRegressor()])
def test_scikit_learns_checks(estimator):
    check_estimator(estimator)


# ---------------------------------------------------------------- answers over episodes
def test_batched_answers_are_those_of_fits_one_by_one(trained, digits_new):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"]
    rows = EpisodeSplit(3, (1, 4), 5, 6, random_state=0).episodes(y)
    answers = EpisodeAnswers(clf, X, y)
    a, held_out = answers.about_queries(rows), answers.about_held_out_support(rows)
    for i in range(6):
        one = rows.episode(i)
        fitted = clone(clf).fit(X[one.support], y[one.support])
        labels = y[one.support][np.unique(one.support_codes, return_index=True)[1]]
        columns = np.searchsorted(fitted.classes_, labels)
        expected = fitted.predict_proba(X[one.query])[:, columns]
        found = softmax(a.outputs[a.episode == i], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(labels[a.truth[a.episode == i]], y[one.query])
        np.testing.assert_array_equal(a.row[a.episode == i], one.query)
        # a support row, fitted without the rows of its fold: the j-th rows of their classes
        own = held_out.episode == i
        if not own.any():
            continue
        row, out = held_out.row[own][0], softmax(held_out.outputs[own][0])
        place = [np.flatnonzero(one.support_codes == c) for c in range(3)]
        fold = next(j % 5 for p in place for j, at in enumerate(p) if one.support[at] == row)
        rest = [at for p in place for j, at in enumerate(p) if j % 5 != fold]
        kept = one.support[rest]
        reference = clone(clf).fit(X[kept], y[kept]).predict_proba(X[[row]])[0, columns]
        np.testing.assert_allclose(out, reference, atol=1e-5)
    shots = (rows.support >= 0).sum(1) // 3
    assert len(held_out.truth) == sum(3 * k for k in shots if k > 1)


@pytest.mark.parametrize("name", ["RidgeHeadRegressor", "MAMLRegressor"])
def test_batched_means_are_those_of_fits_one_by_one(trained, sinusoid_new, name):
    X, y, groups = sinusoid_new
    reg = trained[name]
    rows = EpisodeSplit(None, 4, 6, 5, random_state=0).episodes(y, groups)
    answers = EpisodeAnswers(reg, X, y)
    a, held_out = answers.about_queries(rows), answers.about_held_out_support(rows)
    for i in range(5):
        one = rows.episode(i)
        mean, std = means_of(clone(reg).fit(X[one.support], y[one.support]), X[one.query])
        np.testing.assert_allclose(a.outputs[a.episode == i], mean, atol=1e-4)
        if std is not None:
            np.testing.assert_allclose(a.std[a.episode == i], std, rtol=1e-3)
        own = np.flatnonzero(held_out.episode == i)
        assert sorted(held_out.row[own]) == sorted(one.support)  # each once: leave one out
        kept = one.support[one.support != held_out.row[own[0]]]
        left, _ = means_of(clone(reg).fit(X[kept], y[kept]), X[held_out.row[own[:1]]])
        np.testing.assert_allclose(held_out.outputs[own[:1]], left, atol=1e-4)


@pytest.mark.parametrize(
    "clf", [GaussianNB(), LinearSVC(), SCALED, KNeighborsClassifier(1), LogisticRegression()]
)
def test_logits_lead_to_the_prediction(clf):
    X, y = blobs(4)
    fitted = clf.fit(X[:30] / 1e6, y[:30])
    logits = logits_of(fitted, X[30:] / 1e6)
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(fitted.classes_[logits.argmax(1)], fitted.predict(X[30:] / 1e6))


# ---------------------------------------------------------------- learning
def test_learning_improves_calibration_on_tasks_it_was_not_learned_on(learned):
    table = pd.DataFrame(learned.reliability_).set_index(["n_shots", "calibrated"])
    assert table.index.tolist() == [(2, False), (2, True), (6, False), (6, True)]
    for measure in ("ece", "adaptive_ece", "nll", "brier"):
        assert (table.xs(True, level=1)[measure] < table.xs(False, level=1)[measure]).all()
    assert (table.xs(True, level=1)["accuracy"] == table.xs(False, level=1)["accuracy"]).all()


def test_coverage_and_novelty_hold_for_new_classes(learned):
    X, y = blobs(seed=1, names="new")
    held, sizes, flagged, foreign, novel_tasks = [], [], [], [], []
    clf = clone(learned.estimator_)
    splits = EpisodeSplit(6, 2, 5, 60, random_state=0).split(X, y)
    for support, query in splits:
        classes = np.unique(y[support])[:5]
        own = np.isin(y[support], classes)
        clf.fit(X[support[own]], y[support[own]])
        known = np.isin(y[query], classes)
        sets = clf.predict_set(X[query[known]], coverage=0.8)
        held.append(sets[np.arange(len(sets)), np.searchsorted(classes, y[query[known]])].mean())
        sizes.append(sets.sum(1).mean())
        novel = clf.is_novel(X[query], level=0.1)
        flagged.append(novel[known].mean())
        foreign.append(novel[~known].mean())
        novel_tasks.append(clf.task_p_value_ <= 0.1)
    assert 0.75 < np.mean(held) < 0.9
    assert np.mean(sizes) < 4
    assert np.mean(flagged) < 0.17 < 0.3 < np.mean(foreign)
    assert np.mean(novel_tasks) < 0.25


@pytest.mark.parametrize("reg", [Ridge(0.1), BayesianRidge()])
def test_intervals_hold_for_new_tasks(reg):
    learner = TrustLearner(reg, n_shots=(3, 10), n_query=8, n_episodes=60, random_state=0)
    reg = learner.fit(*lines()).estimator_
    X, y, groups = lines(50, seed=1)
    for k in (3, 10):
        held, z = [], []
        for i in range(50):
            support, query = np.flatnonzero(groups == i)[:k], np.flatnonzero(groups == i)[10:]
            reg.fit(X[support], y[support])
            ends = reg.predict_interval(X[query], coverage=0.8)
            held.append(((ends[:, 0] <= y[query]) & (y[query] <= ends[:, 1])).mean())
            mean, std = reg.predict(X[query], return_std=True)
            np.testing.assert_allclose(mean, reg.estimator_.predict(X[query]))
            np.testing.assert_allclose(ends.mean(1), mean)
            z.append((y[query] - mean) / std)
        assert 0.7 < np.mean(held) < 0.9
        if isinstance(reg.estimator, Ridge):
            # not so Bayesian ridge regression: three points near a line leave it all too sure
            assert 0.75 < np.sqrt(np.square(z).mean()) < 1.3


def test_meta_trained_estimators_learn_from_past_tasks_at_once(trained, margin):
    reg = trained["RidgeHeadRegressor"]
    past, new = (
        make_sinusoid_tasks(n, n_shot=5, n_query=15, noise=1.0, random_state=seed)
        for n, seed in ((120, 7), (40, 8))
    )
    learner = TrustLearner(reg, n_way=None, n_shots=(5,), n_query=10, random_state=0)
    found = learner.fit(past.data, past.target, past.groups + 1000)
    before, after = found.reliability_
    margin.below(before["coverage_90"], 0.8, "coverage before")  # it was trained without noise
    margin.below(abs(after["coverage_90"] - 0.9), 0.05, "coverage after")
    gain = before["nll"] - after["nll"]
    margin.above(np.log10(max(gain, 1e-9)), -2, "fall of the loss, logarithm")
    held = []
    for i in range(40):
        X, y = new.data[new.groups == i], new.target[new.groups == i]
        ends = found.estimator_.fit(X[:5], y[:5]).predict_interval(X[5:])
        held.append(((ends[:, 0] <= y[5:]) & (y[5:] <= ends[:, 1])).mean())
    margin.below(abs(np.mean(held) - 0.9), 0.1, "coverage of new tasks")


def test_what_meta_training_saw_is_warned_of(trained):
    X, y = load_digits(return_X_y=True)
    learner = TrustLearner(
        trained["ProtoNetClassifier"], n_way=3, n_shots=(1,), n_query=5, n_episodes=10
    )
    with pytest.warns(UserWarning, match="meta-trained on"):
        learner.fit(X, y)


def test_groups_are_tasks_and_few_of_them_promise_little():
    X, y = blobs(40)
    groups = np.unique(y, return_inverse=True)[1] // 10
    learner = TrustLearner(GaussianNB(), n_shots=(2,), n_query=5, n_episodes=40, random_state=0)
    with pytest.warns(UserWarning, match="4 past task.s. can promise a coverage of 4/5 at most"):
        clf = learner.fit(X, y, groups).estimator_
    assert clf.calibration.scores[0][0].n_tasks == 4
    support = np.flatnonzero(y < "c005")[:25]
    clf.fit(X[support], y[support])
    assert clf.predict_set(X, coverage=0.81).all()
    assert not clf.predict_set(X, coverage=0.5).all()
    assert not clf.is_novel(1e9 * X, level=0.05).any()


def test_whole_groups_may_lack_a_class_in_their_support():
    X, y = blobs(3, n_rows=60)
    groups = np.random.default_rng(0).integers(0, 12, len(y))
    learner = TrustLearner(
        GaussianNB(), n_way=None, n_shots=(3,), n_query=8, n_episodes=60, random_state=0
    )
    known = learner.fit(X, y, groups).calibration_
    lacking = 1 - known.scores[0][0].mass[-1] - 1 / 13
    assert known.scores[0][0].values[-1] == np.inf or lacking > 0
    assert known.scores[0][0].quantile(0.9) == np.inf


def test_shots_that_no_task_has_are_left_out():
    X, y, groups = lines(20, n_rows=8)
    learner = TrustLearner(Ridge(), n_shots=(2, 30), n_query=3, n_episodes=30, random_state=0)
    with pytest.warns(UserWarning, match=r"n_shots=\[30\]"):
        assert learner.fit(X, y, groups).calibration_.n_shots == (2,)
    with (
        pytest.raises(ValueError, match="more than any past task has rows for"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        learner.set_params(n_shots=(30,)).fit(X, y, groups)


def test_an_int_learns_the_same_again(learned):
    again = clone(learned).fit(*blobs())
    assert again.reliability_ == learned.reliability_
    first = learned.calibration_._arrays()
    for name, array in again.calibration_._arrays().items():
        np.testing.assert_array_equal(array, first[name])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"estimator": StandardScaler()}, "a classifier, a regressor or None"),
        ({"n_shots": ()}, "n_shots"),
        ({"n_shots": (0, 1)}, "n_shots"),
        ({"novelty_score": "distance"}, "novelty_score"),
    ],
)
def test_settings_that_make_no_sense(params, said):
    with pytest.raises(ValueError, match=said):
        TrustLearner(**params).fit(*blobs(12))


def test_rows_that_are_no_numbers_are_scored_by_probability():
    X, y = blobs(12)
    words = np.array([[f"w{int(v)}" for v in row] for row in X[:, 1:3]], dtype=object)
    numbers = FunctionTransformer(lambda W: np.array([[float(w[1:]) for w in row] for row in W]))
    clf = make_pipeline(numbers, GaussianNB(var_smoothing=0.1))
    learner = TrustLearner(clf, n_shots=(2,), n_query=5, n_episodes=20, random_state=0)
    with pytest.raises(ValueError, match="max_probability"):
        learner.fit(words, y)
    clf = learner.set_params(novelty_score="max_probability").fit(words, y).estimator_
    clf.fit(words[:30], y[:30])
    assert list(clf.task_p_values_) == ["loss"]
    np.testing.assert_allclose(
        clf.score_samples(words), np.log(clf.predict_proba(words).max(1)), rtol=1e-6
    )


# ---------------------------------------------------------------- the estimators
def test_without_calibration_they_are_the_bare_estimators():
    X, y = blobs(4)
    bare = GaussianNB().fit(X[:30], y[:30])
    clf = TrustedClassifier(GaussianNB()).fit(X[:30], y[:30])
    np.testing.assert_array_equal(clf.predict(X), bare.predict(X))
    np.testing.assert_array_equal(clf.predict_proba(X), bare.predict_proba(X))
    assert np.isnan(clf.task_p_value_) and not clf.used_fallback_
    for method in (clf.predict_set, clf.is_novel):
        with pytest.raises(ValueError, match="TrustLearner"):
            method(X)
    assert not hasattr(TrustedClassifier(LinearSVC()), "predict_proba")
    X, y, _ = lines(2)
    reg = TrustedRegressor(LinearRegression()).fit(X, y)
    np.testing.assert_array_equal(reg.predict(X), LinearRegression().fit(X, y).predict(X))
    for method in (reg.predict_interval, lambda X: reg.predict(X, return_std=True)):
        with pytest.raises(ValueError, match="TrustLearner"):
            method(X)
    std = TrustedRegressor(BayesianRidge()).fit(X, y).predict(X, return_std=True)[1]
    np.testing.assert_array_equal(std, BayesianRidge().fit(X, y).predict(X, return_std=True)[1])


def test_a_temperature_changes_probabilities_and_no_prediction(learned):
    X, y = blobs(4, seed=3)
    bare = GaussianNB().fit(X[:16], y[:16])
    clf = clone(learned.estimator_).fit(X[:16], y[:16])
    np.testing.assert_array_equal(clf.predict(X), bare.predict(X))
    shots, known = clf.n_shots_, learned.calibration_
    assert shots == 4
    expected = np.exp(np.interp(np.log(4), np.log([2, 6]), np.log(known.scales[:, 0])))
    assert clf.temperature_ == pytest.approx(expected) and abs(np.log(expected)) > 0.05
    logits = np.log(np.maximum(bare.predict_proba(X), 1e-12))
    np.testing.assert_allclose(clf.predict_proba(X), softmax(logits / expected, axis=1))
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1)


def test_sets_grow_with_the_coverage_and_hold_the_prediction(learned):
    X, y = blobs(4, seed=3)
    clf = clone(learned.estimator_).fit(X[:16], y[:16])
    sets = [clf.predict_set(X, coverage=c, allow_empty=True) for c in (0.5, 0.8, 0.95)]
    for small, large in zip(sets, sets[1:], strict=False):
        assert (small <= large).all() and small.sum() < large.sum()
    kept = clf.predict_set(X, coverage=0.5)
    assert kept[np.arange(len(X)), np.searchsorted(clf.classes_, clf.predict(X))].all()
    for coverage in (0, 1, 90, "most"):
        with pytest.raises(ValueError, match="coverage"):
            clf.predict_set(X, coverage=coverage)


def test_with_fewer_rows_than_any_known_number_nothing_is_promised(learned, learned_lines):
    X, y = blobs(4, seed=3)
    first = np.unique(y, return_index=True)[1]
    clf = clone(learned.estimator_).fit(X[first], y[first])  # one row a class; 2 are known
    assert clf.predict_set(X).all() and not clf.is_novel(X).any()
    assert np.isnan(clf.task_p_value_)
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1)
    X, y, _ = lines(1)
    reg = clone(learned_lines.estimator_).fit(X[:2], y[:2])
    assert np.isinf(reg.predict_interval(X)).all()


def test_one_class_and_one_row(learned):
    X, y = blobs(4, seed=3)
    one = y == y[0]
    clf = clone(learned.estimator_).set_params(fallback=LogisticRegression(), novelty_level=0.9)
    clf.fit(X[one][:3], y[one][:3])
    assert set(clf.predict(X)) == {y[0]} and not clf.used_fallback_
    assert clf.predict_set(X).shape == (len(X), 1)
    assert clf.is_novel(X[~one]).mean() > clf.is_novel(X[one]).mean()
    bare = TrustedClassifier().fit(X[:1], y[:1])
    assert set(bare.predict(X)) == {y[0]}


def test_rows_without_weight_change_nothing():
    X, y = blobs(4, seed=3)
    learner = TrustLearner(n_shots=(2, 6), n_query=5, n_episodes=40, random_state=0)
    few = clone(learner.fit(*blobs()).estimator_)
    weighted = clone(few)
    few.fit(X[:16], y[:16])
    weights = np.ones(24)
    weights[16:] = 0
    weighted.fit(X[:24], y[:24], sample_weight=weights)
    assert weighted.n_shots_ == few.n_shots_
    assert weighted.task_p_values_["distance"] == few.task_p_values_["distance"]
    np.testing.assert_allclose(weighted.predict_proba(X), few.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(weighted.score_samples(X), few.score_samples(X))
    with pytest.raises(ValueError, match="takes no sample_weight"):
        TrustedClassifier(KNeighborsClassifier(1)).fit(X, y, sample_weight=np.ones(len(y)))


def test_a_task_unlike_the_past_is_told_and_answered_by_the_fallback(learned, learned_lines):
    X, y = blobs(4, seed=3)
    clf = clone(learned.estimator_).set_params(fallback=SCALED, novelty_level=0.1)
    clf.fit(X[:16], y[:16])
    assert not clf.used_fallback_ and not hasattr(clf, "fallback_")
    far = X + np.array([9e7, 90, 90, 9e7])
    clf.fit(far[:16], y[:16])
    assert clf.used_fallback_ and clf.task_p_values_["distance"] == pytest.approx(1 / 41)
    reference = clone(SCALED).fit(far[:16], y[:16])
    np.testing.assert_array_equal(clf.predict(far), reference.predict(far))
    assert clf.predict_set(far).all()
    assert not clf.fit(X[:16], y[:16]).used_fallback_
    # lines ten times as steep, fitted with the past's regularisation: the held-out loss tells
    X, y, _ = lines(1, seed=5, slope=40.0)
    reg = clone(learned_lines.estimator_)
    reg.set_params(fallback=DummyRegressor(), novelty_level=0.1).fit(X[:10], y[:10])
    assert reg.task_p_values_["loss"] < 0.05 and reg.used_fallback_
    np.testing.assert_allclose(reg.predict(X), y[:10].mean())
    assert np.isinf(reg.predict_interval(X)).all()


def test_p_values_of_past_tasks_are_those_that_fit_finds(learned_lines):
    """The statistics of learning and of `fit` are the same: few new tasks seem novel."""
    X, y, groups = lines(60, seed=9)
    reg = clone(learned_lines.estimator_)
    found = [reg.fit(X[groups == i][:10], y[groups == i][:10]).task_p_values_ for i in range(60)]
    for name in ("distance", "loss"):
        p = np.array([one[name] for one in found])
        assert np.mean(p <= 0.2) < 0.36 and 0.35 < np.mean(p) < 0.65


def test_several_targets():
    X, y, groups = lines(n_outputs=2)
    y[:, 1] *= 100
    learner = TrustLearner(LinearRegression(), n_shots=(8,), n_episodes=40, random_state=0)
    reg = learner.fit(X, y, groups).estimator_.fit(X[:8], y[:8])
    ends = reg.predict_interval(X)
    assert ends.shape == (len(X), 2, 2)
    widths = (ends[..., 1] - ends[..., 0]).mean(0)
    assert 50 < widths[1] / widths[0] < 200
    mean, std = reg.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape
    with pytest.raises(ValueError, match="1 output"):
        reg.fit(X[:8], y[:8, 0])


def test_data_frames_and_sparse_rows(learned):
    X, y = blobs(40)
    frame = pd.DataFrame(X, columns=list("abcd"))
    labels = pd.Series(y)
    found = clone(learned).fit(frame, labels)
    np.testing.assert_allclose(found.calibration_.scales, learned.calibration_.scales)
    clf = found.estimator_.fit(frame[:20], labels[:20])
    assert clf.feature_names_in_.tolist() == list("abcd")
    other = clone(learned.estimator_).fit(X[:20], y[:20])
    np.testing.assert_array_equal(clf.predict_set(frame), other.predict_set(X))
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"a": "z"}))
    sparse = TrustLearner(
        DummyClassifier(),
        n_shots=(1,),
        n_episodes=10,
        novelty_score="max_probability",
        random_state=0,
    )
    clf = sparse.fit(csr_matrix(X), y).estimator_.fit(csr_matrix(X[:20]), y[:20])
    found = clf.predict_set(csr_matrix(X))
    dense = clone(sparse).fit(X, y).estimator_.fit(X[:20], y[:20])
    np.testing.assert_array_equal(found, dense.predict_set(X))


def test_pickles_clones_and_files(learned, tmp_path):
    X, y = blobs(4, seed=3)
    known = learned.calibration_
    assert clone(learned.estimator_).calibration is known and copy.deepcopy(known) is known
    clf = clone(learned.estimator_).fit(X[:16], y[:16])
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_set(X), clf.predict_set(X))
    path = tmp_path / "known.safetensors"
    known.save(path)
    loaded = TaskCalibration.load(path)
    assert (loaded.kind, loaded.n_shots, loaded.settings) == (
        known.kind,
        known.n_shots,
        known.settings,
    )
    for name, array in known._arrays().items():
        np.testing.assert_array_equal(loaded._arrays()[name], array)
        assert not loaded._arrays()[name].flags.writeable
    from_path = TrustedClassifier(GaussianNB(), path).fit(X[:16], y[:16])
    np.testing.assert_array_equal(from_path.score_samples(X), clf.score_samples(X))
    assert from_path.task_p_value_ == clf.task_p_value_
    assert "classifier" in repr(loaded)


def test_files_that_hold_something_else(tmp_path, trained):
    path = tmp_path / "other"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="does not hold a calibration"):
        TaskCalibration.load(path)
    trained["ProtoNetClassifier"].meta_init.save(path)
    with pytest.raises(ValueError, match="does not hold a calibration"):
        TaskCalibration.load(path)
    with pytest.raises(FileNotFoundError):
        TaskCalibration.load(tmp_path / "missing")


def test_calibrations_of_another_kind(learned, learned_lines):
    X, y = blobs(4)
    with pytest.raises(ValueError, match="of a regressor"):
        TrustedClassifier(calibration=learned_lines.calibration_).fit(X, y)
    with pytest.raises(ValueError, match="TaskCalibration, a path or None"):
        TrustedClassifier(calibration=0.5).fit(X, y)
    with pytest.raises(ValueError, match="learned on 4"):
        clone(learned.estimator_).fit(X[:, :3], y)
    with pytest.raises(ValueError, match="novelty_level"):
        TrustedClassifier(novelty_level=5).fit(X, y)


# ---------------------------------------------------------------- the diagram
OTHERS = [
    Ridge(0.2),
    DummyRegressor(),
    BayesianRidge(),
    make_pipeline(StandardScaler(), Ridge(0.1)),
    RidgeHeadRegressor(),
]


@pytest.mark.parametrize("other", OTHERS, ids=[str(i) for i in range(len(OTHERS))])
def test_a_calibration_is_about_the_estimator_it_was_learned_with(learned_lines, other, tmp_path):
    X, y, _ = lines(1)
    learned_lines.calibration_.save(tmp_path / "known")
    for known in (learned_lines.calibration_, tmp_path / "known"):
        with pytest.raises(ValueError, match=r"was learned with sklearn.Ridge\(alpha=0.1\), not"):
            TrustedRegressor(other, known).fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            TrustedRegressor(Ridge(0.1, random_state=4, copy_X=False), known).fit(X, y)


def test_a_calibration_is_about_the_meta_init_too(trained):
    past = make_sinusoid_tasks(40, n_shot=5, n_query=10, random_state=5)
    settings = {"n_way": None, "n_shots": (5,), "n_query": 5, "n_episodes": 40, "random_state": 0}
    of, other = trained["RidgeHeadRegressor"], trained["MAMLRegressor"]
    known = TrustLearner(of, **settings).fit(past.data, past.target, past.groups).calibration_
    X, y = past.data[:5], past.target[:5]
    bare = RidgeHeadRegressor(of.meta_init, device="cpu", dtype="float64")
    TrustedRegressor(bare, known).fit(X, y)
    for wrong in (RidgeHeadRegressor(), other):
        with pytest.raises(ValueError, match=f"meta-init {of.meta_init.digest[:8]}"):
            TrustedRegressor(wrong, known).fit(X, y)


def test_frozen_steps_before_it_count(learned_lines):
    X, y, groups = lines()
    frozen = [FrozenEstimator(StandardScaler().fit(X[:n])) for n in (50, 900)]
    one, same, other = (make_pipeline(f, Ridge(0.1)) for f in (frozen[0], frozen[0], frozen[1]))
    settings = {"n_shots": (3,), "n_query": 8, "n_episodes": 40, "random_state": 0}
    known = TrustLearner(one, **settings).fit(X, y, groups).calibration_
    TrustedRegressor(same, known).fit(X[:9], y[:9])
    with pytest.raises(ValueError, match="was learned with"):
        TrustedRegressor(other, known).fit(X[:9], y[:9])


def test_a_calibration_that_does_not_say_is_taken_with_a_warning(learned, tmp_path):
    known = learned.calibration_
    bare = {k: v for k, v in known.settings.items() if k != "estimator"}
    replace(known, settings=bare).save(tmp_path / "earlier")
    X, y = blobs(4, seed=3)
    with pytest.warns(UserWarning, match="does not say which estimator it was learned with"):
        TrustedClassifier(KNeighborsClassifier(1), tmp_path / "earlier").fit(X, y)
    with pytest.raises(ValueError, match=r"GaussianNB\(\), not with sklearn.LogisticRegression"):
        ReliabilityDisplay.from_episodes(TrustedClassifier(LogisticRegression(), known), X, y)


def test_a_file_is_the_same_each_time(learned, tmp_path):
    written = set()
    for i in range(6):
        learned.calibration_.save(tmp_path / str(i))
        written.add((tmp_path / str(i)).read_bytes())
    assert len(written) == 1


def test_the_diagram_of_episodes_is_that_of_fits_one_by_one(learned):
    X, y = blobs(12, seed=2)
    options = {"n_way": 3, "n_shot": 2, "n_query": 4, "n_episodes": 12}
    proba, labels = [], []
    for support, query in EpisodeSplit(**options, random_state=0).split(X, y):
        clf = clone(learned.estimator_).fit(X[support], y[support])
        proba.append(clf.predict_proba(X[query]))
        labels.append(np.searchsorted(clf.classes_, y[query]))
    proba, labels = np.concatenate(proba), np.concatenate(labels)
    expected = ReliabilityDisplay.from_predictions(labels, proba)
    fallback = clone(learned.estimator_).set_params(fallback=SCALED, novelty_level=1e-6)
    for clf in (learned.estimator_, fallback):
        found = ReliabilityDisplay.from_episodes(clf, X, y, **options)
        np.testing.assert_allclose(found.bins.accuracy, expected.bins.accuracy)
        np.testing.assert_allclose(found.bins.confidence, expected.bins.confidence, rtol=1e-6)


def test_the_diagram_shows_what_it_says():
    X, y = load_digits(return_X_y=True)
    clf = ProtoNetClassifier().fit(X[:50] / 16, y[:50])
    display = ReliabilityDisplay.from_estimator(clf, X[50:] / 16, y[50:], color="tab:red")
    assert f"ECE {100 * display.ece:.1f} %" in display.line_.get_label()
    assert display.line_.get_color() == "tab:red"
    drawn = display.line_.get_xydata()
    filled = display.bins.share > 0
    np.testing.assert_allclose(drawn[:, 0], display.bins.confidence[filled])
    np.testing.assert_allclose(drawn[:, 1], display.bins.accuracy[filled])
    both = display.plot(display.ax_, name="again")
    assert both.histogram_ax_ is display.histogram_ax_
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert len(names) == 3 and names[-1].startswith("again")
