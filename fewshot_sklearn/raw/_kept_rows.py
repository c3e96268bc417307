"""Rows that a model gave before, so that a cross-validation embeds each thing once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

#: Bytes of rows that are kept of one model, those used last.
KEPT_BYTES = 2**28


class KeptRows:
    """Rows by a digest of what they are of, within a bound; any thread may ask.

    Parameters
    ----------
    most : int
        Bytes, beyond which those go that were not used for longest.
    """

    def __init__(self, most: int = KEPT_BYTES):
        self.most, self.held = most, 0
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, digests: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Those of the rows that are kept."""
        found = {}
        with self._lock:
            for digest in digests:
                if digest in self._rows:
                    self._rows.move_to_end(digest)
                    found[digest] = self._rows[digest]
        return found

    def keep(self, digests: Sequence[bytes], rows: np.ndarray) -> None:
        """Keep rows, as far as there is room."""
        with self._lock:
            for digest, row in zip(digests, rows, strict=True):
                if digest not in self._rows:
                    self._rows[digest] = row.copy()  # alone: not a view of a whole batch
                    self.held += row.nbytes
            while self.held > self.most:
                self.held -= self._rows.popitem(last=False)[1].nbytes

    def __len__(self) -> int:
        return len(self._rows)


_of_models: WeakKeyDictionary[Any, KeptRows] = WeakKeyDictionary()
_lock = threading.Lock()


def kept_rows_of(model: Any) -> KeptRows:
    """What is kept of a model; it goes when the model does.

    Parameters
    ----------
    model : object
        A model, or a function.

    Returns
    -------
    KeptRows
        The same one for the same model; an empty one where that cannot be told.
    """
    try:
        with _lock:
            return _of_models.setdefault(model, KeptRows())
    except TypeError:  # neither hashed nor referred to weakly
        return KeptRows()


def embedded(
    things: Sequence[Any],
    digests: Sequence[bytes],
    embed: Callable[[list[Any]], np.ndarray],
    kept: KeptRows | None = None,
    batch_size: int = 64,
    sizes: Sequence[int] | None = None,
    bar: str | None = None,
) -> np.ndarray:
    """Rows of things: each different thing is embedded once, in batches.

    Parameters
    ----------
    things : sequence of length n
        What to embed.
    digests : sequence of bytes of length n
        The same for the same things.
    embed : callable
        Maps a list of things to rows (n_things, n_features).
    kept : KeptRows or None, default=None
        Where rows are looked for, and kept.
    batch_size : int, default=64
        Things that `embed` gets at once.
    sizes : sequence of int or None, default=None
        Largest first, so that a batch holds things of one size.
    bar : str or None, default=None
        What to call the progress bar; None draws none.

    Returns
    -------
    ndarray of shape (n, n_features), float32
        Rows.

    Raises
    ------
    ValueError
        When `embed` gives anything but a finite row of numbers a thing.
    """
    found = {} if kept is None else kept.known(digests)
    wanted = {digest: i for i, digest in enumerate(digests) if digest not in found}
    order = sorted(wanted, key=lambda d: 0 if sizes is None else -sizes[wanted[d]])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    for batch in _drawn(batches, bar):
        rows = as_rows(embed([things[wanted[d]] for d in batch]), len(batch))
        found.update(zip(batch, rows, strict=True))
        if kept is not None:
            kept.keep(batch, rows)
    widths = {len(found[digest]) for digest in digests}
    if len(widths) > 1:
        raise ValueError(f"The model gave rows of different lengths: {sorted(widths)}.")
    return np.stack([found[digest] for digest in digests])


def as_rows(rows: Any, n: int) -> np.ndarray:
    """What a model gave, as float32 (n, n_features); refused where it is no such thing."""
    if hasattr(rows, "detach"):  # a tensor, of any device and precision
        rows = rows.detach().float().cpu()
    try:
        made = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The model gave no rows of numbers, but {type(rows).__name__}."
        ) from error
    if made.ndim != 2 or len(made) != n:
        raise ValueError(
            f"The model must give one row of features a thing; of {n} things it gave an array of "
            f"shape {made.shape}."
        )
    if not np.isfinite(made).all():
        raise ValueError("The model gave rows that are not finite.")
    return made


def _drawn(batches: list[Any], bar: str | None) -> Iterable[Any]:
    if bar is None or not batches:
        return batches
    from tqdm.auto import tqdm

    return tqdm(batches, desc=bar, unit="batch")
