"""Which estimator something was learned with, in plain values that a file can hold.

What past tasks teach about an estimator, or what it learned of them, is worth nothing to another
one. Two are the same where their class is, whatever of their parameters changes an answer, and the
meta-init that they start from, by its digest.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

#: Parameters that change no answer, or no more than chance does.
INDIFFERENT = frozenset(
    ("device", "dtype", "n_jobs", "random_state", "verbose", "memory", "copy_X", "copy")
)
#: Levels of estimators within estimators, and of lists and dicts.
MOST_LEVELS = 12
#: Values of an array that are told one by one.
SHORT = 8
#: Characters of an estimator that an error tells.
LONGEST = 300


def identity_of(estimator: Any) -> dict[str, Any]:
    """The class of an estimator, its parameters that change answers, and its meta-init's digest.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn estimator, fitted or not. Of a pipeline every step counts; of a frozen
        step, what it was fitted to too.

    Returns
    -------
    dict
        Plain values. ``"estimator"``, and where there are any ``"parameters"`` that are not the
        defaults; of one with a meta-init its digest as ``"meta_init"``, and what learners take
        as ``"hyperparameters"``, those that meta-training had included.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from fewshot_sklearn.tasks import identity_of
    >>> identity_of(Ridge(0.1, random_state=3))
    {'estimator': 'sklearn.Ridge', 'parameters': {'alpha': 0.1}}
    """
    return json.loads(json.dumps(_described(estimator, MOST_LEVELS), sort_keys=True))


def told_of(identity: Any) -> str:
    """An identity as it is written for a reader.

    Parameters
    ----------
    identity : dict
        What `identity_of` returned.

    Returns
    -------
    str
        Such as ``"sklearn.Ridge(alpha=0.1)"``.
    """
    if isinstance(identity, list):
        return f"[{', '.join(map(told_of, identity))}]"
    if not isinstance(identity, dict):
        return str(identity) if isinstance(identity, str) else repr(identity)
    if "estimator" not in identity:
        return "{" + ", ".join(f"{k}: {told_of(v)}" for k, v in identity.items()) + "}"
    parts = []
    if "meta_init" in identity:
        parts.append(f"meta-init {identity['meta_init'][:8]}")
    for group in ("hyperparameters", "parameters", "fitted"):
        parts += [f"{name}={told_of(value)}" for name, value in identity.get(group, {}).items()]
    return f"{identity['estimator']}({', '.join(parts)})"


def difference_of(known: Any, own: Any) -> str | None:
    """Where two identities differ, in words; None where they are the same.

    Parameters
    ----------
    known, own : dict
        What `identity_of` returned.

    Returns
    -------
    str or None
        Both as `told_of` tells them.
    """
    if known == own:
        return None
    known, own = (textwrap.shorten(told_of(one), LONGEST) for one in (known, own))
    return f"{known}, not with {own}"


# ------------------------------------------------------------------ of one value
def _described(value: Any, levels: int) -> Any:
    """Plain values that are the same for what answers the same."""
    if not levels:
        return _named(type(value))
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, np.generic):
        return _described(value.item(), levels)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(k): _described(v, levels - 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_described(v, levels - 1) for v in value]
        return sorted(parts, key=repr) if isinstance(value, set | frozenset) else parts
    if isinstance(value, type) or inspect.isroutine(value):
        return _named(value)
    if isinstance(value, np.ufunc):
        return f"numpy.{value.__name__}"
    if isinstance(value, partial):
        made = {"of": value.func, "args": value.args, "keywords": value.keywords}
        return _described(made, levels - 1)
    if isinstance(digest := getattr(value, "digest", None), str):  # a meta-init, or a memory
        return digest[:16]
    if hasattr(value, "get_params"):
        return _described_estimator(value, levels - 1)
    if hasattr(value, "__array__"):
        return _digest(np.asarray(value.cpu() if hasattr(value, "cpu") else value))
    if callable(weights := getattr(value, "state_dict", None)):  # an encoder of the user's own
        return {"of": _named(type(value)), "weights": _described(dict(weights()), levels - 1)}
    inside = {k: v for k, v in _attributes(value).items() if not k.startswith("_")}
    return {"of": _named(type(value))} | {k: _described(v, levels - 1) for k, v in inside.items()}


def _described_estimator(estimator: Any, levels: int) -> dict[str, Any]:
    out: dict[str, Any] = {"estimator": _named(type(estimator))}
    params = _changed(estimator)
    init = _meta_init_of(estimator)
    if init is not None:  # which has the encoder, and stands for what None leaves to it
        trained = init.fixed_spec.get("hyperparameters")
        out["meta_init"] = init.digest
        out["hyperparameters"] = _described(estimator._hyperparameters(trained), levels)
        own = {"meta_init", "encoder", *estimator._defaults}
        params = {k: v for k, v in params.items() if k not in own and not k.startswith("encoder__")}
    if described := {k: _described(v, levels) for k, v in sorted(params.items())}:
        out["parameters"] = described
    if type(estimator).__name__ == "FrozenEstimator":
        inner = _attributes(estimator.estimator)
        fitted = {k: v for k, v in inner.items() if k.endswith("_") and not k.startswith("_")}
        out["fitted"] = {k: _described(v, levels) for k, v in sorted(fitted.items())}
    return out


def _changed(estimator: Any) -> dict[str, Any]:
    """Parameters other than the defaults, but for those that change no answer."""
    given = estimator.get_params(deep=False)
    known = inspect.signature(type(estimator).__init__).parameters
    defaults = {name: p.default for name, p in known.items() if p.default is not p.empty}
    indifferent = INDIFFERENT | getattr(type(estimator), "_indifferent", frozenset())
    return {
        name: value
        for name, value in given.items()
        if name not in indifferent
        and not (name in defaults and _described(value, 2) == _described(defaults[name], 2))
    }


def _meta_init_of(estimator: Any) -> Any:
    """The meta-init of an estimator of this package; None where it has none."""
    resolve = getattr(estimator, "_resolve_meta_init", None)
    init = None if resolve is None else resolve()
    return init if isinstance(getattr(init, "digest", None), str) else None


def _attributes(value: Any) -> dict[str, Any]:
    return dict(getattr(value, "__dict__", {}))


def _digest(array: np.ndarray) -> Any:
    """A short array as a list, a longer one as its digest."""
    if array.size <= SHORT:
        return _described(array.tolist(), 3)
    told = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    if array.dtype.kind == "O":
        told.update(json.dumps(_described(array.tolist(), 3)).encode())
    else:
        told.update(np.ascontiguousarray(array).tobytes())
    return f"array {told.hexdigest()[:16]}"


def _named(kind: Any) -> str:
    """A class or a function, by its package and its name."""
    package = (getattr(kind, "__module__", "") or "").partition(".")[0]
    return f"{package}.{getattr(kind, '__qualname__', kind)}".removeprefix("builtins.")
