"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of another once all is written, and is gone otherwise.

    Parameters
    ----------
    path : path-like
        The file to make or to replace. Whenever the process is killed, there is
        the old one or the new one; what a killed process had begun is removed.

    Yields
    ------
    binary file
        To write to.
    """
    path = Path(path)
    _remove_abandoned(path)
    temporary = path.with_name(f"{path.name}.{_writer()}-{secrets.token_hex(4)}.part")
    try:
        # made as any other file is, so with the permissions of any other
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _writer() -> str:
    machine = re.sub(r"\W", "", platform.node())
    return f"{machine}-{os.getpid()}"


def _remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine that live no more had begun to write."""
    if os.name != "posix":  # elsewhere asking whether a process lives may end it
        return
    machine = _writer().rpartition("-")[0]
    begun = re.compile(rf"{re.escape(path.name)}\.{re.escape(machine)}-(\d+)-[0-9a-f]{{8}}\.part")
    with suppress(OSError):  # nothing that matters
        for file in path.parent.iterdir():
            if (found := begun.fullmatch(file.name)) and not _lives(int(found[1])):
                file.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        return True
    return True
