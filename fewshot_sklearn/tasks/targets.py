"""What rows are labelled with: classes that are exactly what was given, or finite numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ._cells import as_written, first_no_number, is_date, is_number_word, is_span
from .ids import as_they_are, comparable, distinct, refuse_missing


def class_labels(y: Any, name: str = "y", unlabelled: Any = None) -> np.ndarray:
    """Class labels, one a row, as an array; none is missing.

    scikit-learn makes floats of pandas' nullable integers, which from 2**53 on are the same for
    different integers: here they stay what they are.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Labels of any kind.
    name : str, default="y"
        What they are the argument of, for errors.
    unlabelled : object, default=None
        What marks rows whose class is not known; None where none are.

    Returns
    -------
    ndarray of shape (n_rows,)
        The labels.

    Raises
    ------
    ValueError
        When they are not one a row or not of one kind, or one is missing.
    """
    labels = column_or_1d(as_they_are(y), warn=True)
    if labels.dtype.kind == "f":  # in scikit-learn's words
        assert_all_finite(labels, input_name=name)
    labels = comparable(labels, name)
    known = labels[is_labelled(labels, unlabelled, name)]
    if known.dtype.kind == "O":
        distinct(known, name)  # which says that they must be of one kind
    with warnings.catch_warnings():
        # one row a class is what this package is for
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        check_classification_targets(known)
    return labels


def is_labelled(y: np.ndarray, unlabelled: Any, name: str = "y") -> np.ndarray:
    """Which rows have a label, rather than the mark of one that is not known.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Labels.
    unlabelled : object
        The mark; None where all rows have a label.
    name : str, default="y"
        What they are the argument of, for errors.

    Returns
    -------
    ndarray of bool of shape (n_rows,)
        True where there is a label.

    Raises
    ------
    ValueError
        When the mark is no string, and the labels hold what numpy makes of it among strings;
        or the other way round.
    """
    if unlabelled is None:
        return np.ones(len(y), dtype=bool)
    if y.dtype.kind == "U" and not isinstance(unlabelled, str) and (y == str(unlabelled)).any():
        raise ValueError(
            f"{name} holds strings, {str(unlabelled)!r} among them, but unlabelled={unlabelled!r} "
            f"is none, and marks none of these rows: say unlabelled={str(unlabelled)!r}, or give "
            f"{name} as an array of objects."
        )
    if (
        y.dtype.kind in "iuf"
        and isinstance(unlabelled, str)
        and (y.astype(str) == unlabelled).any()
    ):
        raise ValueError(
            f"{name} holds numbers, {unlabelled} among them, but unlabelled={unlabelled!r} is a "
            f"string, and marks none of these rows: say unlabelled={unlabelled}."
        )
    return np.asarray(y != unlabelled, dtype=bool)


def number_targets(y: Any, name: str = "y") -> np.ndarray:
    """Targets of a regression: finite numbers, those among objects as floats.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Targets.
    name : str, default="y"
        What they are the argument of, for errors.

    Returns
    -------
    ndarray of the same shape
        The targets, of the type that they came in if that is one of numbers.

    Raises
    ------
    ValueError
        When one is missing, infinite or no number.
    """
    targets = np.asarray(y)
    refuse_no_numbers(targets, name)
    if targets.dtype.kind == "O":
        targets = targets.astype(np.float64)
    if targets.ndim:
        any_shape = {"ensure_2d": False, "allow_nd": True, "ensure_min_samples": 0}
        check_array(targets, dtype=None, input_name=name, ensure_min_features=0, **any_shape)
    return targets


def refuse_no_numbers(y: Any, name: str = "y") -> None:
    """Refuse targets of a regression that are missing, words, dates or spans of time.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Targets.
    name : str, default="y"
        What they are the argument of, for errors.

    Raises
    ------
    ValueError
        When one is no number; says which, and what to do.

    Examples
    --------
    >>> from fewshot_sklearn.tasks import refuse_no_numbers
    >>> refuse_no_numbers(["good", "bad"])
    Traceback (most recent call last):
    ValueError: y must hold numbers, the targets of a regression, got 'good'. Words are classes: ...
    """
    targets = np.asarray(y)
    if targets.dtype.kind == "O" and targets.ndim:
        refuse_missing(targets, name, "target")
    if targets.dtype.kind == "c":  # which scikit-learn refuses in words of its own
        return
    if (odd := first_no_number(targets)) is not None:
        raise ValueError(
            f"{name} must hold numbers, the targets of a regression, got {as_written(odd)}. "
            f"{_instead(odd)}"
        )


def _instead(value: Any) -> str:
    """What to do with a target that is no number."""
    if isinstance(value, str):
        if is_number_word(value):
            return "Make numbers of these strings, such as by pd.to_numeric."
        return "Words are classes: to predict them take a classifier, such as RidgeHeadClassifier."
    if is_span(value):
        return "Make numbers of spans of time, such as y.dt.total_seconds()."
    if is_date(value):
        return "Make numbers of dates, such as days since one: (y - y.min()).dt.days."
    return "Make a number of each."
