"""One SQLite file: a connection for each thread, transactions, and what its errors mean.

Readers see what was committed before they began, however much is written meanwhile: the file is in
SQLite's mode of a write-ahead log.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What SQLite files of this kind are known by ("FSLT"), and the version of their format.
APPLICATION, FORMAT = 0x46534C54, 1
#: Bytes of a page: some states fit into one.
PAGE = 16_384
#: KiB of pages that a writer keeps in memory.
CACHE = 65_536
#: Seconds that a writer waits for another.
PATIENCE = 600.0

SCHEMA = (
    "CREATE TABLE told (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE layouts (layout INTEGER PRIMARY KEY, arrays TEXT UNIQUE NOT NULL)",
    "CREATE TABLE classes (class INTEGER PRIMARY KEY, label UNIQUE NOT NULL, tasks INTEGER)",
    "CREATE TABLE files (checksum TEXT PRIMARY KEY)",
    "CREATE TABLE tasks (task UNIQUE NOT NULL, layout INTEGER NOT NULL, checksum INTEGER NOT NULL,"
    " state BLOB NOT NULL)",
)


class Database:
    """A file of tasks.

    Parameters
    ----------
    path : path-like
        The file; it is made if there is none.

    Raises
    ------
    FileNotFoundError
        When there is no such folder.
    ValueError
        When the file is something else, damaged, or of a later version.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).absolute()
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {self.path.parent}.")
        self._own = threading.local()
        #: Which file it is; another one may take its place.
        self._file: tuple[int, int] | None = None
        with self._told_errors():
            self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self._own, self._file = state["path"], threading.local(), None

    # ------------------------------------------------------------------ connections
    def _begin(self) -> None:
        connection = self._connection(create=True)
        if _is_empty(connection):
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute("PRAGMA journal_mode = WAL")
            with self._transaction("IMMEDIATE"):
                if _is_empty(connection):  # still, and nobody else makes it now
                    for table in SCHEMA:
                        connection.execute(table)
                    connection.execute(f"PRAGMA user_version = {FORMAT}")
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self._file = self._file or self._found()  # which is there by now
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if kind != APPLICATION:
            raise ValueError(f"{self.path} is no store of tasks: it is another SQLite file.")
        if version > FORMAT:
            raise ValueError(
                f"{self.path} has format {version}; this version reads up to {FORMAT}. Upgrade "
                "fewshot_sklearn to open it."
            )

    def _connection(self, create: bool = False) -> sqlite3.Connection:
        """That of this thread; a process that was forked has its own."""
        own = self._own
        if getattr(own, "process", None) != os.getpid():
            # what was opened before a fork is the parent's, and must not be closed here
            own.inherited = getattr(own, "connection", None)
            own.connection, own.process = self._opened(create), os.getpid()
            if self._file is None:
                self._file = self._found()
            elif self._found() != self._file:
                own.process = None
                self._refuse_another_file()
        return own.connection

    def _opened(self, create: bool) -> sqlite3.Connection:
        there = self.path.exists()
        may_write = os.access(self.path.parent, os.W_OK) and (
            not there or os.access(self.path, os.W_OK)
        )
        # without a place for its log SQLite reads a file only if told that nobody writes to it
        how = ("rwc" if create else "rw") if may_write else "ro&immutable=1"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={how}", uri=True, timeout=PATIENCE, isolation_level=None
        )
        if may_write:
            connection.execute(f"PRAGMA cache_size = {-CACHE}")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
        return connection

    # ------------------------------------------------------------------ transactions
    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file, whatever is written meanwhile."""
        with self._told_errors(), self._transaction("DEFERRED") as connection:
            yield connection

    def _found(self) -> tuple[int, int] | None:
        """Which file there is at the path, if any."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that alone writes; all that it wrote is seen at the end, or nothing."""
        with self._told_errors(), self._transaction("IMMEDIATE") as connection:
            self._refuse_another_file()
            yield connection

    def _refuse_another_file(self) -> None:
        """Write to no file that has been taken away from its path: nobody would find it there."""
        if self._found() != self._file:
            raise OSError(
                f"{self.path} was removed, or replaced by another file, since it was opened. Open "
                "it again with TaskStore."
            )

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute(f"BEGIN {kind}")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def outside(self, statement: str) -> None:
        """Run what cannot be part of a transaction."""
        with self._told_errors():
            self._connection().execute(statement).fetchall()

    @contextmanager
    def _told_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path} cannot be used: {error}.") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.path} is no store of tasks, or is damaged: {error}."
            ) from error


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
