"""Intents: kernel logistic regression, the residual encoder, the training script, what ships."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from fewshot_sklearn import (
    KernelLogisticClassifier,
    MetaInit,
    MetaTrainer,
    few_shot_score,
    list_meta_inits,
    load_meta_init,
)
from fewshot_sklearn.algorithms.kernel_logistic import KernelLogistic
from fewshot_sklearn.encoders import Residual, make_encoder
from fewshot_sklearn.tasks import Support, Task, pad_tasks

TRAINING = ROOT / "training"
if not (TRAINING / "intents.py").exists():
    pytest.skip("training scripts are not here", allow_module_level=True)
sys.path.insert(0, str(TRAINING))

import intents  # noqa: E402

SHIPPED = [name for name in list_meta_inits() if name.startswith("intents-minilm-")]


@pytest.fixture(scope="module")
def letters():
    """36 rows of three digits, and 60 rows to ask about."""
    X, y = load_digits(n_class=3, return_X_y=True)
    return X[:36] / 16, y[:36], X[36:96] / 16, y[36:96]


def learner(n_features=64, **params):
    """A learner of float64 whose rows are taken as they are."""
    torch.manual_seed(0)
    made = KernelLogistic(make_encoder("identity", (n_features,), {}), (n_features,), **params)
    return made.double().eval().requires_grad_(False)


def support(X, y, w=None, n_way=3):
    members = torch.eye(n_way, dtype=torch.float64)[torch.as_tensor(y)]
    w = torch.ones(len(X)) if w is None else torch.as_tensor(w)
    return Support(torch.as_tensor(X).double(), members, w.double())


# ---------------------------------------------------------------- kernel logistic regression
def test_enough_steps_minimise_the_penalised_cross_entropy(letters):
    X, y, _, _ = letters
    w = np.linspace(0.5, 2.0, len(X))
    made = learner(lengthscale=2.0, penalty=0.3, ridge=1e-9, n_steps=3000)
    found = made.adapt(support(X, y, w))["coef"].numpy()
    K = rbf_kernel(X, gamma=1 / 8)

    def cost(flat):
        coef = flat.reshape(len(X), 3)
        f = K @ coef
        slope = K @ (w[:, None] * (np.exp(log_softmax(f, 1)) - np.eye(3)[y]) + 0.3 * coef)
        loss = -(w * log_softmax(f, 1)[np.arange(len(X)), y]).sum()
        return loss + 0.15 * (coef * f).sum(), slope.ravel()

    best = minimize(cost, np.zeros(3 * len(X)), jac=True, method="L-BFGS-B", tol=1e-12)
    assert cost(found.ravel())[0] == pytest.approx(best.fun, rel=1e-5)


def test_a_few_steps_come_close(letters):
    X, y, queries, _ = letters
    ways = [learner(lengthscale=2.0, ridge=1e-9, n_steps=n) for n in (1, 40, 2000)]
    first, usual, last = (
        made.predict(made.adapt(support(X, y)), torch.as_tensor(queries)).softmax(1)
        for made in ways
    )
    assert (usual - last).abs().max() < 0.2 * (first - last).abs().max()


def test_the_ridge_beside_it_is_kernel_ridge_regression(letters):
    X, y, queries, _ = letters
    made = learner(lengthscale=2.0, penalty=1e9, noise=0.5, ridge=1.0)
    got = made.predict(made.adapt(support(X, y)), torch.as_tensor(queries)).numpy()
    ridge = KernelRidge(alpha=0.25, kernel="rbf", gamma=1 / 8).fit(X, np.eye(3)[y] - 1 / 3)
    np.testing.assert_allclose(got, ridge.predict(queries), atol=1e-4)


def test_rows_of_weight_zero_and_weights_of_two(letters):
    X, y, queries, _ = letters
    clf = KernelLogisticClassifier(lengthscale=2.0)
    weights = np.ones(len(X))
    weights[:6], weights[-4:] = 0, 2
    told = clf.fit(X, y, weights).predict_proba(queries)
    again = np.r_[np.arange(6, len(X)), np.arange(len(X) - 4, len(X))]
    # the scale of features comes from weighted rows as well
    np.testing.assert_allclose(told, clf.fit(X[again], y[again]).predict_proba(queries), atol=2e-5)


def test_a_class_without_support_is_never_predicted(letters):
    X, y, queries, _ = letters
    made = learner(lengthscale=2.0)
    logits = made.predict(made.adapt(support(X, y, n_way=5)), torch.as_tensor(queries))
    fewer = made.predict(made.adapt(support(X, y)), torch.as_tensor(queries))
    assert torch.isneginf(logits[:, 3:]).all()
    torch.testing.assert_close(logits[:, :3], fewer)


def test_padded_tasks_give_what_each_gives_alone(letters):
    X, y, queries, asked = letters
    made = learner(lengthscale=2.0)
    tasks = [Task(X[:n], y[:n], queries[:m], asked[:m]) for n, m in ((36, 20), (21, 9))]
    batch, _ = pad_tasks(tasks, torch.float64)
    together = made(**batch)
    for i, task in enumerate(tasks):
        alone = made.predict(made.adapt(support(task.X, task.y)), torch.as_tensor(task.X_query))
        torch.testing.assert_close(together[i, : len(alone)], alone)


def test_gradients_reach_all_that_is_learned(letters):
    X, y, queries, asked = letters
    made = KernelLogistic(Residual((64,)), (64,), lengthscale=1.0)
    given = support(X, y)
    state = made.adapt(Support(given.X.float(), given.y.float(), given.w.float()))
    logits = made.predict(state, torch.as_tensor(queries).float())
    torch.nn.functional.cross_entropy(logits, torch.as_tensor(asked)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"penalty": 0.0}, "penalty must be a positive finite number"),
        ({"noise": -1.0}, "noise must be a positive finite number"),
        ({"ridge": 0.0}, "ridge must be a positive finite number"),
        ({"n_steps": 0}, "n_steps must be an int"),
        ({"lengthscale": 0.0}, "lengthscale must be a positive finite number"),
    ],
)
def test_what_makes_no_sense_is_said(letters, params, match):
    with pytest.raises(ValueError, match=match):
        KernelLogisticClassifier(**params).fit(*letters[:2])


# ---------------------------------------------------------------- the residual encoder
def test_residual_starts_from_the_cosines():
    X = torch.as_tensor(np.random.default_rng(0).normal(size=(7, 5)), dtype=torch.float32)
    Z = make_encoder("residual", (5,), {})(X)
    torch.testing.assert_close(Z @ Z.T, torch.nn.functional.cosine_similarity(X[:, None], X, -1))
    torch.testing.assert_close(make_encoder("residual", (5,), {"unit": False})(X), X)


def embeddings(n_classes, seed, n_rows=30, n_features=16):
    """Rows of length one whose first half tells the classes apart; the second half is loud."""
    rng = np.random.default_rng(seed)
    size = np.r_[np.full(n_features // 2, 1.0), np.zeros(n_features // 2)]
    y = np.repeat(np.arange(n_classes), n_rows)
    centres = rng.normal(size=(n_classes, n_features)) * size
    X = centres[y] + rng.normal(size=(len(y), n_features)) * np.where(size > 0, 0.6, 1.5)
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), y + 100 * seed


def test_training_leaves_out_what_does_not_tell_classes_apart():
    X, y = embeddings(40, seed=1)
    new, asked = embeddings(20, seed=2)
    head = KernelLogisticClassifier(encoder="residual", lengthscale=1.0)
    trainer = MetaTrainer(
        head, n_way=10, n_shot=3, n_query=5, n_episodes=30, batch_size=1, max_epochs=2, lr=1e-2,
        validation_fraction=0, random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    trained = trainer.fit(X, y).estimator_
    how = {"n_way": 10, "n_shot": 3, "n_episodes": 20}
    before = few_shot_score(head, new, asked, **how).mean
    after = few_shot_score(trained, new, asked, **how).mean
    assert after > before + 0.03
    # rows were taken as they are
    assert not trainer.meta_init_.tensors["x_mean"].any()
    assert (trainer.meta_init_.tensors["x_scale"] == 1).all()


# ---------------------------------------------------------------- the training script
@pytest.fixture(scope="module")
def corpus():
    X, y = embeddings(12, seed=3)
    rows = np.arange(len(y)) % 30
    names = np.stack([X[y == c].mean(0) for c in np.unique(y)])
    return intents.Intents(X, y.astype(str), rows >= 20, rows < 15, names)


def test_draws_are_of_training_rows_and_reproducible(corpus):
    first, second = intents.draws(corpus, 4, 2)
    again = next(intents.draws(corpus, 4, 1))
    assert (first == again).all() and (first != second).any()
    assert corpus.is_train[first].all() and not corpus.is_test[first].any()
    assert len(set(first)) == 48 and (corpus.y[first] == np.repeat(np.unique(corpus.y), 4)).all()


def test_accuracies_are_of_all_test_rows_and_names_are_rows(corpus):
    clf = KernelLogisticClassifier(encoder="residual", lengthscale=1.0)
    plain = intents.accuracies(clf, corpus, 1, 3)
    named = intents.accuracies(clf, corpus, 1, 3, names=True)
    rows = next(intents.draws(corpus, 1, 1))
    told = clf.fit(corpus.X[rows], corpus.y[rows]).predict(corpus.X[corpus.is_test])
    assert plain[0] == pytest.approx((told == corpus.y[corpus.is_test]).mean())
    assert named.mean() > plain.mean()


def test_a_figure_is_a_mean_with_its_interval():
    told = intents.figure("a task", np.array([0.5, 0.7]))
    assert told == {
        "task": "a task",
        "score": "accuracy",
        "mean": 0.6,
        "ci95": 1.2706,
        "episodes": 2,
    }


def test_the_recipe_trains_and_is_reproducible(corpus):
    few = {"n_way": (3, 6), "n_episodes": 2}
    init, same = (intents.train(corpus, **few) for _ in range(2))
    assert init == same and init.spec["encoder"]["name"] == "residual"
    assert init.provenance["tasks"]["count"] == 12
    assert intents.train(corpus, random_state=1, **few) != init


# ---------------------------------------------------------------- what ships
@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_says_what_it_is(name):
    init = load_meta_init(name)
    assert init.nbytes < 2**20 and init.spec["input_shape"] == [384]
    assert {str(t.dtype) for t in init.tensors.values()} == {"float16"}
    card = init.card()
    assert "CC BY 3.0" in card["data"] and "CC BY 4.0" in card["data"]
    assert card["training command"] == f"python training/intents.py {name}"
    figures = init.provenance["accuracy"]
    assert len(figures) == 4 and all(f["episodes"] == intents.N_DRAWS for f in figures)
    assert all(0.7 < f["mean"] < 1 and 0 < f["ci95"] < 0.02 for f in figures)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_has_not_seen_what_it_is_measured_on(name):
    init = load_meta_init(name)
    for corpus, load in intents.LOADERS.items():
        if not (intents.DATA / corpus).exists():
            pytest.skip(f"{corpus} is not here")
        target = load(intents.DATA / corpus).target
        seen = init.cite_tasks(target, "classes")
        # one intent of the other corpus has the same name: exchange_rate
        assert seen == (len(set(target)) if name.endswith(corpus) else 1)
    assert intents.measured_on(init) not in name


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_tells_rows_apart(name):
    X, y = embeddings(5, seed=4, n_features=384)
    clf = KernelLogisticClassifier(load_meta_init(name)).fit(X[::3], y[::3])
    rest = np.arange(len(X)) % 3 > 0
    assert clf.score(X[rest], y[rest]) > 0.8
    assert isinstance(clf.meta_init_, MetaInit)
