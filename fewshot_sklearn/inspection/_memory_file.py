"""The one file of a `TaskMemory`: its arrays as safetensors, all else as JSON in the header."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..estimators import FeatureMetric
from ..meta_init import read_arrays, write_arrays

FORMAT = 1
#: What the names of the arrays of states begin with.
STATES = "states."


def plain_ids(ids: Any) -> np.ndarray:
    """Ids as numbers or strings, which is what a file can hold; dates as they are read."""
    values = np.asarray(ids)
    if values.dtype.kind == "M":
        return np.datetime_as_string(values, unit=_coarsest_unit(values))
    if values.dtype.kind == "m":
        return np.array([str(v) for v in values.astype("m8[us]").astype(object)])
    return values if values.dtype.kind in "iufbU" else np.array([str(v) for v in values.tolist()])


def _coarsest_unit(times: np.ndarray) -> Any:
    """The unit that tells all of the times apart from those between: days, where they are dates."""
    units = ("D", "m", "s", "ms", "us", "ns")
    return next((u for u in units if (times.astype(f"M8[{u}]") == times).all()), "ns")


def write_memory(path: str | os.PathLike[str], memory: Mapping[str, Any]) -> None:
    """Write the fields of a memory, by name, whole or not at all."""
    arrays = {
        name: value
        for name, value in memory.items()
        if isinstance(value, np.ndarray) and name not in ("ids", "groups")
    }
    arrays |= {f"{STATES}{name}": array for name, array in memory["states"].items()}
    metric, groups = memory["metric"], memory["groups"]
    if metric.centre is not None:
        arrays["centre"] = metric.centre
    told = {
        "kind": memory["kind"],
        "digest": memory["digest"],
        "metric": metric.name,
        "ids": memory["ids"].tolist(),
        "groups": None if groups is None else groups.tolist(),
    }
    write_arrays(path, "task_memory", FORMAT, arrays, told)


def read_memory(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields that `write_memory` wrote, or one clear error."""
    arrays, told = read_arrays(path, "task_memory", FORMAT, "a TaskMemory")
    try:
        n = len(told["ids"])
        per_task = [array for name, array in arrays.items() if name != "centre"]
        if any(array.shape[:1] != (n,) for array in per_task):
            raise ValueError("of another shape")
        groups = told["groups"]
        return {
            "kind": told["kind"],
            "ids": np.array(told["ids"]),
            "means": arrays["means"],
            "counts": arrays["counts"],
            "medoids": arrays["medoids"],
            "metric": FeatureMetric(told["metric"], arrays.get("centre")),
            "digest": told["digest"],
            "groups": None if groups is None else np.array(groups),
            "y_mean": arrays.get("y_mean"),
            "y_scale": arrays.get("y_scale"),
            "rows": arrays.get("rows"),
            "states": {
                k.removeprefix(STATES): a for k, a in arrays.items() if k.startswith(STATES)
            },
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold a TaskMemory.") from error
