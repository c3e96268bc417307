"""Which rows a meta-training saw, remembered as a small sketch of their digests.

A. Broder. On the resemblance and containment of documents. Compression and
Complexity of Sequences 1997 (the smallest digests are a random sample of the
distinct rows, the same one wherever a row occurs).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

import numpy as np

#: Digests kept: with fewer distinct rows than that, counts are exact.
KEPT = 8192
#: Numbers that are converted at once.
NUMBERS_AT_ONCE = 2**20
#: Number of digests there can be.
DIGESTS = 2**64
#: Share of rows that have to be distinct for equal rows to be the same rows.
DISTINCTIVE = 0.9


def row_digests(X: Any) -> np.ndarray:
    """Digest each row, whatever its type and shape.

    Parameters
    ----------
    X : array-like of shape (n_rows, ...)
        Numbers; they are compared as float32, and rows as though they were flat.

    Returns
    -------
    ndarray of shape (n_rows,), uint64
        The first eight bytes of BLAKE2b.
    """
    rows = np.asarray(X)
    rows = rows.reshape(len(rows), -1)
    few = max(1, NUMBERS_AT_ONCE // max(1, rows.shape[1]))
    digests = b"".join(
        hashlib.blake2b(row.data, digest_size=8).digest()
        for start in range(0, len(rows), few)
        for row in _comparable(rows[start : start + few])
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _comparable(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, dtype=np.float32) + np.float32(0.0)  # minus zero is zero


class RowSketch(NamedTuple):
    """The smallest digests of a set of rows.

    Attributes
    ----------
    n_rows : int
        Number of rows; estimated for a union, as rows of both count once.
    n_distinct : int
        Number of distinct rows, estimated where not all digests are kept.
    digests : ndarray of uint64
        The smallest ones, in ascending order, at most 8,192.
    """

    n_rows: int
    n_distinct: int
    digests: np.ndarray

    @classmethod
    def of(cls, X: Any) -> RowSketch:
        """Sketch the rows of X."""
        distinct = np.unique(row_digests(X))
        return cls(len(X), len(distinct), distinct[:KEPT])

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> RowSketch:
        """What `to_json` wrote."""
        raw = base64.b64decode(stored["digests"])
        digests = np.frombuffer(raw, dtype="<u8").astype(np.uint64)
        return cls(stored["rows"], stored["distinct"], digests)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        raw = self.digests.astype("<u8").tobytes()
        digests = base64.b64encode(raw).decode()
        return {"rows": self.n_rows, "distinct": self.n_distinct, "digests": digests}

    @property
    def distinctive(self) -> bool:
        """Whether rows hardly recur among themselves, so that finding one again means something."""
        return self.n_distinct >= DISTINCTIVE * self.n_rows

    @property
    def share_kept(self) -> float:
        """Share of all rows whose digests would be kept."""
        if self.n_distinct <= len(self.digests):
            return 1.0
        return (int(self.digests[-1]) + 1) / DIGESTS

    def union(self, other: RowSketch) -> RowSketch:
        """The sketch of the rows of both."""
        if self.n_distinct == other.n_distinct and np.array_equal(self.digests, other.digests):
            return self
        often = (self.n_rows + other.n_rows) / max(1, self.n_distinct + other.n_distinct)
        distinct = np.union1d(self.digests, other.digests)
        if self.share_kept == other.share_kept == 1.0:
            return RowSketch(round(often * len(distinct)), len(distinct), distinct[:KEPT])
        # below the lower of the two bounds both are complete
        distinct = distinct[distinct <= min(s.digests[-1] for s in (self, other) if s.truncated)]
        distinct = distinct[:KEPT]
        share = (int(distinct[-1]) + 1) / DIGESTS
        n_distinct = max(len(distinct) + 1, round(len(distinct) / share))
        return RowSketch(round(often * n_distinct), n_distinct, distinct)

    @property
    def truncated(self) -> bool:
        """Whether some digests are missing."""
        return self.n_distinct > len(self.digests)

    def seen(self, X: Any) -> int:
        """How many rows of X are among them, estimated where not all digests are kept.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.

        Returns
        -------
        int
            From 0 to n_rows; above 0 only where a row was found.
        """
        digests = row_digests(X)
        found = int(np.isin(digests, self.digests).sum())
        return min(len(digests), round(found / self.share_kept))
