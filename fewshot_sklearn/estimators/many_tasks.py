"""Many tasks put to a meta-trained estimator at once, in padded batches.

Scores over episodes, calibration, comparisons, a model for each of many tasks and the
bootstrap differ in what they do with the answers; here is how they get them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..learners import TASKS_PER_CHUNK, FeatureLearner, Outputs, State, joined, over_axis
from ..tasks import (
    Support,
    TargetMove,
    column_names,
    memberships,
    padded_size,
    refuse_rounded_away,
    tell_far_targets,
)
from ._far_tasks import (
    LEVEL,
    SPREAD,
    knows_targets,
    move_of,
    put_back,
    tell_far_columns,
    without_labels,
)
from .finite_answers import refuse_infinite, solvable
from .pixels import check_pixels
from .validation import (
    as_numbers,
    check_range,
    exact,
    labels_of_numbers,
    rows_as_taken,
)

#: Numbers a padded batch of rows, or of pairs of rows, may hold: 64 MiB of float32.
NUMBERS_AT_ONCE = 2**24
#: Tasks of a batch on a CPU, at most; a learner takes as many of them as stay in its cache.
TASKS_AT_ONCE = 4 * TASKS_PER_CHUNK


def _solvable(method: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse tasks whose equations have no solution in floating point."""

    @wraps(method)
    def refusing(self: ManyTasks, *args: Any) -> Any:
        with solvable(self.init, "fit"):
            return method(self, *args)

    return refusing


class ManyTasks:
    """Tasks made of given rows, as the learner of a meta-trained estimator takes them.

    A task is row numbers, a batch of tasks an array (T, n) of them, padded with -1.

    Parameters
    ----------
    estimator : FewShotEstimator
        A meta-trained one, see `adapts_in_batches`; it is only read.
    X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows of all tasks.
    n_outputs : int or None, default=None
        Number of regression targets, to be compared with the meta-init's.
    validated : bool, default=False
        Whether X are rows of numbers already, as `as_numbers` makes them.
    """

    def __init__(
        self, estimator: Any, X: Any, n_outputs: int | None = None, validated: bool = False
    ):
        init, self.estimator = estimator._resolve_meta_init(), estimator
        self.X = X if validated else as_numbers(init.table, X, ragged=estimator._ragged)
        names = column_names(X)
        estimator._check_fits(init, self.X.shape[1:], n_outputs, names)
        # of rows that are numbers already the estimator knows the columns
        self._labels = labels_of_numbers(init.table, names or estimator._columns())
        check_pixels(init, self.X, together=True)
        self.init, self.learner = init, estimator._rebuild(init)
        self.dtype, self.device = estimator._compute_dtype(), self.learner.x_mean.device
        check_range(self.X, self.dtype, "X", self._labels)
        if estimator._ragged:
            refuse_rounded_away(self.X, self.dtype)
        self._told_far = self._columns_near = False
        self.by_features = isinstance(self.learner, FeatureLearner)
        self._features: Tensor | None = None
        self._known = np.zeros(0, dtype=bool)
        self._shapes: dict[tuple[torch.Size, int], dict[str, torch.Size]] = {}

    def batches(self, kinds: np.ndarray, *counts: np.ndarray) -> Iterator[np.ndarray]:
        """Which tasks to take at once: of one kind and about one size, and small enough.

        Parameters
        ----------
        kinds : ndarray of int of shape (n_tasks,)
            Tasks of different kinds, such as numbers of classes, are kept apart.
        *counts : ndarray of int of shape (n_tasks,)
            Numbers of rows of each task, such as of its support and of its queries.

        Yields
        ------
        ndarray of int of shape (T,)
            Numbers of tasks.
        """
        sizes = [padded_size(count) for count in counts]
        keys = np.stack([*sizes, kinds])
        order = np.lexsort(keys)
        changes = (np.diff(keys[:, order], axis=1) != 0).any(0)
        width = max(int(np.prod(self.X.shape[1:])), self.learner.n_features)
        for alike in np.split(order, np.flatnonzero(changes) + 1):
            if not len(alike):
                continue
            size = max(1, int(sum(size[alike[0]] for size in sizes)))
            at_once = max(1, NUMBERS_AT_ONCE // (size * max(size, width)))
            at_once = min(at_once, TASKS_AT_ONCE) if self.device.type == "cpu" else at_once
            for start in range(0, len(alike), at_once):
                yield alike[start : start + at_once]

    # ------------------------------------------------------------------ tensors of a batch
    def tensor(self, array: np.ndarray) -> Tensor:
        """An array where it is computed with, in the estimator's precision."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, self.dtype)

    @torch.no_grad()
    def features(self, used: np.ndarray) -> Tensor:
        """Features of all rows, of which at least these are filled in, each computed but once."""
        if self._features is None:
            self._known = np.zeros(len(self.X), dtype=bool)
        new = np.unique(used[~self._known[used]])
        if len(new) or self._features is None:
            Z = self.learner.embed(self._exact(self.X[new], "X"))
            if self._features is None:
                self._features = Z.new_zeros((len(self.X), *Z.shape[1:]))
            self._features[self._index(new)] = Z
            self._known[new] = True
        return self._features

    @torch.no_grad()
    def rows(self, numbers: np.ndarray) -> Tensor:
        """Features (T, n, ...) of rows, or where the learner wants them rows; zero where padded.

        Those that `features` was asked for before are not computed again.
        """
        real = numbers >= 0
        used = numbers[real]
        if self.by_features and self._features is not None and self._known[used].all():
            Z = self._features[self._index(used)]
        else:
            Z = self._exact(self.X[used], "X")
            Z = self.learner.embed(Z) if self.by_features else Z
        if real.all():
            return Z.unflatten(0, real.shape)
        out = Z.new_zeros((*real.shape, *Z.shape[1:]))
        out[self._index(real)] = Z
        return out

    def targets(self, y: np.ndarray, n_way: int | None) -> Tensor:
        """Memberships (T, n, n_way) of codes, negative ones of no class; or targets as they are."""
        if n_way is None:  # in float64, lest those far from zero are rounded before they are near
            return exact(y, True, self.dtype, self.device, "y")
        return memberships(torch.as_tensor(y, device=self.device), n_way, self.dtype)

    def _exact(self, array: np.ndarray, name: str) -> Tensor:
        labels = self._labels if name == "X" else None
        array = rows_as_taken(array, self.learner.integers and name == "X")
        return exact(array, self.learner.rounds_itself, self.dtype, self.device, name, labels)

    def _index(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    # ------------------------------------------------------------------ far from the past
    def _near(self, Z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, TargetMove | None]:
        """Targets as the learner takes them, and how those far from past ones were moved."""
        if not self._columns_near:  # of rows that are adapted to, not of those to predict
            tell_far_columns(self.learner, self.init, self.X, self._labels)
            self._columns_near = True
        if self.learner.n_outputs is None:
            return y, None
        move = None
        if knows_targets(self.init):

            def expected() -> np.ndarray:
                return without_labels(self.learner, self._forward, Z, y, w)

            move = move_of(self.learner, y.cpu().numpy(), w.cpu().numpy(), expected)
        if move is not None:
            if not self._told_far:
                tell_far_targets(6)
            self._told_far = True
            y = torch.from_numpy(move.near(y.double().cpu().numpy())).to(y.device)
        return self._in_precision(y), move

    # ------------------------------------------------------------------ adapt and answer
    @_solvable
    @torch.no_grad()
    def adapted(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """States of a batch of tasks, each tensor with a leading axis of tasks."""
        y, move = self._near(Z, y, w)
        key, first = (Z.shape[1:], y.shape[-1]), None
        if key not in self._shapes:
            first = self._adapted_to_one(Z[0], y[0], w[0])
            self._shapes[key] = {name: t.shape for name, t in first.items()}
        if first is not None and len(Z) == 1:
            state = {name: t[None] for name, t in first.items()}
        elif self.by_features:
            state = self.learner.over_tasks("adapt_features", Z, y, w)
        else:
            batch = zip(Z, y, w, strict=True)
            state = joined([self._adapted_to_one(*task) for task in batch], torch.stack)
        # what all tasks of a batch share may come without an axis of tasks, or be the learner's own
        state = {k: t.expand(len(Z), *self._shapes[key][k]) for k, t in state.items()}
        if move is None:
            return state
        moved = np.broadcast_arrays(move.level, move.spread)
        level, spread = (torch.from_numpy(a.copy()).to(self.device) for a in moved)
        return state | {LEVEL: level, SPREAD: spread}

    @_solvable
    @torch.no_grad()
    def adapted_to_take_in(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """`adapted`, with what `taken_in` needs beside; of learners that `takes_in` is true of."""
        state = self.adapted(Z, y, w)
        near = (y - state[LEVEL]) / state[SPREAD] if LEVEL in state else y
        return state | self.learner.statistics(Z, self._in_precision(near), w)

    @_solvable
    @torch.no_grad()
    def taken_in(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        """States of a batch of tasks, of all rows there were and of some more: see `take_in`.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapted_to_take_in` or this returned, each tensor with a leading axis of tasks.
        Z, y, w : Tensor of shape (T, n, ...)
            Features of the further rows, memberships or targets, and weights; those of
            weight zero, with which tasks are padded, change nothing.
        index : Tensor of int of shape (n_way,) or None, default=None
            Where each class of y stands in the states, -1 for one that is new to all.
        """
        moved = {name: state[name] for name in (LEVEL, SPREAD) if name in state}
        if moved:
            y = (y - moved[LEVEL]) / moved[SPREAD]
        state = {name: t for name, t in state.items() if name not in moved}
        return self.learner.take_in_features(state, Z, self._in_precision(y), w, index) | moved

    def _in_precision(self, y: Tensor) -> Tensor:
        rounds = self.learner.rounds_itself or self.learner.n_outputs is None
        return y if rounds else y.to(self.dtype)

    def _adapted_to_one(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.by_features:
            return self.learner.adapt_features(Z, y, w)
        return self.learner.adapt(Support(Z, y, w))

    @_solvable
    @torch.no_grad()
    def answers(self, state: State, Z: Tensor, real: np.ndarray | None = None) -> Outputs:
        """Outputs (T, n, ...) for rows of tasks that were adapted to.

        Which of them are `real` (T, n), and no padding, decides where a learner answers all rows
        of a task together.
        """
        if LEVEL in state:
            rest = {name: t for name, t in state.items() if name not in (LEVEL, SPREAD)}
            return put_back(self.answers(rest, Z, real), state[LEVEL], state[SPREAD])
        outputs = self._answers(state, Z, real)
        refuse_infinite(outputs, self.learner.n_outputs, self.init)
        return outputs

    def _answers(self, state: State, Z: Tensor, real: np.ndarray | None) -> Outputs:
        learner = self.learner
        if learner.transductive:
            return self._in_chunks(learner.predict_features_in_parts, state, Z, *self._told(real))
        one_task: Callable[..., Any] = learner.predict_in_parts
        if self.by_features:
            one_task = learner.predict_features_in_parts
            if learner.takes_batches:
                return self._in_chunks(one_task, state, Z)
            if not learner.loops(Z):
                return over_axis(one_task, state, Z, chunk=TASKS_PER_CHUNK)
        each = ({name: t[i] for name, t in state.items()} for i in range(len(Z)))
        return joined([one_task(s, z) for s, z in zip(each, Z, strict=True)], torch.stack)

    def _in_chunks(self, function: Callable[..., Any], state: State, *rows: Tensor) -> Outputs:
        chunk = TASKS_PER_CHUNK if rows[0].device.type == "cpu" else len(rows[0])
        parts = [
            function(
                {name: t[i : i + chunk] for name, t in state.items()},
                *(t[i : i + chunk] for t in rows),
            )
            for i in range(0, len(rows[0]), chunk)
        ]
        return parts[0] if len(parts) == 1 else joined(parts, torch.cat)

    @_solvable
    @torch.no_grad()
    def episodes(
        self,
        Z: Tensor,
        y: Tensor,
        w: Tensor,
        Z_query: Tensor,
        real: np.ndarray | None = None,
    ) -> Outputs:
        """Outputs (T, n_query, ...) for queries of tasks whose states nobody needs.

        As in `answers`, `real` tells queries (T, n_query) that are no padding.
        """
        y, move = self._near(Z, y, w)
        told = self._told(real) if self.learner.transductive else ()
        outputs = self._forward(Z, y, w, Z_query, *told)
        refuse_infinite(outputs, self.learner.n_outputs, self.init)
        return outputs if move is None else put_back(outputs, move.level, move.spread)

    def _told(self, real: np.ndarray | None) -> tuple[Tensor, ...]:
        return () if real is None else (self.tensor(real),)

    def _forward(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor, *told: Tensor) -> Outputs:
        forward = self.learner.forward_features if self.by_features else self.learner
        return forward(Z, self._in_precision(y), w, Z_query, *told)
