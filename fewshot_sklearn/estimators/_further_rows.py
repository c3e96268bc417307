"""Rows that come later: taken into the state where the method can, else all are adapted to anew."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ..learners import Learner, State
from ..meta_init import MetaInit
from ..tasks import Support
from ._kept_support import KeptSupport, joined_support, some_support, support_rows
from ._memory import refuse_too_large
from .base import FewShotEstimator, as_arrays
from .finite_answers import solvable
from .pixels import check_pixels
from .validation import USUAL, as_numbers, rows_as_taken

#: What is said where no class would be left that has rows.
NONE_LEFT = "classes holds all classes that have rows: none would be left to predict."


class GivenRows(NamedTuple):
    """Rows as `fit` checked them.

    Attributes
    ----------
    X : ndarray of shape (n_rows, ...)
        Numbers.
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Labels, class probabilities or targets.
    w : ndarray of shape (n_rows,)
        Weights.
    kept : tuple
        What is kept of them.
    """

    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    kept: KeptSupport


class TakesFurtherRows(FewShotEstimator):
    """What `partial_fit` and `forget` are made of, for classifiers and regressors alike."""

    _support: KeptSupport | None
    #: Weights of the support rows; None where all are one.
    _support_weights: np.ndarray | None = None
    #: Targets that `fit` saw.
    _n_targets = 1
    #: Whether there were support rows, of which nothing is kept.
    _support_dropped = False
    #: Least and largest values of the rows, where there is no past to say their unit.
    _extent: tuple[np.ndarray, np.ndarray] | None = None
    #: What the state was adapted with.
    _adapted_with = ""

    def _fit_rows(self, rows: GivenRows) -> None:
        """Adapt to validated rows, and to no others."""
        raise NotImplementedError

    def _joined_targets(
        self, first: KeptSupport, second: KeptSupport
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels or targets of two sets of rows, and the classes that probabilities are of."""
        return np.concatenate([first[1], second[1]]), None

    # ------------------------------------------------------------------ the support
    def drop_support(self) -> Self:
        """Let go of the support rows, and keep nothing but what was learned of them.

        `predict` answers as before, and the estimator is as small as can be. `explain`
        has no rows left to name. `partial_fit` and `forget` go on where the method
        takes rows into what it learned, and raise a ValueError where it needs all of
        them: the description of the class says which.

        Returns
        -------
        self : object
            The estimator.
        """
        check_is_fitted(self)
        self._support_dropped = self._seen()
        self._support = self._support_weights = None
        return self

    def _keep(self, kept: KeptSupport, w: np.ndarray) -> None:
        self._support, self._support_dropped = kept, False
        self._support_weights = None if (w == 1).all() else w

    def _seen(self) -> bool:
        """Whether there were any rows."""
        if not hasattr(self, "state_"):
            return False
        # who was handed a state, as by a file, has no such attribute; after `fit_prior` it is None
        return self._support_dropped or vars(self).get("_support", "elsewhere") is not None

    def _seen_rows(self, stay: np.ndarray | None = None) -> GivenRows:
        """The support rows, or some of them, as `fit` took them."""
        assert self._support is not None
        w = self._support_weights
        kept, n = self._support, len(self._support[1])
        w = np.ones(n) if w is None else w
        if stay is not None:
            kept, w = some_support(kept, stay), w[stay]
        table = self._known_format()
        X = kept[0] if table is None else as_numbers(table, support_rows(self, kept))
        return GivenRows(X, kept[1], w, kept)

    def _joined(self, rows: GivenRows) -> GivenRows:
        """The support rows and further ones."""
        old, (kept, w) = self._seen_rows(), self._joined_support(rows)
        return GivenRows(np.concatenate([old.X, rows.X]), kept[1], w, kept)

    def _read_anew(self, rows: GivenRows) -> GivenRows:
        """All rows that are adapted to anew, in the format that they teach."""
        return rows

    def _joined_support(self, rows: GivenRows) -> tuple[KeptSupport, np.ndarray]:
        """What is kept of the support rows and further ones, and the weights of all."""
        assert self._support is not None
        old, w = self._support, self._support_weights
        w = np.ones(len(old[1])) if w is None else w
        kept = joined_support(old, rows.kept, *self._joined_targets(old, rows.kept))
        return kept, np.concatenate([w, rows.w])

    # ------------------------------------------------------------------ into the state
    def _adapted(self, learner: Learner, support: Support) -> State:
        past = self.meta_init_.fixed_spec.get("past", True)
        self._adapted_with = self._described(self.meta_init_ if past else None)
        self._extent = None
        if not past and not self._why_all_rows(learner):
            self._extent = self._extent_with(support.X.cpu().numpy())
        adapt = learner.adapt if self._why_all_rows(learner) else learner.adapt_to_take_in
        return adapt(support)

    def _described(self, init: MetaInit | None) -> str:
        """All parameters that the state hangs on."""
        learner = self._learner_class if init is None else self._learner_class_of(init)
        trained = None if init is None else init.fixed_spec["hyperparameters"]
        told = self._learner_params(trained) | self._encoder_params()
        encoder = self.encoder if isinstance(self.encoder, str) else type(self.encoder).__name__
        digest = None if init is None else init.digest
        parts = learner.__name__, digest, encoder, sorted(told.items()), self._compute_dtype()
        return repr((*parts, self.n_augment, self.freeze_encoder, self.scale_inputs, self.layout))

    def _why_all_rows(self, learner: Learner) -> str:
        """Why further rows need all rows that there were, in words; empty where they do not."""
        if not learner.takes_in:
            return "the method adapts to all rows at once"
        if self.n_augment:
            return "altered copies are drawn of all rows at once"
        if self.meta_init_.fixed_spec.get("past", True):
            return ""
        scales = learner.scales_inputs_without_past or learner.centres_inputs_without_past
        if scales or learner.n_outputs is not None or bool((learner.x_scale != 1).any()):
            return "without a meta-init the scale is that of all rows"
        return ""

    def _why_not_into_state(self, learner: Learner, X: np.ndarray) -> str:
        """`_why_all_rows`, of further rows."""
        if why := self._why_all_rows(learner):
            return why
        if self._changed():
            return "parameters have changed since, or another version fitted it"
        if self.meta_init_.fixed_spec.get("past", True):
            return ""
        # for certain of a usual unit, however the rows lie between the least and the largest
        low, high = self._extent_with(X)
        usual = 2 * USUAL[0] <= (high - low).max() <= USUAL[1]
        return "" if usual else "without a meta-init the scale is that of all rows"

    def _extent_with(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values of all rows, further ones among them."""
        ends = X.min(0).astype(np.float64), X.max(0).astype(np.float64)
        if self._extent is None:
            return ends
        return np.minimum(self._extent[0], ends[0]), np.maximum(self._extent[1], ends[1])

    def _changed(self) -> bool:
        """Whether parameters are others than those that the state was adapted with."""
        return self._described(self._in_use(self._resolve_meta_init())) != self._adapted_with

    def _in_use(self, init: MetaInit | None) -> MetaInit | None:
        """What of a meta-init the task at hand was adapted from."""
        return init

    def _needs_rows(self, why: str) -> None:
        if vars(self).get("_support") is None:
            raise ValueError(
                f"{type(self).__name__} has its support rows no more, which it needs here: {why}. "
                "Fit it again, on all rows."
            )
        if "_support_dropped" not in vars(self):
            raise ValueError(
                f"{type(self).__name__} was fitted by another version, which did not keep the "
                "weights of its rows. Fit it again, on all rows."
            )

    def _take_in(
        self, rows: GivenRows, y: np.ndarray, n_outputs: int | None, index: np.ndarray | None
    ) -> None:
        """Take rows into the state; y are targets, or memberships of classes as `index` has it."""
        X = rows_as_taken(rows.X, bool(self.meta_init_.inputs.get("integers", False)))
        check_pixels(self.meta_init_, X)
        support = self._as_support(X, y, rows.w, n_outputs)
        learner = self._rebuild(self.meta_init_, support.X.device)
        state = self._state_on(support.X.device)
        refuse_too_large(self, learner, learner.rows_kept(state) + len(y), y.shape[1])
        places = None if index is None else torch.from_numpy(index).to(support.X.device)
        with torch.no_grad(), solvable(self.meta_init_, "partial_fit"):
            state = learner.take_in(state, support, places)
        self.state_ = as_arrays(state)
        if self._extent is not None:
            self._extent = self._extent_with(rows.X)
        if vars(self).get("_support") is not None:
            self._keep(*self._joined_support(rows))

    def _left_out(self, kept: np.ndarray) -> State | None:
        """The state of some classes alone; None where that takes the rows."""
        learner = self._rebuild(self.meta_init_)
        if self._why_all_rows(learner) or self._changed():
            return None
        device = learner.x_mean.device
        state, places = self._state_on(device), torch.from_numpy(kept).to(device)
        if not learner.classes_seen(state)[places].any():
            raise ValueError(NONE_LEFT)
        with torch.no_grad(), solvable(self.meta_init_, "forget"):
            return learner.leave_out(state, places)

    def _check_further(self, X: np.ndarray, n_outputs: int | None) -> None:
        """Refuse rows of another shape than those that `fit` saw."""
        shape, spec = X.shape[1:], self.meta_init_.fixed_spec
        seen = tuple(spec["input_shape"])
        if self.meta_init_.inputs.get("ragged"):
            seen = getattr(self, "_shape_in_fit", seen)
        if not spec.get("any_width") and shape != seen:
            raise ValueError(f"X has rows of shape {shape}, but fit saw rows of shape {seen}.")
        known = self._n_targets if spec.get("any_width") else spec["n_outputs"]
        if n_outputs is not None and n_outputs != known:
            raise ValueError(f"y has {n_outputs} output(s), but fit saw {known} of them.")

    def _begin_without_rows(self) -> MetaInit:
        init = super()._begin_without_rows()
        self._support_weights, self._support_dropped = None, False
        return init
