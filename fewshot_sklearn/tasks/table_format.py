"""Tables as numbers: what past rows teach of columns that are categories, dates or incomplete.

Five rows cannot tell which categories there are, or what to put where a number is missing. The
past can: what it taught is kept with what is learned from it, and read from there ever after.

D. Micci-Barreca. A preprocessing scheme for high-cardinality categorical attributes in
classification and prediction problems. SIGKDD Explorations 3, 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import TargetEncoder

from ._column import MOST_INDICATORS, Column, sound_column, with_tuples
from ._column_learning import cells_of, learned_column
from .columns import check_columns, column_names
from .rows import column_labels

#: Parts of the past tasks: means of a row's categories are of the rows of the other parts.
MEAN_FOLDS = 5


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
            likely any; where none are left over, the most frequent needs no column.
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
        columns = columns_of(X)
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
            one = learned_column(column, name, categorical, taught, w, most)
            found.append(replace(one, one_less=not looks_up and one.tells_all))
        if all(c.kind == "number" and not c.incomplete for c in found):
            return None
        if all(cells_of(column)[1].all() for column in columns):
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

    def labels_of_numbers(self, labels: Sequence[Any] | None = None) -> list[Any]:
        """For each number of a row the name of the column that it comes from, or its number.

        Parameters
        ----------
        labels : sequence or None, default=None
            Names of the columns; None takes those that are known.

        Returns
        -------
        list
            The names.
        """
        names = self.names if labels is None else labels
        names = range(len(self.columns)) if names is None else names
        pairs = list(zip(names, self.columns, strict=True))
        told = [name for name, column in pairs for _ in range(column.width)]
        return told + [name for name, column in pairs if column.looked_up]

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
        columns, labels = columns_of(X), column_labels(X)
        known = None if self.names is None else list(self.names)
        check_columns(column_names(X), known)
        if columns is None:
            columns = list(np.asarray(X).T)
        if len(columns) != len(self.columns):
            raise ValueError(f"X has {len(columns)} columns, but the past had {len(self.columns)}.")
        told, codes = [], []
        for i, (column, values) in enumerate(zip(self.columns, columns, strict=True)):
            name = labels[i] if labels else self.names[i] if self.names else i
            array, missing = cells_of(values)
            if column.looked_up:
                found = column.codes(array, missing, name)
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
        columns = columns_of(X)
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
                    **({"held": c.held} if c.held else {}),
                    **({"one_less": c.one_less} if c.one_less else {}),
                }
                for c in self.columns
            ],
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Any) -> TableFormat:
        """From what `to_json` made; a ValueError for anything else."""
        try:
            columns = [sound_column(Column(**with_tuples(one))) for one in told["columns"]]
            names = told["names"]
            if names is not None and not (
                all(isinstance(n, str) for n in names) and len(names) == len(columns)
            ):
                raise ValueError("its names are not those of its columns")
            return cls(tuple(columns), None if names is None else tuple(names))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"This is no format of a table: {error}.") from error


# ------------------------------------------------------------------ columns of whatever it is
def columns_of(X: Any) -> list[Any] | None:
    """The columns of a table; None of what has no two axes, or is sparse."""
    if hasattr(X, "iloc"):
        return [X.iloc[:, i] for i in range(X.shape[1])] if X.ndim == 2 else None
    if (labels := column_labels(X)) is not None:
        return [X[name] for name in labels]
    if hasattr(X, "tocsr"):
        return None
    array = np.asarray(X)
    return list(array.T) if array.ndim == 2 else None


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


def _category_means(codes: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Shrunk mean targets (n, n_outputs, n_columns) of the codes `asked`."""
    encoder = TargetEncoder(target_type="continuous")
    return np.stack([encoder.fit(codes, one).transform(asked) for one in targets.T], 1)


# ------------------------------------------------------------------ what a file may say
