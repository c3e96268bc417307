"""What all few-shot classifiers share: labels in, probabilities out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ..meta_init import MetaInit
from ..tasks import (
    Support,
    as_they_are,
    check_parameters,
    comparable,
    distinct,
    memberships,
    refuse_missing,
)
from ._further_rows import NONE_LEFT, GivenRows, TakesFurtherRows
from ._kept_support import KeptSupport, joined_labels, kept_support
from ._memory import refuse_too_many_labels
from .base import as_arrays
from .known_classes import known_classes, of_new_classes, tell_new_classes
from .validation import check_weights, validated

#: Name of the state of a classifier that has seen no row: the probabilities of the classes.
PRIOR = "class_probabilities"


class FewShotClassifier(ClassifierMixin, TakesFurtherRows):
    """Base class of the classifiers."""

    #: Whether `fit` was given class probabilities.
    _soft_labels = False
    #: Whether some class is not among those that the meta-init knows.
    _has_new_classes = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FewShotClassifier:
        """Adapt to a task from its labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Support rows.
        y : array-like of shape (n_rows,), or (n_rows, n_classes) of float
            Class labels of any kind: any number of classes, any rows a class. Those
            that the meta-init knows (see `known_classes_`) are known without rows,
            too; with a label beside them all classes are new ones. Or class
            probabilities, such as a teacher's: rows that sum to one; the classes are
            then the column names of a DataFrame, or 0, 1, ...
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, at least zero.

        Returns
        -------
        self : object
            The fitted estimator. The meta-init is read, never changed.

        Raises
        ------
        ValueError
            When y has several columns that are no probabilities, or all
            weights are zero.
        """
        check_parameters(self)
        with self._all_or_nothing():
            self._fit_rows(self._given(X, y, sample_weight))
        return self

    def _given(self, X: Any, y: Any, sample_weight: Any, first: bool = True) -> GivenRows:
        """Rows as `fit` checks them; further ones, as those that it saw before."""
        given, known = X, as_they_are(y)
        # of objects scikit-learn says less clearly what is wrong
        if known.ndim and known.dtype.kind == "O":
            refuse_missing(known, "y", "class")
            if known.ndim == 1:
                distinct(comparable(known, "y"), "y")  # which says that they must be of one kind
        soft = _are_soft(known)
        names = getattr(y, "columns", None) if soft else None
        table = self._format_of(X, sample_weight) if first else self._format_of_further(X)
        # as an array, lest scikit-learn makes floats of integers that may be missing
        X, y = validated(self, table, X, y if soft else known, reset=first, multi_output=soft)
        weights = check_weights(sample_weight, len(X), some=first)
        return GivenRows(X, y, weights, kept_support(given, X, known, names, table))

    def _fit_rows(self, rows: GivenRows, announced: np.ndarray | None = None) -> None:
        """Adapt to validated rows, of which there may be none of some classes announced."""
        self._keep(rows.kept, rows.w)
        self._soft_labels = _are_soft(rows.y)
        self.classes_, members = self._labels(rows)
        found = self.classes_
        asked = found if announced is None else _all_classes(found, announced)
        known = known_classes(self, asked)
        self._has_new_classes = known is None
        if known is None and self.known_classes_ is not None:
            tell_new_classes(asked, self.known_classes_, 4)
        self.classes_ = asked if known is None else known
        members = _among(members, found, self.classes_)
        self._adapt(rows.X, members, rows.w, None)

    # ------------------------------------------------------------------ known classes
    @property
    def known_classes_(self) -> np.ndarray | None:
        """Classes that all past tasks had, of which the meta-init knows what they are like.

        None where classes are new in every task.
        """
        return known_classes(self)

    def _takes_known_classes(self) -> bool:
        """Whether what is known of classes is to be made use of."""
        return True

    def _in_use(self, init: MetaInit | None) -> MetaInit | None:
        if init is None or not self._has_new_classes:
            return init
        return of_new_classes(init)

    def _meta_init_for(self, support: Support, n_outputs: int | None) -> MetaInit:
        init = self._in_use(super()._meta_init_for(support, n_outputs))
        assert init is not None
        return init

    def _labels(self, rows: GivenRows) -> tuple[np.ndarray, np.ndarray]:
        """Classes, and memberships of the rows."""
        if _are_soft(rows.y):
            return _soft(rows.y, rows.kept[3])
        return self._classes_and_members(rows.y)

    def _classes_and_members(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sorted class labels, and which class each row is of (n_rows, n_classes)."""
        y = comparable(y, "y")
        if y.ndim != 1 or y.dtype.kind not in "biuSU":  # what these are nobody need find out
            with warnings.catch_warnings():
                # one row a class is what these estimators are for
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
                check_classification_targets(y)
        classes, codes = distinct(y, "y")
        refuse_too_many_labels(self, len(codes), len(classes))
        members = memberships(torch.from_numpy(codes), len(classes), torch.float64)
        return classes, members.numpy()

    def _joined_targets(
        self, first: KeptSupport, second: KeptSupport
    ) -> tuple[np.ndarray, np.ndarray | None]:
        (_, y, _, classes), (_, more, _, others) = first, second
        if not _are_soft(y):
            return joined_labels(y.ravel(), more.ravel(), "y"), None
        found = [_soft(part, names) for part, names in ((y, classes), (more, others))]
        union = _all_classes(found[0][0], found[1][0])
        return np.concatenate([_among(part, own, union) for own, part in found]), union

    # ------------------------------------------------------------------ further rows
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> FewShotClassifier:
        """Adapt to further rows, beside all that came before: equal to `fit` on all of them.

        How this is done the description of the class says: some methods take the rows
        into what they know, at no more cost than the rows themselves; the others, and
        all of them without a meta-init where the scale of the rows is learned at
        `fit`, adapt anew to all rows, which the estimator keeps.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Further support rows.
        y : array-like of shape (n_rows,), or (n_rows, n_classes) of float
            Class labels, of classes known or new; or class probabilities, where `fit`
            was given such.
        classes : array-like of shape (n_classes,) or None, default=None
            Classes to know of, with or without rows: those without have the probability
            zero. scikit-learn's convention; not needed, since new classes may come
            with their rows.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, at least zero.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When rows or labels are not like those before, or rows are needed that were
            let go of (`drop_support`). The estimator is then as it was.
        """
        check_parameters(self)
        with self._all_or_nothing():
            known = self.classes_ if hasattr(self, "state_") else None
            if classes is not None:
                asked = distinct(comparable(classes, "classes"), "classes")[0]
                known = asked if known is None else _all_classes(known, asked)
            if not self._seen():
                self._fit_rows(self._given(X, y, sample_weight), known)
            else:
                self._further(self._given(X, y, sample_weight, first=False), known)
        return self

    def _further(self, rows: GivenRows, known: np.ndarray | None) -> None:
        self._check_further(rows.X, None)
        if _are_soft(rows.y) != self._soft_labels:
            before, now = "class labels", "class probabilities"
            if self._soft_labels:
                before, now = now, before
            raise ValueError(f"y held {before} before, and now {now}: pass the same.")
        why = self._why_not_into_state(self._rebuild(self.meta_init_), rows.X)
        if not why:  # else rows may have no label of their own
            found, members = self._labels(rows)
            if not self._has_new_classes and self.known_classes_ is not None:
                some = found if known is None else _all_classes(known, found)
                if known_classes(self, some) is None:
                    why = "a label is new to the meta-init, which knows those before"
        if why:
            self._needs_rows(why)
            self._fit_rows(self._read_anew(self._joined(rows)), known)
            return
        old: np.ndarray = self.classes_
        classes = _all_classes(old if known is None else known, found)
        place = {label: i for i, label in enumerate(old.tolist())}
        index = np.array([place.get(label, -1) for label in classes.tolist()], dtype=np.int64)
        same = len(old) == len(classes)
        self.classes_ = old if same else classes
        self._take_in(rows, _among(members, found, classes), None, None if same else index)

    def forget(self, classes: Any) -> FewShotClassifier:
        """Forget classes, and all that was learned of them: equal to `fit` without their rows.

        Parameters
        ----------
        classes : label or array-like of shape (n_classes,)
            The classes to forget.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When a class is not known, none is left, `fit` was given class
            probabilities, or rows are needed that were let go of (`drop_support`). The
            estimator is then as it was.
        """
        check_is_fitted(self)
        check_parameters(self)
        asked = comparable(np.atleast_1d(np.asarray(classes)), "classes").tolist()
        known = self.classes_.tolist()
        if strangers := [label for label in asked if label not in known]:
            raise ValueError(f"classes holds {strangers}, which are not among classes_: {known}.")
        gone = set(asked)
        kept = np.array([i for i, label in enumerate(known) if label not in gone], dtype=np.int64)
        if not len(kept):
            raise ValueError("classes holds all classes there are: none would be left to predict.")
        with self._all_or_nothing():
            self._forget(gone, kept)
        return self

    def _forget(self, gone: set[Any], kept: np.ndarray) -> None:
        if PRIOR in self.state_:
            self.fit_prior(self.classes_[kept], self.state_[PRIOR][kept])
            return
        if self._soft_labels:
            raise ValueError("forget needs labels, but fit was given class probabilities.")
        classes = self.classes_[kept]
        known = known_classes(self, classes) is not None
        if known and not self._has_new_classes and not self._seen():
            return  # nothing was learned of the task
        state = None if known else self._left_out(kept)
        if state is None:
            self._needs_rows("what it learned of the classes cannot be told apart")
        if (support := vars(self).get("_support")) is not None:
            labels = comparable(support[1].ravel(), "y").tolist()
            stay = np.array([label not in gone for label in labels], dtype=bool)
            if not stay.any() or not (rows := self._seen_rows(stay)).w.any():
                raise ValueError(NONE_LEFT)
        if state is None:
            self._fit_rows(self._read_anew(rows), classes)
            return
        self.classes_, self.state_ = classes, as_arrays(state)
        if support is not None:
            self._keep(rows.kept, rows.w)

    def fit_prior(self, classes: Any = None, probabilities: Any = None) -> FewShotClassifier:
        """Adapt to a task of which no row is known.

        Parameters
        ----------
        classes : array-like of shape (n_classes,) or None, default=None
            Class labels. Those that the meta-init knows (see `known_classes_`) are
            predicted by what past tasks say of them: all of them, if all that are
            named are among them. Of others past tasks say nothing about which is
            which. None is the known ones.
        probabilities : array-like of shape (n_classes,) or None, default=None
            How often each occurs, to predict just that for every row. None is what is
            known of the classes; equally often, of classes that are new.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When there is no meta-init, `probabilities` are none, or `classes` is None
            and the meta-init knows none.
        """
        init = self._begin_without_rows()
        own = self.known_classes_
        if classes is None and own is None:
            raise ValueError(
                f"classes is needed: {init.told} knows no classes, for those of past tasks were "
                "not the same ones in all tasks (see classes of MetaTrainer)."
            )
        named: np.ndarray = np.asarray(own if classes is None else classes)
        self.classes_, first = np.unique(named, return_index=True)
        shares = np.ones(len(named)) if probabilities is None else np.asarray(probabilities)
        numbers = shares.shape == (len(named),) and shares.dtype.kind in "fiub"
        if not numbers or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
            raise ValueError(
                f"probabilities must be {len(named)} finite numbers, one a class, at least zero "
                f"and not all zero, got {probabilities!r}."
            )
        if len(first) < len(shares):
            raise ValueError(f"classes must all differ, got {classes!r}.")
        known = known_classes(self, self.classes_) if probabilities is None else None
        self._has_new_classes = known is None
        if known is None and self.known_classes_ is not None:
            tell_new_classes(self.classes_, self.known_classes_, 3)
        if known is not None:
            self.classes_, shape = known, init.fixed_spec["input_shape"]
            self._adapt(np.zeros((1, *shape)), np.zeros((1, len(known))), np.zeros(1), None)
            return self
        self.meta_init_ = init
        self.state_ = {PRIOR: shares[first] / shares.sum()}
        return self

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self)
        if PRIOR not in self.state_:
            return super()._outputs(X)
        _, rows = self._fitted_learner_and_rows(X)
        logits = torch.from_numpy(self.state_[PRIOR]).to(self._compute_dtype()).log()
        return logits.expand(len(rows), -1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`.
        """
        return self._outputs(X).softmax(-1).cpu().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels.
        """
        codes = self._outputs(X).argmax(-1).cpu().numpy()
        return self.classes_[codes]

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of the classes; for two classes, of the second against the first.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes
            Finite logits; a class whose support weighs nothing has the least.
        """
        logits = self._outputs(X).cpu().numpy()
        logits = np.nan_to_num(logits, neginf=float(np.finfo(np.float32).min))
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def _are_soft(y: np.ndarray) -> bool:
    """Whether labels are class probabilities."""
    return y.ndim == 2 and y.shape[1] > 1


def _all_classes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sorted distinct classes of two sets of them."""
    return distinct(comparable(joined_labels(first, second, "classes"), "classes"), "classes")[0]


def _among(members: np.ndarray, own: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Memberships (n_rows, n_classes) of classes that are more than the rows' own."""
    if len(own) == len(classes):
        return members
    everyone = np.zeros((len(members), len(classes)))
    place = {label: i for i, label in enumerate(classes.tolist())}
    everyone[:, [place[label] for label in own.tolist()]] = members
    return everyone


def _soft(y: np.ndarray, names: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes and memberships, from class probabilities."""
    probabilities = np.asarray(y)
    numeric = probabilities.dtype.kind in "fiub"
    if (
        not numeric
        or (probabilities < 0).any()
        or not np.allclose(probabilities.sum(1), 1, atol=1e-3)
    ):
        raise ValueError(
            "y with several columns must hold class probabilities, at least zero, in rows that sum "
            f"to one; got an array of shape {probabilities.shape}."
        )
    classes = np.arange(probabilities.shape[1]) if names is None else np.asarray(names)
    order = np.argsort(classes, kind="stable")
    return classes[order], probabilities.astype(np.float64, copy=False)[:, order]
