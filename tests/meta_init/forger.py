"""Forged meta-inits: files of the shipped ones, altered so that the checksum is right.

A file may come from anyone. Each forged one must be refused with a ValueError that names the
file, or work: fit and predict with finite answers, soon, in little memory.

    python tests/meta_init/forger.py FIRST LAST    # what became of each, as JSON lines
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import resource
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

import fewshot_sklearn
from fewshot_sklearn import MetaInit, list_meta_inits

WEIGHTS = Path(fewshot_sklearn.__file__).parent / "pretrained" / "weights"
#: Seconds of computing, beyond those of the shipped file, and bytes that a forged one may take.
MOST_SECONDS, MOST_BYTES = 2.0, 2**30
#: What reads each algorithm, and the shape of a row; None is that of the file.
READERS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "RidgeHeadRegression": ("RidgeHeadRegressor", (1,)),
    "MixtureRidge": ("MixtureRidgeRegressor", (1,)),
    "MAMLRegression": ("MAMLRegressor", (1,)),
    "KernelLogistic": ("KernelLogisticClassifier", None),
    "MAMLClassification": ("MAMLClassifier", (28, 28)),
    "RidgeHeadClassification": ("RidgeHeadClassifier", (28, 28)),
    "ProtoNet": ("ProtoNetClassifier", (28, 28)),
    "InContextTables": ("InContextClassifier", (5,)),
    "InContextTargets": ("InContextRegressor", (5,)),
}


class Forged(NamedTuple):
    """A forged file."""

    #: Which shipped meta-init it was made of.
    name: str
    #: What was done to it.
    what: str
    raw: bytes


class Fate(NamedTuple):
    """What became of a file."""

    #: "refused at load", "refused at fit", "works" or "fell".
    fate: str
    #: How it fell or was refused.
    why: str
    seconds: float


@cache
def shipped(name: str) -> tuple[dict[str, Any], bytes]:
    """Header and body of a shipped meta-init."""
    raw = (WEIGHTS / f"{name}.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


# ------------------------------------------------------------------ strange values
def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


STRANGE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 7, 100, 9_999, 20_000, 10**6, 10**9, 2**31, 2**63, 10**30,
    -(10**9),
    0.0, -0.5, 0.5, 1.5, 1e-308, 1e-30, 1e30, 1e308, -1e308, math.nan, math.inf, -math.inf,
    "", "x", "0", "1", "nan", "euclidean", "relu", "mlp", "conv4", "\x00", "a\nb", "é" * 10,
    "x" * 100_000,
    [], {}, [[]], [{}], {"a": {}}, [None], ["x"], [1], [-1], [0], [1, 1], [28, 28],
    [20_000, 20_000], [10**9], [1.5], [1] * 5_000, [2] * 100_000, list("abc"),
    {"name": "mlp"}, {"x": 10**12},
    nested(50), nested(800), {"a": nested(20)},
]  # fmt: skip
#: Entries that are sizes or counts, and what they are set to.
SIZES = (
    "hidden", "width", "widths", "n_steps", "n_refinements", "n_reads", "n_slots", "n_layers",
    "n_hidden", "n_heads", "n_outputs", "input_shape", "turns", "image_shape", "n_mixtures",
)  # fmt: skip
HUGE: list[Any] = [
    10_001, 50_000, 10**6, 10**9, 10**12, 2**62, [20_000, 20_000], [10**5] * 4, [10**9],
    [3] * 50_000,
]  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values within nested dicts and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def holder(content: Any, path: tuple[Any, ...]) -> Any:
    """What holds the value at a path."""
    for key in path[:-1]:
        content = content[key]
    return content


def alter(content: Any, rng: random.Random) -> str:
    """Replace, remove, rename or add one value somewhere; what was done."""
    path = rng.choice(list(places(content))[:200])
    inner, key = holder(content, path), path[-1]
    how = rng.choice(["replace", "replace", "replace", "remove", "rename", "add", "grow"])
    if how == "remove":
        del inner[key]
    elif how == "rename" and isinstance(inner, dict):
        inner[rng.choice(["x", "", "n_steps", "name", "norm", "metric"])] = inner.pop(key)
    elif how == "add" and isinstance(inner, dict):
        key = rng.choice([*SIZES, "norm", "activation", "rms", "past", "any_width", "new", "scale"])
        inner[key] = rng.choice(STRANGE)
    elif how == "grow" and isinstance(inner, list):
        inner.extend(inner * rng.choice([1, 1000]))
    else:
        inner[key] = rng.choice(STRANGE)
    return f"{how} {'.'.join(map(str, path))[:60]}"


# ------------------------------------------------------------------ ways to forge
def _spec(parts: Parts, rng: random.Random) -> str:
    return "spec: " + alter(parts.spec, rng)


def _provenance(parts: Parts, rng: random.Random) -> str:
    return "provenance: " + alter(parts.provenance, rng)


def _sizes(parts: Parts, rng: random.Random) -> str:
    spec, key, value = parts.spec, rng.choice(SIZES), rng.choice(HUGE)
    known = [path for path in places(spec) if path[-1] == key]
    inner = holder(spec, known[0]) if known else spec[rng.choice(["encoder", "hyperparameters"])]
    if not known and "params" in inner:
        inner = inner["params"]
    inner[key] = value
    return f"sizes: {key}"


def _values(parts: Parts, rng: random.Random) -> str:
    name = rng.choice(sorted(parts.tensors))
    array = parts.tensors[name] = parts.tensors[name].copy()
    value = rng.choice([math.nan, math.inf, -math.inf, 0, -1, 1e4, -1e4, 6e4, 1e30, 3e38, -3e38])
    with np.errstate(all="ignore"):
        if rng.random() < 0.5 or not array.size:
            array[...] = value
        else:
            array.flat[rng.randrange(array.size)] = value
    return f"values: {name} {value}"


def _noise(parts: Parts, rng: random.Random) -> str:
    name = rng.choice(sorted(parts.tensors))
    array = parts.tensors[name]
    raw = bytearray(array.tobytes())
    for _ in range(rng.choice([1, 4, 64])):
        if raw:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    parts.tensors[name] = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    return f"noise: {name}"


def _shapes(parts: Parts, rng: random.Random) -> str:
    name = rng.choice(sorted(parts.tensors))
    array = parts.tensors[name]
    changed: list[Callable[[], Any]] = [
        lambda: array[None],
        lambda: array.reshape(-1),
        lambda: array.T.copy(),
        lambda: array[:-1] if array.ndim else array[None],
        lambda: np.concatenate([array.ravel()] * 2),
        lambda: np.zeros(0, array.dtype),
        lambda: np.zeros((), array.dtype),
        lambda: array.astype(np.float64),
        lambda: array.astype(np.float16),
        lambda: array.astype(np.int64),
        lambda: array.astype(np.int32),
        lambda: array.astype(np.uint8),
        lambda: array.astype(bool),
    ]
    with np.errstate(all="ignore"):
        parts.tensors[name] = rng.choice(changed)()
    return f"shapes: {name}"


def _names(parts: Parts, rng: random.Random) -> str:
    name = rng.choice(sorted(parts.tensors))
    how = rng.choice(["remove", "rename", "add", "swap", "none"])
    if how == "remove":
        del parts.tensors[name]
    elif how == "rename":
        parts.tensors[rng.choice(["x", "", "a" * 1000, "head.bias"])] = parts.tensors.pop(name)
    elif how == "add":
        parts.tensors["new"] = np.ones(3, np.float32)
    elif how == "swap":
        other = rng.choice(sorted(parts.tensors))
        t = parts.tensors
        t[name], t[other] = t[other], t[name]
    else:
        parts.tensors.clear()
    return f"names: {how}"


def _entry(parts: Parts, rng: random.Random) -> str:
    parts.late.append(lambda header: alter_entry(header, rng))
    return "entry"


def alter_entry(header: dict[str, Any], rng: random.Random) -> None:
    """Change a field of one tensor's entry in the header, leaving the bytes alone."""
    name = rng.choice([key for key in header if key != "__metadata__"] or ["x"])
    entry = header.setdefault(name, {})
    if not isinstance(entry, dict):
        return  # by a change before this one
    field = rng.choice(["dtype", "shape", "data_offsets", "data_offsets", "more", "all"])
    if field == "all":
        header[name] = rng.choice(STRANGE)
    elif field == "dtype":
        entry["dtype"] = rng.choice(["F64", "F32", "F16", "BF16", "I64", "I8", "BOOL", *STRANGE])
    elif field == "data_offsets" and rng.random() < 0.5:
        entry[field] = [v + rng.choice([-4, 1, 4, 10**9]) for v in entry.get(field, [0, 4])]
    elif field == "shape" and rng.random() < 0.5:
        entry[field] = [*entry.get(field, []), rng.choice([0, 1, -1, 2, 2**40])]
    else:
        entry[field] = rng.choice(STRANGE)


def _metadata(parts: Parts, rng: random.Random) -> str:
    key = rng.choice(["format", "spec", "provenance", "more"])
    text = ["", "{", "[]", "null", "1", "{}", '"x"', "[" * 5000, '{"a":' * 900 + "1" + "}" * 900]
    value = rng.choice([*text, *STRANGE])

    def late(header: dict[str, Any]) -> None:
        header["__metadata__"][key] = value
        if rng.random() < 0.2:
            del header["__metadata__"][key]

    parts.late.append(late)
    return f"metadata: {key}"


class Parts:
    """A meta-init taken apart."""

    def __init__(self, name: str):
        header, body = shipped(name)
        meta = header["__metadata__"]
        self.spec, self.provenance = json.loads(meta["spec"]), json.loads(meta["provenance"])
        kinds = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64}
        self.tensors: dict[str, np.ndarray] = {}
        for key, entry in header.items():
            if key != "__metadata__":
                first, last = entry["data_offsets"]
                array = np.frombuffer(body[first:last], kinds[entry["dtype"]])
                self.tensors[key] = array.reshape(entry["shape"])
        #: What is done to the header in the end.
        self.late: list[Callable[[dict[str, Any]], None]] = []

    def raw(self, rng: random.Random) -> bytes:
        """A file, nearly always with the right checksum."""
        names = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}
        names |= {"int32": "I32", "uint8": "U8", "bool": "BOOL"}
        meta = {"format": "1", "spec": json.dumps(self.spec), "checksum": "0" * 64}
        meta["provenance"] = json.dumps(self.provenance)
        header: dict[str, Any] = {"__metadata__": meta}
        body = b""
        for key, array in sorted(self.tensors.items(), key=lambda item: -item[1].dtype.itemsize):
            place = [len(body), len(body) + array.nbytes]
            kind = names[array.dtype.name]
            header[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": place}
            body += array.tobytes()
        for change in self.late:
            change(header)
        if rng.random() < 0.97 and isinstance(header.get("__metadata__"), dict):
            header["__metadata__"]["checksum"] = checksum(header, body)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8 if rng.random() < 0.98 else 1)
        return struct.pack("<Q", len(text)) + text + body


def checksum(header: dict[str, Any], body: bytes) -> str:
    """The checksum of the format, written a second time."""
    meta = {k: v for k, v in header["__metadata__"].items() if k != "checksum"}
    text = json.dumps({**header, "__metadata__": meta}, sort_keys=True)
    return hashlib.sha256(text.encode() + body).hexdigest()


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Bytes cut, added or changed after the checksum was made."""
    how = rng.choice(["cut", "add", "flip", "size", "other"])
    if how == "cut":
        return raw[: rng.randrange(len(raw))]
    if how == "add":
        return raw + bytes(rng.choice([1, 8, 1000]))
    if how == "size":
        return struct.pack("<Q", rng.choice([0, 1, 8, 2**24, 2**31, 2**63])) + raw[8:]
    if how == "other":
        return rng.choice([b"", b"x", bytes(8), b"\xff" * 100, raw[8:], raw * 2])
    changed = bytearray(raw)
    changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(changed)


WAYS = (_spec, _spec, _spec, _sizes, _sizes, _values, _values, _noise, _shapes, _names, _entry,
        _metadata, _provenance)  # fmt: skip


def forge(seed: int) -> Forged:
    """The forged file of a seed."""
    rng = random.Random(seed)
    names = list_meta_inits()  # those of images seldomer, which take longer
    name = rng.choices(names, [1 if "omniglot" in name else 5 for name in names])[0]
    parts, done = Parts(name), []
    if rng.random() < 0.05:
        return Forged(name, "damaged", damaged(parts.raw(rng), rng))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        try:
            done.append(rng.choice(WAYS)(parts, rng))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue  # what it would alter is no longer there, or cannot hold that
    return Forged(name, "; ".join(done) or "nothing", parts.raw(rng))


# ------------------------------------------------------------------ what becomes of one
def rows_for(name: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The estimator that reads a shipped meta-init, and rows for it."""
    spec = json.loads(shipped(name)[0]["__metadata__"]["spec"])
    reader, shape = READERS[spec["algorithm"]]
    shape = tuple(spec["input_shape"]) if shape is None else shape
    X = np.random.default_rng(0).normal(size=(4, *shape))
    X = 80 * np.abs(X) if len(shape) > 1 else X  # images have pixels from 0 to 255
    y = np.arange(4) % 2
    return getattr(fewshot_sklearn, reader), X, y if "Classifier" in reader else np.sin(y)


def answers(init: MetaInit, name: str) -> list[np.ndarray]:
    """All that a meta-init is asked for."""
    kind, X, y = rows_for(name)
    repr(init), init.card(), init._repr_html_(), init.cite_tasks(["a"]), init.cite_rows(X)
    model = kind(init, random_state=0).fit(X, y)
    ask = model.predict_proba if hasattr(model, "predict_proba") else model.predict
    return [ask(X[:3])]


@cache
def usual_seconds(name: str) -> float:
    """What the shipped file takes."""
    init = MetaInit.load(WEIGHTS / f"{name}.safetensors")
    start = time.process_time()
    answers(init, name)
    return time.process_time() - start


def fate(forged: Forged, path: Path) -> Fate:
    """Write a file, load it and use it."""
    usual = usual_seconds(forged.name)
    path.write_bytes(forged.raw)
    memory, start, step = peak(), time.process_time(), "load"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            init = MetaInit.load(path)
            step = "fit"
            found = answers(init, forged.name)
        good = all(np.isfinite(answer).all() for answer in found)
        result = ("works", "") if good else ("fell", "answers that are not finite")
    except ValueError as error:
        named = str(path) in str(error) and type(error) is ValueError
        why = f"{type(error).__name__}: {error}".replace(str(path), "FILE")[:300]
        result = (f"refused at {step}", why) if named else ("fell", f"{step}, no name: {why}")
    except Exception as error:
        result = ("fell", f"{step}: {type(error).__name__}: {error}"[:300])
    seconds = time.process_time() - start
    if seconds > MOST_SECONDS + 2 * usual:
        result = ("fell", f"{seconds:.1f} s, {result[0]} {result[1]}")
    if peak() - memory > MOST_BYTES:
        result = ("fell", f"{(peak() - memory) / 2**20:.0f} MiB, {result[0]} {result[1]}")
    return Fate(*result, seconds)


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fates(first: int, last: int) -> Iterator[tuple[int, Forged, Fate]]:
    """What becomes of the files of some seeds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "forged.safetensors"
        for seed in range(first, last):
            forged = forge(seed)
            yield seed, forged, fate(forged, path)


def main(argv: list[str]) -> None:
    """Print what becomes of the files of some seeds, each before the next is tried."""
    for seed, forged, what in fates(*map(int, argv)):
        told = {"seed": seed, "name": forged.name, "what": forged.what, **what._asdict()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
