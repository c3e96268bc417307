"""What unlabelled drawings are worth: accuracy with one label a letter and more drawings without.

    python examples/plot_omniglot.py                                   # makes the meta-init
    python benchmarks/unlabelled.py demo_output/omniglot.safetensors

600 episodes of letters of new alphabets, the same queries whatever is unlabelled; the
prototypical network of the example, whose training knew no unlabelled rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from fewshot_sklearn import EpisodeSplit, FewShotScore, ProtoNetClassifier
from fewshot_sklearn.datasets import load_omniglot
from fewshot_sklearn.tasks import memberships

N_UNLABELLED = (0, 1, 5, 10)
N_EPISODES = 600


def main(argv: Sequence[str] | None = None) -> None:
    """Score and print a row for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meta_init", help="that of examples/plot_omniglot.py, or a shipped name")
    path = parser.parse_args(argv).meta_init
    torch.set_num_threads(1)
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    y = np.unique(letters[new], return_inverse=True)[1]
    clf = ProtoNetClassifier(path, unlabelled=-1)
    learner = clf._rebuild(clf._resolve_meta_init())
    with torch.no_grad():
        Z = learner.embed(torch.tensor(images[new], dtype=torch.float32))
    print("| labels | " + " | ".join(f"{u} unlabelled" for u in N_UNLABELLED) + " |")
    for n_way in (5, 20):
        split = EpisodeSplit(n_way, 1 + max(N_UNLABELLED), 5, N_EPISODES, random_state=0)
        scores: dict[int, list[float]] = {u: [] for u in N_UNLABELLED}
        rows = split.episodes(y)
        for one in (rows.episode(i) for i in range(split.n_episodes)):
            codes = one.support_codes
            # the first drawing of a letter, the second, ...
            place = np.array([(codes[:i] == code).sum() for i, code in enumerate(codes)])
            for u in N_UNLABELLED:
                kept = place <= u
                members = memberships(
                    torch.as_tensor(np.where(place == 0, codes, -1)[kept]), n_way, Z.dtype
                )
                weights = torch.ones(len(members))
                state = learner.adapt_features(Z[one.support[kept]], members, weights)
                logits = learner.predict_features(state, Z[one.query])
                scores[u].append(float((logits.argmax(1).numpy() == one.query_codes).mean()))
        told = (FewShotScore(np.array(scores[u])) for u in N_UNLABELLED)
        cells = " | ".join(f"{100 * s.mean:.1f} ± {100 * s.ci95:.1f}" for s in told)
        print(f"| {n_way}-way 1-shot | {cells} |", flush=True)


if __name__ == "__main__":
    main()
