"""Scoring 1,000 5-way 1-shot episodes, 15 queries a class, from a pool of 8,000 images.

The peers are measured on 20 episodes, or on embedding 800 images, and scaled.
"""

from __future__ import annotations

import numpy as np
import peers
import torch
from timing import Contender, Row, compare, interleave
from torch import Tensor, nn

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier, few_shot_score
from workloads.omniglot import Pool, as_rows, load, peers_encoder

N_WAY, N_SHOT, N_QUERY, N_EPISODES, N_IMAGES = 5, 1, 15, 1000, 8000
#: Share of the work that the peers are measured on.
MEASURED_EPISODES, MEASURED_IMAGES = 20, 800


def theirs(X: np.ndarray, y: np.ndarray) -> dict[str, Contender]:
    """The peers' loops over episodes, and embedding once with episodes of features after it."""
    encoder = peers_encoder().eval()
    easy = peers.easyfsl_model(encoder).eval()
    easy_on_features = peers.easyfsl_model(nn.Identity()).eval()
    pool = Pool(as_rows(X))
    some = as_rows(X[:MEASURED_IMAGES]), torch.as_tensor(y[:MEASURED_IMAGES])
    embedded = Pool(peers.easyfsl_embedded(encoder, *some))

    def episodes(pool: Pool) -> tuple[Tensor, ...]:
        return pool.draw(MEASURED_EPISODES, N_WAY, N_SHOT, N_QUERY)

    share = MEASURED_EPISODES / N_EPISODES
    return {
        "easyfsl": Contender(lambda: peers.easyfsl_accuracy(easy, episodes(pool)), share),
        "learn2learn": Contender(
            lambda: peers.learn2learn_accuracy(encoder, episodes(pool)), share
        ),
        "embedding": Contender(
            lambda: peers.easyfsl_embedded(encoder, *some), MEASURED_IMAGES / N_IMAGES
        ),
        "episodes": Contender(
            lambda: peers.easyfsl_accuracy(easy_on_features, episodes(embedded)), share
        ),
    }


def run(rounds: int) -> list[Row | str]:
    """Time `few_shot_score` beside the peers' loops."""
    images, characters = load()
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="conv4"),
        n_episodes=1, batch_size=1, max_epochs=1, validation_fraction=0,
        device="cpu", random_state=0, verbose=0,
    )  # fmt: skip
    clf = trainer.fit(images[N_IMAGES:], characters[N_IMAGES:]).estimator_.set_params(device="cpu")
    X, y = images[:N_IMAGES], characters[:N_IMAGES]
    contenders = peers.beside(lambda: theirs(X, y))
    contenders["ours"] = Contender(
        lambda: few_shot_score(
            clf, X, y, n_way=N_WAY, n_shot=N_SHOT, n_query=N_QUERY, n_episodes=N_EPISODES
        )
    )
    times = interleave(contenders, rounds)
    if "embedding" in times:
        times["easyfsl, features extracted first"] = times.pop("embedding") + times.pop("episodes")
    ours = times["ours"]
    return [
        *compare("scoring, 1,000 episodes", times, "ours"),
        f"scoring: the peers' times are of {MEASURED_EPISODES} episodes (of {MEASURED_IMAGES} "
        f"images, where features are extracted first), scaled; ours takes "
        f"{np.median(ours) / 1e3:.2f} s for all.",
    ]
