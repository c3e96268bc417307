"""Copying an estimator whose meta-init takes 50 MB, and a grid search with it in two processes.

Beside it: the same network as an ordinary constructor parameter.
"""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GridSearchCV
from timing import Contender, Row, compare, interleave
from torch import nn
from torch.nn import functional as F

from fewshot_sklearn import EpisodeSplit, ProtoNetClassifier
from workloads.features import N_FEATURES, make_pool, meta_trained

N_FITS = 100
#: Rows of the table that makes the network large.
N_TABLE = 200_000
N_JOBS = 2
#: Rounds of the grid search, at most: with the module it takes half a minute.
MOST_ROUNDS = 3


class WithTable(nn.Module):
    """A small network beside a table (50 MB) of which a row needs little, as recommenders have.

    So that copying is timed here, not matrix products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(N_TABLE, N_FEATURES))
        self.linear = nn.Linear(N_FEATURES, N_FEATURES)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(X)) + self.table[0]


class ModuleProtoNet(ClassifierMixin, BaseEstimator):
    """A prototypical network that holds its network as torch users would: as a parameter."""

    def __init__(self, network: nn.Module | None = None, metric: str = "euclidean"):
        self.network = network
        self.metric = metric

    def embed(self, X: np.ndarray) -> torch.Tensor:
        """Features of rows."""
        with torch.no_grad():
            Z = self.network(torch.as_tensor(X))
        return F.normalize(Z, dim=1) if self.metric == "cosine" else Z

    def fit(self, X: np.ndarray, y: np.ndarray) -> ModuleProtoNet:
        """Average the features of each class."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        Z = self.embed(X)
        self.prototypes_ = torch.stack(
            [Z[torch.as_tensor(codes == code)].mean(0) for code in range(len(self.classes_))]
        )
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Label of the nearest prototype."""
        nearest = torch.cdist(self.embed(X), self.prototypes_).argmin(1)
        return self.classes_[nearest.numpy()]


def in_band(estimator: Any) -> Any:
    """Pickled to one string of bytes and back, as to a file."""
    return pickle.loads(pickle.dumps(estimator, protocol=5))


def out_of_band(estimator: Any) -> Any:
    """Pickled beside its buffers and back, as between processes that share memory."""
    buffers: list[pickle.PickleBuffer] = []
    small = pickle.dumps(estimator, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(small, buffers=buffers)


def run(rounds: int) -> list[Row | str]:
    """Time clone, deepcopy, pickle (CPU) and a grid search of 100 fits (wall clock)."""
    ours = meta_trained(ProtoNetClassifier(encoder=WithTable))
    X, y = make_pool(20, random_state=0)
    y = y + 1000  # classes that meta-training has not seen
    theirs = ModuleProtoNet(WithTable())
    peer = "nn.Module as a parameter"
    actions: dict[str, Any] = {
        "clone": clone,
        "deepcopy": copy.deepcopy,
        "pickle and back, one string": in_band,
        "pickle and back, buffers apart": out_of_band,
    }
    report: list[Row | str] = []
    for name, action in actions.items():
        contenders = {
            "ours": Contender(lambda action=action: action(ours)),
            peer: Contender(lambda action=action: action(theirs)),
        }
        report += compare(f"sharing, {name}", interleave(contenders, rounds), "ours")

    def search(estimator: Any) -> GridSearchCV:
        cv = EpisodeSplit(n_way=5, n_shot=5, n_query=5, n_episodes=N_FITS // 2, random_state=0)
        grid = {"metric": ["euclidean", "cosine"]}
        return GridSearchCV(estimator, grid, cv=cv, n_jobs=N_JOBS, refit=False).fit(X, y)

    contenders = {
        "ours": Contender(lambda: search(ours)),
        peer: Contender(lambda: search(theirs)),
    }
    times = interleave(contenders, min(rounds, MOST_ROUNDS), clock=time.perf_counter)
    report += compare(f"sharing, GridSearchCV of {N_FITS} fits, n_jobs={N_JOBS}", times, "ours")
    size = ours.meta_init.nbytes / 1e6
    report.append(
        f"sharing: the meta-init takes {size:.0f} MB; the grid search is wall-clock time."
    )
    return report
