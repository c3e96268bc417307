"""How trials are made: in processes of their own, with a limit of time; for `robustness.py`.

A trial is a function that says in a word how it came out, and raises where it fell. Trials run
in forked processes, some in each, which tell of each trial before they begin the next: one that
kills its process, or does not end, falls by itself and the rest go on in a new process.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np
import torch

#: Address space of a process, in bytes.
MOST_SPACE = 8 * 2**30
FORK = multiprocessing.get_context("fork")


class Told(NamedTuple):
    """What came of one section."""

    #: How many trials, and how many of them came out well.
    tried: int
    held: int
    #: How they came out, counted.
    ways: Counter[str]
    #: A line for each that fell.
    fell: list[str]


class Trial(NamedTuple):
    """Something to try."""

    what: str
    #: Says in a word how it came out well.
    run: Callable[[], str]


class Fell(Exception):
    """A trial fell: why is the message."""


class Fate(NamedTuple):
    """What became of a trial: a word, or "fell" and why."""

    way: str
    why: str = ""


def _ends_with_its_parent() -> None:
    """Whoever ends the program ends what it has forked, too; Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def bounded() -> None:
    """Let this process have so much memory and no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_SPACE, MOST_SPACE))


def fate(trial: Trial) -> Fate:
    """Make the trial, here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return Fate(trial.run())
        except Fell as error:
            return Fate("fell", str(error))
        except Exception as error:
            return Fate("fell", f"{type(error).__name__}: {error}")


def outcome(
    trials: Sequence[Trial], n_tries: int, seed: int, n_processes: int, batch: int, seconds: float
) -> Told:
    """Make so many of the trials, chosen from a seed.

    Parameters
    ----------
    trials : sequence of Trial
        What there is to try.
    n_tries : int
        How many to make, at most: all where there are fewer.
    seed : int
        Chooses them.
    n_processes : int
        How many at once; with 0 all in this one, however long they take.
    batch : int
        Trials a process makes.
    seconds : float
        What one trial may take.

    Returns
    -------
    Told
        What came of them.
    """
    places = np.sort(np.random.default_rng(seed).permutation(len(trials))[:n_tries])
    chosen = [trials[i] for i in places]
    if n_processes:
        fates = _elsewhere(chosen, n_processes, batch, seconds)
    else:
        fates = [fate(trial) for trial in chosen]
    fell = [
        f"{trial.what}: {told.why:.300}"
        for trial, told in zip(chosen, fates, strict=True)
        if told.way == "fell"
    ]
    return Told(len(chosen), len(chosen) - len(fell), Counter(f.way for f in fates), fell)


# ------------------------------------------------------------------ elsewhere
class _Child:
    """A forked process that makes trials, and tells of each."""

    def __init__(self, trials: Sequence[Trial], left: list[int], seconds: float):
        self.left, self.seconds = left, seconds
        self.pipe, told = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=_make, args=([trials[i] for i in left], told))
        self.process.start()
        told.close()
        self.since = time.monotonic()

    def told(self) -> Fate | None:
        """What became of the first that is left; None where the process has ended."""
        with suppress(EOFError):
            self.since = time.monotonic()
            return Fate(*self.pipe.recv())
        return None

    def is_late(self) -> bool:
        return time.monotonic() - self.since > self.seconds

    def end(self) -> int | None:
        """End it, and what it has started; its exit status."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()
        self.pipe.close()
        return self.process.exitcode


def _make(trials: Sequence[Trial], pipe: Connection) -> None:
    _ends_with_its_parent()
    with suppress(OSError):
        os.setpgid(0, 0)
    torch.set_num_threads(1)
    bounded()
    for trial in trials:
        pipe.send(tuple(fate(trial)))
    pipe.close()
    os._exit(0)  # nobody else's exit handlers


def _elsewhere(trials: Sequence[Trial], n_processes: int, batch: int, seconds: float) -> list[Fate]:
    n = len(trials)
    waiting = [list(range(i, min(i + batch, n))) for i in reversed(range(0, n, batch))]
    fates: dict[int, Fate] = {}
    children: list[_Child] = []
    while waiting or children:
        while waiting and len(children) < n_processes:
            children.append(_Child(trials, waiting.pop(), seconds))
        ready = wait([child.pipe for child in children], timeout=1.0)
        for child in list(children):
            if child.pipe in ready and (told := child.told()):
                fates[child.left.pop(0)] = told
            elif child.pipe in ready or child.is_late():
                late = child.pipe not in ready
                status = child.end()
                children.remove(child)
                if child.left:
                    why = f"it took more than {seconds:g} s" if late else f"exit status {status}"
                    fates[child.left.pop(0)] = Fate("fell", f"the process was ended: {why}")
                    waiting += [child.left] if child.left else []
    return [fates[i] for i in range(n)]


@contextmanager
def apart(function: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """A forked process in which a function runs, for the time of the block.

    Parameters
    ----------
    function : callable
        Its first argument is the end of a pipe to tell something through.
    *arguments : object
        Others.

    Yields
    ------
    process, pipe
        To kill, and to hear from.
    """
    pipe, told = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_apart, args=(function, told, *arguments))
    process.start()
    told.close()
    try:
        yield process, pipe
    finally:
        process.kill()
        process.join()
        pipe.close()


def _apart(function: Callable[..., Any], *arguments: Any) -> None:
    _ends_with_its_parent()
    function(*arguments)


def answer_apart(function: Callable[[], Any], seconds: float) -> Any:
    """What a function returns in a forked process.

    Raises
    ------
    Fell
        When it raises, kills its process, or takes longer.
    """
    with apart(_answer, function) as (process, pipe):
        if not pipe.poll(seconds):
            raise Fell(f"it took more than {seconds:g} s")
        try:
            way, answer = pipe.recv()
        except EOFError:
            process.join()
            raise Fell(f"the process ended with {process.exitcode}") from None
    if way == "raised":
        raise Fell(answer)
    return answer


def _answer(pipe: Connection, function: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    try:
        pipe.send(("answered", function()))
    except BaseException as error:
        pipe.send(("raised", f"{type(error).__name__}: {error}"))
    pipe.close()
    os._exit(0)
