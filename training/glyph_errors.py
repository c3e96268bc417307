"""Which letters of an alphabet a glyph encoder takes for which: by alphabet, and by pair.

python training/glyph_errors.py omniglot-resnet8-turns
python training/glyph_errors.py omniglot-resnet8-turns --assigned   # each letter is asked once
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from glyphs import drawer_to_drawer, past_and_new

from fewshot_sklearn import ProtoNetClassifier, TransductiveAssignmentClassifier


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="a meta-init that ships, or a file")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--assigned", action="store_true", help="it is known that each is asked")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    _, new = past_and_new()
    clf: Any = ProtoNetClassifier(options.name, device="cpu")
    if options.assigned:
        clf = TransductiveAssignmentClassifier(clf, n_queries_per_class=1)
    errors: dict[str, list[float]] = {}
    pairs: Counter[tuple[str, ...]] = Counter()
    episodes = drawer_to_drawer(new, 20, options.episodes, seed=0)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        support, query = support[support >= 0], query[query >= 0]
        clf.fit(new.images[support], new.letter[support])
        told, true = clf.predict(new.images[query]), new.letter[query]
        errors.setdefault(str(new.alphabet[support[0]]), []).append(np.mean(told != true))
        pairs.update(
            tuple(sorted((str(a), str(b)))) for a, b in zip(told, true, strict=True) if a != b
        )
    print({alphabet: round(100 * float(np.mean(e)), 1) for alphabet, e in errors.items()})
    every = np.concatenate(list(errors.values()))
    of_alphabets = np.array([np.mean(e) for e in errors.values()])
    wide = 1.96 * of_alphabets.std(ddof=1) / len(of_alphabets) ** 0.5
    print(f"{100 * every.mean():.2f} ± {100 * wide:.2f} % wrong, over alphabets")
    print(f"{sum(pairs.values())} errors in {options.episodes} episodes; by pair:")
    for pair, count in pairs.most_common(10):
        print(f"{count:4d}  {' and '.join(pair)}")


if __name__ == "__main__":
    main()
