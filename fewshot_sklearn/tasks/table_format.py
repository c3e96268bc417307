"""Tables as numbers: what past rows teach of columns that are categories, dates or incomplete.

Five rows cannot tell which categories there are, or what to put where a number is missing. The
past can: what it taught is kept with what is learned from it, and read from there ever after.

D. Micci-Barreca. A preprocessing scheme for high-cardinality categorical attributes in
classification and prediction problems. SIGKDD Explorations 3, 2001.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import TargetEncoder

from .rows import column_labels

#: Categories that get a column each; of more, an encoder learns what they are like.
MOST_INDICATORS = 8
#: What a column may be.
KINDS = ("number", "date", "category")
DAY = 86_400.0
#: Parts of the past tasks: means of a row's categories are of the rows of the other parts.
MEAN_FOLDS = 5


@dataclass(frozen=True)
class Column:
    """What the past taught of one column.

    Attributes
    ----------
    kind : {"number", "date", "category"}
        What it holds.
    fill : float
        Of a number or a date what stands for one that is missing: the mean.
    incomplete : bool
        Whether any was missing.
    values : tuple of str, int, float or bool
        Of a category all values, in order.
    shares : tuple of float
        How often each occurred.
    epoch : float
        Of a date the day that others are counted from, since 1970.
    means : tuple of tuple of float
        Of categories that are looked up the mean targets, for each code and one that is not known;
        none where they were not learned.
    rest : float
        How often one of the categories occurred that are not among the values.
    """

    kind: str
    fill: float = 0.0
    incomplete: bool = False
    values: tuple[Any, ...] = ()
    shares: tuple[float, ...] = ()
    epoch: float = 0.0
    means: tuple[tuple[float, ...], ...] = ()
    rest: float = 0.0

    @property
    def looked_up(self) -> bool:
        """Whether it becomes codes, of categories too many to have a column each."""
        return self.kind == "category" and len(self.values) > MOST_INDICATORS

    @property
    def n_codes(self) -> int:
        """Codes of categories that were seen, that of a missing one included."""
        return len(self.values) + self.incomplete

    @property
    def width(self) -> int:
        """How many numbers it becomes, codes aside."""
        if self.looked_up:
            return len(self.means[0]) if self.means else 0
        if self.kind == "category":
            return self.n_codes
        return 1 + self.incomplete

    # ------------------------------------------------------------------ numbers
    def numbers(self, values: np.ndarray, missing: np.ndarray, name: Any) -> np.ndarray:
        """Its numbers (n, width); a category that is not known is as likely any as in the past."""
        if self.kind == "category":
            codes = self.codes(values, missing)
            rows = np.zeros((len(codes) + 1, self.n_codes + 1))
            rows[-1, :-1] = [*self.shares, *self._of_missing()]
            return np.where(
                (codes == self.n_codes)[:, None],
                rows[-1, :-1],
                np.eye(self.n_codes + 1)[codes][:, :-1],
            )
        plain = np.full(len(values), self.fill)
        read = _days if self.kind == "date" else _floats
        plain[~missing] = read(values[~missing], name) - self.epoch
        return np.column_stack([plain, missing]) if self.incomplete else plain[:, None]

    def _of_missing(self) -> list[float]:
        """How often it was missing, where it was."""
        return [1 - sum(self.shares) - self.rest] if self.incomplete else []

    def codes(self, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Codes of categories: the last but one is a missing one, `n_codes` one not known."""
        import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

        known = pd.Index(np.array(self.values, dtype=object), dtype=object)
        codes = np.full(len(values), self.n_codes)
        found = known.get_indexer(pd.Index(_plain(values[~missing]), dtype=object))
        codes[~missing] = np.where(found < 0, self.n_codes, found)
        if self.incomplete:
            codes[missing] = len(self.values)
        return codes


@dataclass(frozen=True)
class TableFormat:
    """How the columns of a table become numbers.

    Attributes
    ----------
    columns : tuple of Column
        What was learned of each.
    names : tuple of str or None
        Their names, where they have some.
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        X: Any,
        categorical_features: Any = "from_dtype",
        weights: np.ndarray | None = None,
        looks_up: bool = True,
        surely: Sequence[int] = (),
    ) -> TableFormat | None:
        """Learn the format of past rows.

        Parameters
        ----------
        X : data frame or array-like of shape (n_rows, n_columns)
            Past rows.
        categorical_features : "from_dtype", sequence of int, str or bool, or None, \
default="from_dtype"
            Which columns hold categories: those that are no numbers and no dates, or that are
            of pandas' or polars' categorical types; or those named, numbered or marked.
        weights : ndarray of shape (n_rows,) or None, default=None
            Weights of the rows; those without weight teach nothing.
        looks_up : bool, default=True
            Whether an encoder will learn what many categories are like. If not, those that
            occur most often, and more than once, have a column each; the others are as
            likely any.
        surely : sequence of int, default=()
            Columns that hold categories, beside those that `categorical_features` tells.

        Returns
        -------
        TableFormat or None
            None where rows are numbers that need no format.

        Raises
        ------
        ValueError
            When a column named is none, or one holds what is neither.
        """
        labels = column_labels(X)
        columns = _columns(X)
        if columns is None:
            return None
        names = labels if labels and all(isinstance(n, str) for n in labels) else None
        marked = _marked(categorical_features, len(columns), labels)
        taught = None if weights is None else np.flatnonzero(weights > 0)
        w = None if weights is None else weights[taught]
        found = []
        for i, column in enumerate(columns):
            categorical = True if i in surely else _is_marked(marked, i)
            name, most = labels[i] if labels else i, None if looks_up else MOST_INDICATORS
            found.append(_learned(column, name, categorical, taught, w, most))
        if all(c.kind == "number" and not c.incomplete for c in found):
            return None
        if all(_values(column)[1].all() for column in columns):
            raise ValueError("X contains NaN or another missing value in every cell.")
        return cls(tuple(found), None if names is None else tuple(names))

    @property
    def n_numbers(self) -> int:
        """How many numbers stand before the codes."""
        return sum(column.width for column in self.columns)

    @property
    def sizes(self) -> list[int]:
        """For each column that is looked up, how many codes it has."""
        return [column.n_codes for column in self.columns if column.looked_up]

    @property
    def has_means(self) -> bool:
        """Whether the mean target of each category is known, of columns that are looked up."""
        return all(column.means for column in self.columns if column.looked_up)

    @property
    def width(self) -> int:
        """How many numbers a row becomes, codes at its end."""
        return self.n_numbers + len(self.sizes)

    def numbers(self, X: Any) -> np.ndarray:
        """Rows as numbers.

        Parameters
        ----------
        X : data frame or array-like of shape (n_rows, n_columns)
            Rows of the same columns.

        Returns
        -------
        ndarray of float64 of shape (n_rows, width)
            Numbers, then codes.

        Raises
        ------
        ValueError
            When there are other columns, or what was a number or a date is none.
        """
        columns, labels = _columns(X), column_labels(X)
        if columns is None:
            columns = list(np.asarray(X).T)
        if len(columns) != len(self.columns):
            raise ValueError(f"X has {len(columns)} columns, but the past had {len(self.columns)}.")
        told, codes = [], []
        for i, (column, values) in enumerate(zip(self.columns, columns, strict=True)):
            name = labels[i] if labels else self.names[i] if self.names else i
            array, missing = _values(values)
            if column.looked_up:
                found = column.codes(array, missing)
                codes.append(found.astype(np.float64)[:, None])
                if column.means:
                    told.append(np.array(column.means)[found])
            else:
                told.append(column.numbers(array, missing, name))
        n = len(columns[0]) if columns else 0
        return np.hstack([np.empty((n, 0)), *told, *codes])

    def with_means(
        self, X: Any, targets: np.ndarray, tasks: np.ndarray
    ) -> tuple[TableFormat, np.ndarray]:
        """Learn the mean target of each category, where there are many (Micci-Barreca 2001).

        Means of few rows are shrunk to that of all, as scikit-learn's ``TargetEncoder`` does.

        Parameters
        ----------
        X : data frame or array-like of shape (n_rows, n_columns)
            Past rows.
        targets : ndarray of shape (n_rows, n_outputs)
            Their targets.
        tasks : ndarray of shape (n_rows,)
            Whose they are.

        Returns
        -------
        table : TableFormat
            The same, with means.
        rows : ndarray of shape (n_rows, width)
            These rows as numbers; the means are here those of rows of other tasks.
        """
        rows = self.numbers(X)
        codes = rows[:, self.n_numbers :]
        grid = np.arange(max(self.sizes) + 1)[:, None].repeat(codes.shape[1], 1)
        learned = _category_means(codes, targets, grid)
        places = [i for i, column in enumerate(self.columns) if column.looked_up]
        columns = list(self.columns)
        for j, i in enumerate(places):
            means = learned[: columns[i].n_codes + 1, :, j]
            columns[i] = replace(columns[i], means=tuple(map(tuple, means.tolist())))
        table = replace(self, columns=tuple(columns))
        rows, starts = table.numbers(X), np.cumsum([0, *(c.width for c in columns)])
        n_folds = min(MEAN_FOLDS, len(np.unique(tasks)))
        for rest, part in GroupKFold(n_folds).split(rows, groups=tasks) if n_folds > 1 else ():
            of_others = _category_means(codes[rest], targets[rest], codes[part])
            for j, i in enumerate(places):
                rows[part, starts[i] : starts[i + 1]] = of_others[:, :, j]
        return table, rows

    def cells(self, X: Any) -> np.ndarray:
        """What stands in the cells of such rows, as objects (n_rows, n_columns)."""
        columns = _columns(X)
        columns = list(np.asarray(X).T) if columns is None else columns
        out = np.empty((len(columns[0]), len(columns)), dtype=object)
        for i, column in enumerate(columns):
            out[:, i] = np.asarray(column, dtype=object)
        return out

    # ------------------------------------------------------------------ as plain values
    def to_json(self) -> dict[str, Any]:
        """As plain values, which JSON has."""
        return {
            "names": None if self.names is None else list(self.names),
            "columns": [
                {
                    "kind": c.kind, "fill": c.fill, "incomplete": c.incomplete,
                    "values": list(c.values), "shares": list(c.shares), "epoch": c.epoch,
                    **({"means": [list(one) for one in c.means]} if c.means else {}),
                    **({"rest": c.rest} if c.rest else {}),
                }
                for c in self.columns
            ],
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Any) -> TableFormat:
        """From what `to_json` made; a ValueError for anything else."""
        try:
            columns = [_checked(Column(**_tuples(one))) for one in told["columns"]]
            names = told["names"]
            if names is not None and not (
                all(isinstance(n, str) for n in names) and len(names) == len(columns)
            ):
                raise ValueError("its names are not those of its columns")
            return cls(tuple(columns), None if names is None else tuple(names))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"This is no format of a table: {error}.") from error


# ------------------------------------------------------------------ columns of whatever it is
def _columns(X: Any) -> list[Any] | None:
    """The columns of a table; None of what has no two axes, or is sparse."""
    if hasattr(X, "iloc"):
        return [X.iloc[:, i] for i in range(X.shape[1])] if X.ndim == 2 else None
    if (labels := column_labels(X)) is not None:
        return [X[name] for name in labels]
    if hasattr(X, "tocsr"):
        return None
    array = np.asarray(X)
    return list(array.T) if array.ndim == 2 else None


def _values(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a column holds, and where it holds nothing."""
    import pandas as pd

    array = np.asarray(column)
    missing = np.asarray(pd.isna(array))
    return array, missing


def _told_categorical(column: Any) -> bool:
    """Whether the type of a column says that it holds categories."""
    return "categorical" in f"{getattr(column, 'dtype', '')}{type(column)}".lower() or str(
        getattr(column, "dtype", "")
    ).startswith(("category", "Enum"))


def _marked(asked: Any, n: int, labels: list[Any] | None) -> set[int] | str | None:
    if asked is None:
        return None
    if isinstance(asked, str):
        if asked != "from_dtype":
            raise ValueError(
                "categorical_features must be 'from_dtype', names or numbers of columns, a mask or "
                f"None, got {asked!r}."
            )
        return asked
    if not isinstance(asked, Sequence) and not hasattr(asked, "tolist"):
        raise ValueError(
            "categorical_features must be 'from_dtype', names or numbers of columns, a mask or "
            f"None, got {asked!r}."
        )
    asked = list(asked)
    if asked and all(isinstance(one, bool | np.bool_) for one in asked):
        if len(asked) != n:
            raise ValueError(
                f"categorical_features is a mask of {len(asked)} columns, but X has {n}."
            )
        return {i for i, one in enumerate(asked) if one}
    places = set()
    for one in asked:
        if labels is not None and one in labels:
            places.add(labels.index(one))
        elif isinstance(one, int | np.integer) and -n <= one < n:
            places.add(int(one) % n)
        else:
            raise ValueError(f"categorical_features names {one!r}, but X has no such column.")
    return places


def _is_marked(marked: set[int] | str | None, i: int) -> bool | None:
    """Whether a column holds categories; None where that is for its values to say."""
    if isinstance(marked, set):
        return i in marked
    return None if marked == "from_dtype" else False


# ------------------------------------------------------------------ learning
def _category_means(codes: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Shrunk mean targets (n, n_outputs, n_columns) of the codes `asked`."""
    encoder = TargetEncoder(target_type="continuous")
    return np.stack([encoder.fit(codes, one).transform(asked) for one in targets.T], 1)


def _learned(
    column: Any,
    name: Any,
    categorical: bool | None,
    taught: np.ndarray | None,
    w: np.ndarray | None,
    most: int | None,
) -> Column:
    """What a column teaches, in the rows `taught`, of weights w; None is all, alike."""
    values, missing = _values(column)
    if taught is not None:
        values, missing = values[taught], missing[taught]
    there = values[~missing]
    gone = float(missing.sum() if w is None else w[missing].sum())
    w = w if w is None else w[~missing]
    if categorical is None:
        categorical = _told_categorical(column)
        nothing = most is not None and not len(there) and values.dtype.kind == "O"
        if nothing:  # and whatever comes there later tells nothing
            categorical = True
        if not categorical and not (_are_numbers(there) or _are_dates(there)):
            _refuse_mixture(there, name)
            categorical = True
    if categorical:
        return _of_categories(there, w, gone, name, most)
    if _are_dates(there):
        return Column("date", 0.0, bool(missing.any()), epoch=_mean(_days(there, name), w))
    if not _are_numbers(there):
        raise ValueError(
            f"Column {name!r} of X holds what is no number and no date, such as {there[0]!r}. Name "
            "it in categorical_features if it holds categories, or leave it out."
        )
    return Column("number", _mean(_floats(there, name), w), bool(missing.any()))


def _mean(numbers: np.ndarray, w: np.ndarray | None) -> float:
    if not len(numbers):
        return 0.0
    return float(numbers.mean() if w is None else np.average(numbers, weights=w))


def _refuse_mixture(there: np.ndarray, name: Any) -> None:
    """Refuse words among numbers, of which either are a mistake."""
    if there.dtype.kind != "O":
        return
    words = [v for v in there if isinstance(v, str)]
    if words and len(words) < len(there):
        other = next(v for v in there if not isinstance(v, str))
        raise ValueError(
            f"Column {name!r} of X holds {words[0]!r} and {other!r}: words and others. Make it one "
            "kind, or name it in categorical_features."
        )


def _of_categories(
    there: np.ndarray, w: np.ndarray | None, gone: float, name: Any, most: int | None
) -> Column:
    """Categories, `gone` the weight of rows that have none; of many, the `most` most frequent."""
    import pandas as pd

    plain = _plain(there)
    for value in plain:
        if not isinstance(value, str | int | float | bool):
            raise ValueError(
                f"Column {name!r} of X holds {value!r} of {type(value).__name__}: categories must "
                "be strings, numbers or booleans."
            )
    ones = pd.Series(1.0 if w is None else w, index=range(len(plain)), dtype=float)
    counted = ones.groupby(pd.Series(plain, dtype=object), sort=False).sum()
    n, rest = float(ones.sum() + gone) or 1.0, 0.0
    values = sorted(counted.index, key=lambda v: (isinstance(v, str), v))
    if most is not None and len(values) > most:
        often = sorted((v for v in values if counted[v] > 1), key=lambda v: -counted[v])[:most]
        rest = float(sum(counted[v] for v in values if v not in often)) / n
        values = [v for v in values if v in often]
    shares = tuple(float(counted[v] / n) for v in values)
    return Column("category", incomplete=gone > 0, values=tuple(values), shares=shares, rest=rest)


def _are_numbers(values: np.ndarray) -> bool:
    if values.dtype.kind in "biuf":
        return True
    return values.dtype.kind == "O" and all(isinstance(v, Real | Decimal) for v in values)


def _are_dates(values: np.ndarray) -> bool:
    if values.dtype.kind == "M":
        return True
    dates = values.dtype.kind == "O" and len(values) > 0
    return dates and all(isinstance(v, datetime.date | np.datetime64) for v in values)


def _floats(values: np.ndarray, name: Any) -> np.ndarray:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        found = next(v for v in values if not isinstance(v, Real | Decimal))
        raise ValueError(f"Column {name!r} of X held numbers in the past, got {found!r}.") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"Column {name!r} of X contains infinity.")
    return numbers


def _days(values: np.ndarray, name: Any) -> np.ndarray:
    """Days since 1970, in universal time where there is a time zone."""
    if not _are_dates(values) and len(values):
        raise ValueError(f"Column {name!r} of X held dates in the past, got {values[0]!r}.")
    import pandas as pd

    stamps = pd.to_datetime(pd.Series(values, dtype=object), utc=True)
    seconds = stamps.astype("datetime64[us, UTC]").astype("int64").to_numpy() / 1e6
    return seconds / DAY


def _plain(values: np.ndarray) -> np.ndarray:
    """Categories as Python's own values."""
    out = np.empty(len(values), dtype=object)
    out[:] = [v.item() if isinstance(v, np.generic) else v for v in values.tolist()]
    return out


# ------------------------------------------------------------------ what a file may say
def _tuples(told: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _as_tuple(v) for k, v in told.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_means(column: Column) -> bool:
    means = column.means
    if not isinstance(means, tuple) or not means:
        return means == ()
    return (
        column.looked_up
        and len(means) == column.n_codes + 1
        and all(isinstance(one, tuple) and len(one) == len(means[0]) > 0 for one in means)
        and all(_is_number(value) for one in means for value in one)
    )


def _checked(column: Column) -> Column:
    values, shares = column.values, column.shares
    good = (
        column.kind in KINDS
        and _is_number(column.fill)
        and _is_number(column.epoch)
        and _is_number(column.rest)
        and isinstance(column.incomplete, bool)
        and isinstance(values, tuple)
        and isinstance(shares, tuple)
        and len(shares) == len(values)
        and all(isinstance(v, str | int | float | bool) for v in values)
        and len(set(values)) == len(values)
        and all(_is_number(s) and 0 <= s <= 1 for s in shares)
        and (column.kind == "category" or not values)
        and _are_means(column)
    )
    if not good:
        raise ValueError(f"a column of the kind {column.kind!r} cannot be so")
    return column
