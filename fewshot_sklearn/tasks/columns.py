"""Names of columns: whether they are those that are known, and which of them an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._cells import as_written, first_no_number, is_date, is_number_word, is_span
from ._column import warn_of_number_words
from .rows import column_labels

#: Columns that an error names, at most.
MOST_NAMED = 10
#: What numpy and scikit-learn say of cells that are no numbers.
_ABOUT_CELLS = ("convert", "promote", "float()", "numeric", "no numbers")


def column_names(X: Any) -> list[str] | None:
    """Names of the columns of a data frame of any kind; None where they are no strings.

    Parameters
    ----------
    X : array-like or data frame
        Rows.

    Returns
    -------
    list of str or None
        The names.

    Raises
    ------
    ValueError
        When several columns have one name.
    TypeError
        When some names are strings and others not.
    """
    names = column_labels(X)
    strings = 0 if names is None else sum(isinstance(name, str) for name in names)
    if names is None or not strings:
        return None
    if strings < len(names):
        other = next(name for name in names if not isinstance(name, str))
        raise TypeError(
            f"X has columns with names that are strings, and others, such as {other!r}. Make "
            "strings of all of them: X.columns = X.columns.astype(str)."
        )
    return names


def check_columns(columns: list[str] | None, known: list[str] | None) -> None:
    """Refuse columns that are not those known, in the same order; where either has no names, not.

    Parameters
    ----------
    columns, known : list of str or None
        Names.

    Raises
    ------
    ValueError
        In the words of scikit-learn.
    """
    if columns is None or known is None or columns == known:
        return
    told = "The feature names should match those that were passed during fit."
    if sorted(columns) == sorted(known):
        raise ValueError(f"{told} Feature names must be in the same order as they were in fit.")
    raise ValueError(
        f"{told} Unseen at fit time: {[c for c in columns if c not in known]}; seen at fit time, "
        f"yet now missing: {[c for c in known if c not in columns]}."
    )


def check_like(X: Any, others: Any, name: str) -> None:
    """Refuse other rows whose columns are not those of X, in the same order.

    Parameters
    ----------
    X, others : array-like or data frame of shape (n_rows, ...)
        Rows.
    name : str
        What the others are the argument of, such as ``"past"``.

    Raises
    ------
    ValueError
        Says which columns are missing, which are too many, or that the order is another.

    Examples
    --------
    >>> import pandas as pd
    >>> from fewshot_sklearn.tasks import check_like
    >>> check_like(pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"a": [1]}), "past")
    Traceback (most recent call last):
    ValueError: X of past must have the columns of X, but lacks ['b'].
    """
    own, found = column_labels(X), column_labels(others)
    if own is not None and found is not None:
        if own == found:
            return
        lacks, more = ([c for c in a if c not in b] for a, b in ((own, found), (found, own)))
        parts = [f"lacks {lacks}"] if lacks else []
        parts += [f"has {more} beside"] if more else []
        told = " and ".join(parts) or f"has them in another order: pass it as X[{own}]"
        raise ValueError(f"X of {name} must have the columns of X, but {told}.")
    shapes = [tuple(np.shape(rows))[1:] for rows in (X, others)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"X of {name} must have rows like those of X, of shape {shapes[0]}, got rows of shape "
            f"{shapes[1]}."
        )


# ------------------------------------------------------------------ which column it is
@contextmanager
def columns_named(X: Any) -> Iterator[None]:
    """Say which columns of X an error of scikit-learn is about that refuses rows.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_columns)
        The rows that are being checked.

    Raises
    ------
    ValueError
        In place of an error about a cell that is no number; with the names of columns where that
        is about missing or infinite ones.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        about = str(error)
        if told := _odd_cell(X, about):
            raise ValueError(told) from error
        first = about.split("\n")[0]
        if "Input X contains" in first and (told := _no_finite(X, "NaN" in first)):
            raise ValueError(f"{first} {told}") from error
        raise


def warn_of_words(X: Any) -> None:
    """Warn of strings among rows that scikit-learn reads as numbers.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_columns)
        Rows.
    """
    for name, values in _columns_of_objects(X):
        if isinstance(odd := first_no_number(values), str):
            warn_of_number_words(name, odd)


def _columns_of_objects(X: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Columns, of a frame or a table of objects, that may hold what is no number, by their name."""
    if hasattr(X, "iloc"):
        if getattr(X, "ndim", 0) != 2:
            return
        for i, name in enumerate(X.columns):
            if getattr(X.dtypes.iloc[i], "kind", "O") not in "biuf":
                yield name, np.asarray(X.iloc[:, i])
    elif (names := column_labels(X)) is not None:
        yield from ((name, np.asarray(X[name])) for name in names)
    elif isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OUmM":
        yield from enumerate(X.T)


def _odd_cell(X: Any, about: str) -> str:
    """What to say of the first cell that is a word, a date or a span of time; else nothing."""
    if not any(told in about for told in _ABOUT_CELLS):
        return ""
    for name, values in _columns_of_objects(X):
        there = _there(values)
        odd = first_no_number(there)
        column = f"Column {name!r} of X"
        if isinstance(odd, str):
            words = (v for v in there if isinstance(v, str))
            odd = next((v for v in words if not is_number_word(v)), odd)
            return (
                f"{column} holds {as_written(odd)}, which is no number. If these are categories, "
                "MetaTrainer learns them from past tasks, or a step before in a pipeline makes "
                "numbers of them, such as OneHotEncoder(sparse_output=False); if they are numbers, "
                f"see pd.to_numeric(X[{name!r}], errors='coerce')."
            )
        if odd is not None and (is_date(odd) or is_span(odd)):
            what = "dates" if is_date(odd) else "spans of time"
            how = "(X[{0!r}] - X[{0!r}].min()).dt.days" if is_date(odd) else "X[{0!r}].dt.days"
            return (
                f"X holds {what}, which are no numbers, in column {name!r}. Make them so, such as "
                f"{how.format(name)}{_by_trainer(odd)}."
            )
    return ""


def _by_trainer(odd: Any) -> str:
    return "; MetaTrainer does that for the dates of a table" if is_date(odd) else ""


def _there(values: np.ndarray) -> np.ndarray:
    import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

    return values[~np.asarray(pd.isna(values))]


def _no_finite(X: Any, missing: bool) -> str:
    """Which columns hold what is missing, or infinite; nothing where they have no names."""
    names = column_labels(X)
    if names is None or not hasattr(X, "iloc"):
        return ""
    import pandas as pd

    found = []
    for i, name in enumerate(names):
        values = pd.to_numeric(X.iloc[:, i], errors="coerce").astype("Float64")
        gone = values.isna().to_numpy()
        if (gone if missing else np.isinf(values.to_numpy(np.float64, na_value=0))).any():
            found.append(name)
    if not found:
        return ""
    told = ", ".join(map(repr, found[:MOST_NAMED])) + (", ..." if len(found) > MOST_NAMED else "")
    how = (
        "Fill the gaps before, such as by SimpleImputer in a pipeline; MetaTrainer learns what to "
        "put there where the past has gaps too."
        if missing
        else "Leave these cells empty, or these rows out."
    )
    return f"It is in column {told}. {how}"
