"""What a meta-init may hold: the one description of its spec, its provenance and its numbers.

A file may come from anyone, and its checksum says only that it is as it was written. What is
checked here is checked where a meta-init is made and where one is loaded. Whether tensors and
spec are those of one learner shows when that is built, in `_declared_sizes`.
"""

from __future__ import annotations

import math
import reprlib
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tasks import MOST_KNOWN, labels_from_json

#: Levels of lists and dicts within a spec or a provenance.
MOST_LEVELS = 16
#: Characters of a name.
LONGEST_NAME = 500
#: Axes of a row, and numbers in one.
MOST_AXES, LARGEST_ROW = 8, 2**24
#: Targets of one task.
MOST_OUTPUTS = 2**20
#: How often `fit` or `predict` may be asked to do the same thing again.
MOST_STEPS = 10_000
#: Hyperparameters that say so.
STEPS = ("n_steps", "n_refinements", "n_reads", "n_slots")
#: What float32 can be the exponential of; logarithms are named log_*.
LARGEST_LOG = 80.0
#: Numbers looked at together.
AT_ONCE = 2**20
#: Precisions that numpy has too.
NUMPY_HAS = (torch.float16, torch.float32, torch.float64)

#: What may be told of rows, and its types.
INPUTS: dict[str, tuple[type, ...]] = {
    "layout": (str,), "integers": (bool,), "scaled": (bool,),
    "ragged": (bool,),
    "low": (int, float), "high": (int, float), "steps": (bool,),
}  # fmt: skip

_Check = tuple[Callable[[Any], bool], str]


def check_content(
    name: str, spec: Any, provenance: Any, tensors: Callable[[], Mapping[str, Tensor]]
) -> None:
    """Refuse what no meta-init holds.

    Parameters
    ----------
    name : str
        What the errors call it.
    spec : dict
        Any of: ``algorithm``, a name. ``hyperparameters``, plain values by name, of which those
        that count steps are at most 10,000. ``encoder``, a dict of its name and of ``params``,
        plain values by name, ``frozen``, a boolean, and ``given``, a digest of what the user's
        module holds of it. ``inputs``, what rows are. ``input_shape``, up to 8 positive
        integers. ``n_outputs``, None or a positive integer. ``feature_names``, as many as a row
        has features. ``classes``, labels that past tasks had in common, as ``labels_to_json``
        has them. ``past`` and ``any_width``, booleans. Whatever else is plain. Numbers are
        finite.
    provenance : dict
        Any of: ``tasks`` (``kind``, ``count``, ``ids``), ``rows`` (``rows``, ``distinct``,
        ``digests``), ``card``, ``settings``, ``scores``, ``versions``; whatever else is plain.
    tensors : callable
        Gives the tensors; numbers are finite, though an encoder of the user's own may hold
        infinities. Scales (``x_scale``, ``y_scale``) are positive, logarithms (``log_*``) from
        -80 to 80.

    Raises
    ------
    ValueError
        With the entry, what it is and what it must be.
    """
    for told, content, known in (("spec", spec, SPEC), ("provenance", provenance, PROVENANCE)):
        if not isinstance(content, dict) or not _is_plain(content):
            raise ValueError(
                f"{name} is no meta-init that can be used: its {told} must be a dict of plain "
                f"values, nested no deeper than {MOST_LEVELS}."
            )
        _check_entries(f"{name} is no meta-init that can be used: its {told}", content, known)
    _check_spec(f"{name} is no meta-init that can be used: its spec", spec)
    own_encoder = "." in (spec.get("encoder") or {}).get("name", ".")
    for key, tensor in tensors().items():
        bad = _what_is_wrong(key, tensor, own_encoder)
        if bad:
            raise ValueError(f"{name} is damaged: its tensor {key[:LONGEST_NAME]!r} holds {bad}.")


def lacking(spec: Mapping[str, Any]) -> list[str]:
    """What a spec lacks of all that a learner is rebuilt from."""
    needed = ("algorithm", "hyperparameters", "encoder", "input_shape", "n_outputs")
    return [key for key in needed if key not in spec]


# ------------------------------------------------------------------ kinds of values
def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _is_count(value: Any) -> bool:
    return _is_whole(value) and 0 <= value < 2**63


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MOST_AXES
        and all(_is_whole(size) and size > 0 for size in value)
        and math.prod(value) <= LARGEST_ROW
    )


def _is_named_values(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_name, value))


def _is_encoder(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_name(value.get("name"))
        and _is_named_values(value.get("params"))
        and isinstance(value.get("frozen", False), bool)
        and _is_name(value.get("given", "nothing"))
    )


def _is_inputs(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= set(INPUTS):
        return False
    return all(isinstance(content, INPUTS[name]) for name, content in value.items()) and (
        value.get("layout", "NHWC") in ("NHWC", "NCHW")
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_tasks(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and _is_name(value.get("kind"))
        and _is_count(value.get("count"))
        and _is_texts(value.get("ids"))
    )


def _is_rows(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("digests"), str):
        return False
    if not _is_count(value.get("rows")) or not _is_count(value.get("distinct")):
        return False
    try:
        n_digests, rest = divmod(len(b64decode(value["digests"], validate=True)), 8)
    except ValueError:
        return False
    return not rest and n_digests <= value["distinct"] and bool(n_digests or not value["distinct"])


def _is_dict(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_classes(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        return False
    values = value.get("values")
    if not isinstance(values, list) or not 2 <= len(values) <= MOST_KNOWN:
        return False
    try:
        labels = labels_from_json(value)
        return labels.shape == (len(values),) and np.array_equal(np.unique(labels), labels)
    except (TypeError, ValueError, OverflowError):
        return False


SPEC: dict[str, _Check] = {
    "algorithm": (_is_name, "a name"),
    "hyperparameters": (_is_named_values, "a dict of values by name"),
    "encoder": (
        _is_encoder,
        "a dict of a name, of params, values by name, and of whether it is frozen",
    ),
    "inputs": (_is_inputs, f"a dict of any of {sorted(INPUTS)}"),
    "input_shape": (
        _is_shape,
        f"a list of up to {MOST_AXES} positive integers, of product up to {LARGEST_ROW}",
    ),
    "n_outputs": (
        lambda value: value is None or (_is_whole(value) and 0 < value <= MOST_OUTPUTS),
        f"None or an integer from 1 to {MOST_OUTPUTS}",
    ),
    "feature_names": (_is_texts, "a list of texts"),
    "classes": (_is_classes, f"a dict of dtype and of values, 2 to {MOST_KNOWN:,} sorted labels"),
    "past": (lambda value: isinstance(value, bool), "true or false"),
    "any_width": (lambda value: isinstance(value, bool), "true or false"),
}
PROVENANCE: dict[str, _Check] = {
    "tasks": (_is_tasks, "None or a dict of kind, count and ids"),
    "rows": (_is_rows, "None or a dict of rows, distinct and digests"),
    "tasks_seen": (lambda value: value is None or _is_count(value), "None or a count"),
    "card": (_is_dict, "None or a dict"),
    "settings": (_is_dict, "None or a dict"),
    "scores": (_is_dict, "None or a dict"),
    "versions": (_is_dict, "None or a dict"),
}


def _check_entries(what: str, content: dict[str, Any], known: dict[str, _Check]) -> None:
    for key, (fits, words) in known.items():
        if key in content and not fits(content[key]):
            raise ValueError(f"{what} has {key}={reprlib.repr(content[key])}; it must be {words}.")


def _check_spec(what: str, spec: dict[str, Any]) -> None:
    hyperparameters = spec.get("hyperparameters", {})
    for key in STEPS:
        value = hyperparameters.get(key)
        if isinstance(value, int | float) and value > MOST_STEPS:
            raise ValueError(
                f"{what} has {key}={reprlib.repr(value)} among its hyperparameters; "
                f"it must be at most {MOST_STEPS:,}."
            )
    names, shape = spec.get("feature_names"), spec.get("input_shape")
    if names is not None and shape is not None and [len(names)] != shape:
        raise ValueError(
            f"{what} has {len(names)} feature_names and input_shape={shape}; there must be one "
            "name a feature."
        )
    for value in _leaves(spec):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{what} holds the number {value}; its numbers must be finite.")
        if _is_whole(value) and abs(value) >= 2**63:
            raise ValueError(f"{what} holds an integer that 64 bits cannot.")


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _is_plain(content: dict[str, Any]) -> bool:
    """Whether it is not nested too deep; JSON has but plain values."""
    level: list[Any] = [content]
    for _ in range(MOST_LEVELS):
        level = list(chain.from_iterable(_children(v) for v in level if isinstance(v, dict | list)))
        if not level:
            return True
    return False


def _leaves(content: Any) -> Iterator[Any]:
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += _children(value)
        else:
            yield value


# ------------------------------------------------------------------ numbers
def _what_is_wrong(key: str, tensor: Tensor, own_encoder: bool) -> str | None:
    if not tensor.is_floating_point():
        return None
    # looked at as arrays: what torch computes is counted
    here = tensor.detach().cpu()
    array = (here if here.dtype in NUMPY_HAS else here.float()).numpy()
    if not _is_finite(array) and not (
        own_encoder and key.startswith("encoder.") and not np.isnan(array).any()
    ):
        return "numbers that are not finite"
    if key in ("x_scale", "y_scale") and not (array > 0).all():
        return "scales that are not positive"
    is_log = key.rpartition(".")[2].startswith("log_") and not key.startswith("encoder.")
    if is_log and not (np.abs(array) <= LARGEST_LOG).all():
        return f"logarithms beyond {LARGEST_LOG:.0f}"
    return None


def _is_finite(array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    parts = (flat[i : i + AT_ONCE] for i in range(0, len(flat), AT_ONCE))
    return all(bool(np.isfinite(part).all()) for part in parts)
