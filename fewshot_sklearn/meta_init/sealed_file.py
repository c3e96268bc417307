"""Files of arrays and of plain values that say when they are damaged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .whole_file import whole_file

#: What stands before the checksum at the end of a sealed file.
MARK = b"\nsha256 "


def write_arrays(
    path: str | os.PathLike[str],
    kind: str,
    version: int,
    arrays: Mapping[str, np.ndarray],
    told: Mapping[str, Any],
) -> None:
    """Write arrays and plain values to one safetensors file, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file; it is replaced if it exists.
    kind : str
        What the file holds, to know it by.
    version : int
        Of the file's format.
    arrays : mapping of str to ndarray
        The arrays.
    told : mapping
        Whatever JSON can hold.
    """
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = json.dumps({"version": version, "told": dict(told)})
    header = {kind: content, "checksum": _checksum(packed, kind, content)}
    with whole_file(path) as file:
        file.write(in_one_order(save(packed, header)))


def in_one_order(raw: bytes) -> bytes:
    """A safetensors file whose bytes depend on its content alone: its metadata by name.

    safetensors writes them in an order that is drawn anew for each file.
    """
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)  # as the format wants its arrays to begin
    return len(told).to_bytes(8, "little") + told + raw[8 + size :]


def read_arrays(
    path: str | os.PathLike[str], kind: str, version: int, what: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it should hold.
    version : int
        The latest format that is understood.
    what : str
        In words, what it should hold, for errors.

    Returns
    -------
    arrays, told : dict
        What was written.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    raw = path.read_bytes()
    try:
        arrays = load(raw)
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size]).get("__metadata__", {})
        content = header[kind]
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} does not hold {what}, or is damaged.") from error
    if header.get("checksum") != _checksum(arrays, kind, content):
        raise ValueError(
            f"{path} does not hold {what} as it was saved: it is damaged, its content does not "
            "match its checksum."
        )
    read = json.loads(content)
    if read["version"] > version:
        raise ValueError(
            f"{path} has format {read['version']}; this version reads up to {version}. Upgrade "
            "fewshot_sklearn to load it."
        )
    return arrays, read["told"]


def checksum_of(path: str | os.PathLike[str]) -> str:
    """The checksum that a file of `write_arrays` says it has, without a look at its arrays.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size if size < path.stat().st_size else 0))
        return str(header["__metadata__"]["checksum"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or another kind of file.") from error


def _checksum(arrays: Mapping[str, np.ndarray], kind: str, content: str) -> str:
    digest = hashlib.sha256(f"{kind} {content}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def write_sealed(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes and their checksum, whole or not at all."""
    with whole_file(path) as file:
        file.write(content)
        file.write(MARK + hashlib.sha256(content).hexdigest().encode() + b"\n")


def read_sealed(path: str | os.PathLike[str]) -> bytes:
    """The bytes that `write_sealed` wrote.

    Raises
    ------
    ValueError
        When they do not match their checksum.
    """
    content, mark, checksum = Path(path).read_bytes().rpartition(MARK)
    if not mark or checksum != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise ValueError(f"{path} is damaged: its content does not match its checksum.")
    return content
