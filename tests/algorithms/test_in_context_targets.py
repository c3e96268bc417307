"""The in-context regression of tables: what it must obey, and that what ships is worth having."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import InContextRegressor, MetaTrainer, load_meta_init
from fewshot_sklearn.algorithms import InContextTargets, _table_learner
from fewshot_sklearn.algorithms._table_regressions import RIDGES, UNSURE, all_regressions, told
from fewshot_sklearn.algorithms._table_similarities import TableScale
from fewshot_sklearn.algorithms.in_context_targets import _kernels
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import Identity

SHIPPED = "tabular-in-context-regression"


@pytest.fixture(scope="module")
def learner():
    """A float64 learner none of whose weights is zero."""
    torch.manual_seed(0)
    made = InContextTargets(Identity((4,)), (4,), 1, n_layers=2, n_hidden=16, n_heads=4)
    for part in (made.weigh[-1], made.whole, made.answer):
        torch.nn.init.normal_(part.weight, std=0.3)
        torch.nn.init.normal_(part.bias, std=0.3)
    return made.double().requires_grad_(False).eval()


def random_task(n=9, n_outputs=1, n_features=4, n_query=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    X, X_query = (torch.randn(m, n_features, generator=g).double() for m in (n, n_query))
    noise = torch.randn(n, n_outputs, generator=g).double()
    return X, X[:, :1].sin() + 0.3 * noise, X_query


def outputs(learner, X, y, w, X_query):
    """Means and standard deviations, side by side."""
    w = torch.as_tensor(w, dtype=torch.float64)
    out = learner.predict_features(learner.adapt_features(X, y, w), X_query)
    return torch.cat([out.mean, out.variance.sqrt()], -1)


# ------------------------------------------------------------------ the parts
def test_leaving_one_out_is_fitting_without_it():
    X, y, _ = random_task(n=12)
    w = torch.ones(12).double()
    scale = TableScale(X, w)
    kernels = _kernels(scale, scale(X), y, w)
    K, itself = kernels.among, kernels.itself(scale(X))
    whole = all_regressions(K, y, w)
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        refitted = all_regressions(K[:, rest][:, :, rest], y[rest], w[rest])
        predicted, unsure = told(K[:, [i]][:, :, rest], itself[:, [i]], refitted, y[rest], w[rest])
        torch.testing.assert_close(whole.left_out[:, i], predicted[:, 0])
        torch.testing.assert_close(whole.unsure[:, i], unsure[:, 0])


def test_ridges_are_gaussian_processes():
    X, y, X_query = random_task(n=12)
    w = torch.tensor([1, 2, 3, 1, 1, 1, 0.5, 1, 1, 1, 2, 1]).double()
    scale = TableScale(X, w)
    kernels = _kernels(scale, scale(X), y, w)
    K, rows = kernels(scale(X_query)), scale(X_query)
    predicted, unsure = told(K, kernels.itself(rows), all_regressions(kernels.among, y, w), y, w)
    for place, i in enumerate(UNSURE):
        (read,), noise = RIDGES[i]
        inverse = torch.linalg.inv(kernels.among[read] + 10 + torch.diag(noise / w))
        k = K[read] + 10
        torch.testing.assert_close(predicted[i], (k @ inverse @ y)[:, 0])
        left = kernels.itself(rows)[read] + 10 - ((k @ inverse) * k).sum(-1)
        torch.testing.assert_close(unsure[place], 1 + left / noise)
    at_once = all_regressions(kernels.among, y, w, 7)
    for one, all_ in zip(at_once, all_regressions(kernels.among, y, w), strict=True):
        torch.testing.assert_close(one, all_)


# ------------------------------------------------------------------ what it must obey
def test_rows_are_a_weighted_set(learner):
    X, y, X_query = random_task()
    once = outputs(learner, X, y, [1, 2, 0, 1, 1, 1, 3, 1, 1], X_query)
    rows = [8, 6, 6, 3, 1, 0, 1, 4, 5, 7, 6]
    torch.testing.assert_close(outputs(learner, X[rows], y[rows], [1] * 11, X_query), once)
    assert (outputs(learner, X, y, [1] * 9, X_query) - once).abs().max() > 1e-3


def test_each_target_is_read_by_itself(learner):
    X, y, X_query = random_task(n_outputs=3)
    together = outputs(learner, X, y, [1] * 9, X_query)
    for k in range(3):
        alone = outputs(learner, X, y[:, [k]], [1] * 9, X_query)
        torch.testing.assert_close(together[:, [k, 3 + k]], alone)


def test_targets_have_no_unit_and_no_offset(learner):
    X, y, X_query = random_task()
    plain = outputs(learner, X, y, [1] * 9, X_query)
    for unit, offset in ((1e6, 0.0), (1e-9, 0.0), (2.0, 1e6)):
        moved = outputs(learner, X, unit * y + offset, [1] * 9, X_query)
        torch.testing.assert_close((moved[:, 0] - offset) / unit, plain[:, 0], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(moved[:, 1] / unit, plain[:, 1], rtol=1e-6, atol=1e-8)


def test_features_have_no_order_no_unit_and_may_be_filled_up(learner):
    X, y, X_query = random_task()
    plain = outputs(learner, X, y, [1] * 9, X_query)
    order, unit = [3, 1, 0, 2], torch.tensor([1e-3, 5.0, 200.0, 1e5]).double()
    shift = torch.tensor([0.0, 100.0, -7.0, 1e4]).double()
    moved, asked = (rows[:, order] * unit + shift for rows in (X, X_query))
    found = outputs(learner, moved, y, [1] * 9, asked)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-8)
    wider, asked = (torch.nn.functional.pad(rows, (0, 3)) for rows in (X, X_query))
    asked[:, 4:] = torch.randn(6, 3).double()  # nothing is known of what never varied
    torch.testing.assert_close(outputs(learner, wider, y, [1] * 9, asked), plain)


def test_queries_know_nothing_of_each_other(learner, monkeypatch):
    X, y, X_query = random_task(n_outputs=2)
    together = outputs(learner, X, y, [1] * 9, X_query)
    alone = torch.cat([outputs(learner, X, y, [1] * 9, x[None]) for x in X_query])
    torch.testing.assert_close(together, alone)
    monkeypatch.setattr(_table_learner, "AT_ONCE", 1)
    torch.testing.assert_close(outputs(learner, X, y, [1] * 9, X_query), together)


def test_batches_of_unlike_tasks_are_the_tasks_one_by_one(learner):
    tasks = [random_task(n, 2, 4, 5, seed=n) for n in (6, 11, 4, 9)]
    X, y = torch.zeros(4, 11, 4).double(), torch.zeros(4, 11, 2).double()
    w = torch.zeros(4, 11).double()
    for i, (rows, known, _) in enumerate(tasks):
        X[i, : len(rows)], y[i, : len(rows)], w[i, : len(rows)] = rows, known, 1
    X_query = torch.stack([task[2] for task in tasks])
    together = learner(X, y, w, X_query)
    state = learner.adapt_features(X, y, w)
    by_state = learner.predict_features(state, X_query)
    for i, (rows, known, asked) in enumerate(tasks):
        own = outputs(learner, rows, known, [1] * len(rows), asked)
        for out in (together, by_state):
            torch.testing.assert_close(torch.cat([out.mean[i], out.variance[i].sqrt()], -1), own)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_never_nan(learner, n, constant):
    X, y, X_query = random_task(n=n)
    X = torch.ones_like(X) if constant else X
    found = outputs(learner, X, y, [1] * n, 1e6 * X_query)
    assert found.isfinite().all() and (found[:, 1] > 0).all()
    weightless = learner(X[None], y[None], torch.zeros(1, n).double(), X_query[None])
    assert weightless.mean.isfinite().all() and (weightless.variance > 0).all()


def test_gradients_are_finite_and_reach_every_weight():
    torch.manual_seed(0)
    learner = InContextTargets(Identity((4,)), (4,), 1, n_layers=2, n_hidden=16, n_heads=4).train()
    for part in (learner.weigh[-1], learner.whole, learner.answer):
        torch.nn.init.normal_(part.weight, std=0.3)
    X, y, X_query = (t.float()[None] for t in random_task())
    out = learner(X, y, torch.ones(1, 9), X_query)
    learner.loss(out, torch.linspace(-1, 1, 6)[None, :, None]).backward()
    for name, p in learner.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0 or name.endswith("key.bias"), name


# ------------------------------------------------------------------ what a user meets
def diabetes(n=30):
    X, y = load_diabetes(return_X_y=True)
    return X[:n], y[:n], X[n:], y[n:]


def test_it_is_what_the_regressor_starts_from_on_flat_rows_alone():
    X, y, _, _ = diabetes()
    shipped = load_meta_init(SHIPPED)
    assert InContextRegressor().fit(X, y).meta_init_ is shipped
    assert InContextRegressor(SHIPPED).fit(X[:, :2], y).n_features_in_ == 2
    for untrained in ({"encoder": "identity"}, {"n_layers": 1}):
        found = InContextRegressor(**untrained, random_state=0).fit(X, y).meta_init_
        assert found.spec["algorithm"] == "InContextRegression"
    found = InContextRegressor(random_state=0).fit(X.reshape(-1, 2, 5), y).meta_init_
    assert found.spec["algorithm"] == "InContextRegression"


def test_any_number_of_features_and_of_targets():
    rng = np.random.default_rng(0)
    for n_features, n_outputs in ((1, 1), (3000, 2), (5, 7)):
        X = rng.normal(size=(20, n_features))
        y = X[:, [0]] + np.arange(n_outputs)
        reg = InContextRegressor().fit(X, y)
        mean, std = reg.predict(X[:4], return_std=True)
        assert mean.shape == std.shape == (4, n_outputs)
        assert (std > 0).all()
    with pytest.raises(ValueError, match=r"1 output\(s\), but fit saw 7"):
        reg.partial_fit(X, y[:, :1])
    assert InContextRegressor().fit(X, y[:, 0]).predict(X[:4]).shape == (4,)


def test_a_line_without_noise_is_found():
    rng = np.random.default_rng(0)
    X, X_new = rng.normal(size=(30, 3)), rng.uniform(-1, 1, size=(200, 3))
    line = np.array([2.0, -1.0, 0.5])
    for offset, unit in ((0.0, 1.0), (1.7e9, 1.0), (0.0, 1e-6)):
        told_of = InContextRegressor().fit(X, unit * (X @ line) + offset).predict(X_new)
        error = np.mean(((told_of - offset) / unit - X_new @ line) ** 2)
        assert error < 0.02 * np.var(X @ line)


def test_one_row_and_constant_targets():
    reg = InContextRegressor().fit([[1.0, 2.0]], [200.0])
    mean, std = reg.predict([[0.0, 9.0]], return_std=True)
    np.testing.assert_allclose((mean, std), [[200.0], [200.0]])  # its size is all that is known
    few, many = (InContextRegressor().fit(np.arange(n)[:, None], np.full(n, -3.0)) for n in (3, 30))
    for reg in (few, many):
        np.testing.assert_allclose(reg.predict([[1.5]]), -3.0)
    spreads = [reg.predict([[1.5]], return_std=True)[1][0] for reg in (few, many)]
    assert 3 > spreads[0] > spreads[1] > 0


def test_single_precision_pickles_and_clones_say_the_same():
    X, y, X_new, _ = diabetes()
    double = InContextRegressor().fit(X, y)
    single = InContextRegressor(SHIPPED).fit(X, y)
    np.testing.assert_allclose(single.predict(X_new), double.predict(X_new), rtol=1e-3)
    for again in (pickle.loads(pickle.dumps(double)), clone(double).fit(X, y)):
        np.testing.assert_array_equal(again.predict(X_new), double.predict(X_new))


@pytest.mark.parametrize("init", [None, SHIPPED])
def test_rows_far_from_zero_and_heavy_ones(init):
    X, y, X_new, _ = diabetes()
    plain = InContextRegressor(init).fit(X, y).predict(X_new)
    moved = InContextRegressor(init).fit(1e-3 * X + 1e6, y).predict(1e-3 * X_new + 1e6)
    np.testing.assert_allclose(moved, plain, rtol=1e-2)
    heavy, heavier = (
        InContextRegressor(init).fit(X, y, sample_weight=np.full(30, w)).predict(X_new)
        for w in (1e6, 1e25)
    )
    np.testing.assert_array_equal(heavier, heavy)


def test_without_rows_it_refuses():
    with pytest.raises(ValueError, match=r"for tables without a past.*Call fit"):
        InContextRegressor(SHIPPED).fit_prior()


def test_meta_training_goes_on_from_it_and_without_it_is_what_it_was():
    past = make_sinusoid_tasks(20, n_shot=5, n_query=5, random_state=0)
    options = {
        "n_shot": 5, "n_query": 5, "n_episodes": 16, "max_epochs": 1, "validation_fraction": 0,
        "random_state": 0, "verbose": 0,
    }  # fmt: skip
    trainer = MetaTrainer(InContextRegressor(SHIPPED), **options)
    found = trainer.fit(past.data, past.target, groups=past.groups).meta_init_
    assert found.spec["algorithm"] == "InContextTargets" and found.spec["any_width"]
    assert found != load_meta_init(SHIPPED)
    assert trainer.estimator_.fit(np.ones((4, 3)), np.arange(4.0)).predict(np.ones((2, 3))).shape
    plain = MetaTrainer(InContextRegressor(), **options)
    plain.fit(past.data, past.target, groups=past.groups)
    assert plain.meta_init_.spec["algorithm"] == "InContextRegression"


def test_it_beats_ridge_on_few_rows_and_knows_how_far_off_it_is(margin):
    X, y = load_diabetes(return_X_y=True)
    rival = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
    ahead, covered = [], []
    for i in range(60):
        order = np.random.default_rng(i).permutation(len(y))
        known, asked = order[: 5 + 10 * (i % 3)], order[200:]
        mean, std = InContextRegressor().fit(X[known], y[known]).predict(X[asked], return_std=True)
        gap = rival.fit(X[known], y[known]).predict(X[asked]) - y[asked]
        ahead.append(np.mean(gap**2) / np.mean((mean - y[asked]) ** 2))
        covered.append(np.mean(np.abs(mean - y[asked]) < 1.96 * std))
    margin.above(np.exp(np.mean(np.log(ahead))), 1.0, "error of ridge over its own")
    margin.above(np.mean(covered), 0.85, "covered, least")
    margin.below(np.mean(covered), 0.99, "covered, most")
