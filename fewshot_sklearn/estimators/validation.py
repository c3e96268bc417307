"""What may come in: types of rows, sample weights, names of devices and precisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils import check_array, check_X_y
from sklearn.utils.validation import validate_data

from ..tasks import (
    TableFormat,
    check_padded,
    check_rows,
    column_labels,
    columns_named,
    refuse_sparse,
    warn_of_words,
)

#: Precisions to compute in.
DTYPES = {"float32": torch.float32, "float64": torch.float64}
#: Values whose squares can still be summed.
LARGEST = {torch.float32: 1e18, torch.float64: 1e150}
#: Rows whose largest value is smaller hold nothing that can be computed with.
SMALLEST = {torch.float32: 1e-30, torch.float64: 1e-150}
#: Sizes of rows that methods which take them as they are compute with as with any.
USUAL = (1e-9, 1e9)
#: Weights of rows, where not zero.
LEAST_WEIGHT, MOST_WEIGHT = 1e-30, 1e30
#: Types of X that are kept as they are; all others become float64.
ROW_DTYPES = [np.float64, np.float32, np.uint8]
#: Those of integers, which networks of the user's own may look up.
INTEGERS = [np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16]


def resolve_dtype(dtype: Any) -> torch.dtype:
    """Return the torch dtype of that name.

    Raises
    ------
    ValueError
        When it is no precision to compute in.
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {list(DTYPES)} or None, got {dtype!r}.")
    return DTYPES[dtype]


def as_numbers(
    table: TableFormat | None, X: Any, integers: bool = False, ragged: bool = False
) -> np.ndarray:
    """Rows of numbers, checked as scikit-learn does; a table's in the format that is known of it.

    With `integers` rows of a type of integers stay so. With `ragged` they are series, which NaN
    may follow.

    Raises
    ------
    ValueError
        When rows are no numbers, or not all finite.
    """
    refuse_sparse(X)
    if table is not None:
        return table.numbers(X)
    with columns_named(X):
        column_labels(X)  # which are one each
        _refuse_dates(X)
        rows = check_array(
            X,
            dtype=ROW_DTYPES + INTEGERS * integers,
            allow_nd=True,
            input_name="X",
            ensure_all_finite="allow-nan" if ragged else True,
        )
    warn_of_words(X)
    if ragged:
        check_padded(rows)
    return rows


def labels_of_numbers(
    table: TableFormat | None, columns: Sequence[Any] | None
) -> Sequence[Any] | None:
    """Names of the columns that the numbers of a row come from; None where there are none."""
    if table is None:
        return columns
    return table.labels_of_numbers(columns)


def _refuse_dates(X: Any) -> None:
    """Refuse dates and spans of time, of which scikit-learn makes numbers of nanoseconds."""
    if (kind := _kind_of(X)) in ("m", "M"):
        what = "dates" if kind == "M" else "spans of time"
        raise ValueError(
            f"X holds {what}, which are no numbers. Make them so, such as days since a day that "
            "means something; MetaTrainer does that for the dates of a table."
        )


def _kind_of(X: Any) -> str:
    if hasattr(X, "iloc"):  # of a frame what its columns have in common
        return np.asarray(X.iloc[:0]).dtype.kind
    return getattr(getattr(X, "dtype", None), "kind", "")


def validated(
    estimator: Any,
    table: TableFormat | None,
    X: Any,
    y: Any = None,
    reset: bool = True,
    **of_y: Any,
) -> Any:
    """scikit-learn's `validate_data`, of rows and labels; a table's rows become numbers.

    Returns
    -------
    ndarray, or ndarray and ndarray
        Rows, and with y that too.
    """
    plain = table is None and type(X) is np.ndarray and not hasattr(estimator, "feature_names_in_")
    if plain and not reset and _is_taken_on_trust(X):
        _check_width(estimator, X)
        return X
    refuse_sparse(X, estimator)
    if reset:
        check_rows(X, estimator)
    column_labels(X)  # which are one each
    if table is None:
        given = {"y": y} if y is not None or of_y else {}
        with columns_named(X):
            _refuse_dates(X)
            kinds = ROW_DTYPES + INTEGERS * bool(getattr(estimator, "_own_network", False))
            ragged = bool(getattr(estimator, "_ragged", False))
            looks: dict[str, Any] = {
                "dtype": kinds,
                "allow_nd": True,
                "ensure_all_finite": "allow-nan" if ragged else True,
            }
            if plain and (y is not None or not given):
                checked = _checked_array(estimator, X, y, reset, looks | of_y)
            else:
                checked = validate_data(estimator, X, reset=reset, **looks, **given, **of_y)
        warn_of_words(X)
        if ragged:
            check_padded(checked[0] if isinstance(checked, tuple) else checked)
        return checked
    if getattr(X, "ndim", 2) == 1 or isinstance(X, dict):
        check_array(X, dtype=None)  # which says what is wrong
    validate_data(estimator, X, reset=reset, skip_check_array=True)  # the columns
    rows = as_numbers(table, X)
    return check_X_y(rows, y, dtype=ROW_DTYPES, **of_y) if y is not None or of_y else rows


def _checked_array(
    estimator: Any, X: np.ndarray, y: Any, reset: bool, looks: dict[str, Any]
) -> Any:
    """What `validate_data` does of an array, which has no names of columns to look for."""
    looks["estimator"] = estimator
    if _is_as_it_should_be(X, y):
        checked = X if y is None else (X, y)
    elif y is not None:
        checked = X, y = check_X_y(X, y, **looks)
    else:
        checked = X = check_array(X, input_name="X", **looks)
    if reset:
        estimator.n_features_in_ = X.shape[1]
    else:
        _check_width(estimator, X)
    return checked


def _is_as_it_should_be(X: np.ndarray, y: Any) -> bool:
    """Whether it is plain to see that `check_array` and `check_X_y` hand on these as they are.

    They look through all sorts of data frames first, which takes longer than a fit.
    """
    if X.dtype not in ROW_DTYPES or X.ndim < 2 or not X.size:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        if not math.isfinite(X.sum()):
            return False
        if y is None:
            return True
        if type(y) is not np.ndarray or y.shape != X.shape[:1]:
            return False
        return y.dtype.kind in "iu" or (y.dtype in ROW_DTYPES and math.isfinite(y.sum()))


def _is_taken_on_trust(X: np.ndarray) -> bool:
    """Whether scikit-learn was told not to look at rows, and these are of a type to compute with.

    By ``sklearn.config_context(assume_finite=True, skip_parameter_validation=True)``.
    """
    if X.dtype not in ROW_DTYPES or X.ndim < 2 or not len(X):
        return False
    told = get_config()
    return told["assume_finite"] and told["skip_parameter_validation"]


def _check_width(estimator: Any, X: np.ndarray) -> None:
    """Refuse rows of another number of features than `fit` saw, as scikit-learn does.

    Raises
    ------
    ValueError
        When there are more or fewer.
    """
    known = getattr(estimator, "n_features_in_", None)  # of any width before there are rows
    if known is not None and X.shape[1] != known:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{known} features as input."
        )


def finite_targets(y: np.ndarray) -> np.ndarray:
    """Targets of a regression (n_rows, n_outputs), in float64.

    Raises
    ------
    ValueError
        When one is not finite; scikit-learn lets those pass that come as objects.
    """
    targets = y.reshape(len(y), -1).astype(np.float64)
    if not np.isfinite(targets).all():
        raise ValueError("Input y contains infinity or a value too large for dtype('float64').")
    return targets


def check_range(
    array: np.ndarray, dtype: torch.dtype, name: str, labels: Sequence[Any] | None = None
) -> None:
    """Refuse values that are too large, or whose squares are, to compute with in `dtype`.

    `labels` are names of the columns that the numbers of a row come from, for errors.
    """
    most = LARGEST[dtype]
    if array.dtype.kind != "f" or not array.size:
        return
    # of NaN, which may follow series, regardless
    if max(np.fmax.reduce(array, None, float), -np.fmin.reduce(array, None, float)) <= most:
        return
    told = f"Input {name} contains a value too large for dtype('{str(dtype)[6:]}')"
    turn = f"Bring {name} to another unit."
    if labels is not None and array.ndim == 2 and len(labels) == array.shape[1]:
        column = labels[int(np.flatnonzero((np.abs(array) > most).any(0))[0])]
        told += f" in column {column!r}"
        turn = (
            f"Bring it to another unit. If it holds ids, which are no numbers, make strings of "
            f"them, X[{column!r}].astype(str), which MetaTrainer reads as categories, or leave it "
            "out."
        )
    raise ValueError(f"{told}: the largest that can be computed with is {most:g}. {turn}")


def usual_unit(rows: torch.Tensor) -> float:
    """What rows of a very small or large unit are divided by, a power of two; of others 1.

    Raises
    ------
    ValueError
        When all values are too small to compute with.
    """
    array, dtype = rows.detach().cpu().numpy(), rows.dtype
    if (gone := np.isnan(array)).any():  # of series
        array = np.where(gone, array[~gone].mean(), array)
    largest = max(float(array.max()), -float(array.min())) if array.size else 0.0
    if 0 < largest < SMALLEST[dtype]:
        raise ValueError(
            f"Input X contains nothing but values too small for dtype('{str(dtype)[6:]}'): the "
            f"largest is {largest:g}. Bring X to another unit."
        )
    if not array.size or USUAL[0] <= largest <= USUAL[1]:
        return 1.0
    size = float(np.abs(array - array.mean(0)).max())  # wherever they lie
    rounding = 1e3 * torch.finfo(dtype).eps * largest
    if not rounding < size < math.inf or USUAL[0] <= size <= USUAL[1]:
        return 1.0
    return 2.0 ** math.floor(math.log2(size))


def rows_as_taken(X: np.ndarray, whole: bool) -> np.ndarray:
    """Rows as an encoder takes them: as whole numbers of 64 bits, or as others.

    Raises
    ------
    ValueError
        When they are to be whole, and are not.
    """
    if not whole:
        return X.astype(np.float64) if X.dtype.kind in "iu" and X.dtype != np.uint8 else X
    if X.dtype.kind == "f" and not (np.rint(X) == X).all():
        worst = X[np.rint(X) != X].flat[0]
        raise ValueError(
            "X must hold whole numbers, such as ids of tokens or categories, which the encoder "
            f"looks up, got {worst:g}."
        )
    return X.astype(np.int64)


def exact(
    array: np.ndarray,
    keep: bool,
    dtype: torch.dtype,
    device: torch.device,
    name: str,
    labels: Sequence[Any] | None = None,
) -> torch.Tensor:
    """Rows or targets as a tensor: in float64 if they came so and it is to be kept.

    Rows of integers of 64 bits, see `rows_as_taken`, stay such.

    Raises
    ------
    ValueError
        When they are too large, see `check_range`.
    """
    check_range(array, dtype, name, labels)
    kept = torch.float64 if keep and array.dtype == np.float64 else dtype
    kept = torch.long if array.dtype == np.int64 else kept
    return torch.tensor(np.ascontiguousarray(array), dtype=kept, device=device)


def check_weights(sample_weight: Any, n_rows: int, some: bool = True) -> np.ndarray:
    """Weights of the rows; ones, if None.

    Raises
    ------
    ValueError
        When they are not one finite number a row, at least zero and, unless `some` is
        False, not all zero.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.array(sample_weight, dtype=np.float64, order="C")  # torch goes forward only
    if weights.ndim == 0:
        weights = np.full(n_rows, float(weights))
    if weights.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}: one weight a row."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and at least zero, got negative or NaN.")
    told = weights[weights > 0]
    if len(told) and (told.min() < LEAST_WEIGHT or told.max() > MOST_WEIGHT):
        raise ValueError(
            f"sample_weight must be zero or between {LEAST_WEIGHT:g} and {MOST_WEIGHT:g}, got "
            f"{told.min():g} to {told.max():g}: more than can be computed with."
        )
    if some and not weights.any():
        raise ValueError("sample_weight must hold at least one positive weight; all are zero.")
    return weights
