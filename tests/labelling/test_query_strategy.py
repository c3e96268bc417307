"""Choosing rows to label: scores against plain formulas, choices against brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fewshot_sklearn import (
    DeepKernelRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    select_queries,
    uncertainty,
)
from fewshot_sklearn.labelling._by_features import features
from fewshot_sklearn.labelling._posterior import (
    bootstrap_predictions,
    noise_variance,
    predictive_covariance,
)
from fewshot_sklearn.labelling.measures import CLASSIFICATION
from fewshot_sklearn.labelling.query_strategy import STRATEGIES

MODEL_FREE = ("coreset", "typiclust")


@pytest.fixture
def three_classes():
    """(X, y, X_pool): a task of three classes with string labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 4)) * 2
    codes = np.arange(12) % 3
    X = centres[codes] + rng.normal(size=(12, 4))
    pool = centres[np.arange(40) % 3] + rng.normal(size=(40, 4))
    return X, np.array(["c", "a", "b"])[codes], pool


@pytest.fixture
def line():
    """(X, y, X_pool): a regression task of two features."""
    rng = np.random.default_rng(0)
    X, pool = rng.normal(size=(8, 2)), rng.normal(size=(30, 2))
    return X, X @ [1.0, -2.0] + rng.normal(scale=0.3, size=8), pool


# ---------------------------------------------------------------- uncertainty of classes
@pytest.mark.parametrize(
    "clf", [ProtoNetClassifier(), LogisticRegression(), KNeighborsClassifier(3)], ids=repr
)
def test_measures_are_their_formulas(clf, three_classes):
    X, y, pool = three_classes
    clf = clf.fit(X, y)
    p = clf.predict_proba(pool).astype(float)
    ordered = np.sort(p, 1)[:, ::-1]
    expected = {
        "entropy": entropy(p, axis=1),
        "margin": 1 - (ordered[:, 0] - ordered[:, 1]),
        "least_confident": 1 - ordered[:, 0],
    }
    for measure, values in expected.items():
        np.testing.assert_allclose(uncertainty(clf, pool, measure), values, atol=1e-12)
        best = select_queries(clf, pool, strategy=measure, random_state=0)
        assert values[best[0]] == pytest.approx(values.max())


@pytest.mark.parametrize("measure", CLASSIFICATION)
def test_one_class_leaves_no_doubt(measure):
    clf = ProtoNetClassifier().fit([[0.0], [1.0]], ["a", "a"])
    assert uncertainty(clf, [[5.0], [0.0]], measure).tolist() == [0, 0]


def test_equals_are_chosen_at_random_from_the_seed():
    clf = ProtoNetClassifier().fit([[0.0]], ["a"])
    pool = np.zeros((50, 1))
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    firsts = [select_queries(clf, pool, strategy="margin", random_state=i)[0] for i in range(20)]
    assert len(set(firsts)) > 10
    again = [select_queries(clf, pool, strategy="margin", random_state=i)[0] for i in range(20)]
    assert firsts == again
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


# ---------------------------------------------------------------- the posterior
@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier"])
def test_all_draws_at_once_are_refits_with_weights_of_classifiers(
    trained, digits_new, name, margin
):
    X, y = digits_new
    labels = np.array(["x", "y", "z"])[y[:9] - 7]
    clf = trained[name].set_params(dtype="float64")
    draws = bootstrap_predictions(clf, X[:9], labels, X[9:30], 4, np.random.default_rng(3))
    weights = 9 * np.random.default_rng(3).dirichlet(np.ones(9), 4)
    for w, p in zip(weights, draws, strict=True):
        expected = clone(clf).fit(X[:9], labels, sample_weight=w).predict_proba(X[9:30])
        np.testing.assert_allclose(p, expected, rtol=1e-6, atol=1e-9)
    margin.above(draws.std(0).max(), 1e-3)


@pytest.mark.parametrize("name", ["RidgeHeadRegressor", "MAMLRegressor"])
@pytest.mark.parametrize("column", [False, True])
def test_all_draws_at_once_are_refits_with_weights_of_regressors(trained, task, name, column):
    X, y, pool, _ = task(name)
    y = y[:, None] if column else y
    reg = trained[name].set_params(dtype="float64")
    draws = bootstrap_predictions(reg, X, y, pool, 4, np.random.default_rng(3))
    weights = len(X) * np.random.default_rng(3).dirichlet(np.ones(len(X)), 4)
    for w, means in zip(weights, draws, strict=True):
        expected = clone(reg).fit(X, y, sample_weight=w).predict(pool)
        np.testing.assert_allclose(means, expected.reshape(len(pool), 1), rtol=1e-5, atol=1e-8)


def test_bald_of_classes_is_the_mutual_information_of_the_draws(three_classes):
    X, y, pool = three_classes
    clf = LogisticRegression().fit(X, y)
    found = uncertainty(clf, pool, "bald", X=X, y=y, n_draws=5, random_state=1)
    seed = np.random.RandomState(1).randint(2**31)
    weights = len(y) * np.random.default_rng(seed).dirichlet(np.ones(len(y)), 5)
    draws = [LogisticRegression().fit(X, y, sample_weight=w).predict_proba(pool) for w in weights]
    joint = np.stack(draws) / 5  # p(draw, label); the information between the two is a divergence
    apart = joint.sum(0) * joint.sum(2, keepdims=True)
    np.testing.assert_allclose(found, (joint * np.log(joint / apart)).sum((0, 2)), atol=1e-9)
    assert (found >= 0).all() and found.max() > 0.01


def test_one_label_a_class_leaves_the_bootstrap_of_prototypes_nothing_to_doubt(three_classes):
    X, y, pool = three_classes
    clf = ProtoNetClassifier().fit(X[:3], y[:3])
    found = uncertainty(clf, pool, "bald", X=X[:3], y=y[:3], random_state=0)
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_bald_of_a_linear_head_is_what_a_label_tells_of_its_weights(line):
    X, y, pool = line
    reg = RidgeHeadRegressor(alpha=0.5, noise=0.3).fit(X, y)
    phi, new = (np.column_stack([a, np.ones(len(a))]) for a in (X, pool))
    prior = np.full(3, 0.5)
    free = reg._rebuild(reg.meta_init_).prior_factor.detach().numpy() ** -2.0
    prior = np.where(free < 1e-3, free, prior)
    precision = phi.T @ phi + np.diag(prior)
    before = np.linalg.slogdet(precision)[1]
    gained = [np.linalg.slogdet(precision + np.outer(f, f))[1] - before for f in new]
    np.testing.assert_allclose(uncertainty(reg, pool, "bald"), 0.5 * np.array(gained), rtol=1e-6)
    std = reg.predict(pool, return_std=True)[1]
    np.testing.assert_allclose(noise_variance(reg), [(0.3 * y.std()) ** 2])
    np.testing.assert_allclose(uncertainty(reg, pool, "variance"), std**2)


def test_bald_of_a_deep_kernel_is_that_of_the_gaussian_process(line):
    X, y, pool = line
    reg = DeepKernelRegressor(noise=0.2, lengthscale=1.3).fit(X, y)
    scale = StandardScaler().fit(X)
    gp = GaussianProcessRegressor(RBF(1.3), alpha=0.2**2 + 1e-6, optimizer=None)
    gp.fit(scale.transform(X), (y - y.mean()) / y.std())
    latent = gp.predict(scale.transform(pool), return_std=True)[1]
    expected = 0.5 * np.log(1 + latent**2 / (0.2**2 + 1e-6))
    np.testing.assert_allclose(uncertainty(reg, pool, "bald"), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["RidgeHeadRegressor", "DeepKernelRegressor"])
def test_covariances_have_the_predicted_variances_and_bald_their_order(trained, task, name, margin):
    X, y, pool, _ = task(name)
    reg = trained[name].set_params(dtype="float64").fit(X[:3], y[:3])
    covariance = predictive_covariance(reg, pool)
    std = reg.predict(pool, return_std=True)[1]
    np.testing.assert_allclose(np.diagonal(covariance[0]), std**2, rtol=1e-6)
    smallest = np.linalg.eigvalsh(covariance[0]).min()
    margin.above(np.log10(max(smallest / np.max(std) ** 2, 1e-12)), -6, "logarithm")
    bald, variance = uncertainty(reg, pool, "bald"), uncertainty(reg, pool, "variance")
    assert np.argsort(bald).tolist() == np.argsort(variance).tolist()


def test_several_targets_count_together(line):
    X, y, pool = line
    one = RidgeHeadRegressor().fit(X, y)
    two = RidgeHeadRegressor().fit(X, np.column_stack([y, 3 * y]))
    bald = uncertainty(one, pool, "bald")
    np.testing.assert_allclose(uncertainty(two, pool, "bald"), 2 * bald, rtol=1e-6)
    variance = uncertainty(one, pool, "variance")
    np.testing.assert_allclose(uncertainty(two, pool, "variance"), 10 * variance, rtol=1e-6)
    # the scale of the targets plays no part, so neither does the choice
    chosen = [select_queries(r, pool, 5, strategy="bald") for r in (one, two)]
    assert chosen[0].tolist() == chosen[1].tolist()


def test_regressors_without_a_spread_are_refitted(line):
    X, y, pool = line
    reg = LinearRegression().fit(X, y)
    expected = bootstrap_predictions(
        reg, X, y, pool, 50, np.random.default_rng(np.random.RandomState(5).randint(2**31))
    )
    for measure in ("variance", "bald"):
        found = uncertainty(reg, pool, measure, X=X, y=y, random_state=5)
        np.testing.assert_allclose(found, expected.var(0)[:, 0])


# ---------------------------------------------------------------- batches
@pytest.mark.parametrize("name", ["RidgeHeadRegressor", "DeepKernelRegressor"])
def test_a_batch_is_what_one_by_one_would_choose_whatever_the_labels(trained, task, name):
    X, y, pool, _ = task(name)
    reg = trained[name].set_params(dtype="float64")
    batch = select_queries(clone(reg).fit(X[:2], y[:2]), pool, 4, strategy="variance")
    rng, seen, labels = np.random.default_rng(0), X[:2], y[:2]
    left = np.arange(len(pool))
    for row in batch:
        model = clone(reg).fit(seen, labels)
        assert left[select_queries(model, pool[left], strategy="variance")[0]] == row
        left = left[left != row]  # noisy as labels are, none is bought twice
        seen, labels = np.vstack([seen, pool[row]]), np.append(labels, rng.normal())


def test_a_batch_can_be_chosen_before_any_label(trained, task):
    _, _, pool, _ = task("RidgeHeadRegressor")
    prior = trained["RidgeHeadRegressor"].set_params(dtype="float64").fit_prior()
    batch = select_queries(prior, pool, 3)
    assert batch[0] == np.argmax(prior.predict(pool, return_std=True)[1])
    assert len(set(batch.tolist())) == 3


def test_batches_of_a_gaussian_process_of_scikit_learn(line):
    X, y, pool = line
    gp = GaussianProcessRegressor(RBF(1.0), alpha=1e-6, optimizer=None).fit(X, y)
    batch = select_queries(gp, pool, 4, strategy="variance")
    seen = X
    for row in batch:
        again = clone(gp).fit(seen, np.zeros(len(seen)))
        assert again.predict(pool, return_std=True)[1].argmax() == row
        seen = np.vstack([seen, pool[row]])


def test_bootstrapped_batches_take_what_the_draws_leave_open(line):
    X, y, pool = line
    reg = LinearRegression(fit_intercept=False).fit(X, y)
    axis = pool[[0]] / np.linalg.norm(pool[0])
    across = axis[:, ::-1] * [1.0, -1.0]
    copies = np.vstack([9 * axis, 8.9 * axis, across, 0.1 * pool])
    options = {"strategy": "bald", "X": X, "y": y, "random_state": 0}
    batch = select_queries(reg, copies, 2, **options)
    # two parameters: a row along each axis tells all, what lies along the first nothing more
    assert batch.tolist() == [0, 2]
    scores = uncertainty(reg, copies, "bald", X=X, y=y, random_state=0)
    assert np.argsort(-scores)[:2].tolist() == [0, 1]


@pytest.mark.parametrize("strategy", [*CLASSIFICATION, *MODEL_FREE])
def test_a_batch_does_not_buy_copies(strategy):
    clf = ProtoNetClassifier().fit([[0.0, 0.0], [4.0, 0.0]], ["a", "b"])
    copies = np.tile([[2.0, 0.0]], (10, 1))
    pool = np.vstack([copies, [[2.1, 9.0], [1.9, -9.0]], np.zeros((20, 2)), [[4.0, 0.0]]])
    batch = select_queries(clf, pool, 3, strategy=strategy, X=[[0.0, 0.0], [4.0, 0.0]])
    assert (batch < 10).sum() == 1
    assert {10, 11} < set(batch.tolist())


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "variance"])
def test_the_whole_pool_may_be_bought(strategy, three_classes):
    X, y, pool = three_classes
    pool = np.vstack([pool[:5], pool[:3]])
    clf = LogisticRegression().fit(X, y)
    options = {"strategy": strategy, "X": X, "y": y, "n_draws": 3, "random_state": 0}
    for n in (1, 3, 8):
        chosen = select_queries(clf, pool, n, **options)
        assert chosen.shape == (n,) and chosen.dtype.kind == "i"
        assert len(set(chosen.tolist())) == n
        assert select_queries(clf, pool, n, **options).tolist() == chosen.tolist()
    assert select_queries(clf, pool[:1], **options).tolist() == [0]


# ---------------------------------------------------------------- without the model
@pytest.mark.parametrize("n_known", [0, 1, 4])
def test_coreset_is_greedy_k_center(n_known):
    Z = np.random.default_rng(0).normal(size=(40, 3))
    known = np.random.default_rng(1).normal(size=(n_known, 3))
    found = select_queries(None, Z, 5, strategy="coreset", X=known).tolist()
    chosen = [] if n_known else [int(np.argmin(((Z - Z.mean(0)) ** 2).sum(1)))]
    while len(chosen) < 5:
        centres = np.vstack([known, Z[chosen]])
        chosen.append(int(np.argmax([min(((z - c) ** 2).sum() for c in centres) for z in Z])))
    assert found == chosen


def test_typiclust_takes_the_densest_row_of_every_cluster():
    rng = np.random.default_rng(0)
    sizes = [20, 15, 10, 5]
    centres = 20 * np.eye(4)
    Z = np.vstack([c + rng.normal(size=(s, 4)) for c, s in zip(centres, sizes, strict=True)])
    cluster = np.repeat(np.arange(4), sizes)
    found = select_queries(None, Z, 4, strategy="typiclust", random_state=0)
    assert cluster[found].tolist() == [0, 1, 2, 3]  # the largest first
    for c, row in enumerate(found):
        rows = np.flatnonzero(cluster == c)
        k = len(rows) // 2
        distances = np.sort(pairwise_distances(Z[rows]), 1)[:, 1 : k + 1]
        assert rows[distances.mean(1).argmin()] == row
    # where there are labels already, the other clusters come first
    more = select_queries(None, Z, 2, strategy="typiclust", X=centres[[0, 2]], random_state=0)
    assert cluster[more].tolist() == [1, 3]


def test_typiclust_finds_all_digits_sooner_than_chance(trained, digits_new, margin):
    X, y = digits_new
    clf = trained["ProtoNetClassifier"]
    hits = {"typiclust": 0, "random": 0}
    for seed in range(120):
        rows = np.random.default_rng(seed).permutation(len(X))[:60]
        for strategy in hits:
            bought = select_queries(clf, X[rows], 3, strategy=strategy, random_state=seed)
            hits[strategy] += len(set(y[rows][bought]))
    margin.above(hits["typiclust"] - hits["random"], 0)
    assert not hasattr(clf, "classes_")


# ---------------------------------------------------------------- what may be passed
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tables_and_arrays_are_alike(strategy, line, three_classes):
    X, y, pool = line if strategy == "variance" else three_classes
    table, pool_table = (pd.DataFrame(a).add_prefix("x") for a in (X, pool))
    base = RidgeHeadRegressor() if strategy == "variance" else ProtoNetClassifier()
    found = [
        select_queries(
            clone(base).fit(a, b), p, 3, strategy=strategy, X=a, y=b, n_draws=4, random_state=0
        ).tolist()
        for a, b, p in ((X, y, pool), (table, pd.Series(y, index=range(5, 5 + len(y))), pool_table))
    ]
    assert found[0] == found[1]


def test_uncertainty_changes_no_estimator(three_classes):
    X, y, pool = three_classes
    clf = ProtoNetClassifier().fit(X, y)
    before = {name: a.copy() for name, a in clf.state_.items()}
    select_queries(clf, pool, 4, strategy="bald", X=X, y=y, random_state=0)
    assert all((clf.state_[name] == a).all() for name, a in before.items())


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "variance"])
def test_a_pipeline_is_its_last_step_on_what_that_sees(strategy, three_classes):
    X, y, pool = three_classes
    X, pool = X * [1, 10, 100, 1], pool * [1, 10, 100, 1]
    piped = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    scale = StandardScaler().fit(X)
    options = {"strategy": strategy, "y": y, "n_draws": 4, "random_state": 0}
    found = select_queries(piped, pool, 4, X=X, **options)
    expected = select_queries(piped[-1], scale.transform(pool), 4, X=scale.transform(X), **options)
    assert found.tolist() == expected.tolist()


def test_pipelines_of_regressors_keep_their_closed_form(line):
    X, y, pool = line
    piped = make_pipeline(StandardScaler(), RidgeHeadRegressor()).fit(X, y)
    expected = uncertainty(piped[-1], piped[0].transform(pool), "bald")
    np.testing.assert_array_equal(uncertainty(piped, pool, "bald"), expected)


@pytest.mark.parametrize("strategy", ["auto", "entropy", "bald", "coreset", "typiclust"])
def test_sentences(strategy):
    sentences = ["send money", "send cash", "what is the weather", "weather today"]
    y = ["pay", "pay", "sky", "sky"]
    clf = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(sentences, y)
    pool = ["pay money", "money", "rain today", "send it"]
    chosen = select_queries(clf, pool, 2, strategy=strategy, X=sentences, y=y, random_state=0)
    assert len(set(chosen.tolist())) == 2


def test_images_are_embedded(three_classes):
    X = np.random.default_rng(0).integers(0, 255, (12, 16, 16), dtype=np.uint8)
    clf = ProtoNetClassifier(encoder="conv4", random_state=0).fit(X[:4], list("abab"))
    Z = features(clf, X[4:])
    np.testing.assert_allclose(Z, clf.embed(X[4:]))
    found = select_queries(clf, X[4:], 3, strategy="coreset", X=X[:4])
    expected = select_queries(None, Z, 3, strategy="coreset", X=clf.embed(X[:4]))
    assert found.tolist() == expected.tolist()


def test_auto_by_kind(trained, task, line, three_classes):
    _, _, pool, _ = task("RidgeHeadRegressor")
    fresh = trained["RidgeHeadRegressor"]

    def same(estimator, rows, strategy, **options):
        auto, told = (
            select_queries(estimator, rows, 2, strategy=s, random_state=0, **options).tolist()
            for s in ("auto", strategy)
        )
        return auto == told

    assert same(fresh, pool, "typiclust")
    assert same(fresh.fit_prior(), pool, "variance")
    X, y, rows = three_classes
    clf = ProtoNetClassifier().fit(X, y)
    assert same(clf, rows, "margin", X=X)  # twelve labels of three classes
    assert same(clf, rows, "margin")
    few = ProtoNetClassifier().fit(X[:5], y[:5])
    assert same(few, rows, "typiclust", X=X[:5])
    assert same(LinearRegression().fit(*line[:2]), line[2], "typiclust", X=line[0])
    assert same(SVC().fit(X, y), rows, "typiclust")
    digits = trained["ProtoNetClassifier"].fit_prior([7, 8, 9])
    assert same(digits, np.random.default_rng(0).uniform(0, 16, (30, 64)), "typiclust")


# ---------------------------------------------------------------- errors
def test_what_cannot_be_is_said(three_classes, line):
    X, y, pool = three_classes
    clf = ProtoNetClassifier().fit(X, y)
    for n in (0, 41, 1.5):
        with pytest.raises(ValueError, match="n must be an int from 1 to the 40 rows"):
            select_queries(clf, pool, n)
    with pytest.raises(ValueError, match="strategy must be 'auto', 'entropy'"):
        select_queries(clf, pool, strategy="badge")
    with pytest.raises(ValueError, match="measure must be 'entropy', "):
        uncertainty(clf, pool, "coreset")
    with pytest.raises(ValueError, match="'variance' needs a regressor"):
        select_queries(clf, pool, strategy="variance")
    with pytest.raises(ValueError, match="'entropy' needs a classifier; take 'variance'"):
        uncertainty(RidgeHeadRegressor().fit(*line[:2]), line[2])
    with pytest.raises(ValueError, match="pass them as X and y"):
        uncertainty(clf, pool, "bald")
    with pytest.raises(ValueError, match="pass them as X and y"):
        uncertainty(clf, pool, "bald", X=X[:0], y=y[:0])
    with pytest.raises(ValueError, match="n_draws must be an int, at least 2"):
        uncertainty(clf, pool, "bald", X=X, y=y, n_draws=1)
    with pytest.raises(ValueError, match="no predict_proba"):
        uncertainty(SVC().fit(X, y), pool)
    with pytest.raises(ValueError, match="KNeighborsClassifier takes no sample_weight"):
        uncertainty(KNeighborsClassifier(2).fit(X, y), pool, "bald", X=X, y=y)
    with pytest.raises(ValueError, match="X has 2 features, but X_pool has 4"):
        select_queries(None, pool, strategy="coreset", X=[[0.0, 1.0]])
    with pytest.raises(NotFittedError):
        select_queries(LogisticRegression(), pool, strategy="entropy")


def test_labelled_rows_may_be_none_at_all(three_classes):
    _, _, pool = three_classes
    empty = np.empty((0, 4))
    for strategy in MODEL_FREE:
        found = [
            select_queries(None, pool, 3, strategy=strategy, X=X, random_state=0).tolist()
            for X in (None, empty)
        ]
        assert found[0] == found[1]


def test_a_spread_of_its_own_is_used(line):
    X, y, pool = line
    reg = BayesianRidge().fit(X, y)
    std = reg.predict(pool, return_std=True)[1]
    np.testing.assert_allclose(uncertainty(reg, pool, "variance"), std**2)
    batch = select_queries(reg, pool, 3, strategy="variance", random_state=0)
    assert len(set(batch.tolist())) == 3


# ---------------------------------------------------------------- far from zero, and large
def chosen(strategy, estimator, X, y, pool):
    fitted = clone(estimator).fit(X, y)
    return select_queries(fitted, pool, 4, strategy=strategy, X=X, y=y, random_state=0).tolist()


@pytest.mark.parametrize("offset", [1e8, 1.7e9, 1e12])
@pytest.mark.parametrize("strategy", [*MODEL_FREE, *CLASSIFICATION, "bald"])
def test_classes_far_from_zero_are_asked_as_near_it(strategy, offset):
    rng = np.random.default_rng(0)
    # multiples of 2**-10 are the same numbers there
    pool, X = (np.round(rng.normal(size=(n, 2)) * 1024) / 1024 for n in (200, 6))
    y = np.array([0, 1, 2, 0, 1, 2])
    naive = GaussianNB()
    shifted = chosen(strategy, naive, X + offset, y, pool + offset)
    assert shifted == chosen(strategy, naive, X, y, pool)


@pytest.mark.parametrize("offset", [1e8, 1.7e9])
@pytest.mark.parametrize("strategy", [*MODEL_FREE, "variance", "bald"])
@pytest.mark.parametrize("reg", [RidgeHeadRegressor(), DeepKernelRegressor()], ids=["head", "gp"])
def test_targets_far_from_zero_are_asked_as_near_it(strategy, reg, offset):
    rng = np.random.default_rng(0)
    pool, X = (np.round(rng.normal(size=(n, 2)) * 1024) / 1024 for n in (200, 6))
    shifted = chosen(strategy, reg, X + offset, X[:, 0], pool + offset)
    assert shifted == chosen(strategy, reg, X, X[:, 0], pool)


def test_one_row_far_away_does_not_blur_the_others():
    line = np.arange(9.0)[:, None]
    Z = np.concatenate([line, [[1e12]]])
    found = select_queries(LogisticRegression(), Z, 3, strategy="coreset", X=line[:1])
    assert found.tolist() == [9, 8, 4]


@pytest.mark.parametrize("strategy", CLASSIFICATION)
def test_rows_that_leave_no_doubt_can_be_chosen_among(strategy, three_classes):
    X, y, pool = three_classes
    clf = ProtoNetClassifier().fit(X * 1e15, y)
    found = select_queries(clf, pool * 1e15, 4, strategy=strategy, random_state=0)
    assert len(set(found.tolist())) == 4
