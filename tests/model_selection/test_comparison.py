"""Estimators side by side: paired and nested episodes, honest intervals, nothing dropped."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fewshot_sklearn import (
    EpisodeSplit,
    FewShotScore,
    MetaTrainer,
    PastRows,
    PooledClassifier,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.model_selection import scores_of_episodes, standard_error
from fewshot_sklearn.model_selection._comparison_table import holm
from fewshot_sklearn.model_selection._paired_scores import _stacked, first_shots
from fewshot_sklearn.model_selection._past_ridge import PastRidge

CHEAP = {"neighbor": KNeighborsClassifier(1)}
FEW = {"n_shots": (1, 3), "n_way": 3, "n_query": 4, "n_episodes": 12}
WHOLE = {"n_shots": (2, 5), "n_way": None, "n_query": 8, "n_episodes": 12}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X, np.array(list("abcdefghij"))[y]


@pytest.fixture(scope="module")
def lines():
    """(X, y, groups) of 12 tasks: a common slope, intercepts of their own, noise."""
    rng = np.random.default_rng(0)
    X, groups = rng.normal([0, 3], [1, 5], (360, 2)), np.repeat(np.arange(12), 30)
    y = X @ [1.0, 0.3] + 2 * rng.normal(size=12)[groups] + 0.5 * rng.normal(size=360)
    return X, y, groups


# ---------------------------------------------------------------- clustered intervals
def test_an_interval_of_clusters_is_that_of_their_means_where_they_are_of_one_size():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 5)) + rng.normal(size=(8, 1))
    clusters = np.repeat(list("abcdefgh"), 5)
    of_means = stats.ttest_1samp(scores.mean(1), 0).confidence_interval()
    result = FewShotScore(scores.ravel(), clusters)
    assert result.mean - result.ci95 == pytest.approx(of_means.low)
    assert result.mean + result.ci95 == pytest.approx(of_means.high)
    assert result.ci95 > FewShotScore(scores.ravel()).ci95


def test_an_interval_of_ragged_clusters_is_the_sandwich():
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 6, 50)
    scores = rng.normal(size=50)
    error, dof = standard_error(scores, clusters)
    ones, residuals = np.ones((50, 1)), scores - scores.mean()
    bread = np.linalg.inv(ones.T @ ones)
    same = clusters[:, None] == clusters
    meat = ones.T @ (np.outer(residuals, residuals) * same) @ ones
    assert error == pytest.approx(np.sqrt(6 / 5 * bread @ meat @ bread).item())
    assert dof == 5


def test_one_episode_a_cluster_is_the_plain_interval_but_for_the_quantile():
    scores = np.random.default_rng(0).uniform(size=600)
    plain, own = FewShotScore(scores), FewShotScore(scores, np.arange(600))
    assert own.ci95 == pytest.approx(plain.ci95 / 1.96 * stats.t.ppf(0.975, 599))
    assert np.isnan(FewShotScore(scores, np.zeros(600)).ci95)
    assert "600 episodes of 600 tasks" in str(own)


def test_few_shot_score_clusters_by_group(lines):
    X, y, groups = lines
    names = np.array([f"task {g}" for g in groups])
    score = few_shot_score(Ridge(), X, y, names, n_way=None, n_shot=5, n_episodes=40)
    rows = EpisodeSplit(None, 5, n_episodes=40, random_state=0).episodes(y, names)
    assert score.clusters.tolist() == [names[r[0]] for r in rows.support]
    assert few_shot_score(CHEAP["neighbor"], X, groups, n_episodes=2).clusters is None


# ---------------------------------------------------------------- episodes
@pytest.mark.parametrize("n_way", [3, (2, 4), None])
def test_supports_are_nested_and_queries_the_same(digits, n_way):
    _, y = digits
    groups = np.arange(len(y)) % 4
    rows = EpisodeSplit(n_way, 6, 5, 30, random_state=0).episodes(y, groups)
    smaller = None
    for k in (1, 2, 6):
        part = first_shots(rows, k)
        for i in range(30):
            one, whole = part.episode(i), rows.episode(i)
            assert one.query.tolist() == whole.query.tolist()
            assert set(one.support) <= set(whole.support)
            if n_way is None:
                assert len(one.support) == k
            else:
                labels, counts = np.unique(y[one.support], return_counts=True)
                assert counts.tolist() == [k] * len(labels)
                assert set(labels) == set(y[one.query])
                local = {code: set(y[one.support[one.support_codes == code]]) for code in range(2)}
                assert all(len(of_code) == 1 for of_code in local.values())
            if smaller is not None:
                assert set(smaller.episode(i).support) < set(one.support)
        smaller = part
    assert all(np.array_equal(a, b) for a, b in zip(smaller, rows, strict=True) if a is not None)


def test_short_classes_give_what_they_have():
    y = np.repeat(list("abc"), [2, 4, 9])
    with pytest.warns(UserWarning, match=r"3 class\(es\) of fewer than 10 rows"):
        rows = EpisodeSplit(3, 5, 5, 20, random_state=0).episodes(y)
    for k, least in ((1, 3), (3, 7), (5, 9)):
        assert (first_shots(rows, k).support >= 0).sum(1).min() == least
    part = first_shots(rows, 3)
    assert np.array_equal(part.support >= 0, part.support_codes >= 0)
    assert np.array_equal(
        _stacked([part, rows]).support[:20, : part.support.shape[1]], part.support
    )


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier"])
def test_meta_trained_ones_get_what_the_loop_gives(trained, digits_new, name):
    X, y = digits_new
    batched = trained[name].set_params(dtype="float64")
    looped = make_pipeline(batched)
    _, scores = compare_few_shot(
        {"batched": batched, "looped": looped}, X, y, baselines=None, return_scores=True, **FEW
    )
    np.testing.assert_allclose(scores["batched"], scores["looped"])
    assert scores.shape == (12, 4)


def test_the_most_shots_are_the_episodes_of_few_shot_score(digits):
    X, y = digits
    _, scores = compare_few_shot(CHEAP, X, y, baselines=None, return_scores=True, **FEW)
    alone = few_shot_score(CHEAP["neighbor"], X, y, n_way=3, n_shot=3, n_query=4, n_episodes=12)
    np.testing.assert_array_equal(scores["neighbor", 3], alone.scores)


def test_regressors_get_what_the_loop_gives(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    ours = trained["RidgeHeadRegressor"].set_params(dtype="float64")
    table, scores = compare_few_shot(
        {"batched": ours, "looped": make_pipeline(ours), "ridge": Ridge()},
        X, y, groups + 1000, baselines=None, return_scores=True, **WHOLE,
    )  # fmt: skip
    np.testing.assert_allclose(scores["batched"], scores["looped"])
    assert (scores <= 0).all(axis=None)
    assert table.attrs.pop("recommendation").endswith(".")
    assert table.attrs == {"scoring": "neg_mean_squared_error", "n_way": None}
    assert scores.index.get_level_values("task").isin(groups + 1000).all()


# ---------------------------------------------------------------- the table
def test_the_table_says_what_the_scores_say(digits):
    X, y = digits
    X, y, groups = X[:900], y[:900], np.arange(900) // 150
    pair = {"one": KNeighborsClassifier(1), "two": LogisticRegression(max_iter=30)}
    table, scores = compare_few_shot(
        pair, X, y, groups, baselines={"prior": DummyClassifier()}, reference="two",
        return_scores=True, **FEW,
    )  # fmt: skip
    assert table[["estimator", "n_shots"]].apply(tuple, axis=1).tolist() == [
        (name, k) for name in ("one", "two", "prior") for k in (1, 3)
    ]
    tasks = scores.index.get_level_values("task").to_numpy()
    assert table["n_tasks"].eq(len(np.unique(tasks))).all()
    assert table["n_labels"].tolist() == [3.0, 9.0] * 3
    for line in table.to_dict("records"):
        own = scores[line["estimator"], line["n_shots"]].to_numpy()
        other = scores["two", line["n_shots"]].to_numpy()
        score = FewShotScore(own, tasks)
        assert line["mean"] == pytest.approx(own.mean())
        assert line["ci_high"] - line["mean"] == pytest.approx(score.ci95)
        assert line["difference"] == pytest.approx((own - other).mean())
        wins = (own > other).mean() + 0.5 * (own == other).mean()
        assert line["win_rate"] == pytest.approx(wins)
        assert line["fit_seconds"] > 0
        assert line["failures"] == 0
        if line["estimator"] == "two":
            assert np.isnan(line["p_value"]) and np.isnan(line["p_holm"])
        else:
            half = line["difference_high"] - line["difference"]
            _, dof = standard_error(own - other, tasks)
            t = line["difference"] / half * stats.t.ppf(0.975, dof)
            assert line["p_value"] == pytest.approx(2 * stats.t.sf(abs(t), dof))


def test_without_groups_the_test_is_the_paired_t_test(digits):
    X, y = digits
    table, scores = compare_few_shot(
        CHEAP, X, y, baselines={"prior": DummyClassifier()}, return_scores=True, **FEW
    )
    expected = stats.ttest_rel(scores["neighbor", 1], scores["prior", 1]).pvalue
    assert table.loc[0, "p_value"] == pytest.approx(expected)
    assert (scores.index.get_level_values("task") == -1).all()
    assert table.loc[0, "n_tasks"] == 10


def test_holm_is_holm():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    # by hand, of 4: 0.005*4, 0.01*3, 0.03*2, then 0.04*1 but not below what stands before
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_equal_scores_are_no_difference(digits):
    X, y = digits
    table = compare_few_shot({"a": CHEAP["neighbor"]}, X, y, baselines=CHEAP, **FEW)
    own = table[table.estimator == "a"]
    assert (own.difference == 0).all() and (own.win_rate == 0.5).all() and (own.p_value == 1).all()


def test_the_reference_is_the_best_baseline_at_each_number(digits):
    X, y = digits
    rivals = {"prior": DummyClassifier(), "logistic": LogisticRegression(max_iter=30)}
    table = compare_few_shot(CHEAP, X, y, baselines=rivals, **FEW)
    best = table[table.baseline].groupby("n_shots")["mean"].idxmax()
    assert table.set_index(["estimator", "n_shots"]).loc["neighbor"]["reference"].tolist() == (
        table.loc[best, "estimator"].tolist()
    )
    alone = compare_few_shot([*CHEAP.values(), DummyClassifier()], X, y, baselines=None, **FEW)
    assert alone.reference.unique().tolist() == ["KNeighborsClassifier"]


def test_the_result_survives_pickling_copying_and_pandas(digits, tmp_path):
    X, y = digits
    table, scores = compare_few_shot(CHEAP, X, y, baselines=None, return_scores=True, **FEW)
    for other in (pickle.loads(pickle.dumps(table)), table.copy(), table[table.n_shots > 0]):
        pd.testing.assert_frame_equal(other, table)
        assert other.attrs == table.attrs
    both = pd.concat([table, table.assign(estimator="again")])
    assert both.attrs == table.attrs and "neighbor" in repr(both)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(scores)), scores)


def test_the_seed_decides(digits):
    X, y = digits
    runs = [
        compare_few_shot(CHEAP, X, y, baselines=None, random_state=seed, **FEW)["mean"].tolist()
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("n_jobs", [2])
def test_processes_change_nothing(lines, n_jobs):
    X, y, groups = lines
    past = X[groups < 8], y[groups < 8], groups[groups < 8]
    new = X[groups >= 8], y[groups >= 8], groups[groups >= 8]
    options = WHOLE | {"past": past, "baselines": {"mean": DummyRegressor()}}
    runs = [compare_few_shot(Ridge(), *new, n_jobs=n, **options) for n in (None, n_jobs)]
    pd.testing.assert_frame_equal(*(run.drop(columns="fit_seconds") for run in runs))


# ---------------------------------------------------------------- baselines and input
def test_default_baselines_of_classification_take_images(digits):
    X, y = digits
    options = FEW | {"n_episodes": 2, "baselines": "default"}
    flat = compare_few_shot(CHEAP, X, y, **options)
    names = ["logistic regression", "nearest centroid", "random forest", "prior"]
    assert flat[flat.baseline].estimator.unique().tolist() == names
    assert flat[flat.estimator == "prior"]["mean"].tolist() == pytest.approx([1 / 3] * 2)
    images = compare_few_shot(
        ProtoNetClassifier(), X.reshape(-1, 8, 8).astype(np.uint8), y, **options
    )
    for name in names:
        of = [t[t.estimator == name]["mean"].tolist() for t in (flat, images)]
        assert of[0] == pytest.approx(of[1])


def test_default_baselines_of_regression_and_data_frames(lines):
    X, y, groups = lines
    options = WHOLE | {"n_episodes": 2, "baselines": "default"}
    table = compare_few_shot(RidgeHeadRegressor(), X, y, groups, **options)
    names = ["ridge", "random forest", "Gaussian process", "mean"]
    assert table[table.baseline].estimator.unique().tolist() == names
    frame = pd.DataFrame(X, columns=["a", "b"], index=np.arange(len(X)) + 7)
    same = compare_few_shot(RidgeHeadRegressor(), frame, pd.Series(y), pd.Series(groups), **options)
    assert same["mean"].tolist() == pytest.approx(table["mean"].tolist())


def test_scoring_may_be_chosen(lines, digits):
    X, y, groups = lines
    table = compare_few_shot(Ridge(), X, y, groups, scoring="r2", baselines=None, **WHOLE)
    assert 0 < table["mean"].iloc[1] < 1 and table.attrs["scoring"] == "r2"
    X, y = digits
    own = compare_few_shot(CHEAP, X, y, baselines=None, **FEW)
    given = compare_few_shot(
        CHEAP, X, y, baselines=None, scoring=make_scorer(accuracy_score), **FEW
    )
    assert given["mean"].tolist() == own["mean"].tolist()
    rivals = {"prior": DummyClassifier()}
    losses = compare_few_shot(
        ProtoNetClassifier(), X, y, scoring="neg_log_loss", baselines=rivals, **FEW
    )
    assert (losses["mean"] < 0).all() and (losses.failures == 0).all()


class Moody(ClassifierMixin, BaseEstimator):
    """Fails, or predicts nothing that can be scored, where a row of the support is unlucky."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if X[:, 0].sum() + X.sum() % 3 < 1:
            raise RuntimeError("not today\nreally")
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


def test_failures_count_as_the_prior_and_are_told(digits):
    X, y = digits
    with pytest.warns(UserWarning, match=r"'Moody' on \d+ of 24 \(RuntimeError: not today\)"):
        table, scores = compare_few_shot(
            Moody(), X, y, baselines={"prior": DummyClassifier()}, return_scores=True, **FEW
        )
    failures = table[table.estimator == "Moody"].failures
    assert 0 < failures.sum() < 24
    # a classifier that always says one class is as good as the prior
    assert np.isfinite(scores.to_numpy()).all()
    assert (scores["Moody"] == scores["prior"]).all(axis=None)


def test_a_score_that_nobody_can_have_is_said(lines):
    X, y, groups = lines
    with pytest.raises(ValueError, match="Choose another scoring"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare_few_shot(
            Ridge(), X, y, groups, scoring="r2", n_shots=(2,), n_way=None, n_query=1, n_episodes=2
        )


def test_what_a_meta_init_has_seen_is_told_once(digits):
    X, y = digits
    trainer = MetaTrainer(
        ProtoNetClassifier(), n_way=2, n_shot=2, n_query=2, n_episodes=4, max_epochs=1,
        validation_fraction=0, verbose=0, random_state=0,
    )  # fmt: skip
    clf = trainer.fit(X, y).estimator_
    with pytest.warns(UserWarning, match="10 of these tasks") as caught:
        compare_few_shot({"a": clf, "b": clone(clf)}, X, y, baselines=None, **FEW)
    assert len([w for w in caught if "of these tasks" in str(w.message)]) == 1
    renamed = np.char.add(np.asarray(y).astype(str), " by another name")
    with pytest.warns(UserWarning, match=f"on {len(X):,} of these {len(X):,} rows"):
        compare_few_shot(clf, X, renamed, baselines=None, **FEW)


def test_past_tasks_that_come_again_are_told(lines):
    X, y, groups = lines
    with pytest.warns(UserWarning, match="12 of these tasks have ids that past has too"):
        compare_few_shot(Ridge(), X, y, groups, past=(X, y, groups), **WHOLE | {"baselines": None})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_shots": ()}, "n_shots must be"),
        ({"n_shots": (0, 1)}, "n_shots must be"),
        ({"n_shots": (1, 1)}, "n_shots must be"),
        ({"n_shots": 5}, "n_shots must be"),
        ({"reference": "nobody"}, "reference must be one of"),
        ({"baselines": "all"}, "baselines must be"),
        ({"baselines": {"ridge": Ridge()}}, "of the kind of the estimators"),
        ({"baselines": {"neighbor": DummyClassifier()}}, "other names than baselines"),
        ({"estimators": []}, "at least one"),
        ({"estimators": KNeighborsClassifier}, "estimators must be an estimator"),
        ({"estimators": [Ridge(), KNeighborsClassifier()]}, "all classifiers or all regressors"),
        ({"estimators": Ridge()}, "n_way=None"),
        ({"past": (1, 2)}, r"past must be \(X, y, groups\)"),
        ({"y": ["a"]}, "inconsistent"),
    ],
)
def test_what_makes_no_sense_is_said(digits, change, match):
    X, y = digits
    arguments = {"estimators": CHEAP, "X": X, "y": y, "baselines": None} | FEW | change
    with pytest.raises(ValueError, match=match):
        compare_few_shot(**arguments)


def test_estimators_of_one_class_are_numbered(digits):
    X, y = digits
    pair = [KNeighborsClassifier(1), make_pipeline(StandardScaler(), KNeighborsClassifier(1))]
    table = compare_few_shot(pair, X, y, baselines=None, **FEW)
    assert set(table.estimator) == {"KNeighborsClassifier-1", "KNeighborsClassifier-2"}


def test_scores_of_given_episodes_are_the_loops(digits):
    X, y = digits
    rows = EpisodeSplit(3, 2, 4, 8, random_state=0).episodes(y)
    scores = scores_of_episodes(CHEAP["neighbor"], X, y, rows)
    for i in range(8):
        one = rows.episode(i)
        fitted = clone(CHEAP["neighbor"]).fit(X[one.support], y[one.support])
        assert scores[i] == fitted.score(X[one.query], y[one.query])


# ---------------------------------------------------------------- pooled models
@pytest.mark.parametrize(
    "estimator",
    [
        PooledRegressor(),
        PooledRegressor(Ridge()),
        PooledClassifier(),
        PooledClassifier(LogisticRegression()),
    ],
    ids=str,
)
def test_pooled_estimators_pass_scikit_learns_checks(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(estimator)


def split(lines):
    X, y, groups = lines
    return (X[groups < 11], y[groups < 11], groups[groups < 11]), X[groups == 11], y[groups == 11]


@pytest.mark.parametrize("n_outputs", [None, 2])
def test_pooled_ridge_is_ridge_from_scratch(lines, n_outputs):
    past, X, y = split(lines)
    if n_outputs:
        past, y = (past[0], np.stack([past[1], -past[1]], 1), past[2]), np.stack([y, y], 1)
    past = (np.c_[past[0], np.full(len(past[0]), 4.0)], *past[1:])  # a constant feature
    X = np.c_[X, np.full(len(X), 4.0)]
    pooled = PooledRegressor(past=past, alpha=3.0).fit(X[:5], y[:5])
    scratch = make_pipeline(StandardScaler(), Ridge(3.0))
    scratch.fit(np.r_[past[0], X[:5]], np.concatenate([past[1], y[:5]]))
    np.testing.assert_allclose(pooled.predict(X), scratch.predict(X))


def test_pooled_ridge_with_a_column_a_task_is_ridge_from_scratch(lines):
    (X_past, y_past, groups), X, y = split(lines)
    alpha, task_alpha = 2.0, 7.0
    past = X_past, y_past, groups.astype(str)
    pooled = PooledRegressor(past=past, with_task=True, alpha=alpha, task_alpha=task_alpha)
    pooled.fit(X[:4], y[:4])
    scaler = StandardScaler().fit(np.r_[X_past, X[:4]])

    def columns(X, task):
        return np.c_[scaler.transform(X), np.eye(12)[task] * np.sqrt(alpha / task_alpha)]

    design = np.r_[columns(X_past, groups), columns(X[:4], np.full(4, 11))]
    scratch = Ridge(alpha).fit(design, np.r_[y_past, y[:4]])
    np.testing.assert_allclose(pooled.predict(X), scratch.predict(columns(X, np.full(len(X), 11))))


def test_leave_one_out_error_is_that_of_leaving_one_out(lines):
    (X, y, groups), _, _ = split(lines)
    X, y, groups = X[::6], y[::6], groups[::6]
    alpha, task_alpha = 2.0, 5.0
    known = np.c_[
        StandardScaler().fit_transform(X), np.eye(11)[groups] * np.sqrt(alpha / task_alpha)
    ]
    for told, columns in ((None, known[:, :2]), (task_alpha, known)):
        errors = []
        for i in range(len(X)):
            rest = np.arange(len(X)) != i
            one = Ridge(alpha).fit(columns[rest], y[rest]).predict(columns[i : i + 1])[0]
            errors.append((y[i] - one) ** 2)
        ridge = PastRidge(X, y[:, None], groups)
        found = ridge.leave_one_out(alpha, told, X, y[:, None], groups)
        assert found == pytest.approx(np.mean(errors))


def test_penalties_are_those_of_the_least_leave_one_out_error(lines):
    past, X, y = split(lines)
    reg = PooledRegressor(past=past, with_task=True).fit(X[:3], y[:3])
    ridge = PastRidge(past[0], past[1][:, None], past[2])
    own = ridge.leave_one_out(reg.alpha_, reg.task_alpha_, past[0], past[1][:, None], past[2])
    for alpha, task_alpha in ((1.0, 300.0), (1000.0, 1.0), (10.0, 10.0)):
        assert own <= ridge.leave_one_out(alpha, task_alpha, past[0], past[1][:, None], past[2])
    # tasks differ in their level: knowing it from three rows is worth much
    blind = PooledRegressor(past=past).fit(X[:3], y[:3])
    assert np.square(reg.predict(X) - y).mean() < 0.5 * np.square(blind.predict(X) - y).mean()


@pytest.mark.parametrize("with_task", [False, True])
def test_pooled_logistic_regression_is_that_from_scratch(digits, with_task):
    X, y = digits
    X, y, groups = X[:400], y[:400], np.arange(400) % 5
    past = X[groups < 4], y[groups < 4], groups[groups < 4]
    new, labels = X[groups == 4], y[groups == 4]
    pooled = PooledClassifier(past=past, with_task=with_task).fit(new[:10], labels[:10])
    scaler = StandardScaler().fit(np.r_[past[0], new[:10]])
    task = np.r_[past[2], np.full(10, 4)]
    design = np.c_[scaler.transform(np.r_[past[0], new[:10]]), np.eye(5)[task] * with_task]
    scratch = LogisticRegression(max_iter=5000, tol=1e-7).fit(design, np.r_[past[1], labels[:10]])
    asked = np.c_[scaler.transform(new), np.eye(5)[np.full(len(new), 4)] * with_task]
    np.testing.assert_allclose(pooled.predict_proba(new), scratch.predict_proba(asked), atol=5e-4)
    assert pooled.predict(new).tolist() == scratch.predict(asked).tolist()
    # labels that the past lacks are learned too
    odd = PooledClassifier(past=past).fit(new[:10], ["z"] * 10)
    assert "z" in odd.classes_ and odd.predict(new[:10]).tolist() == ["z"] * 10


def test_pooled_models_of_ones_own_get_the_task_as_columns(lines):
    past, X, y = split(lines)
    forest = RandomForestRegressor(5, random_state=0)
    reg = PooledRegressor(forest, past=past, with_task=True, max_rows=100).fit(X[:4], y[:4])
    assert reg.estimator_.n_features_in_ == 2 + 12
    assert reg.n_features_in_ == 2
    again = clone(reg).fit(X[:4], y[:4])
    np.testing.assert_array_equal(again.predict(X), reg.predict(X))
    plain = PooledRegressor(Ridge(), past=past).fit(X[:4], y[:4])
    scratch = Ridge().fit(np.r_[past[0], X[:4]], np.r_[past[1], y[:4]])
    np.testing.assert_allclose(plain.predict(X), scratch.predict(X))


def test_past_rows_are_shared_and_pickled_with_what_is_known(lines):
    past, X, y = split(lines)
    rows = PastRows(*past)
    reg = PooledRegressor(past=rows, with_task=True)
    assert clone(reg).past is rows
    told = reg.fit(X[:3], y[:3]).predict(X)
    other = pickle.loads(pickle.dumps(reg))
    np.testing.assert_array_equal(other.predict(X), told)
    np.testing.assert_array_equal(clone(other).fit(X[:3], y[:3]).predict(X), told)
    np.testing.assert_allclose(
        PooledRegressor(past=past, with_task=True).fit(X[:3], y[:3]).predict(X), told
    )


@pytest.mark.parametrize(
    ("past", "match"),
    [
        (np.zeros((3, 2)), "past must be"),
        ((np.zeros((3, 5)), np.zeros(3)), "past have 5"),
        ((np.zeros((3, 2)), np.zeros((3, 2))), "output"),
        ((np.zeros((3, 2)), np.zeros(4)), "inconsistent"),
    ],
)
def test_a_past_that_does_not_fit_is_said(past, match):
    with pytest.raises(ValueError, match=match):
        PooledRegressor(past=past).fit([[0.0, 1.0], [1.0, 2.0]], [0.0, 1.0])


def test_labels_of_another_kind_are_said():
    past = [[0.0], [1.0]], ["a", "b"]
    with pytest.raises(ValueError, match="of one kind"):
        PooledClassifier(past=past).fit([[0.0], [1.0]], [0, 1])


def test_pooled_models_stand_beside_where_the_past_is_given(lines):
    X, y, groups = lines
    past = groups < 8
    table = compare_few_shot(
        Ridge(), X[~past], y[~past], groups[~past], past=(X[past], y[past], groups[past]),
        baselines={"mean": DummyRegressor()}, **WHOLE | {"n_episodes": 40},
    )  # fmt: skip
    means = table[table.n_shots == 2].set_index("estimator")["mean"]
    assert list(means.index) == ["Ridge", "mean", "pooled", "pooled, with task"]
    assert means.idxmax() == "pooled, with task"


def test_pooled_classifiers_need_the_labels_of_the_past(digits):
    X, y = digits
    keep = np.isin(y, ["a", "b", "c"])
    X, y = X[keep], y[keep]
    groups = np.arange(len(y)) % 6
    past, new = groups < 4, groups >= 4
    known = X[past], y[past], groups[past]
    options = FEW | {"past": known, "baselines": None, "n_episodes": 4}
    table = compare_few_shot(CHEAP, X[new], y[new], groups[new], **options)
    assert list(dict.fromkeys(table.estimator)) == ["neighbor", "pooled", "pooled, with task"]
    assert table[table.estimator == "pooled"]["mean"].min() > 0.9
    renamed = np.char.add(y[new], "2")
    table = compare_few_shot(CHEAP, X[new], renamed, groups[new], **options)
    assert set(table.estimator) == {"neighbor"}
