"""What all few-shot estimators do: adapt at `fit`, answer from what that left, explain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state, check_scalar, estimator_html_repr
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..learners import Learner, State
from ..meta_init import MetaInit
from ..tasks import (
    OfWholeNumbers,
    Support,
    TableFormat,
    TargetMove,
    check_columns,
    check_parameters,
    column_names,
    refuse_rounded_away,
    tell_far_targets,
    with_altered_copies,
)
from ._far_tasks import LEVEL, SPREAD, put_back, refused_by, tell_far_columns
from ._kept_support import KeptSupport, given_support
from ._learners import HasLearner
from ._memory import refuse_too_large
from .device_choice import device_for
from .explanation import encoder_features, explain
from .finite_answers import refuse_infinite, solvable
from .pixels import check_pixels
from .validation import (
    as_numbers,
    exact,
    labels_of_numbers,
    rows_as_taken,
    usual_unit,
    validated,
)


class FewShotEstimator(HasLearner):
    """Base class of the estimators: `fit` is `Learner.adapt`, `predict` is `Learner.predict`."""

    #: Whether rows of a table come as the numbers that they become.
    _reads_numbers = False

    # ------------------------------------------------------------------ fit
    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Be as before after a `fit` that failed: no names of columns that the state is not of."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _adapt(self, X: np.ndarray, y: np.ndarray, w: np.ndarray, n_outputs: int | None) -> None:
        """`Learner.adapt` on validated arrays; y are memberships or targets, two-dimensional."""
        X = given = rows_as_taken(X, self._takes_whole(X))
        if self._ragged:
            refuse_rounded_away(X, self._compute_dtype())
        if n := check_scalar(self.n_augment, "n_augment", Integral, min_val=0):
            if self._ragged and self.augment is None:
                raise ValueError(
                    f"n_augment={n} needs augment=, a callable (X, rng) -> X, for series."
                )
            rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
            augment = OfWholeNumbers(self.augment) if X.dtype == np.int64 else self.augment
            X, y, w = with_altered_copies(X, y, w, n, augment, rng)
        self._shape_in_fit = X.shape[1:]
        self._fitted_dtype = str(self._compute_dtype())
        support = self._as_support(X, y, w, n_outputs)
        self.meta_init_ = self._meta_init_for(support, n_outputs)
        check_pixels(self.meta_init_, given, together=True)
        learner = self._rebuild(self.meta_init_, support.X.device)
        refuse_too_large(self, learner, *y.shape)
        if w.any():  # there are rows
            tell_far_columns(learner, self.meta_init_, X, self._names_of_numbers())
        with torch.no_grad(), solvable(self.meta_init_, "fit"):
            move = self._move(learner, support, y, w)
            if move is not None:
                with refused_by(self.meta_init_):
                    support = self._as_support(X, move.near(y), w, n_outputs)
            state = self._adapted(learner, support)
        self.state_ = as_arrays(state)
        if move is not None:
            tell_far_targets(3)
            self.state_ |= {LEVEL: move.level, SPREAD: move.spread}

    def _move(
        self, learner: Learner, support: Support, y: np.ndarray, w: np.ndarray
    ) -> TargetMove | None:
        """How targets are brought near those of past tasks, where they lie far from them."""
        return None

    def _as_support(
        self, X: np.ndarray, y: np.ndarray, w: np.ndarray, n_outputs: int | None
    ) -> Support:
        dtype, device = self._compute_dtype(), device_for(self, len(X), X.shape[1:])
        # what is given is large, and only read
        members = torch.from_numpy(y).to(device, dtype)
        weights = torch.tensor(w, dtype=dtype, device=device)
        keep = self._learner_class.rounds_itself
        known = members if n_outputs is None else exact(y, keep, dtype, device, "y")
        rows = exact(X, keep, dtype, device, "X", self._names_of_numbers())
        return Support(rows, known, weights)

    def _adapted(self, learner: Learner, support: Support) -> State:
        return learner.adapt(support)

    def _meta_init_for(self, support: Support, n_outputs: int | None) -> MetaInit:
        """The meta-init, if it fits these rows; without one, that of a learner without past."""
        shape, rng = tuple(support.X.shape[1:]), check_random_state(self.random_state)
        init = self._resolve_meta_init() or self._default_meta_init(shape)
        if init is None:
            seed = rng.randint(2**31)
            whole = not support.X.is_floating_point()
            learner = self._new_learner(shape, n_outputs, seed, past=False, whole=whole)
            theirs, spec = self._left_to_the_user(learner, self._spec(learner))
            # on the CPU, so that the meta-init is the same to the bit wherever it is fitted
            support = Support(*(part.cpu() for part in support))
            learner = learner.to(self._compute_dtype())
            scales = learner.scales_inputs_without_past or learner.centres_inputs_without_past
            learner.fit_scale(support.X if scales else None, support.y, support.w)
            unit = usual_unit(support.X) if learner.scales_inputs else 1.0
            if not scales:
                learner.x_scale = learner.x_scale * unit
            if learner.centres_inputs_without_past:
                learner.x_scale = torch.ones_like(learner.x_scale)
            state = {name: t for name, t in learner.state_dict().items() if name not in theirs}
            init = MetaInit.from_state(state, spec | {"past": False})
        self._check_fits(init, shape, n_outputs, self._columns())
        return init

    def _table(self) -> TableFormat | None:
        """How rows come from a table, for `fit`: as the meta-init has it."""
        init = self._resolve_meta_init()
        return None if init is None else init.table

    def _format_of(self, X: Any, sample_weight: Any) -> TableFormat | None:
        """How the rows of a `fit` come from a table."""
        return self._table()

    def _known_format(self) -> TableFormat | None:
        """How rows come from a table, once fitted."""
        return self.meta_init_.table

    def _format_of_further(self, X: Any) -> TableFormat | None:
        """How these rows come from a table, once fitted."""
        return self._known_format()

    def _names_of_numbers(self) -> Any:
        """Names of the columns that the numbers of a row come from, for errors; None without."""
        own = getattr(self, "table_format_", None)  # of rows that taught it themselves
        table = self._table() if own is None else own
        columns = self._columns()
        if table is not None and columns is not None and len(columns) != len(table.columns):
            return None
        return None if self._reads_numbers else labels_of_numbers(table, columns)

    def _columns(self) -> list[str] | None:
        """The columns that `fit` saw, if they have names."""
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else list(names)

    def _default_meta_init(self, shape: tuple[int, ...]) -> MetaInit | None:
        """What `fit` adapts from where no meta-init is given; None is a learner without past."""
        return None

    def _begin_without_rows(self) -> MetaInit:
        """The meta-init, and what `fit` would have learned of the rows' format."""
        check_parameters(self)
        init = self._resolve_meta_init()
        if init is None:
            raise ValueError(
                f"{type(self).__name__} has no meta_init, so it knows nothing without rows. "
                "Meta-train it first, or call fit."
            )
        self._support: KeptSupport | None = None
        table, names = init.table, init.feature_names
        self.n_features_in_ = (
            init.fixed_spec["input_shape"][0] if table is None else len(table.columns)
        )
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return init

    # ------------------------------------------------------------------ after fit
    def _state(self, name: str) -> np.ndarray:
        check_is_fitted(self)
        if name not in self.state_:
            raise AttributeError(f"{type(self).__name__} was fitted on no rows: no {name!r}.")
        return self.state_[name]

    def _fitted_learner_and_rows(self, X: Any) -> tuple[Any, Tensor]:
        check_is_fitted(self)
        self._refuse_other_dtype()
        table = None if self._reads_numbers else self._format_of_further(X)
        X = validated(self, table, X, reset=False)
        spec = self.meta_init_.fixed_spec
        shape = tuple(spec["input_shape"])
        # of any width: then as wide as in fit, which is checked above
        if self.meta_init_.inputs.get("ragged"):
            shape = getattr(self, "_shape_in_fit", shape)
        if X.ndim != 2 if spec.get("any_width") else X.shape[1:] != shape:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but fit saw rows of shape {shape}."
            )
        check_pixels(self.meta_init_, X)
        learner = self._rebuild(self.meta_init_, device_for(self, len(X), X.shape[1:]))
        return learner, self._rows_for(learner, X)

    def _rows_for(self, learner: Learner, X: np.ndarray) -> Tensor:
        dtype, device = self._compute_dtype(), learner.x_mean.device
        X = rows_as_taken(X, learner.integers)
        if self._ragged:
            refuse_rounded_away(X, dtype)
        return exact(X, learner.rounds_itself, dtype, device, "X", self._names_of_numbers())

    def _state_on(self, device: torch.device) -> State:
        return {name: torch.tensor(array, device=device) for name, array in self.state_.items()}

    def _outputs(self, X: Any) -> Any:
        learner, rows = self._fitted_learner_and_rows(X)
        state = self._state_on(rows.device)
        with torch.no_grad(), solvable(self.meta_init_, "predict"):
            outputs = learner.predict_in_parts(state, rows)
        refuse_infinite(outputs, learner.n_outputs, self.meta_init_)
        return self._put_back(outputs)

    def _put_back(self, outputs: Any) -> Any:
        """Outputs as the targets of the task are."""
        if LEVEL not in self.state_:
            return outputs
        return put_back(outputs, self.state_[LEVEL], self.state_[SPREAD])

    # ------------------------------------------------------------------ features and reasons
    def embed(self, X: Any) -> np.ndarray:
        """Embed rows with the encoder, as meta-training left it; `fit` is not needed.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Their features.

        Raises
        ------
        ValueError
            When X does not have the shape that the meta-init was trained on.
        NotFittedError
            When there is neither a meta-init nor a fit.
        """
        return encoder_features(*self._learner_and_rows(X))

    def _init_in_use(self) -> MetaInit:
        """The meta-init; without one, that of the last `fit`."""
        if self.meta_init is None:
            check_is_fitted(self)
        return self._resolve_meta_init() or self.meta_init_

    def _learner_and_rows(self, X: Any) -> tuple[Learner, Tensor]:
        """The learner, and rows as it takes them; with a meta-init `fit` is not needed."""
        init, columns = self._init_in_use(), column_names(X)
        if hasattr(self, "state_"):  # the columns are known, even if the meta-init has no names
            check_columns(columns, self._columns())
        table = self._known_format() if hasattr(self, "state_") else init.table
        X = as_numbers(table, X, ragged=self._ragged)
        self._check_fits(init, X.shape[1:], None, columns)
        check_pixels(init, X)
        learner = self._rebuild(init, device_for(self, len(X), X.shape[1:]))
        return learner, self._rows_for(learner, X)

    def explain(self, X: Any, n_neighbors: int = 3, past: Any = None) -> Any:
        """Say what each prediction rests on: the support rows, and past tasks, that are nearest.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows to explain the predictions of.
        n_neighbors : int, default=3
            Number of nearest support rows, and of nearest past tasks, to tell.
        past : TaskMemory or None, default=None
            Past tasks to compare with.

        Returns
        -------
        pandas.DataFrame
            For each row asked for, one line for each neighbour, nearest first; see
            `fewshot_sklearn.estimators.explain`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            When the estimator was fitted on no rows and no past tasks are given.
        """
        check_is_fitted(self)
        X_support, y_support = given_support(self)
        return explain(self, X, X_support, y_support, n_neighbors=n_neighbors, past=past)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._ragged
        return tags

    def _html_repr(self) -> str:
        """The diagram that notebooks show, with the card of the meta-init beneath."""
        diagram = estimator_html_repr(self)
        try:
            init = self._resolve_meta_init()
        except (ValueError, OSError):
            init = None  # a diagram is no place to complain: fit will
        return diagram if init is None else diagram + init._repr_html_()


def as_arrays(state: State) -> dict[str, np.ndarray]:
    """A state as an estimator keeps it."""
    return {name: t.detach().cpu().numpy().copy() for name, t in state.items()}
