"""The learned initialization: one immutable buffer, one file, no pickle."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from ..tasks import TableFormat
from ._card import card_html, card_rows
from ._content import check_content, lacking
from ._declared_sizes import DeclaredSizes
from ._kept import Kept
from ._pixels import Pixels, of_images, pixels_seen
from ._read_file import open_file, read_start, read_whole
from .row_sketch import RowSketch
from .sealed_file import in_one_order
from .whole_file import whole_file

#: Of files without a table, and of those with one.
PLAIN_FORMAT, FORMAT = 1, 2
#: A header longer than this is no header of ours.
MAX_HEADER = 16 * 2**20
#: Axes of a tensor.
MOST_AXES = 16

_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


#: Meta-inits kept in a process after unpickling: a worker gets the same one with every task.
KEPT = 2
_unpickled: dict[str, MetaInit] = {}


class MetaInit:
    """What meta-training learned: tensors and a specification in one immutable buffer.

    The buffer is a safetensors file, read into memory. Copying,
    cloning and deep-copying return the object itself, so estimators share it;
    joblib hands worker processes a memory map of it, not a copy.

    Do not call the constructor: meta-initializations come from
    ``MetaTrainer.meta_init_``, `load` or `from_state`.

    Attributes
    ----------
    spec : dict
        ``algorithm``, ``hyperparameters``, ``encoder`` (name and parameters),
        ``input_shape``, ``n_outputs``, ``feature_names``.
    provenance : dict
        Where it comes from: number of tasks and digests of their ids, digests of
        rows, settings, versions, scores.
    digest : str
        SHA-256 of the content, in hexadecimal; two meta-inits are equal when
        their digests are.
    tensors : dict of str to ndarray
        The learned arrays, read-only.
    source : str
        The file it was loaded from; empty where it was not.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn import MetaInit
    >>> init = MetaInit.from_state({"scale": torch.ones(3)}, {"algorithm": "Example"})
    >>> init
    MetaInit(Example, 3 parameters, ...)
    >>> import copy
    >>> copy.deepcopy(init) is init
    True
    """

    __slots__ = (
        "__weakref__", "_buffer", "_header", "_inputs", "_pixels", "_plain", "_start", "_table",
        "built", "source",
    )  # fmt: skip

    def __init__(self, buffer: np.ndarray, name: str = "the buffer", verify: bool = True):
        self._buffer = buffer
        self._table: TableFormat | None = None
        self._inputs: dict[str, Any] | None = None
        self._pixels: list[Pixels | None] = []
        #: The buffer, not as a mapped file: always the same array, so that it is written once.
        self._plain = np.asarray(buffer)
        #: Learners rebuilt from this meta-init in this process, by whoever builds them.
        self.built = Kept()
        self.source = ""
        self._start, self._header = _read_header(buffer, name)
        if verify and _checksum(self._header, buffer[self._start :]) != self._meta["checksum"]:
            raise ValueError(f"{name} is damaged: its content does not match its checksum.")
        if verify:
            self._check(name)

    def _check(self, name: str) -> None:
        check_content(name, self.spec, self.provenance, self.state_dict)
        try:
            width = None if self.table is None else [self.table.width]
        except ValueError as error:
            raise ValueError(f"{name} is no meta-init that can be used: {error}") from error
        if width is not None and self.spec.get("input_shape") != width:
            raise ValueError(
                f"{name} is no meta-init that can be used: its table becomes rows of shape "
                f"{width}, but its spec has input_shape={self.spec.get('input_shape')}."
            )

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Tensor],
        spec: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
        table: TableFormat | None = None,
    ) -> MetaInit:
        """Make a meta-init from tensors.

        Parameters
        ----------
        state : mapping of str to Tensor
            A module's ``state_dict()``.
        spec : mapping
            How to rebuild the module; JSON types only.
        provenance : mapping or None, default=None
            Where it comes from; JSON types only.
        table : TableFormat or None, default=None
            How the columns of a table become the numbers of a row.

        Returns
        -------
        MetaInit
            The immutable artefact.

        Raises
        ------
        ValueError
            When tensors, spec or provenance hold what no meta-init can.
        """
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        meta = {
            "format": str(PLAIN_FORMAT if table is None else FORMAT),
            "spec": _json(spec),
            "provenance": _json(provenance or {}),
            "checksum": "0" * 64,
        }
        if table is not None:
            meta["table"] = _json(table.to_json())
        raw = in_one_order(safetensors_bytes(tensors, meta))
        start, header = _read_header(np.frombuffer(raw, np.uint8), "the new buffer")
        checksum = _checksum(header, np.frombuffer(raw, np.uint8)[start:])
        head = raw[:start].replace(b"0" * 64, checksum.encode(), 1)
        init = cls(np.frombuffer(head + raw[start:], np.uint8), verify=False)
        init._check("what it would be made of")
        return init

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MetaInit:
        """Read a saved meta-init and verify it.

        Parameters
        ----------
        path : path-like
            A file that `save` wrote, on any device.

        Returns
        -------
        MetaInit
            In memory: whatever becomes of the file changes nothing.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is truncated, damaged, or not a meta-init.
        """
        with open_file(Path(path)) as file:
            start, nbytes = read_start(file, 8), os.fstat(file.fileno()).st_size
            if nbytes < 8:
                raise ValueError(f"{path} is not a meta-init: it holds fewer than 8 bytes.")
            # first the header, lest much be read of what is something else
            end = 8 + _header_size(start, nbytes, str(path))
            _read_header(read_start(file, end), str(path), nbytes)
            init = cls(read_whole(file), str(path))
        init.source = str(path)
        return init

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the meta-init to one file, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file, customarily ``*.safetensors``. It is replaced if it exists.
        """
        with whole_file(path) as file:
            file.write(self._buffer.data)

    # ------------------------------------------------------------------ content
    @property
    def _meta(self) -> dict[str, str]:
        return self._header["__metadata__"]

    @property
    def spec(self) -> dict[str, Any]:
        return json.loads(self._meta["spec"])

    @property
    def fixed_spec(self) -> dict[str, Any]:
        """What it is, as `spec` tells it, read once: nobody may change it."""
        return _read(self._meta["spec"])

    @property
    def algorithm(self) -> str:
        """Name of the learner's class."""
        return self.fixed_spec["algorithm"]

    @property
    def provenance(self) -> dict[str, Any]:
        return json.loads(self._meta["provenance"])

    @property
    def table(self) -> TableFormat | None:
        """How the columns of a table become the numbers of a row; None where rows are numbers."""
        if "table" not in self._meta:
            return None
        if self._table is None:
            self._table = TableFormat.from_json(json.loads(self._meta["table"]))
        return self._table

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the columns that it was trained on, if they had some."""
        names = self.fixed_spec.get("feature_names") if self.table is None else self.table.names
        return None if names is None else list(names)

    @property
    def digest(self) -> str:
        return self._meta["checksum"]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self._buffer.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors, as views of the buffer: do not write to them."""
        body = torch.empty(0, dtype=torch.uint8, device="cpu")
        if self._start < self.nbytes:  # torch makes no tensor of nothing
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch: the buffer is not writable
                body = torch.frombuffer(self._buffer[self._start :].data, dtype=torch.uint8)
        out = {}
        for name, entry in self._tensor_table():
            first, last = entry["data_offsets"]
            out[name] = body[first:last].view(_KINDS[entry["dtype"]]).reshape(entry["shape"])
        return out

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {name: _read_only(t.numpy()) for name, t in self.state_dict().items()}

    @property
    def told(self) -> str:
        """What errors call it: what it is, and the file it comes from."""
        return f"{self!r} of {self.source}" if self.source else repr(self)

    @property
    def lacks(self) -> list[str]:
        """What the spec lacks of all that a learner is rebuilt from."""
        return lacking(self.fixed_spec)

    @property
    def inputs(self) -> dict[str, Any]:
        """How rows come and what they held: ``layout``, ``integers``, ``scaled``, ``low``, ...

        What is not told is the usual way, or was not looked at.
        """
        if self._inputs is None:
            spec = self.fixed_spec
            self._inputs = spec.get("inputs", {})
            if "low" not in self._inputs and not of_images(spec):
                self._pixels = [None]
        return self._inputs

    @property
    def pixels(self) -> Pixels | None:
        """What the pixels of past images were; None where rows were no images."""
        told = self.inputs
        if not self._pixels:
            self._pixels = [pixels_seen(told, self.state_dict())]
        return self._pixels[0]

    def declared_sizes(self, beside: tuple[int, int] = (0, 0)) -> DeclaredSizes:
        """A context in which nothing larger is built than what this meta-init holds.

        Parameters
        ----------
        beside : (int, int), default=(0, 0)
            Numbers and tensors that may be made beside, such as those of the user's own module.

        Returns
        -------
        DeclaredSizes
            The context.
        """
        spec, table = self.fixed_spec, self._tensor_table()
        n_row = 0 if spec.get("any_width") else math.prod(spec["input_shape"])
        return DeclaredSizes(self._n_parameters() + beside[0], len(table) + beside[1], n_row)

    def _tensor_table(self) -> list[tuple[str, dict[str, Any]]]:
        return [(k, v) for k, v in self._header.items() if k != "__metadata__"]

    def cite_tasks(self, ids: Any, kind: str | None = None) -> int:
        """How many of these task ids the meta-training saw.

        Parameters
        ----------
        ids : array-like
            Task ids: group labels, or class labels where there were no groups.
        kind : {"groups", "classes"} or None, default=None
            Which of the two they are, if known.

        Returns
        -------
        int
            Number of ids among those trained on.
        """
        tasks = self.provenance.get("tasks") or {"kind": None, "ids": []}
        known = set(tasks["ids"]) if kind in (None, tasks["kind"]) else set()
        return sum(task in known for task in task_digests(ids))

    def cite_rows(self, X: Any) -> int:
        """How many of these rows the meta-training saw, whatever their ids.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        int
            Number of rows trained on. Up to 8,192 distinct rows are remembered
            exactly, by digests; of more, a sample of their digests, from which
            the number is estimated. It is 0 where fewer than nine in ten of the
            rows trained on were distinct: equal rows, such as those of a few
            categories, need not be the same then.
        """
        known = self.provenance.get("rows")
        sketch = None if known is None else RowSketch.from_json(known)
        if sketch is None or not sketch.distinctive or hasattr(X, "tocsr"):
            return 0
        return sketch.seen(X if self.table is None else self.table.numbers(X))

    # ------------------------------------------------------------------ immutability
    def __sklearn_clone__(self) -> MetaInit:
        return self

    def __copy__(self) -> MetaInit:
        return self

    def __deepcopy__(self, memo: Any) -> MetaInit:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """The constructor and its argument: all that tools which run no other function know of."""
        return MetaInit, (self._plain,)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """What pickle and joblib ask for: the buffer, which they map or hand on uncopied."""
        return _rebuild, (self._buffer,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MetaInit) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        spec, n = self.fixed_spec, self._n_parameters()
        parts = [spec.get("algorithm", "?")]
        if spec.get("encoder"):
            parts.append(spec["encoder"]["name"])
        parts.append(f"{n:,} parameters")
        if tasks := self.provenance.get("tasks"):
            parts.append(f"{tasks['count']} {tasks['kind']}")
        return f"MetaInit({', '.join(parts)}, {self.digest[:8]})"

    def _n_parameters(self) -> int:
        return sum(int(np.prod(entry["shape"])) for _, entry in self._tensor_table())

    def card(self) -> dict[str, str]:
        """What this meta-init is and where it comes from.

        Returns
        -------
        dict of str to str
            Heading and text of each line.
        """
        size = self._n_parameters(), self.nbytes
        return dict(card_rows(self.fixed_spec, self.provenance, self.table, *size, self.digest))

    def _repr_html_(self) -> str:
        return card_html(repr(self), list(self.card().items()))


def _json(content: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"A meta-init can hold plain values only, got {value!r}.")

    return json.dumps(dict(content), sort_keys=True, default=plain)


@lru_cache(maxsize=256)
def _read(told: str) -> dict[str, Any]:
    return json.loads(told)


def _rebuild(buffer: np.ndarray) -> MetaInit:
    """Unpickle: the very object that is at hand already, with what was built from it."""
    init = MetaInit(buffer, verify=False)
    init = _unpickled.pop(init.digest, init)
    _unpickled[init.digest] = init
    if len(_unpickled) > KEPT:
        del _unpickled[next(iter(_unpickled))]
    return init


def task_digests(ids: Any) -> list[str]:
    """Short digests of the distinct task ids, in sorted order."""
    array = np.asarray(ids)
    if array.dtype.kind in "mM":  # which as a list would be numbers
        array = array.astype(str)
    names = sorted({str(i) for i in array.ravel().tolist()})
    return [hashlib.blake2b(name.encode(), digest_size=6).hexdigest() for name in names]


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.view()
    array.flags.writeable = False
    return array


def _checksum(header: dict[str, Any], body: np.ndarray) -> str:
    meta = {k: v for k, v in header["__metadata__"].items() if k != "checksum"}
    digest = hashlib.sha256(json.dumps({**header, "__metadata__": meta}, sort_keys=True).encode())
    digest.update(body.data)
    return digest.hexdigest()


def _header_size(buffer: np.ndarray, nbytes: int, name: str) -> int:
    """Size of the header of a file of so many bytes, of which the buffer is the start."""
    size = int(buffer[:8].view("<u8")[0]) if nbytes >= 8 <= buffer.nbytes else -1
    if not 0 < size <= min(MAX_HEADER, nbytes - 8):
        raise ValueError(
            f"{name} is not a meta-init: its header claims {size} bytes, of a file of "
            f"{nbytes} bytes. It may be truncated or another kind of file."
        )
    return size


def _read_header(
    buffer: np.ndarray, name: str, nbytes: int | None = None
) -> tuple[int, dict[str, Any]]:
    """Start of the tensors and the parsed header, or one clear error."""
    nbytes = buffer.nbytes if nbytes is None else nbytes
    size = _header_size(buffer, nbytes, name)
    try:
        header = json.loads(bytes(buffer[8 : 8 + size]))
        meta = header["__metadata__"]
        known = {"format", "spec", "provenance", "checksum"} <= set(meta)
        for key in ("spec", "provenance", *(["table"] if "table" in meta else [])):
            json.loads(meta[key])
        version = int(str.strip(meta["format"])) if known else 0
        places = [_place(key, entry) for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{name} is not a meta-init: its header cannot be read. It may be damaged, or a "
            "safetensors file of something else."
        ) from error
    if not known:
        raise ValueError(f"{name} is a safetensors file, but not a fewshot_sklearn meta-init.")
    if version > FORMAT:
        raise ValueError(
            f"{name} has format {meta['format'][:20]}; this version reads up to "
            f"{FORMAT}. Upgrade fewshot_sklearn to load it."
        )
    if version < 1 or size % 8:
        raise ValueError(f"{name} is not a meta-init: its header is none that is written here.")
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise ValueError(f"{name} is damaged: its tensors do not lie one after another.")
        end = last
    if end != nbytes - 8 - size:
        raise ValueError(
            f"{name} is truncated or damaged: its tensors end at byte {8 + size + end}, "
            f"the file at {nbytes}."
        )
    return 8 + size, header


def _place(key: str, entry: dict[str, Any]) -> tuple[int, int]:
    """Where a tensor of the header begins and ends."""
    (first, last), shape = entry["data_offsets"], entry["shape"]
    width = _KINDS[entry["dtype"]].itemsize
    numbers = [first, last, *shape]
    sizes = type(shape) is list and len(shape) <= MOST_AXES
    if not sizes or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise ValueError(key)
    if first % width or last - first != width * math.prod(shape):
        raise ValueError(key)
    return first, last
