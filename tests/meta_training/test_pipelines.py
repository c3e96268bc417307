"""Pipelines are meta-trained whole: their other steps learn from past rows once, and stay so."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)

from fewshot_sklearn import (
    KernelLogisticClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskMemory,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    select_queries,
    uncertainty,
)
from fewshot_sklearn.estimators import adapts_in_batches, as_final_sees, final_step, frozen_steps
from fewshot_sklearn.inspection import FewShotCurveDisplay
from fewshot_sklearn.meta_init import task_digests

FEW = {"n_shot": 3, "n_query": 5, "n_episodes": 6, "max_epochs": 2, "n_valid_episodes": 4}
FEW |= {"verbose": 0, "device": "cpu", "random_state": 0}


def tables(n_tasks, seed):
    """Rows of customers: a price, an age that is missing here and there, a colour, a target."""
    rng = np.random.default_rng(seed)
    n = 20 * n_tasks
    colours = np.array(["red", "green", "blue"])[rng.integers(3, size=n)]
    age = np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n))
    X = pd.DataFrame({"price": rng.lognormal(5, 1, n), "age": age, "colour": colours})
    groups = np.repeat([f"customer {i}" for i in range(n_tasks)], 20)
    slopes = np.repeat(rng.normal(size=(n_tasks, 2)), 20, 0)
    y = slopes[:, 0] * np.log(X["price"]) + slopes[:, 1] * (X["colour"] == "red")
    return X, y.to_numpy() + 0.1 * rng.normal(size=n), groups


PAST, NEW = tables(30, 0), tables(10, 1)


def halves(y, groups):
    """Which targets are above their task's median."""
    medians = {name: np.median(y[groups == name]) for name in np.unique(groups)}
    return np.where(y > [medians[name] for name in groups], "high", "low")


def steps():
    return make_column_transformer(
        (make_pipeline(FunctionTransformer(np.log), StandardScaler()), ["price"]),
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["age"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"]),
    )


def trained(estimator, past=PAST, **params):
    X, y, groups = past
    return MetaTrainer(estimator, **FEW | params).fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def reg():
    return trained(make_pipeline(steps(), RidgeHeadRegressor())).estimator_


@pytest.fixture(scope="module")
def clf():
    X, y, groups = PAST
    labels = halves(y, groups)
    trainer = MetaTrainer(make_pipeline(steps(), ProtoNetClassifier()), n_way=2, **FEW)
    return trainer.fit(X, labels, groups=groups).estimator_


# ------------------------------------------------------------------ what is learned
def test_steps_are_fitted_to_the_rows_trained_on_and_stay_so(reg):
    given = make_pipeline(steps(), RidgeHeadRegressor())
    trainer = trained(given)
    X, y, groups = PAST
    assert not hasattr(given[0], "transformers_")
    known = trainer.meta_init_.provenance["tasks"]["ids"]
    names = np.unique(groups)
    past = np.isin(groups, names[np.isin(task_digests(names), known)])
    assert past.sum() == 27 * 20  # three of 30 customers are held out
    alone = steps().fit(X[past], y[past])
    np.testing.assert_array_equal(trainer.estimator_[0].transform(NEW[0]), alone.transform(NEW[0]))
    before = trainer.estimator_[0].transform(NEW[0])
    fitted = clone(trainer.estimator_).fit(NEW[0][:5], NEW[1][:5])
    np.testing.assert_array_equal(fitted[0].transform(NEW[0]), before)


def test_it_is_the_last_step_trained_on_what_the_others_make_of_rows():
    X, y, groups = PAST
    head = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,))
    fitted = steps().fit(X, y)
    whole = trained(make_pipeline(FrozenEstimator(fitted), head))
    alone = trained(head, (fitted.transform(X), y, groups))
    assert whole.meta_init_.tensors.keys() == alone.meta_init_.tensors.keys()
    for name, tensor in whole.meta_init_.tensors.items():
        np.testing.assert_array_equal(tensor, alone.meta_init_.tensors[name])


def test_the_card_names_the_steps(reg):
    card = final_step(reg).meta_init.card()
    assert card["rows come through"].startswith("ColumnTransformer(")
    alone = trained(RidgeHeadRegressor(), (PAST[0][["price"]], *PAST[1:]))
    assert "rows come through" not in alone.meta_init_.card()


@pytest.mark.parametrize("made", [clone, lambda reg: pickle.loads(pickle.dumps(reg))])
def test_copies(reg, made):
    X, y, _ = NEW
    told = reg.fit(X[:5], y[:5]).predict(X)
    np.testing.assert_array_equal(made(reg).fit(X[:5], y[:5]).predict(X), told)


def test_columns_by_name(reg):
    X, y, _ = NEW
    told = reg.fit(X[:5], y[:5]).predict(X)
    np.testing.assert_array_equal(reg.predict(X[["colour", "price", "age"]]), told)
    with pytest.raises(ValueError, match="colour"):
        reg.predict(X[["price", "age"]])


def test_training_goes_on_with_the_same_steps():
    trainer = trained(make_pipeline(StandardScaler(), RidgeHeadRegressor()), _numbers(PAST))
    step, (X, y, groups) = trainer.estimator_[0].estimator, _numbers(NEW)
    trainer.partial_fit(X, y, groups=groups)
    assert trainer.estimator_[0].estimator is step
    again = MetaTrainer(trainer.estimator_, **FEW).fit(X, y, groups=groups)
    assert again.estimator_[0].estimator is step
    assert final_step(again.estimator_).meta_init.digest != trainer.meta_init_.digest


def test_a_checkpoint_belongs_to_the_steps_too(tmp_path):
    def make(n):
        return make_pipeline(PCA(n, random_state=0), RidgeHeadRegressor())

    rows, place = _numbers(PAST), tmp_path / "state.pt"
    trained(make(2), rows, checkpoint=place, max_epochs=1)
    resumed = trained(make(2), rows, checkpoint=place)
    assert resumed.meta_init_.digest == trained(make(2), rows).meta_init_.digest
    with pytest.raises(ValueError, match=r"state\.pt"):
        trained(make(1), rows, checkpoint=place)


def _numbers(past):
    X, y, groups = past
    return np.column_stack([X["price"], X["colour"] == "red"]), y, groups


def test_a_supervised_step_does_not_see_the_tasks_held_out():
    seen = []

    def keep(X, y):
        seen.append(len(X))
        return np.arange(X.shape[1])

    X, y, groups = _numbers(PAST)
    trained(make_pipeline(SelectKBest(keep, k=1), RidgeHeadRegressor()), (X, y, groups))
    assert seen == [27 * 20]


def test_generators_need_steps_that_are_fitted():
    def generate(rng):
        X = rng.normal(size=(8, 2)) * [1e3, 1.0]
        return X[:4], X[:4].sum(1), X[4:], X[4:].sum(1)

    fitted = FrozenEstimator(StandardScaler().fit(generate(np.random.default_rng(0))[0]))
    trainer = MetaTrainer(make_pipeline(fitted, RidgeHeadRegressor()), **FEW).fit(generate)
    low = trainer.meta_init_.tensors["x_scale"]
    assert (low > 0.1).all() and (low < 10).all()
    with pytest.raises(ValueError, match="FrozenEstimator"):
        MetaTrainer(make_pipeline(StandardScaler(), RidgeHeadRegressor()), **FEW).fit(generate)


@pytest.mark.parametrize("made", [StandardScaler(), make_pipeline(StandardScaler(), PCA())])
def test_what_does_not_end_in_a_few_shot_estimator(made):
    with pytest.raises(ValueError, match="pipeline that ends in one"):
        trained(made)


# ------------------------------------------------------------------ which pipelines
def test_steps_that_are_not_frozen_make_no_batches(reg):
    head = final_step(reg)
    assert adapts_in_batches(reg) and adapts_in_batches(make_pipeline("passthrough", head))
    loose = make_pipeline(StandardScaler(), head)
    assert not adapts_in_batches(loose) and frozen_steps(loose) == ([], loose)
    nested = Pipeline([("inner", reg)])
    assert adapts_in_batches(nested) and final_step(nested) is head
    final, X = as_final_sees(
        Pipeline([("first", reg[0]), ("then", Pipeline([("f", head)]))]), PAST[0]
    )
    assert final is head
    np.testing.assert_array_equal(X, reg[0].transform(PAST[0]))


def test_a_pipeline_within_a_pipeline():
    X, y, groups = _numbers(PAST)
    inner = make_pipeline(StandardScaler(), RidgeHeadRegressor())
    whole = trained(make_pipeline(PCA(2), inner), (X, y, groups)).estimator_
    flat = trained(make_pipeline(PCA(2), StandardScaler(), RidgeHeadRegressor()), (X, y, groups))
    told = [e.fit(X[:5], y[:5]).predict(X[:9]) for e in (whole, flat.estimator_)]
    np.testing.assert_array_equal(*told)
    assert adapts_in_batches(whole)


# ------------------------------------------------------------------ everything around it
@pytest.mark.parametrize("scoring", [None, "neg_mean_absolute_error"])
def test_scores_are_those_of_the_loop(reg, scoring):
    X, y, groups = NEW
    asked = {"n_way": None, "n_shot": 4, "n_query": 5, "n_episodes": 12, "random_state": 0}
    batched = few_shot_score(reg, X, y, groups, scoring=scoring, **asked).scores
    looped = make_pipeline(FunctionTransformer(), reg)
    assert not adapts_in_batches(looped)
    np.testing.assert_allclose(
        batched, few_shot_score(looped, X, y, groups, scoring=scoring, **asked).scores, rtol=1e-4
    )


def test_scores_of_a_classifier_are_those_of_the_loop(clf):
    X, y, groups = NEW
    labels = halves(y, groups)
    asked = {"n_way": 2, "n_shot": 3, "n_query": 3, "n_episodes": 12, "random_state": 0}
    batched = few_shot_score(clf, X, labels, groups, **asked).scores
    looped = make_pipeline(FunctionTransformer(), clf)
    np.testing.assert_array_equal(
        batched, few_shot_score(looped, X, labels, groups, **asked).scores
    )


def test_it_warns_of_rows_trained_on(reg):
    with pytest.warns(UserWarning, match=r"on 540 of these 600 rows"):
        few_shot_score(reg, *PAST, n_way=None, n_shot=2, n_query=5, n_episodes=2)


def test_taskwise(reg, clf):
    X, y, groups = NEW
    every = TaskwiseRegressor(reg).fit(X, y, groups=groups)
    told = every.predict(X, groups=groups)
    one = groups == groups[0]
    np.testing.assert_allclose(told[one], clone(reg).fit(X[one], y[one]).predict(X[one]), rtol=1e-4)
    single = every.task_estimator(groups[0])
    assert isinstance(single, Pipeline) and single.steps[0] == reg.steps[0]
    np.testing.assert_allclose(single.predict(X[one]), told[one], rtol=1e-4)
    column = TaskwiseRegressor(reg, task="who").fit(X.assign(who=groups), y)
    np.testing.assert_array_equal(column.predict(X.assign(who=groups)), told)
    labels = halves(y, groups)
    proba = TaskwiseClassifier(clf).fit(X, labels, groups=groups).predict_proba(X, groups=groups)
    assert proba.shape == (len(X), 2) and np.isfinite(proba).all()
    assert every.partial_fit(X[one], y[one], groups=groups[one]).n_tasks_ == 10


def test_taskwise_saved(reg, tmp_path):
    X, y, groups = NEW
    every = TaskwiseRegressor(reg).fit(X, y, groups=groups)
    every.save_tasks(tmp_path / "all.safetensors")
    loaded = TaskwiseRegressor(reg).load_tasks(tmp_path / "all.safetensors")
    told = [e.predict(X, groups=groups) for e in (every, loaded)]
    np.testing.assert_array_equal(*told)


def test_trust_and_memory(reg, clf):
    X, y, groups = NEW
    few = {"n_shots": (2, 4), "n_episodes": 10, "n_query": 5, "random_state": 0}
    with pytest.warns(UserWarning, match="coverage"):
        learner = TrustLearner(reg, n_way=None, **few).fit(X, y, groups)
    trusted = learner.estimator_.fit(X[:4], y[:4])
    assert trusted.predict_interval(X).shape == (len(X), 2)
    memory = TaskMemory.from_data(reg, X, y, groups)
    assert memory.means.shape == (10, as_final_sees(reg, X)[1].shape[1])
    labels = halves(y, groups)
    with pytest.warns(UserWarning, match="coverage"):
        learner = TrustLearner(clf, n_way=2, **few).fit(X, labels, groups)
    trusted = learner.estimator_.fit(X[:8], labels[:8])
    assert np.isfinite(trusted.score_samples(X)).all()


def test_labelling(clf):
    X, y, groups = NEW
    labels = halves(y, groups)
    fitted = clone(clf).fit(X[:8], labels[:8])
    told = uncertainty(fitted, X[8:], measure="bald", X=X[:8], y=labels[:8], random_state=0)
    assert told.shape == (len(X) - 8,) and np.isfinite(told).all()
    assert len(select_queries(fitted, X[8:], n=3, strategy="typiclust", X=X[:8], y=labels[:8])) == 3


def test_comparison_beside_rivals_that_get_numbers(reg):
    X, y, groups = NEW
    compared = compare_few_shot(
        reg, X, y, groups, n_way=None, n_shots=(2, 5), n_query=5, n_episodes=5, past=PAST
    )
    rivals = set(compared["estimator"])
    assert {"RidgeHeadRegressor", "ridge", "random forest", "pooled, with task"} <= rivals
    assert np.isfinite(compared["mean"]).all()
    FewShotCurveDisplay.from_comparison(compared)


@pytest.mark.skipif(
    sklearn.__version__.startswith("1.7."), reason="its pipelines keep groups from `score`"
)
def test_cross_validation_of_the_trainer_and_around_it():
    X, y, groups = _numbers(PAST)
    few = FEW | {"max_epochs": 1}
    with config_context(enable_metadata_routing=True):
        for made in (
            MetaTrainer(make_pipeline(StandardScaler(), RidgeHeadRegressor()), **few),
            make_pipeline(StandardScaler(), MetaTrainer(RidgeHeadRegressor(), **few)),
        ):
            found = cross_validate(
                made, X, y, cv=GroupKFold(2), params={"groups": groups}, error_score="raise"
            )
            assert np.isfinite(found["test_score"]).all()


def test_score_has_no_weights():
    trainer = trained(RidgeHeadRegressor(), _numbers(PAST))
    with pytest.raises(ValueError, match="sample_weight must be None"):
        trainer.score(*_numbers(NEW), sample_weight=np.ones(len(NEW[0])))


def test_grid_search(clf):
    X, y, groups = PAST
    labels = halves(y, groups)
    made = make_pipeline(steps(), KernelLogisticClassifier())
    head = MetaTrainer(made, n_way=2, **FEW).fit(X, labels, groups=groups).estimator_
    search = GridSearchCV(head, {"kernellogisticclassifier__dtype": ["float32", "float64"]}, cv=2)
    assert np.isfinite(search.fit(X[:20], labels[:20]).cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_rows_are_learned_from_as_the_steps_give_them_when_they_are_fitted(output):
    """What looks at targets would tell each row its own: TargetEncoder holds it out."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"id": [f"i{i % 200}" for i in range(600)]})  # which says nothing
    y, groups = rng.normal(size=600), np.repeat(np.arange(30), 20)
    steps = TargetEncoder(random_state=0).set_output(transform=output)
    trainer = MetaTrainer(
        make_pipeline(steps, RidgeHeadRegressor(encoder="identity")), random_state=0, verbose=0,
        device="cpu",
    )  # fmt: skip
    reg = trainer.fit(X, y, groups=groups).estimator_[-1]
    assert abs(reg.meta_init.tensors["prior_mean"][0, 0]) < 0.2  # told of itself it is 0.6


def test_threads_that_fit_clones_do_not_share_the_steps():
    past, new = tables(12, 0), tables(8, 1)
    steps = make_column_transformer((SimpleImputer(), ["price", "age"]))
    trainer = MetaTrainer(make_pipeline(steps, RidgeHeadRegressor()), **FEW)
    pipeline = trainer.fit(*past[:2], groups=past[2]).estimator_
    first, second = (clone(pipeline)[0] for _ in range(2))
    assert first is not second and first.estimator is second.estimator
    tasks = [np.flatnonzero(new[2] == t) for t in np.unique(new[2])]

    def answered(rows):
        X, y = new[0].iloc[rows], new[1][rows]
        return clone(pipeline).fit(X[:3], y[:3]).predict(X[3:])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answered, tasks * 8))
    for i, one in enumerate(found):
        np.testing.assert_array_equal(one, answered(tasks[i % len(tasks)]))
