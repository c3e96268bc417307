"""Small meta-trained estimators and unseen tasks to try them on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from margins import Margin, shift_seeds
from sklearn.base import clone
from sklearn.datasets import load_digits

import fewshot_sklearn
from fewshot_sklearn import MetaTrainer
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import FewShotClassifier, FewShotRegressor

#: Of the repository.
ROOT = Path(__file__).parents[1]

sys.path.append(str(ROOT / "docs"))  # where the reader of imports is
matplotlib.use("Agg")
torch.set_num_threads(1)
shift_seeds()


def public_subclasses(base):
    """Names of the public estimators of one kind."""
    public = ((name, getattr(fewshot_sklearn, name)) for name in fewshot_sklearn.__all__)
    return tuple(n for n, c in public if isinstance(c, type) and issubclass(c, base))


CLASSIFIERS = public_subclasses(FewShotClassifier)
REGRESSORS = public_subclasses(FewShotRegressor)
#: Those that answer all rows of a call together, as their names say; no other may.
TRANSDUCTIVE = tuple(name for name in CLASSIFIERS if name.startswith("Transductive"))
INDUCTIVE = tuple(name for name in CLASSIFIERS + REGRESSORS if name not in TRANSDUCTIVE)
IMAGE_CLASSIFIERS = [getattr(fewshot_sklearn, name) for name in CLASSIFIERS]

#: How the meta-training of an estimator of the `trained` fixture differs: its own parameters, and
#: the trainer's.
DIFFERENTLY = {
    "CAMLClassifier": ({"n_layers": 1, "n_hidden": 32}, {}),
    "CAVIAClassifier": ({"inner_lr": 1.0, "n_hidden": 128}, {"lr": 1e-3}),
    "CAVIARegressor": ({"inner_lr": 0.05}, {"max_epochs": 24}),
    "IMAMLRegressor": ({"inner_lr": 0.2}, {"max_epochs": 36}),
    "MAMLClassifier": ({"n_steps": 5, "inner_lr": 0.1}, {}),
    "MAMLPlusPlusRegressor": ({"inner_lr": 0.05}, {"max_epochs": 24}),
    "MAMLRegressor": ({"n_steps": 5, "inner_lr": 0.05}, {"max_epochs": 36, "lr": 1e-2}),
    "MetaLSTMClassifier": ({}, {"n_episodes": 80, "lr": 5e-3}),
    "MetaSGDClassifier": ({"n_steps": 5}, {}),
    "MetaSGDRegressor": ({"inner_lr": 0.05}, {"max_epochs": 36, "lr": 6e-3}),
    "InContextRegressor": ({"n_layers": 1, "n_hidden": 32}, {"max_epochs": 80, "lr": 5e-3}),
    "NeuralProcessRegressor": ({"attentive": False, "n_hidden": 64}, {"max_epochs": 60}),
    "RelationNetClassifier": ({}, {"max_epochs": 10, "lr": 1e-3}),
    "SiameseClassifier": ({}, {"max_epochs": 26, "lr": 1e-3}),
    "TransductivePropagationClassifier": ({"n_neighbors": 5, "alpha": 0.9}, {}),
    "TransductiveTIMClassifier": ({"solver": "adm", "n_steps": 30}, {}),
    "RidgeHeadRegressor": ({"encoder__activation": "tanh"}, {"n_shot": (5, 10), "max_epochs": 24}),
}

every_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
every_regressor = pytest.mark.parametrize("name", REGRESSORS)
every_inductive = pytest.mark.parametrize("name", INDUCTIVE)
every_transductive = pytest.mark.parametrize("name", TRANSDUCTIVE)
every_estimator = pytest.mark.parametrize("name", CLASSIFIERS + REGRESSORS)
#: What some of this package's features take, beside its oldest requirements; see docs/versions.md.
needs_new_torch = pytest.mark.skipif(
    torch.__version__.startswith("2.4."), reason="torch 2.4 can't draw it"
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


def scores_of(estimator, X):
    """Probabilities or predictions: whatever says most."""
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def meta_train(estimator, X, y, groups=None, **options):
    """A few seconds of meta-training, reproducibly."""
    few = {"n_episodes": 160, "max_epochs": 3, "lr": 3e-3, "validation_fraction": 0}
    fixed = {"random_state": 0, "verbose": 0, "device": "cpu"}
    return MetaTrainer(estimator, **(few | fixed | options)).fit(X, y, groups).estimator_


def meta_trained(name):
    """The estimator of that name, trained on the handwritten digits 0 to 6 or on 200 sinusoids."""
    own, options = DIFFERENTLY.get(name, ({}, {}))
    hidden = (64,) if name in CLASSIFIERS else (32, 32)
    estimator = getattr(fewshot_sklearn, name)(encoder="mlp", encoder__hidden=hidden, **own)
    if name in CLASSIFIERS:
        X, y = load_digits(return_X_y=True)
        few = {"n_way": 3, "n_shot": 3, "n_query": 10}
        return meta_train(estimator, X[y < 7], y[y < 7], **(few | options))
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    few = {"n_shot": 10, "max_epochs": 12}
    return meta_train(estimator, past.data, past.target, past.groups, **(few | options))


def pytest_collection_modifyitems(items):
    """What has a margin rests on training: `pytest -m trained` runs all of those."""
    for item in items:
        if "margin" in getattr(item, "fixturenames", ()):
            item.add_marker("trained")


@pytest.fixture
def margin(request):
    """Comparisons of what was trained with a threshold, which `make seeds` measures."""
    comparisons = Margin(request.node.nodeid)
    yield comparisons
    comparisons.finish()


class Trained(Mapping):
    """Meta-trains when a name is first looked up, and hands out a clone at each look-up, so that no
    test sees another's fit."""

    def __init__(self):
        self.made = {}

    def __getitem__(self, name):
        if name not in self.made:
            self.made[name] = meta_trained(name)
        return clone(self.made[name])

    def __iter__(self):
        return iter(CLASSIFIERS + REGRESSORS)

    def __len__(self):
        return len(CLASSIFIERS + REGRESSORS)


@pytest.fixture(scope="session")
def trained():
    """Meta-trained, not yet fitted estimators by class name."""
    return Trained()


@pytest.fixture(scope="session")
def digits_new():
    """(X, y) of the digits 7 to 9, in random order: classes no estimator was trained on."""
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(y >= 7))
    return X[rows], y[rows]


@pytest.fixture(scope="session")
def sinusoid_new():
    """(X, y, groups) of 20 sinusoids no estimator was trained on, 25 rows each."""
    new = make_sinusoid_tasks(20, n_shot=10, n_query=15, random_state=1)
    return new.data, new.target, new.groups


def sinusoid(n):
    """(X, y) of n rows, at equal distances, of one sinusoid no estimator was trained on."""
    X = np.linspace(-4.8, 4.8, n)[:, None]
    return X, 3 * np.sin(X[:, 0] + 1.5)


@pytest.fixture
def task(digits_new):
    """Callable name -> (X, y, X_query, y_query): one new task for the estimator of that name."""

    def new_task(name):
        if name in REGRESSORS:
            X, y = sinusoid(25)
            rows = np.random.default_rng(0).permutation(25)
            return X[rows[:10]], y[rows[:10]], X[rows[10:]], y[rows[10:]]
        X, y = digits_new
        return X[:15].copy(), y[:15].copy(), X[15:115].copy(), y[15:115].copy()

    return new_task
