"""Classes that past tasks had in common: which ones they are, and a meta-init without them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import clone

from ..meta_init import MetaInit
from ..tasks import labels_from_json, places

#: Labels that a warning names.
MOST_TOLD = 5
#: What learners call the part of them that knows classes.
KNOWN = "known."


def classes_of_past(init: MetaInit | None) -> np.ndarray | None:
    """The classes of all past tasks, sorted, if they recur; else None.

    Parameters
    ----------
    init : MetaInit or None
        What was learned of past tasks.

    Returns
    -------
    ndarray of shape (n_classes,) or None
        Labels.
    """
    told = None if init is None else init.fixed_spec.get("classes")
    return None if told is None else labels_from_json(told)


def of_new_classes(init: MetaInit) -> MetaInit:
    """A meta-init without what it knows of classes, for tasks of others.

    Parameters
    ----------
    init : MetaInit
        Any.

    Returns
    -------
    MetaInit
        The same one, if it knows none.
    """
    spec = init.spec
    if "classes" not in spec:
        return init
    if (made := init.built.get(of_new_classes)) is not None:
        return made
    del spec["classes"]
    state = {k: t for k, t in init.state_dict().items() if not k.startswith(KNOWN)}
    made = MetaInit.from_state(state, spec, init.provenance, init.table)
    made.source = init.source
    return init.built.keep(of_new_classes, made)


def known_classes(estimator: Any, labels: Any = None) -> np.ndarray | None:
    """The classes of all past tasks, as an estimator takes them, if these labels are among them.

    Parameters
    ----------
    estimator : estimator
        Any; its last step is a few-shot classifier.
    labels : ndarray of shape (n,) or None, default=None
        Labels of a new task. None asks for what the past has.

    Returns
    -------
    ndarray of shape (n_classes,) or None
        Known classes, in the type of the labels; None where there are none, or a label is new.
    """
    takes = getattr(estimator, "_takes_known_classes", None)
    if takes is None or not takes():
        return None
    known = classes_of_past(estimator._resolve_meta_init())
    if known is None or labels is None:
        return known
    labels = np.asarray(labels)
    if (places(known, labels) < 0).any():
        return None
    return in_type_of(known, labels)


def tell_new_classes(labels: Any, known: np.ndarray, stacklevel: int) -> None:
    """Warn of labels that no past task had, where the past knows classes by their labels."""
    labels = np.asarray(labels)
    new = np.unique(labels[places(known, labels) < 0]).tolist()
    told = ", ".join(map(repr, new[:MOST_TOLD])) + (", ..." if len(new) > MOST_TOLD else "")
    warnings.warn(
        f"y has labels that no past task had: {told}. So nothing of what is known of the classes "
        f"{known.tolist()} is used. If they are the same, give them in the words of the past.",
        UserWarning,
        stacklevel=stacklevel,
    )


def for_new_classes(estimator: Any) -> Any:
    """A meta-trained estimator as it is for tasks of other classes than those known.

    Parameters
    ----------
    estimator : FewShotEstimator
        One with a meta-init, not fitted; it is only read.

    Returns
    -------
    FewShotEstimator
        A clone.
    """
    made = clone(estimator)
    made.meta_init = made.meta_init_ = of_new_classes(estimator._resolve_meta_init())
    return made


def in_type_of(known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Known classes as labels of the type given, where that loses nothing."""
    if known.dtype == labels.dtype or (known.dtype.kind, labels.dtype.kind) == ("U", "U"):
        return known
    same = known.astype(labels.dtype)
    return same if same.tolist() == known.tolist() else known
