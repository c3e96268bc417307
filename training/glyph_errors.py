"""Which letters of an alphabet a glyph encoder takes for which: by alphabet, and by pair.

python training/glyph_errors.py omniglot-resnet8-turns
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from glyphs import drawer_to_drawer, past_and_new

from fewshot_sklearn import ProtoNetClassifier


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="a meta-init that ships, or a file")
    parser.add_argument("--episodes", type=int, default=300)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    _, new = past_and_new()
    clf = ProtoNetClassifier(options.name, device="cpu")
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
    print(f"{sum(pairs.values())} errors in {options.episodes} episodes; by pair:")
    for pair, count in pairs.most_common(10):
        print(f"{count:4d}  {' and '.join(pair)}")


if __name__ == "__main__":
    main()
