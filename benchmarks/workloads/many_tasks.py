"""Adapting to 1,000 tasks (5-way 5-shot, 64 features, 75 queries each) in one call.

The call is `few_shot_score`; the loops fit and predict the same episodes one by one. The
loops are measured on 100 tasks and scaled.
"""

from __future__ import annotations

import peers
import torch
from timing import Contender, Row, compare, interleave

from fewshot_sklearn import EpisodeSplit, MAMLClassifier, ProtoNetClassifier, few_shot_score
from workloads.features import (
    HIDDEN,
    INNER_LR,
    N_QUERY,
    N_SHOT,
    N_STEPS,
    N_WAY,
    learn2learn_maml,
    make_pool,
    meta_trained,
    peers_encoder,
)

N_TASKS, LOOP = 1000, 100


def run(rounds: int) -> list[Row | str]:
    """Time MAML and the prototypical network."""
    X, y = make_pool(400, random_state=0)
    y = y + 1000  # classes that meta-training has not seen
    episode = {"n_way": N_WAY, "n_shot": N_SHOT, "n_query": N_QUERY}
    split = EpisodeSplit(**episode, n_episodes=LOOP, random_state=0)
    tasks = [(X[s], y[s], X[q]) for s, q in split.split(X, y)]
    tensors = [
        (torch.from_numpy(Xs), torch.unique(torch.from_numpy(ys), return_inverse=True)[1],
         torch.from_numpy(Xq))
        for Xs, ys, Xq in tasks
    ]  # fmt: skip

    def loop(one_task, tasks=tensors) -> Contender:
        return Contender(lambda: [one_task(*task) for task in tasks], LOOP / N_TASKS)

    def learn2learn() -> dict[str, Contender]:
        maml = learn2learn_maml()
        return {
            "learn2learn, loop": loop(
                lambda Xs, ys, Xq: peers.learn2learn_adapted(maml, Xs, ys, Xq, N_STEPS)
            )
        }

    def easyfsl() -> dict[str, Contender]:
        easy = peers.easyfsl_model(peers_encoder()).eval()
        return {"easyfsl, loop": loop(lambda Xs, ys, Xq: peers.easyfsl_predicted(easy, Xs, ys, Xq))}

    kinds = {
        "MAML": (
            MAMLClassifier(
                encoder="mlp", encoder__hidden=HIDDEN, n_steps=N_STEPS, inner_lr=INNER_LR
            ),
            learn2learn,
        ),
        "ProtoNet": (
            ProtoNetClassifier(encoder="mlp", encoder__hidden=HIDDEN),
            easyfsl,
        ),
    }
    report: list[Row | str] = []
    for kind, (estimator, peer) in kinds.items():
        clf = meta_trained(estimator)

        def fit_predict(Xs, ys, Xq, clf=clf):
            return clf.fit(Xs, ys).predict(Xq)

        def one_call(clf=clf):
            return few_shot_score(clf, X, y, **episode, n_episodes=N_TASKS, random_state=0)

        contenders = {
            **peers.beside(peer),
            "the same estimator, loop": loop(fit_predict, tasks),
            "ours": Contender(one_call),
        }
        report += compare(f"many-tasks, {kind}", interleave(contenders, rounds), "ours")
    return report
