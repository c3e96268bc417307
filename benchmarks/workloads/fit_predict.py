"""One user's fit on 25 rows (5-way 5-shot, 64 features) and predict of 75 rows."""

from __future__ import annotations

from dataclasses import replace

import peers
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from timing import Contender, Row, compare, interleave

from fewshot_sklearn import MAMLClassifier, ProtoNetClassifier, RidgeHeadClassifier
from workloads.features import (
    HIDDEN,
    INNER_LR,
    N_SHOT,
    N_STEPS,
    N_WAY,
    learn2learn_maml,
    make_pool,
    meta_trained,
    peers_encoder,
)

#: Least ratios to LogisticRegression.
TARGETS = {"ProtoNetClassifier": 2.0, "RidgeHeadClassifier": 2.0, "MAMLClassifier": 1.0}
#: The peers that compute the same thing as ours.
SAME = {"ProtoNetClassifier": "easyfsl ProtoNet", "MAMLClassifier": "learn2learn MAML"}


def run(rounds: int) -> list[Row | str]:
    """Time estimators of ours, of scikit-learn's and the peers' functions."""
    X, y = make_pool(N_WAY, random_state=0)
    support = torch.arange(len(y)).numpy() % (len(y) // N_WAY) < N_SHOT
    Xs, ys, Xq = X[support], y[support], X[~support]

    def tensors():
        return torch.from_numpy(Xs), torch.from_numpy(ys), torch.from_numpy(Xq)

    def easyfsl() -> dict[str, Contender]:
        easy = peers.easyfsl_model(peers_encoder()).eval()
        work = Contender(lambda: peers.easyfsl_predicted(easy, *tensors()).numpy())
        return {"easyfsl ProtoNet": work}

    def learn2learn() -> dict[str, Contender]:
        maml = learn2learn_maml()
        work = Contender(lambda: peers.learn2learn_adapted(maml, *tensors(), N_STEPS).numpy())
        return {"learn2learn MAML": work}

    contenders = {
        "LogisticRegression": Contender(lambda: LogisticRegression().fit(Xs, ys).predict(Xq)),
        "NearestCentroid": Contender(lambda: NearestCentroid().fit(Xs, ys).predict(Xq)),
        **peers.beside(easyfsl),
        **peers.beside(learn2learn),
    }
    for estimator in (
        ProtoNetClassifier(encoder="mlp", encoder__hidden=HIDDEN),
        RidgeHeadClassifier(encoder="mlp", encoder__hidden=HIDDEN),
        MAMLClassifier(encoder="mlp", encoder__hidden=HIDDEN, n_steps=N_STEPS, inner_lr=INNER_LR),
    ):
        clf = meta_trained(estimator)
        name = f"ours, {type(estimator).__name__}"
        contenders[name] = Contender(lambda clf=clf: clf.fit(Xs, ys).predict(Xq))
    times = interleave(contenders, rounds)
    report: list[Row | str] = []
    for name, target in TARGETS.items():
        beside = ("LogisticRegression", "NearestCentroid", SAME.get(name))
        shown = {peer: times[peer] for peer in beside if peer in times}
        shown[f"ours, {name}"] = times[f"ours, {name}"]
        for row in compare("fit-predict", shown, f"ours, {name}"):
            goal = target if row.peer == "LogisticRegression" else None
            report.append(row if goal is None else replace(row, target=goal))
    return report
