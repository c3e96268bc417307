"""Many tasks, a chunk of them in each process: what is batched in one process, shared out to more.

What all chunks have in common (a meta-init, rows) goes to a process with its chunk, once: there are
no more chunks than processes. joblib's backends do the sending: loky maps large arrays to a file
that processes share, Dask scatters them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed


def chunks_for(sizes: np.ndarray, n_jobs: int | None) -> list[np.ndarray]:
    """Numbers of tasks, a chunk for each process; chunks of about one size.

    Parameters
    ----------
    sizes : ndarray of shape (n_tasks,)
        How much work each task is, such as its rows.
    n_jobs : int or None
        Processes, as joblib has them.

    Returns
    -------
    list of ndarray of int
        None of them empty, in order; a single one where there is one process, or one task.
    """
    n = min(effective_n_jobs(n_jobs), len(sizes))
    if n < 2:
        return [np.arange(len(sizes))]
    done = np.cumsum(sizes) / max(1, np.sum(sizes))
    ends = np.searchsorted(done, np.arange(1, n) / n, side="left") + 1
    return [part for part in np.split(np.arange(len(sizes)), ends) if len(part)]


def shared_out(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], n_jobs: int | None
) -> list[Any]:
    """What a function returns, called in a process each; its warnings are given here, once each.

    Parameters
    ----------
    function : callable
        Of a module.
    calls : iterable of tuple
        Its arguments.
    n_jobs : int or None
        Processes, as joblib has them.
    """
    here = os.getpid()
    done = Parallel(n_jobs=n_jobs)(delayed(_heard)(function, call, here) for call in calls)
    seen = {(str(told), kind) for _, heard in done for told, kind in heard}
    for told, kind in sorted(seen, key=str):
        warnings.warn(told, kind, stacklevel=3)
    return [answer for answer, _ in done]


def _heard(
    function: Callable[..., Any], call: tuple[Any, ...], home: int
) -> tuple[Any, list[tuple[str, type[Warning]]]]:
    """The answer, and the warnings that came with it in another process than the caller's."""
    if os.getpid() == home:  # in a thread: they are given there, and catching is for all threads
        return function(*call), []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        answer = function(*call)
    return answer, [(str(one.message), one.category) for one in heard]
