"""Tables go straight in: categories, dates and gaps are learned from the past, and read by it."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fewshot_sklearn import (
    InContextClassifier,
    KernelLogisticClassifier,
    MAMLRegressor,
    MetaEmbedding,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskMemory,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    uncertainty,
)
from fewshot_sklearn.encoders import TableEncoder, TableRows
from fewshot_sklearn.model_selection._table_columns import learned_columns
from fewshot_sklearn.tasks import TableFormat

N_ITEMS = 12
FEW = {"n_shot": 4, "n_query": 6, "n_episodes": 8, "n_valid_episodes": 4, "max_epochs": 2}
FEW |= {"verbose": 0, "device": "cpu", "random_state": 0}


def customers(n_tasks, seed, n=20):
    """Rows of customers: numbers with gaps, a colour, an item of many, a day; and targets."""
    rng = np.random.default_rng(seed)
    size = n * n_tasks
    item, gap = rng.integers(0, N_ITEMS, size), rng.random(size) < 0.2
    X = pd.DataFrame(
        {
            "price": rng.normal(size=size),
            "age": np.where(gap, np.nan, rng.normal(40, 10, size)),
            "colour": rng.choice(["red", "green", "blue"], size),
            "item": pd.Categorical([f"item {i}" for i in item]),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, size), "D"),
        }
    )
    level = np.repeat(rng.normal(size=n_tasks), n)
    y = level + 2 * np.sin(item) + 0.5 * X["price"] + (X["colour"] == "red")
    groups = np.repeat([f"customer {seed}-{i}" for i in range(n_tasks)], n)
    return X, y.to_numpy() + 0.1 * rng.normal(size=size), groups


PAST, NEW = customers(30, 0), customers(10, 1)


def trained(estimator=None, past=PAST, **params):
    X, y, groups = past
    trainer = MetaTrainer(estimator or RidgeHeadRegressor(), **FEW | params)
    return trainer.fit(X, y, groups=groups)


def halves(y):
    return np.where(y > 0, "high", "low")


@pytest.fixture(scope="module")
def reg():
    return trained().estimator_


@pytest.fixture(scope="module")
def clf():
    X, y, groups = PAST
    trainer = MetaTrainer(ProtoNetClassifier(encoder="mlp"), n_way=2, **FEW)
    return trainer.fit(X, halves(y), groups=groups).estimator_


# ------------------------------------------------------------------ what is learned
def test_the_format_is_part_of_the_meta_init(reg, tmp_path):
    table = reg.meta_init.table
    assert [c.kind for c in table.columns] == ["number", "number", "category", "category", "date"]
    assert table.names == tuple(NEW[0])
    assert reg.meta_init.spec["input_shape"] == [table.width]
    reg.meta_init.save(tmp_path / "customers.safetensors")
    loaded = RidgeHeadRegressor(tmp_path / "customers.safetensors")
    X, y, _ = NEW
    told = reg.fit(X[:5], y[:5]).predict(X)
    np.testing.assert_array_equal(loaded.fit(X[:5], y[:5]).predict(X), told)
    assert MetaInit.load(tmp_path / "customers.safetensors").table == table


def test_the_card_says_what_columns_hold(reg):
    assert reg.meta_init.card()["rows"] == (
        "price (number), age (number, some missing), colour (3 values), item (12 values), "
        "day (date)"
    )


def test_it_is_learned_from_the_tasks_trained_on():
    X, y, groups = PAST
    held_out = set(groups) - _trained_on(trained(), groups)
    X = X.assign(colour=np.where(np.isin(groups, list(held_out)), "violet", X["colour"]))
    table = trained(past=(X, y, groups)).meta_init_.table
    assert len(held_out) == 3 and table.columns[2].values == ("blue", "green", "red")


def _trained_on(trainer, groups):
    from fewshot_sklearn.meta_init import task_digests

    known, names = trainer.meta_init_.provenance["tasks"]["ids"], np.unique(groups)
    return set(names[np.isin(task_digests(names), known)])


def test_what_categories_are_like_is_learned(margin):
    """Twelve items of different worth: codes tell nothing, likenesses all."""
    X, y, groups = NEW
    asked = {"n_way": None, "n_shot": 5, "n_query": 10, "n_episodes": 60, "random_state": 0}
    asked |= {"scoring": "neg_mean_squared_error"}
    few = {"n_episodes": 160, "max_epochs": 12, "lr": 1e-2}
    whole = trained(**few).estimator_
    blind = trained(past=(PAST[0].drop(columns="item"), *PAST[1:]), **few).estimator_
    seeing = -few_shot_score(whole, X, y, groups, **asked).mean
    without = -few_shot_score(blind, X.drop(columns="item"), y, groups, **asked).mean
    margin.below(seeing / without, 0.5)


def test_rows_of_numbers_are_as_they_were():
    X, y, groups = PAST
    assert trained(past=(X[["price"]], y, groups)).meta_init_.table is None
    assert trained(past=(X[["price"]].to_numpy(), y, groups)).meta_init_.table is None


def test_columns_marked_and_none():
    X, y, groups = PAST
    X = X[["price"]].assign(code=np.arange(len(X)) % 3)
    table = trained(past=(X, y, groups), categorical_features=["code"]).meta_init_.table
    assert [c.kind for c in table.columns] == ["number", "category"]
    with pytest.raises(ValueError, match="'colour' of X holds what is no number"):
        trained(categorical_features=None)
    with pytest.raises(ValueError, match="categorical_features names 'size'"):
        trained(categorical_features=["size"])


# ------------------------------------------------------------------ every entrance
def test_what_the_past_does_not_know_is_answered(reg):
    X, y, _ = NEW
    odd = X[:3].astype({"item": object}).assign(item=["new", None, "item 3"])
    odd = odd.assign(colour=["violet", None, "red"], age=np.nan)
    odd["day"] = [pd.NaT, pd.Timestamp("2031-01-01"), pd.Timestamp("2024-02-01")]
    assert np.isfinite(reg.fit(X[:5], y[:5]).predict(odd)).all()
    assert np.isfinite(reg.fit(odd, y[:3]).predict(X)).all()


def entrances(reg, X, y, groups):
    few = {"n_way": None, "n_query": 4, "n_episodes": 3, "random_state": 0}
    fitted = RidgeHeadRegressor(reg.meta_init).fit(NEW[0][:5], NEW[1][:5])
    return {
        "fit": lambda: reg.fit(X[:5], y[:5]),
        "predict": lambda: fitted.predict(X),
        "embed": lambda: reg.embed(X),
        "few_shot_score": lambda: few_shot_score(reg, X, y, groups, n_shot=2, **few),
        "compare": lambda: compare_few_shot(
            reg, X, y, groups, n_shots=(1, 2), baselines=None, **few
        ),
        "Taskwise": lambda: TaskwiseRegressor(reg).fit(X, y, groups=groups),
        "TrustLearner": lambda: TrustLearner(reg, n_shots=(2,), **few).fit(X, y, groups),
        "memory": lambda: TaskMemory.from_data(reg, X, y, groups),
        "MetaTrainer": lambda: trained(reg, (X, y, groups)),
        "bootstrap": lambda: uncertainty(
            fitted, X, measure="variance", X=NEW[0][:5], y=NEW[1][:5], n_draws=3, random_state=0
        ),
    }


ENTRANCES = list(entrances(RidgeHeadRegressor(trained().estimator_.meta_init), *NEW))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ENTRANCES)
def test_every_entrance_takes_tables_and_refuses_other_columns(reg, name):
    entrances(reg, *NEW)[name]()
    X, y, groups = NEW
    for other, told in (
        (X[["age", "price", "colour", "item", "day"]], "order"),
        (X.rename(columns={"age": "years"}), "years|columns"),
        (X.drop(columns="item"), "item|columns"),
    ):
        with pytest.raises(ValueError, match=told):
            entrances(reg, other, y, groups)[name]()
    words = X.astype({"price": object}).assign(price="cheap")
    with pytest.raises(ValueError, match="Column 'price' of X held numbers in the past"):
        entrances(reg, words, y, groups)[name]()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("baselines", ["default", "strong"])
def test_rivals_are_given_the_numbers_that_a_table_becomes(reg, baselines):
    X, y, groups = NEW
    few = {"n_way": None, "n_shots": (2, 5), "n_query": 4, "n_episodes": 6, "random_state": 0}
    compared = compare_few_shot(reg, X, y, groups, past=PAST, baselines=baselines, **few)
    assert {"RidgeHeadRegressor", "ridge", "pooled"} <= set(compared["estimator"])
    assert np.isfinite(compared["mean"]).all() and not compared["failures"].any()
    columns, _ = learned_columns(*PAST, classify=False)
    own = make_pipeline(FunctionTransformer(columns.transform), StandardScaler(), Ridge())
    alone = compare_few_shot(reg, X, y, groups, baselines={"ridge": own}, **few)
    told = [c.loc[c["estimator"] == "ridge", "mean"] for c in (compared, alone)]
    np.testing.assert_allclose(*told)


def test_answers_in_batches_are_those_of_single_fits(reg, clf):
    X, y, groups = NEW
    every = TaskwiseRegressor(reg).fit(X, y, groups=groups)
    told, one = every.predict(X, groups=groups), groups == groups[0]
    alone = reg.fit(X[one], y[one]).predict(X[one])
    np.testing.assert_allclose(told[one], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        every.task_estimator(groups[0]).predict(X[one]), alone, rtol=1e-4, atol=1e-5
    )
    unseen = reg.fit_prior().predict(X[:3])
    np.testing.assert_allclose(every.predict(X[:3], groups=["who"] * 3), unseen, rtol=1e-5)
    proba = clf.fit(X[:8], halves(y[:8])).predict_proba(X)
    assert proba.shape == (len(X), len(clf.classes_)) and np.isfinite(proba).all()


def test_frames_of_another_library(reg):
    pl = pytest.importorskip("polars")
    X, y, _ = NEW
    told = reg.fit(X[:5], y[:5]).predict(X)
    other = pl.from_pandas(X.astype({"item": str}))
    np.testing.assert_allclose(reg.fit(other[:5], y[:5]).predict(other), told, rtol=1e-6)


def test_explanations_show_rows_as_they_were(reg):
    X, y, _ = NEW
    told = reg.fit(X[:5], y[:5]).explain(X[:1])
    assert told["distance"].iloc[0] == pytest.approx(0, abs=1e-5)


def test_pickles_and_embeddings(reg, clf):
    X, y, _ = NEW
    fitted = reg.fit(X[:5], y[:5])
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    features = MetaEmbedding(clf.meta_init).fit(X).transform(X)
    np.testing.assert_array_equal(features, clf.embed(X))


@pytest.mark.parametrize("estimator", [MAMLRegressor(encoder="mlp", n_steps=1)])
def test_methods_that_adapt_the_network(estimator):
    X, y, _ = NEW
    fitted = trained(estimator).estimator_.fit(X[:5], y[:5])
    assert np.isfinite(fitted.predict(X)).all()


def test_training_goes_on_in_the_same_format(reg):
    X, y, groups = NEW
    X = X.assign(colour=np.where(X["colour"] == "red", "violet", X["colour"]))
    again = trained(reg, (X, y, groups))
    assert again.meta_init_.table == reg.meta_init.table
    trainer = trained()
    trainer.partial_fit(X, y, groups=groups)
    assert trainer.meta_init_.table == reg.meta_init.table


def test_in_context_learners_take_any_table():
    X, y, groups = PAST
    clf = InContextClassifier(encoder="mlp", n_layers=1, n_hidden=8, n_heads=2)
    trainer = MetaTrainer(clf, n_way=2, **FEW).fit(X, halves(y), groups=groups)
    assert np.isfinite(trainer.estimator_.fit(X[:8], halves(y[:8])).predict_proba(X)).all()


def test_gaps_in_arrays():
    X, y, groups = PAST
    numbers = X[["price", "age"]].to_numpy()
    reg = trained(past=(numbers, y, groups)).estimator_
    assert np.isfinite(reg.fit(numbers[:5], y[:5]).predict(numbers)).all()
    with pytest.raises(ValueError, match=r"X has 3 columns, but the past had 2|features"):
        reg.predict(np.ones((2, 3)))


def test_infinity_is_still_refused():
    X, y, groups = PAST
    with pytest.raises(ValueError, match="Column 'price' of X contains infinity"):
        trained(past=(X.assign(price=np.inf), y, groups))


def test_two_outputs_and_penalties():
    X, y, groups = PAST
    both = trained(past=(X, np.column_stack([y, -y]), groups)).estimator_
    assert both.fit(X[:5], np.column_stack([y, -y])[:5]).predict(X[:3]).shape == (3, 2)
    clf = KernelLogisticClassifier(encoder="mlp")
    trainer = MetaTrainer(clf, n_way=2, **FEW).fit(X, halves(y), groups=groups)
    assert trainer.meta_init_.table is not None


# ------------------------------------------------------------------ the network
def test_categories_are_looked_up_and_unknown_ones_are_the_mean():
    rows = TableRows(2, [3, 20])
    assert [t.shape for t in rows.likenesses] == [(3, 2), (20, 10)]
    x = torch.tensor([[0.5, 1.5, 2.0, 19.0], [0.0, 0.0, 3.0, 20.0]])
    out = rows(x)
    assert out.shape == (2, rows.n_features) == (2, 14)
    assert torch.equal(out[0], torch.cat([x[0, :2], rows.likenesses[0][2], rows.likenesses[1][19]]))
    assert torch.allclose(out[1, 2:4], rows.likenesses[0].mean(0))
    assert torch.allclose(out[1, 4:], rows.likenesses[1].mean(0))
    assert TableEncoder(rows, torch.nn.Flatten())(x).shape == (2, 14)


def test_a_forged_format_is_refused(reg, tmp_path):
    state, spec = reg.meta_init.state_dict(), reg.meta_init.spec
    narrow = TableFormat.of(pd.DataFrame({"a": ["x", "y"]}))
    with pytest.raises(ValueError, match=r"its table becomes rows of shape \[2\]"):
        MetaInit.from_state(state, spec, table=narrow)


def test_ids_made_of_digits_are_no_numbers_to_rivals_either():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    item = rng.integers(25, size=600)
    y = rng.normal(size=25)[item] * 3 + rng.normal(size=600)
    X = pd.DataFrame({"item": item.astype(str), "x": rng.normal(size=600)})
    old = groups < 20
    past = X[old], y[old], groups[old]
    trainer = MetaTrainer(RidgeHeadRegressor(encoder="identity"), random_state=0, verbose=0)
    reg = trainer.fit(*past[:2], groups=past[2]).estimator_
    compared = compare_few_shot(
        reg, X[~old], y[~old], groups[~old], past=past, n_way=None, n_shots=(5,), n_query=5,
        n_episodes=20, random_state=0,
    )  # fmt: skip
    mean = compared.set_index("estimator")["mean"]
    assert mean["mixed model"] > -3  # of a variance of 10, of which the noise is 1
