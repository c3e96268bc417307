"""Classes that recur over past tasks: what each is like is learned, and known without a label."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fewshot_sklearn import (
    MAMLClassifier,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    TaskwiseClassifier,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.estimators import fitted_to_nothing, has_prior
from fewshot_sklearn.model_selection import EpisodeSplit
from fewshot_sklearn.model_selection.episode_answers import EpisodeAnswers

torch.set_num_threads(1)

FEW = {"n_shot": 4, "n_query": 6, "n_episodes": 64, "n_valid_episodes": 16, "max_epochs": 3}
FEW |= {"verbose": 0, "device": "cpu", "random_state": 0}
BOTH = [RidgeHeadClassifier, ProtoNetClassifier]


def customers(n_tasks, seed, n=24, names=("churned", "stayed"), rare=0.0):
    """Logistic tasks about a common one; the classes mean the same in each."""
    rng = np.random.default_rng(seed)
    K, d = len(names), 3
    common = np.random.default_rng(99).normal(size=(d + 1, K))
    X = rng.normal(size=(n_tasks, n, d)) * [1.0, 30.0, 0.1] + [0.0, 500.0, 3.0]
    Z = (X - [0.0, 500.0, 3.0]) / [1.0, 30.0, 0.1]
    own = common + rng.normal(size=(n_tasks, d + 1, K)) * 0.7
    logits = Z @ own[:, :-1] + own[:, -1:]
    logits[..., 0] -= rare
    gumbel = rng.gumbel(size=logits.shape)
    y = np.array(names)[(logits + gumbel).argmax(-1)]
    ids = np.array([f"customer {seed}-{i}" for i in range(n_tasks)])
    return X.reshape(-1, d), y.ravel(), np.repeat(ids, n)


PAST, NEW = customers(40, 0), customers(30, 1)


def trained(cls, past=PAST, **params):
    X, y, groups = past
    return MetaTrainer(cls(), **FEW | params).fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def made():
    return {cls: trained(cls) for cls in BOTH}


@pytest.mark.parametrize("cls", BOTH)
def test_without_a_label_it_is_as_good_as_a_pooled_regression(made, cls):
    estimator = made[cls].estimator_
    X, y, _ = NEW
    prior = clone(estimator).fit_prior()
    assert prior.classes_.tolist() == ["churned", "stayed"]
    centre, scale = PAST[0].mean(0), PAST[0].std(0)
    pooled = LogisticRegression().fit((PAST[0] - centre) / scale, PAST[1])
    known = pooled.predict_proba((X - centre) / scale)
    own = log_loss(y, prior.predict_proba(X))
    assert own < log_loss(y, known) + 0.01
    assert prior.score(X, y) > pooled.score((X - centre) / scale, y) - 0.02
    assert own < log_loss(y, np.tile(known.mean(0), (len(y), 1))) - 0.1  # which is no feat


@pytest.mark.parametrize("cls", BOTH)
def test_labels_help(made, cls):
    estimator = made[cls].estimator_
    scores = [
        few_shot_score(
            estimator, *NEW, n_way=None, n_shot=k, n_query=8, n_episodes=200, scoring="accuracy"
        ).mean
        for k in (0, 1, 16)
    ]
    assert scores[1] > scores[0] - 0.02
    assert scores[2] > scores[0] + (0.02 if cls is RidgeHeadClassifier else 0.0)


@pytest.mark.parametrize("cls", BOTH)
def test_a_class_without_a_row_is_predicted(made, cls):
    X, y, _ = NEW
    rows = np.flatnonzero(y == "stayed")[:3]
    fitted = clone(made[cls].estimator_).fit(X[rows], y[rows])
    assert fitted.classes_.tolist() == ["churned", "stayed"]
    assert fitted.predict_proba(X).shape == (len(X), 2)
    assert set(fitted.predict(X)) == {"churned", "stayed"}


@pytest.mark.parametrize("cls", BOTH)
def test_batches_answer_as_fits_do(made, cls):
    """Episodes of one class, of none, and of labels that are new among them."""
    X, y, groups = NEW
    y = y.astype("U9")
    y[groups == groups[0]] = np.where(y[groups == groups[0]] == "stayed", "stayed", "undecided")
    estimator = made[cls].estimator_
    for n_way, n_shot in ((None, 3), (None, 0), (2, 1)):
        rows = EpisodeSplit(n_way, n_shot, 5, 30, 0).episodes(y, groups)
        answers = EpisodeAnswers(estimator, X, y)
        coded = answers.coded(rows)
        told = answers.about_queries(rows)
        right = (told.outputs.argmax(1) == told.truth).tolist()
        expected, logits = [], []
        for i in range(30):
            one = rows.episode(i)
            if len(one.support):
                fitted = clone(estimator).fit(X[one.support], y[one.support])
            else:
                fitted = clone(estimator).fit_prior()
            expected += (fitted.predict(X[one.query]) == y[one.query]).tolist()
            logits.append(fitted.predict_proba(X[one.query]).max(1))
        assert right == expected
        probabilities = torch.from_numpy(told.outputs).softmax(-1).numpy().max(1)
        np.testing.assert_allclose(probabilities, np.concatenate(logits), atol=1e-5)
        if n_way is None and n_shot:
            assert answers.knows(coded).any()
            assert not answers.knows(coded).all()


@pytest.mark.parametrize("cls", BOTH)
def test_new_labels_are_adapted_to_as_ever(made, cls):
    estimator = made[cls].estimator_
    X, y, _ = NEW
    other = np.where(y == "stayed", "yes", "no")[:10]
    fitted = clone(estimator).fit(X[:10], other)
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert "classes" not in fitted.meta_init_.spec
    assert fitted.meta_init.spec["classes"]["values"] == ["churned", "stayed"]
    swapped = clone(estimator).fit(X[:10], np.where(other == "yes", "a", "b"))
    np.testing.assert_allclose(
        fitted.predict_proba(X), swapped.predict_proba(X)[:, ::-1], rtol=1e-4, atol=1e-6
    )
    assert fitted.fit(X[:10], y[:10]).classes_.tolist() == ["churned", "stayed"]
    assert "classes" in fitted.meta_init_.spec


@pytest.mark.parametrize("cls", BOTH)
def test_labels_are_matched_by_value(cls):
    X, y, groups = PAST
    past = X, (y == "stayed").astype(np.int32), groups
    estimator = trained(cls, past).estimator_
    X, y, _ = NEW
    told = [clone(estimator).fit_prior().predict_proba(X)]
    for labels in ((y == "stayed").astype(float), y == "stayed"):
        fitted = clone(estimator).fit(X[:2], labels[:2])
        assert fitted.classes_.dtype == labels.dtype
        assert fitted.classes_.tolist() == [0, 1]
        told.append(fitted.predict_proba(X))
    for other in told[2:]:
        np.testing.assert_allclose(other, told[1], atol=1e-6)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("n_first", [0, 1, 9])
def test_further_rows_equal_all_rows(made, cls, n_first):
    X, y, _ = NEW
    whole = clone(made[cls].estimator_).fit(X[:14], y[:14])
    parts = clone(made[cls].estimator_)
    parts = parts.fit(X[:n_first], y[:n_first]) if n_first else parts.fit_prior()
    parts.partial_fit(X[n_first:14], y[n_first:14])
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), atol=1e-5)
    new = clone(parts).partial_fit(X[:14], y[:14]).partial_fit(X[14:16], ["other", "other"])
    assert new.classes_.tolist() == ["churned", "other", "stayed"]
    plain = clone(parts).fit(X[:16], [*y[:14], "other", "other"])
    np.testing.assert_allclose(new.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    new.forget("other")
    np.testing.assert_allclose(new.predict_proba(X), whole.predict_proba(X), atol=1e-5)
    parts.forget("stayed")
    assert parts.classes_.tolist() == ["churned", "stayed"]
    only = y[:14] == "churned"
    plain = clone(parts).fit(X[:14][only], y[:14][only])
    np.testing.assert_allclose(parts.predict_proba(X), plain.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("cls", BOTH)
def test_copies_and_files_keep_it(made, cls, tmp_path):
    estimator = made[cls].estimator_
    X = NEW[0]
    expected = clone(estimator).fit_prior().predict_proba(X)
    estimator.meta_init.save(tmp_path / "known.safetensors")
    again = cls(MetaInit.load(tmp_path / "known.safetensors")).fit_prior()
    assert (again.predict_proba(X) == expected).all()
    assert (pickle.loads(pickle.dumps(again)).predict_proba(X) == expected).all()
    assert estimator.meta_init.card()["classes"] == "recur: 'churned', 'stayed'"
    assert clone(estimator).known_classes_.tolist() == ["churned", "stayed"]


@pytest.mark.parametrize("cls", BOTH)
def test_taskwise(made, cls, tmp_path):
    X, y, groups = NEW
    estimator = made[cls].estimator_
    many = TaskwiseClassifier(estimator, updatable=True)
    first = np.concatenate([np.flatnonzero(groups == g)[:3] for g in np.unique(groups)])
    many.fit(X[first], y[first], groups=groups[first])
    told = many.predict_proba(X, groups=groups)
    for g in np.unique(groups)[:5]:
        rows, own = groups == g, first[groups[first] == g]
        one = clone(estimator).fit(X[own], y[own])
        np.testing.assert_allclose(told[rows], one.predict_proba(X[rows]), atol=1e-5)
    unseen = many.predict_proba(X, groups=np.repeat("nobody", len(X)))
    np.testing.assert_allclose(unseen, clone(estimator).fit_prior().predict_proba(X), atol=1e-5)
    more = np.setdiff1d(np.arange(200), first)
    many.partial_fit(X[more], y[more], groups=groups[more], mode="add")
    both = np.union1d(first, more)[groups[np.union1d(first, more)] == groups[0]]
    one = clone(estimator).fit(X[both], y[both])
    asked = groups == groups[0]
    np.testing.assert_allclose(
        many.predict_proba(X[asked], groups=groups[asked]), one.predict_proba(X[asked]), atol=1e-5
    )
    with pytest.raises(ValueError, match="not among those"):
        many.partial_fit(X[:2], ["other", "other"], groups=groups[:2])
    other = TaskwiseClassifier(estimator).fit(X, np.where(y == "stayed", "a", "b"), groups=groups)
    assert other.classes_.tolist() == ["a", "b"]


def test_rules(made):
    X, y, groups = PAST
    anew = trained(RidgeHeadClassifier, classes="anew").estimator_
    assert anew.known_classes_ is None
    assert not has_prior(anew)
    with pytest.raises(ValueError, match="Without a labelled row"):
        few_shot_score(anew, *NEW, n_way=None, n_shot=0, n_episodes=4)
    with pytest.raises(ValueError, match="knows no classes"):
        anew.fit_prior()
    assert has_prior(made[RidgeHeadClassifier].estimator_)
    assert fitted_to_nothing(made[RidgeHeadClassifier].estimator_).predict(X[:1]).shape == (1,)
    with pytest.raises(ValueError, match="groups"):
        MetaTrainer(RidgeHeadClassifier(), classes="recur", **FEW).fit(X, y)
    with pytest.raises(ValueError, match="learns what classes are like"):
        MetaTrainer(MAMLClassifier(), classes="recur", **FEW).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="classes"):
        MetaTrainer(RidgeHeadClassifier(), classes="often", **FEW).fit(X, y, groups=groups)
    assert trained(MAMLClassifier, max_epochs=1).estimator_.known_classes_ is None


def test_training_goes_on(made):
    X, y, groups = PAST
    trainer = MetaTrainer(made[RidgeHeadClassifier].estimator_, **FEW | {"max_epochs": 1})
    trainer.fit(X, y, groups=groups)
    assert trainer.estimator_.known_classes_.tolist() == ["churned", "stayed"]
    trainer.partial_fit(X, y, groups=groups)
    assert 0.5 < trainer.score(*NEW) <= 1.0
    with pytest.raises(ValueError, match="goes on from it only"):
        trainer.fit(X, np.where(y == "stayed", "a", "b"), groups=groups)


def test_an_encoder_is_trained_too():
    for cls in BOTH:
        estimator = MetaTrainer(cls(encoder="mlp", encoder__hidden=(8,)), **FEW)
        estimator = estimator.fit(PAST[0], PAST[1], groups=PAST[2]).estimator_
        assert estimator.fit_prior().score(NEW[0], NEW[1]) > 0.6
        assert estimator.fit(NEW[0][:6], ["a", "b"] * 3).classes_.tolist() == ["a", "b"]


def test_more_classes_than_two_and_rare_ones():
    names = ("high", "low", "middle")
    past, new = customers(40, 2, names=names, rare=2.5), customers(20, 3, names=names, rare=2.5)
    for cls in BOTH:
        estimator = trained(cls, past).estimator_
        prior = estimator.fit_prior()
        assert prior.classes_.tolist() == list(names)
        shares = np.unique(past[1], return_counts=True)[1] / len(past[1])
        assert log_loss(new[1], prior.predict_proba(new[0])) < log_loss(
            new[1], np.tile(shares, (len(new[1]), 1))
        )


def test_comparison_without_labels(made):
    table = compare_few_shot(
        made[RidgeHeadClassifier].estimator_, *NEW, n_shots=(1, 4), n_way=None, n_query=6,
        n_episodes=40, baselines=None,
    )  # fmt: skip
    assert (table["mean"] > 0.5).all()
    assert not table["failures"].any()


def test_beside_a_fall_back():
    trainer = trained(
        RidgeHeadClassifier,
        fall_back={"alone": DummyClassifier(strategy="prior")},
        fall_back_parts=2,
        n_way=2,
    )
    estimator = trainer.estimator_
    prior = estimator.fit_prior()
    assert prior.classes_.tolist() == ["churned", "stayed"]
    assert prior.score(NEW[0], NEW[1]) > 0.6
    assert estimator.fit(NEW[0][:3], ["stayed"] * 3).predict(NEW[0]).shape == (len(NEW[0]),)


def test_trusted(made):
    estimator = made[RidgeHeadClassifier].estimator_
    trusted = TrustLearner(estimator, n_way=2, n_shots=(1, 4), n_query=4, n_episodes=40)
    trusted = trusted.fit(*NEW).estimator_
    rows = np.flatnonzero(NEW[1] == "stayed")[:3]
    trusted.fit(NEW[0][rows], NEW[1][rows])
    assert trusted.classes_.tolist() == ["churned", "stayed"]
    assert trusted.predict_proba(NEW[0][:9]).shape == (9, 2)
    assert trusted.predict_set(NEW[0][:9]).shape == (9, 2)
