"""What an estimator is known by: all that changes its answers, and nothing that does not."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from torch import nn

from fewshot_sklearn import PastRows, PooledRegressor, ProtoNetClassifier, RidgeHeadRegressor
from fewshot_sklearn.tasks import difference_of, identity_of, told_of


def scaler(seed):
    return StandardScaler().fit(np.random.default_rng(seed).normal(size=(20, 30)))


def encoder(seed):
    letters = np.random.default_rng(seed).choice(list("abcdefghijklmnop"), (40, 1)).astype(object)
    return OneHotEncoder().fit(letters)


DIFFERENT = {
    "parameter": (Ridge(1.0), Ridge(2.0)),
    "class": (Ridge(), LogisticRegression()),
    "step": (make_pipeline(StandardScaler(), Ridge()), Ridge()),
    "in a step": (make_pipeline(Ridge()), make_pipeline(Ridge(3))),
    "frozen": tuple(make_pipeline(FrozenEstimator(scaler(s)), Ridge()) for s in (0, 1)),
    "categories": tuple(make_pipeline(FrozenEstimator(encoder(s)), Ridge()) for s in (0, 5)),
    "kernel": tuple(GaussianProcessRegressor(RBF(s) + WhiteKernel()) for s in (1, 2)),
    "nested": tuple(StackingClassifier([("a", LogisticRegression(C=c))]) for c in (1, 2)),
    "grid": tuple(GridSearchCV(Ridge(), {"alpha": [1, a]}) for a in (2, 3)),
    "cv": tuple(GridSearchCV(Ridge(), {}, cv=KFold(k)) for k in (2, 3)),
    "columns": tuple(ColumnTransformer([("a", StandardScaler(), [k])]) for k in (0, 1)),
    "function": tuple(FunctionTransformer(f) for f in (np.sin, np.cos)),
    "of another": tuple(FunctionTransformer(partial(np.power, 2, k)) for k in (1, 2)),
    "weights": tuple(LogisticRegression(class_weight={0: w}) for w in (1, 2)),
    "past": tuple(PooledRegressor(past=(np.ones((9, 1)), np.arange(9.0) * k)) for k in (1, 2)),
    "rows": tuple(
        PooledRegressor(past=PastRows(np.ones((9, 1)), np.arange(9.0) * k)) for k in (1, 2)
    ),
    "sparse": tuple(FunctionTransformer(kw_args={"w": csr_matrix([[k, 0]])}) for k in (1, 2)),
    "metric": tuple(ProtoNetClassifier(metric=m) for m in ("euclidean", "cosine")),
    "encoder": (ProtoNetClassifier(encoder="mlp"), ProtoNetClassifier(encoder="identity")),
    "its size": tuple(ProtoNetClassifier(encoder="mlp", encoder__hidden=(h,)) for h in (3, 4)),
    "module": tuple(ProtoNetClassifier(encoder=nn.Linear(2, 2)) for _ in range(2)),
}


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_changes_answers_is_told_apart(pair):
    one, other = map(identity_of, pair)
    assert one != other and difference_of(one, other)
    for estimator, known in zip(pair, (one, other), strict=True):
        assert identity_of(clone(estimator)) == known == json.loads(json.dumps(known))
        assert difference_of(known, identity_of(estimator)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RandomForestClassifier(), RandomForestClassifier(n_jobs=2, random_state=3, verbose=1)),
        (Ridge(), Ridge(1, copy_X=False)),
        (RidgeHeadRegressor(), RidgeHeadRegressor(device="cpu", dtype="float32", random_state=1)),
        (make_pipeline(Ridge()), make_pipeline(Ridge(), memory="none", verbose=True)),
        (ProtoNetClassifier(encoder="mlp", encoder__hidden=(3,)),
         ProtoNetClassifier(encoder="mlp", encoder__hidden=[3])),
    ],
)  # fmt: skip
def test_what_does_not_is_not(one, other):
    assert identity_of(one) == identity_of(other)


def test_a_meta_init_stands_for_its_encoder_and_what_meta_training_had(trained, tmp_path):
    clf = trained["ProtoNetClassifier"]
    clf.meta_init.save(tmp_path / "init.safetensors")
    bare = ProtoNetClassifier(clf.meta_init)
    from_file = ProtoNetClassifier(tmp_path / "init.safetensors", dtype="float64")
    assert identity_of(clf) == identity_of(bare) == identity_of(from_file)
    assert identity_of(bare)["meta_init"] == clf.meta_init.digest
    as_trained = bare._hyperparameters(clf.meta_init.spec["hyperparameters"])["metric"]
    assert identity_of(ProtoNetClassifier(clf.meta_init, metric=as_trained)) == identity_of(bare)
    for other in (
        ProtoNetClassifier(clf.meta_init, metric="cosine"),
        ProtoNetClassifier(clf.meta_init, n_augment=2),
        ProtoNetClassifier(clf.meta_init, unlabelled=-1),
        ProtoNetClassifier(),
    ):
        assert identity_of(other) != identity_of(bare)
    assert clf.meta_init.digest[:8] in told_of(identity_of(bare))


def test_it_is_told_as_it_would_be_written():
    assert told_of(identity_of(Ridge(0.1))) == "sklearn.Ridge(alpha=0.1)"
    assert "not with sklearn.Ridge(alpha=2)" in difference_of(
        identity_of(make_pipeline(StandardScaler(), Ridge())), identity_of(Ridge(2))
    )
