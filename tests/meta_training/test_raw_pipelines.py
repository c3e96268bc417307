"""Pipelines that begin with sentences or with paths of pictures, wherever an estimator goes."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fewshot_sklearn import (
    ImageReader,
    MetaTrainer,
    NearestClassMeanClassifier,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    SentenceEncoder,
    StrategySelector,
    TaskMemory,
    TaskwiseClassifier,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    select_queries,
    uncertainty,
)
from fewshot_sklearn.datasets import load_image_folder
from fewshot_sklearn.estimators import adapts_in_batches, final_step

FEW = {"n_shot": 2, "n_query": 3, "n_episodes": 6, "max_epochs": 1, "n_valid_episodes": 4}
FEW |= {"verbose": 0, "device": "cpu", "random_state": 0}


def letters(sentences):
    """Stands in for a model: how often some letters are in a sentence."""
    return np.array([[s.count(c) for c in "abcdeo"] + [len(s)] for s in sentences], dtype=float)


def made_sentences():
    rng = np.random.default_rng(0)
    words = np.array([["".join(rng.choice(list("abcdeo"), 4)) for _ in range(3)] for _ in range(9)])
    y = np.repeat([f"intent {i}" for i in range(9)], 8)
    sentences = [" ".join(rng.choice(words[i // 8], 5)) + f" {i}" for i in range(72)]
    return sentences, y, np.repeat(["bank", "shop", "train"], 24)


SENTENCES, INTENTS, DOMAINS = made_sentences()
FORMS = {
    "list": list,
    "array": np.array,
    "objects": lambda s: np.array(s, dtype=object),
    "column": lambda s: np.array(s, dtype=object)[:, None],
    "Series": lambda s: pd.Series(s, index=range(72)[::-1]),
    "strings": lambda s: pd.Series(s, dtype="string"),
    "frame": lambda s: pd.DataFrame({"text": s}),
}
every_form = pytest.mark.parametrize("form", FORMS)


def some(X, rows):
    """Rows of any form."""
    return (
        X.iloc[rows]
        if hasattr(X, "iloc")
        else [X[i] for i in rows]
        if isinstance(X, list)
        else X[rows]
    )


def pipeline():
    return make_pipeline(SentenceEncoder(letters), ProtoNetClassifier(encoder="mlp"))


@pytest.fixture(scope="module")
def trained():
    """Callable form -> what was trained on sentences of that form."""
    known = {}

    def of(form):
        if form not in known:
            trainer = MetaTrainer(pipeline(), n_way=3, **FEW)
            known[form] = trainer.fit(FORMS[form](SENTENCES), INTENTS)
        return known[form]

    return of


@every_form
def test_what_is_learned_does_not_depend_on_the_form(trained, form):
    clf = trained(form).estimator_
    alone = MetaTrainer(ProtoNetClassifier(encoder="mlp"), n_way=3, **FEW)
    rows = SentenceEncoder(letters).fit_transform(SENTENCES)
    alone.fit(rows, INTENTS)
    for name, tensor in alone.meta_init_.tensors.items():
        np.testing.assert_allclose(final_step(clf).meta_init.tensors[name], tensor, rtol=1e-5)
    assert adapts_in_batches(clf)
    card = final_step(clf).meta_init.card()
    assert card["rows come through"] == "SentenceEncoder(model=letters)"


@every_form
def test_fit_and_scores(trained, form):
    X, trainer = FORMS[form](SENTENCES), trained(form)
    rows = np.arange(0, 72, 3)
    clf = clone(trainer.estimator_).fit(some(X, rows), INTENTS[rows])
    assert clf.predict_proba(X).shape == (72, 9)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict(X), clf.predict(X))
    asked = {"n_way": 3, "n_shot": 2, "n_query": 3, "n_episodes": 5, "random_state": 0}
    told = few_shot_score(trainer.estimator_, X, INTENTS, **asked)
    looped = make_pipeline(FunctionTransformer(), trainer.estimator_)
    np.testing.assert_array_equal(told.scores, few_shot_score(looped, X, INTENTS, **asked).scores)
    plain = few_shot_score(
        make_pipeline(SentenceEncoder(letters), NearestClassMeanClassifier()), X, INTENTS, **asked
    )
    assert np.isfinite(plain.scores).all()
    trainer.score(X, INTENTS)


@every_form
def test_taskwise(trained, form, tmp_path):
    X = FORMS[form](SENTENCES)
    every = TaskwiseClassifier(trained(form).estimator_).fit(X, INTENTS, groups=DOMAINS)
    told = every.predict(X, groups=DOMAINS)
    every.save_tasks(tmp_path / "all.safetensors")
    loaded = TaskwiseClassifier(trained(form).estimator_).load_tasks(tmp_path / "all.safetensors")
    np.testing.assert_array_equal(loaded.predict(X, groups=DOMAINS), told)
    one = np.flatnonzero(DOMAINS == "shop")
    every.partial_fit(some(X, one), INTENTS[one], groups=DOMAINS[one])
    np.testing.assert_array_equal(every.predict(X, groups=DOMAINS), told)


@every_form
def test_trust_memory_and_labelling(trained, form):
    X, base = FORMS[form](SENTENCES), trained(form).estimator_
    few = {"n_shots": (2,), "n_query": 3, "n_episodes": 6, "random_state": 0}
    with pytest.warns(UserWarning):
        learner = TrustLearner(base, n_way=3, **few).fit(X, INTENTS)
    rows, pool = np.arange(24), np.arange(24, 40)
    trusted = learner.estimator_.fit(some(X, rows), INTENTS[rows])
    assert np.isfinite(trusted.score_samples(some(X, pool))).all()
    assert TaskMemory.from_data(base, X, INTENTS).means.shape[0] == 9
    clf = clone(base).fit(some(X, rows), INTENTS[rows])
    assert uncertainty(clf, some(X, pool), measure="entropy").shape == (16,)
    asked = {"n": 3, "strategy": "typiclust", "X": some(X, rows), "y": INTENTS[rows]}
    assert len(select_queries(clf, some(X, pool), **asked)) == 3


@pytest.mark.parametrize("form", ["list", "Series"])
def test_comparison(trained, form):
    X = FORMS[form](SENTENCES)
    compared = compare_few_shot(
        trained(form).estimator_, X, INTENTS, n_way=3, n_shots=(2,), n_query=3, n_episodes=4,
        baselines="default",
    )  # fmt: skip
    assert np.isfinite(compared["mean"]).all() and len(set(compared["estimator"])) > 1


def test_choosing_among_pipelines(trained):
    plain = make_pipeline(SentenceEncoder(letters), NearestClassMeanClassifier())
    selector = StrategySelector(
        {"learned": trained("list").estimator_, "means": plain},
        n_shots=(2,), n_way=3, n_episodes=4, random_state=0,
    )  # fmt: skip
    chosen = selector.fit(SENTENCES, INTENTS).estimator_.fit(SENTENCES[:24], INTENTS[:24])
    assert len(chosen.predict(SENTENCES)) == 72


def test_regression_from_sentences():
    y = np.array([s.count("a") for s in SENTENCES], dtype=float)
    made = make_pipeline(SentenceEncoder(letters), StandardScaler(), RidgeHeadRegressor())
    reg = MetaTrainer(made, **FEW).fit(SENTENCES, y, groups=INTENTS).estimator_
    assert np.isfinite(reg.fit(SENTENCES[:8], y[:8]).predict(SENTENCES)).all()


def test_sentences_that_are_missing_are_named():
    X = pd.Series([*SENTENCES[:-1], None])
    with pytest.raises(ValueError, match=r"row \d+.*fillna"):
        MetaTrainer(pipeline(), n_way=3, **FEW).fit(X, INTENTS)


def test_paths_of_pictures(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for c in range(6):
        (tmp_path / f"kind {c}").mkdir()
        for i in range(6):
            pixels = rng.integers(0, 60, (8, 8, 3)) + 30 * c
            Image.fromarray(pixels.astype("uint8")).save(tmp_path / f"kind {c}" / f"{i}.png")
    paths, y = load_image_folder(tmp_path, read=False, return_X_y=True)
    made = make_pipeline(ImageReader((8, 8)), ProtoNetClassifier(encoder="conv4"))
    clf = MetaTrainer(made, n_way=2, **FEW).fit(list(paths), y).estimator_
    card = final_step(clf).meta_init.card()
    assert card["rows come through"] == "ImageReader(size=(8, 8))"
    told = few_shot_score(clf, paths, y, n_way=2, n_shot=2, n_query=2, n_episodes=4)
    assert np.isfinite(told.scores).all()
