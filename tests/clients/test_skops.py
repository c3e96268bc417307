"""skops saves and loads what was fitted: its files run no code, so a user reads what to trust."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, REGRESSORS, every_estimator, meta_train, scores_of
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fewshot_sklearn
from fewshot_sklearn import (
    ImageEncoder,
    ImageReader,
    MetaEmbedding,
    MetaInit,
    MetaTrainer,
    PastRows,
    PooledClassifier,
    PooledMixedRegressor,
    PooledRegressor,
    PooledStatisticsClassifier,
    PooledStatisticsRegressor,
    RidgeHeadRegressor,
    SentenceEncoder,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustedClassifier,
    TrustedRegressor,
    TrustLearner,
)

skops = pytest.importorskip("skops.io")


#: Parts of estimators that have to be trusted, too.
PARTS = {
    "TaskStates", "TaskQuantiles", "FeatureSpace", "TaskStatistics", "MixedModel", "Labelled"
}  # fmt: skip


def made(n=60):
    """A DataFrame whose rows have names, labels, targets and tasks."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 3)), columns=["a", "b", "c"])
    X.index = [f"row {i}" for i in range(n)]
    y = np.where(X["a"] > 0, "up", "down")
    return X, y, X["a"].to_numpy() + 1, np.repeat(np.arange(n // 10), 10)


def round_trip(thing):
    """What skops brings back, and the types that a user had to trust."""
    content = skops.dumps(thing)
    types = skops.get_untrusted_types(data=content)
    return skops.loads(content, trusted=types), set(types)


def names_of(*types):
    return {f"{one.__module__}.{one.__name__}" for one in types}


def few_shot(name, trained):
    kind = getattr(fewshot_sklearn, name)
    X, labels, targets, groups = made()
    y = labels if name in CLASSIFIERS else targets
    if not trained:
        return kind(encoder="mlp", encoder__hidden=(8,)), X, y
    options = {"n_episodes": 4, "max_epochs": 1, "n_shot": 2, "n_query": 2}
    options |= {"n_way": 2} if name in CLASSIFIERS else {}
    return meta_train(kind(encoder="mlp", encoder__hidden=(8,)), X, y, groups, **options), X, y


@every_estimator
@pytest.mark.parametrize("trained", [False, True], ids=["untrained", "meta-trained"])
def test_every_estimator(name, trained):
    estimator, X, y = few_shot(name, trained)
    estimator.fit(X[:20], y[:20])
    loaded, types = round_trip(estimator)
    assert types == names_of(type(estimator), MetaInit)
    assert np.array_equal(scores_of(loaded, X), scores_of(estimator, X))
    assert loaded.meta_init_ == estimator.meta_init_
    assert copy.deepcopy(loaded.meta_init_) is loaded.meta_init_
    told, expected = loaded.explain(X[:3]), estimator.explain(X[:3])
    pd.testing.assert_frame_equal(told, expected)
    assert str(expected["neighbor"].iloc[0]).startswith("row ")


def meta_train_pipeline(X, y, groups):
    few = {"n_episodes": 4, "max_epochs": 1, "n_shot": 2, "n_query": 2, "verbose": 0}
    trainer = MetaTrainer(make_pipeline(StandardScaler(), RidgeHeadRegressor()), **few)
    return trainer.fit(X, y, groups=groups).estimator_


@pytest.fixture(scope="module")
def others():
    """Every public estimator that is no method of its own, fitted."""
    X, y, targets, groups = made()
    clf, reg = few_shot("ProtoNetClassifier", True)[0], few_shot("RidgeHeadRegressor", True)[0]
    past, known = PastRows(X, y, groups), PastRows(X, targets, groups)
    few = {"n_shots": (3,), "n_episodes": 10, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these tasks were trained on, and are few
        sure_reg = TrustLearner(reg, n_way=None, **few).fit(X, targets, groups)
        sure_clf = TrustLearner(clf, n_way=2, **few).fit(X, y, groups)
    selector = StrategySelector(n_way=2, n_shots=(1,), n_episodes=2).fit(X, y)
    return [
        MetaEmbedding(clf.meta_init).fit(X, y),
        PooledClassifier(past=past).fit(X, y),
        PooledRegressor(past=known, with_task=True).fit(X, targets),
        PooledMixedRegressor(past=known).fit(X, targets),
        PooledStatisticsClassifier(past=past, n_shot=4).fit(X, y),
        PooledStatisticsRegressor(past=known, n_shot=4).fit(X, targets),
        meta_train_pipeline(X, targets, groups).fit(X, targets),
        StrategyClassifier().fit(X, y),
        StrategyRegressor().fit(X, targets),
        selector,
        selector.estimator_.fit(X, y),
        TaskwiseClassifier(clf).fit(X, y, groups),
        TaskwiseRegressor(reg).fit(X, targets, groups),
        TaskwiseClassifier(GaussianNB()).fit(X, y, groups),
        TrustedClassifier(clf).fit(X, y),
        TrustedRegressor(reg).fit(X, targets),
        sure_reg,
        sure_reg.estimator_.fit(X, targets),
        sure_clf.estimator_.fit(X, y),
    ]


def test_what_is_built_of_others(others):
    X, _, _, groups = made()
    for fitted in others:
        loaded, types = round_trip(fitted)
        ours = {one.rpartition(".")[2] for one in types if one.startswith("fewshot_sklearn.")}
        assert ours - {*fewshot_sklearn.__all__} <= PARTS
        assert all(one.startswith(("fewshot_sklearn.", "sklearn.")) for one in types), types
        method = next((m for m in ("predict", "transform") if hasattr(fitted, m)), None)
        if method is None:  # a learner, which holds an estimator
            assert repr(loaded.estimator_) == repr(fitted.estimator_)
            continue
        asked = (X, groups) if isinstance(fitted, TaskwiseClassifier | TaskwiseRegressor) else (X,)
        a, b = getattr(loaded, method)(*asked), getattr(fitted, method)(*asked)
        assert np.array_equal(a, b), type(fitted)


def test_no_public_estimator_is_left_out(others):
    public = {
        name for name in fewshot_sklearn.__all__ if hasattr(getattr(fewshot_sklearn, name), "fit")
    }
    tested = {type(one).__name__ for one in others} | {*CLASSIFIERS, *REGRESSORS}
    raw = {"ImageEncoder", "ImageReader", "SentenceEncoder"}
    trainers = {"ESMetaTrainer", "ESPolicyTrainer", "MAMLPolicyTrainer", "MetaTrainer"}  # see below
    assert public - tested - raw == trainers


def test_raw_things(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for i, path in enumerate(paths):
        Image.new("RGB", (4, 4), (200 * i, 0, 0)).save(path)
    reader = ImageReader((4, 4)).fit(paths)
    loaded, types = round_trip(reader)
    assert types == names_of(ImageReader)
    assert np.array_equal(loaded.transform(paths), reader.transform(paths))
    # the model is told by its name, and looked for where it is needed
    for made in (SentenceEncoder("some/folder", batch_size=8), ImageEncoder("resnet10t", size=32)):
        loaded, types = round_trip(made)
        assert len(types) == 1 and repr(loaded) == repr(made)


def arrays_in(content):
    """The files of a skops archive by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_meta_init_is_in_the_file_once(tmp_path):
    init = few_shot("RidgeHeadRegressor", True)[0].meta_init
    init.save(tmp_path / "init.safetensors")
    X, _, y, _ = made()
    for one in (init, MetaInit.load(tmp_path / "init.safetensors")):
        fitted = RidgeHeadRegressor(one).fit(X[:5], y[:5])
        files = arrays_in(skops.dumps([fitted, fitted, one])).values()
        assert sum(init._buffer.tobytes() in content for content in files) == 1


def test_a_meta_init_that_was_tampered_with_is_refused():
    init = few_shot("RidgeHeadRegressor", True)[0].meta_init
    content = skops.dumps(init)
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, part in arrays_in(content).items():
            last = bytes([part[-1] ^ 1]) if name.endswith("npy") else part[-1:]
            archive.writestr(name, part[:-1] + last)
    with pytest.raises(ValueError, match="damaged"):
        skops.loads(changed.getvalue(), trusted=skops.get_untrusted_types(data=content))


def test_of_a_trainer_what_it_learned_is_saved():
    X, _, y, groups = made()
    trainer = MetaTrainer(
        RidgeHeadRegressor(), n_episodes=4, max_epochs=1, n_shot=2, random_state=0, verbose=0
    ).fit(X, y, groups)
    with pytest.raises(TypeError, match=r"Save trainer\.estimator_"):
        skops.dumps(trainer)
    assert round_trip(trainer.estimator_)[0].meta_init == trainer.meta_init_
    assert pickle.loads(pickle.dumps(trainer)).meta_init_ == trainer.meta_init_
    assert copy.deepcopy(trainer).meta_init_ == trainer.meta_init_
