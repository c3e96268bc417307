"""The in-context learner of tables: what it must obey, and that what ships is worth having."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import InContextClassifier, MetaTrainer, few_shot_score, load_meta_init
from fewshot_sklearn.algorithms import InContextTables, _table_learner, in_context_tables
from fewshot_sklearn.algorithms import _table_experts as table_experts
from fewshot_sklearn.algorithms._table_experts import EXPERTS_READ, all_experts
from fewshot_sklearn.algorithms._table_similarities import TableScale
from fewshot_sklearn.encoders import Identity


@pytest.fixture(scope="module")
def learner():
    """A float64 learner none of whose weights is zero."""
    torch.manual_seed(0)
    made = InContextTables(Identity((4,)), (4,), n_layers=2, n_hidden=16, n_heads=4)
    for part in (made.weigh[-1], made.prior, made.answer):
        torch.nn.init.normal_(part.weight)
        torch.nn.init.normal_(part.bias)
    return made.double().requires_grad_(False).eval()


def random_task(n=9, n_way=3, n_features=4, n_query=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    X, X_query = (torch.randn(m, n_features, generator=g).double() for m in (n, n_query))
    return X, torch.eye(n_way).double()[torch.arange(n) % n_way], X_query


def outputs(learner, X, y, w, X_query):
    w = torch.as_tensor(w, dtype=torch.float64)
    return learner.predict_features(learner.adapt_features(X, y, w), X_query).softmax(-1)


# ------------------------------------------------------------------ the parts
def test_ranks_are_midranks_of_the_support():
    X = torch.tensor([[3.0], [1.0], [1.0], [7.0], [5.0]]).double()
    scale = TableScale(X, torch.ones(5).double())
    ranks = (scale(X).ranks * scale.rank_scale + scale.rank_mean)[:, 0]
    np.testing.assert_allclose(ranks, (rankdata(X[:, 0]) - 0.5) / 5)
    asked = torch.tensor([[-9.0], [2.0], [5.0], [99.0]]).double()
    ranks = (scale(asked).ranks * scale.rank_scale + scale.rank_mean)[:, 0]
    np.testing.assert_allclose(ranks, [0.2, 0.35, 0.7, 0.9])


def test_scale_knows_weights_and_ignores_what_weighs_nothing():
    X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    w = torch.tensor([1, 0, 2, 1, 0, 1]).double()
    rows = [0, 2, 2, 3, 5]
    some, same = TableScale(X, w)(X), TableScale(X[rows], torch.ones(5).double())(X)
    torch.testing.assert_close(some.values, same.values)
    torch.testing.assert_close(some.ranks, same.ranks)


def test_leaving_one_out_is_fitting_without_it():
    X, y, _ = random_task(n=12)
    w = torch.ones(12).double()
    scale = TableScale(X, w)
    K = in_context_tables._kernels(scale, X, y, w).among
    left_out = all_experts(K, y, w).left_out
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        refitted = all_experts(K[:, rest][:, :, rest], y[rest], w[rest])
        k = K[list(EXPERTS_READ)][:, [i]][:, :, rest]
        expected = (k @ refitted.coefficients + refitted.offsets)[:, 0]
        torch.testing.assert_close(left_out[:, i], expected)


def test_relevant_features_weigh_more():
    X, y, _ = random_task(n=30)
    X[:, 2] += 4 * y[:, 0]
    weights = table_experts.relevance(TableScale(X, torch.ones(30).double())(X).values, y,
                                          torch.ones(30).double())  # fmt: skip
    assert weights.argmax() == 2
    assert weights[2] > 5 * weights[[0, 1, 3]].max()


# ------------------------------------------------------------------ what it must obey
def test_rows_are_a_weighted_set(learner):
    X, y, X_query = random_task()
    once = outputs(learner, X, y, [1, 2, 0, 1, 1, 1, 3, 1, 1], X_query)
    rows = [8, 6, 6, 3, 1, 0, 1, 4, 5, 7, 6]
    torch.testing.assert_close(outputs(learner, X[rows], y[rows], [1] * 11, X_query), once)
    assert (outputs(learner, X, y, [1] * 9, X_query) - once).abs().max() > 1e-3


def test_renamed_classes_permute_the_columns(learner):
    X, y, X_query = random_task()
    plain = outputs(learner, X, y, [1] * 9, X_query)
    renamed = outputs(learner, X, y[:, [2, 0, 1]], [1] * 9, X_query)
    torch.testing.assert_close(renamed, plain[:, [2, 0, 1]])


def test_a_class_without_rows_changes_no_other(learner):
    X, y, X_query = random_task()
    w = (y[:, 1] == 0).double()
    proba = outputs(learner, X, y, w, X_query)
    assert (proba[:, 1] == 0).all()
    alone = outputs(learner, X[w > 0], y[w > 0][:, [0, 2]], [1] * 6, X_query)
    torch.testing.assert_close(proba[:, [0, 2]], alone)


def test_features_have_no_order_no_unit_and_may_be_filled_up(learner):
    X, y, X_query = random_task()
    plain = outputs(learner, X, y, [1] * 9, X_query)
    order, unit = [3, 1, 0, 2], torch.tensor([1e-3, 5.0, 200.0, 1e5]).double()
    shift = torch.tensor([0.0, 100.0, -7.0, 1e4]).double()
    moved, asked = (rows[:, order] * unit + shift for rows in (X, X_query))
    torch.testing.assert_close(
        outputs(learner, moved, y, [1] * 9, asked), plain, rtol=1e-6, atol=1e-8
    )
    wider, asked = (torch.nn.functional.pad(rows, (0, 3)) for rows in (X, X_query))
    torch.testing.assert_close(outputs(learner, wider, y, [1] * 9, asked), plain)
    asked[:, 4:] = torch.randn(6, 3).double()  # nothing is known of what never varied
    torch.testing.assert_close(outputs(learner, wider, y, [1] * 9, asked), plain)


def test_queries_know_nothing_of_each_other(learner, monkeypatch):
    X, y, X_query = random_task()
    together = outputs(learner, X, y, [1] * 9, X_query)
    alone = torch.cat([outputs(learner, X, y, [1] * 9, x[None]) for x in X_query])
    torch.testing.assert_close(together, alone)
    monkeypatch.setattr(_table_learner, "AT_ONCE", 1)
    torch.testing.assert_close(outputs(learner, X, y, [1] * 9, X_query), together)


def test_batches_of_unlike_tasks_are_the_tasks_one_by_one(learner):
    tasks = [random_task(n, c, 4, 5, seed=n) for n, c in ((6, 3), (11, 2), (4, 4), (9, 3))]
    X, y = torch.zeros(4, 11, 4).double(), torch.zeros(4, 11, 4).double()
    w = torch.zeros(4, 11).double()
    for i, (rows, members, _) in enumerate(tasks):
        n, c = members.shape
        X[i, :n], y[i, :n, :c], w[i, :n] = rows, members, 1
    X_query = torch.stack([task[2] for task in tasks])
    together = learner(X, y, w, X_query).softmax(-1)
    for i, (rows, members, asked) in enumerate(tasks):
        n, c = members.shape
        torch.testing.assert_close(
            together[i, :, :c], outputs(learner, rows, members, [1] * n, asked)
        )
        assert (together[i, :, c:] == 0).all()


@pytest.mark.parametrize("n_classes", [1, 2, 3])
@pytest.mark.parametrize("constant", [False, True])
def test_never_nan(learner, n_classes, constant):
    X, y, X_query = random_task(n=n_classes, n_way=n_classes)
    X = torch.ones_like(X) if constant else X
    proba = outputs(learner, X, y, [1] * n_classes, 1e6 * X_query)
    torch.testing.assert_close(proba.sum(-1), torch.ones(6).double())


def test_gradients_are_finite_and_reach_every_weight():
    torch.manual_seed(0)
    learner = InContextTables(Identity((4,)), (4,), n_layers=2, n_hidden=16, n_heads=4).train()
    for part in (learner.weigh[-1], learner.prior, learner.answer):
        torch.nn.init.normal_(part.weight)
    X, y, X_query = (t.float()[None] for t in random_task())
    logits = learner(X, y, torch.ones(1, 9), X_query)
    learner.loss(logits, torch.tensor([[0, 1, 2, 0, 1, 2]])).backward()
    for name, p in learner.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0 or name.endswith("key.bias"), name


# ------------------------------------------------------------------ what a user meets
def test_it_is_what_the_classifier_starts_from_on_flat_rows_alone():
    X, y = load_iris(return_X_y=True)
    shipped = load_meta_init("tabular-in-context")
    assert InContextClassifier().fit(X, y).meta_init_ is shipped
    assert InContextClassifier(meta_init=shipped).fit(X[:, :2], y).n_features_in_ == 2
    for untrained in ({"encoder": "identity"}, {"n_layers": 1}):
        found = InContextClassifier(**untrained, random_state=0).fit(X, y).meta_init_
        assert found.spec["algorithm"] == "InContextClassification"
    images = X.reshape(len(X), 2, 2)
    found = InContextClassifier(random_state=0).fit(images, y).meta_init_
    assert found.spec["algorithm"] == "InContextClassification"


@pytest.mark.parametrize(("n_features", "n_classes"), [(1, 2), (3000, 2), (30, 60)])
def test_any_number_of_features_and_of_classes(n_features, n_classes):
    rng = np.random.default_rng(0)
    y = np.arange(2 * n_classes) % n_classes
    X = rng.normal(size=(n_classes, n_features))[y] * 3 + rng.normal(size=(len(y), n_features))
    clf = InContextClassifier().fit(X, y)
    proba = clf.predict_proba(X + 0.1 * rng.normal(size=X.shape))
    assert proba.shape == (len(y), n_classes)
    assert (proba.argmax(1) == y).mean() >= 0.9 or n_features == 1


def test_names_and_the_number_of_features_are_those_of_fit():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    clf = InContextClassifier().fit(frame, y)
    np.testing.assert_array_equal(clf.feature_names_in_, frame.columns)
    with pytest.raises(ValueError, match="2 features, but InContextClassifier is expecting 4"):
        clf.predict(frame.to_numpy()[:, :2])
    with pytest.raises(ValueError, match="rows of shape"):
        InContextClassifier(load_meta_init("tabular-in-context")).fit(
            frame.to_numpy().reshape(-1, 2, 2), y
        )


def test_single_precision_pickles_and_clones_say_the_same():
    X, y = load_wine(return_X_y=True)
    double = InContextClassifier().fit(X[::9], y[::9])
    single = InContextClassifier(load_meta_init("tabular-in-context")).fit(X[::9], y[::9])
    np.testing.assert_allclose(single.predict_proba(X), double.predict_proba(X), atol=1e-3)
    again = pickle.loads(pickle.dumps(double))
    np.testing.assert_array_equal(again.predict_proba(X), double.predict_proba(X))
    again = clone(double).fit(X[::9], y[::9])
    np.testing.assert_array_equal(again.predict_proba(X), double.predict_proba(X))


def test_without_rows_there_are_the_class_probabilities():
    clf = InContextClassifier(load_meta_init("tabular-in-context")).fit_prior(["a", "b"], [1, 3])
    np.testing.assert_allclose(clf.predict_proba(np.zeros((2, 7))), [[0.25, 0.75]] * 2)


def test_meta_training_goes_on_from_it_with_rows_of_another_width():
    X, y = make_classification(
        600, 12, n_informative=8, n_classes=6, n_clusters_per_class=1, random_state=0
    )
    trainer = MetaTrainer(
        InContextClassifier(load_meta_init("tabular-in-context")),
        n_way=3, n_shot=3, n_query=5, n_episodes=16, max_epochs=1, validation_fraction=0,
        random_state=0, verbose=0,
    ).fit(X, y)  # fmt: skip
    found = trainer.meta_init_
    assert found.spec["algorithm"] == "InContextTables"
    assert found != load_meta_init("tabular-in-context")
    assert trainer.estimator_.fit(X[:20, :5], y[:20]).predict(X[:, :5]).shape == (600,)


def test_meta_training_without_it_is_on_the_users_tasks_alone():
    X, y = load_iris(return_X_y=True)
    trainer = MetaTrainer(
        InContextClassifier(), n_way=2, n_shot=2, n_query=5, n_episodes=8, max_epochs=1,
        validation_fraction=0, random_state=0, verbose=0,
    ).fit(X, y)  # fmt: skip
    assert trainer.meta_init_.spec["algorithm"] == "InContextClassification"


def test_it_beats_logistic_regression_on_few_rows(margin):
    few = {"n_way": 3, "n_shot": 2, "n_query": 15, "n_episodes": 60, "random_state": 0}
    ours = InContextClassifier(load_meta_init("tabular-in-context"))
    rival = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    for scoring in (None, "neg_log_loss"):
        ahead = []
        for X, y in (load_iris(return_X_y=True), load_wine(return_X_y=True)):
            won = few_shot_score(ours, X, y, scoring=scoring, **few).mean
            ahead.append(won - few_shot_score(rival, X, y, scoring=scoring, **few).mean)
        margin.above(np.mean(ahead), 0, f"{scoring or 'accuracy'}, mean")
        if scoring is None:
            margin.above(min(ahead), -0.03, "accuracy, least")
