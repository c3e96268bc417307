"""A million tasks: fitted by workers a part at a time, merged into a store, looked up, renewed.

    python benchmarks/million_tasks.py                    # two workers of Dask, some minutes
    python benchmarks/million_tasks.py --look-ups 10000000  # a store of so many tiny states

Tasks of 5 rows of 16 features, a Bayesian linear head on an encoder of 2 x 64 units. Workers make
up the rows of their parts themselves, as they would read them from a disk. Look-ups are of tasks
drawn at random. All files are in a temporary folder, which takes about 10 kB a task (200 bytes with
--look-ups) and is deleted at the end. Prints a markdown table.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewshot_sklearn import (
    MetaTrainer,
    RidgeHeadRegressor,
    TaskStore,
    TaskwiseRegressor,
    fit_partition,
)

N_ROWS, N_FEATURES = 5, 16
#: Look-ups that are timed.
LOOKED_UP = 1000
#: Tasks whose rows are predicted at once, and that are renewed at once.
AT_ONCE = (1, 100, 4000)
#: Seconds of updates while somebody reads.
SECONDS = 20.0


def rows_of(part: np.ndarray, n_rows: int, n_features: int) -> tuple[np.ndarray, ...]:
    """Rows, targets and ids of the tasks of one part."""
    rng = np.random.default_rng(part[:1])
    groups = np.repeat(part, n_rows)
    X = rng.standard_normal((len(groups), n_features))
    slopes = rng.standard_normal((len(part), n_features)).repeat(n_rows, 0)
    return X, (X * slopes).sum(1) + 0.1 * rng.standard_normal(len(groups)), groups


def estimator(n_features: int, **encoder: Any) -> TaskwiseRegressor:
    """One after a moment of meta-training: speed does not depend on what was learned."""
    X, y, groups = rows_of(np.arange(50), 10, n_features)
    trainer = MetaTrainer(
        RidgeHeadRegressor(**encoder), n_shot=5, n_query=5, n_episodes=32, max_epochs=1,
        validation_fraction=0, random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    return TaskwiseRegressor(trainer.fit(X, y, groups).estimator_, updatable=True)


def fit_part(part: np.ndarray, reg: TaskwiseRegressor, folder: str) -> tuple[str, float, float]:
    """What a worker does; the file, and the seconds of the fit and of CPU."""
    torch.set_num_threads(1)
    X, y, groups = rows_of(part, N_ROWS, N_FEATURES)
    start, cpu = time.perf_counter(), time.process_time()
    file = fit_partition(reg, X, y, groups, folder=folder)
    assert file is not None
    return file, time.perf_counter() - start, time.process_time() - cpu


def timed(call: Callable[[], Any], times: int) -> np.ndarray:
    """Milliseconds (times, 2) of each of some calls, and those of CPU."""
    out = np.empty((times, 2))
    for own in out:
        start = time.perf_counter(), time.process_time()
        call()
        own[:] = time.perf_counter() - start[0], time.process_time() - start[1]
    return 1e3 * out


def told(values: np.ndarray) -> str:
    """Medians, and what one in a hundred of many is beyond."""
    wall, cpu = np.median(values, 0)
    beyond = f" (1 in 100: {np.quantile(values[:, 0], 0.99):.2f} ms)" if len(values) >= 100 else ""
    return f"{wall:.2f} ms, {cpu:.2f} of CPU{beyond}"


def megabytes(kind: int = resource.RUSAGE_SELF) -> str:
    """The most memory that a process held."""
    return f"{resource.getrusage(kind).ru_maxrss / 1024:,.0f} MiB"


def look_ups(store: TaskStore, ids: np.ndarray, n_features: int) -> None:
    """Lines about tasks drawn at random."""
    rng = np.random.default_rng(1)

    def some(n: int) -> np.ndarray:
        return rng.choice(ids, min(n, len(ids)), replace=False)

    first = timed(lambda: TaskStore(store.path, store.taskwise).load(some(1)), 1)
    line("open the store and load one task", told(first))
    line("load one task", told(timed(lambda: store.load(some(1)), LOOKED_UP)))
    for n in AT_ONCE:
        X = rng.standard_normal((min(n, len(ids)), n_features))
        times = timed(lambda n=n, X=X: store.predict(X, some(n)), max(3, LOOKED_UP // (10 * n)))
        line(f"predict a row of each of {n:,} tasks", told(times))
    if hasattr(os, "posix_fadvise"):
        cold = np.concatenate([_from_disk(store, some(1)) for _ in range(1 + LOOKED_UP // 10)])
        line("open the store, of which memory holds nothing, and load one task", told(cold))


def _from_disk(store: TaskStore, ids: np.ndarray) -> np.ndarray:
    """Milliseconds of a look-up after the system was told to let go of the file."""
    # by another process: whoever closes a file lets go of all locks that its process has on it
    let_go = (
        "import os, sys; held = open(sys.argv[1], 'rb'); os.fsync(held.fileno()); "
        "os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)"
    )
    subprocess.run([sys.executable, "-S", "-c", let_go, str(store.path)], check=True)
    return timed(lambda: TaskStore(store.path, store.taskwise).load(ids), 1)


def line(what: str, value: str) -> None:
    """A line of the table."""
    print(f"| {what} | {value} |", flush=True)


def reading(file: str) -> None:
    """What another process does: predict one row after the other, and say how long that took."""
    torch.set_num_threads(1)
    path, taskwise, ids, seconds = pickle.loads(Path(file).read_bytes())
    store, rng = TaskStore(path, taskwise), np.random.default_rng(2)
    X, times = rng.standard_normal((1, N_FEATURES)), []
    print("ready", flush=True)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        times.append(timed(lambda: store.predict(X, rng.choice(ids, 1)), 1))
    print(told(np.concatenate(times)))


def all_fitted(
    parts: list[np.ndarray], reg: TaskwiseRegressor, folder: str, workers: int
) -> tuple[float, float, list[Any]]:
    """Seconds to begin workers, and of their work; and what `fit_part` says of each part."""
    start = time.perf_counter()
    if not workers:
        done = [fit_part(part, reg, folder) for part in parts]
        return 0.0, time.perf_counter() - start, done
    from dask.distributed import Client

    with Client(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=None,
        silence_logs=logging.ERROR,
    ) as client:
        begun = time.perf_counter()
        shared = client.scatter(reg, broadcast=True)
        done = client.gather(client.map(fit_part, parts, reg=shared, folder=folder))
        return begun - start, time.perf_counter() - begun, done


def million(n_tasks: int, per_part: int, workers: int) -> None:
    """Fit, merge, look up, renew."""
    reg = estimator(N_FEATURES, encoder="mlp", encoder__hidden=(64, 64))
    ids = np.random.default_rng(0).permutation(n_tasks)
    parts = np.array_split(ids, max(1, n_tasks // per_part))
    line("bytes of the estimator, sent to a worker once", f"{len(pickle.dumps(reg)):,}")
    with tempfile.TemporaryDirectory() as folder:
        merging, size = 0.0, 0
        path = Path(folder) / "all.tasks"
        store = TaskStore(path, reg)
        begun, fitted, done = all_fitted(parts, reg, folder, workers)
        files = [file for file, _, _ in done]
        busy, cpu = (sum(one[i] for one in done) for i in (1, 2))
        for file in files:
            size += os.path.getsize(file)
            start = time.perf_counter()
            store.merge(file)
            merging += time.perf_counter() - start
            os.unlink(file)
        line(f"{workers} workers begun", f"{begun:.1f} s")
        line(
            f"fit {n_tasks:,} tasks in {len(parts)} parts, {workers} workers",
            f"{fitted:.0f} s; {1e6 * cpu / n_tasks:.0f} µs of CPU a task, busy "
            f"{100 * busy / fitted / max(1, workers):.0f}% of the time",
        )
        line("files of the parts", f"{size / 2**20:,.0f} MiB, {size / n_tasks:,.0f} bytes a task")
        rate = f"{n_tasks / merging:,.0f} tasks, {size / merging / 2**20:,.0f} MiB a second"
        line("merge them into a store", f"{merging:.0f} s; {rate}")
        line("the store", f"{path.stat().st_size / n_tasks:,.0f} bytes a task")
        look_ups(store, ids, N_FEATURES)
        line("memory of this process, at most", megabytes())
        renew(store, ids)


def renew(store: TaskStore, ids: np.ndarray) -> None:
    """Updates, at once and while another process reads."""
    rng = np.random.default_rng(3)
    for n in AT_ONCE:
        n = min(n, len(ids))
        for mode in ("replace", "add"):
            part = rng.choice(ids, n, replace=False)
            X, y, groups = rows_of(part, N_ROWS if mode == "replace" else 1, N_FEATURES)
            once = timed(lambda some=(X, y, groups, None, mode): store.partial_fit(*some), 1)
            line(f"partial_fit of {n:,}, mode={mode!r}", told(once))
    file = store.path.with_name("reader.pickle")
    file.write_bytes(pickle.dumps((store.path, store.taskwise, ids, SECONDS)))
    begin = "import sys; sys.path.insert(0, sys.argv[1]); import million_tasks as m; m.reading("
    words = [sys.executable, "-c", f"{begin}sys.argv[2])", str(Path(__file__).parent), str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
        start, written = time.perf_counter(), 0
        while reader.poll() is None:
            part = rng.choice(ids, min(1000, len(ids)), replace=False)
            store.partial_fit(*rows_of(part, N_ROWS, N_FEATURES))
            written += len(part)
        rate = written / (time.perf_counter() - start)
        line("tasks renewed a second, 1,000 at once, while another process reads", f"{rate:,.0f}")
        line("predict one row meanwhile", reader.stdout.read().strip())
    part = rng.choice(ids, min(100, len(ids)), replace=False)
    start = time.perf_counter()
    store.forget(part)
    line(f"forget {len(part)}", f"{1e3 * (time.perf_counter() - start):.0f} ms")


def many_look_ups(n_tasks: int) -> None:
    """A store of tiny states, most of them the same ones under other ids."""
    reg = estimator(1)
    at_once = min(n_tasks, 200_000)
    reg.fit(*rows_of(np.arange(at_once), 1, 1))
    ids = np.random.default_rng(0).integers(1, 10, n_tasks).cumsum()
    with tempfile.TemporaryDirectory() as folder:
        store = TaskStore(Path(folder) / "all.tasks", reg)
        start = time.perf_counter()
        for first in range(0, n_tasks, at_once):
            some = ids[first : first + at_once]
            if len(some) < at_once:
                reg.forget(reg.tasks_[len(some) :])
            reg.tasks_ = some
            store.merge(reg)
        taken = time.perf_counter() - start
        size = store.path.stat().st_size
        line(
            f"merge {n_tasks:,} tasks of {reg.nbytes_ / at_once:.0f} bytes",
            f"{taken:.0f} s; {size / 2**20:,.0f} MiB, {size / n_tasks:.0f} bytes a task",
        )
        store = TaskStore(store.path, reg)
        look_ups(store, ids, 1)
        start = time.perf_counter()
        found = len(store)
        line(f"count them: {found:,}", f"{1e3 * (time.perf_counter() - start):.0f} ms")
        assert found == n_tasks


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--part", type=int, default=20_000, help="tasks of a part, default: 20000")
    parser.add_argument("--workers", type=int, default=2, help="0: none but this process")
    parser.add_argument("--look-ups", type=int, default=0, help="tasks of a store of tiny states")
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    dask = arguments.workers and not arguments.look_ups
    names = ["torch", "scikit-learn", "numpy", *(["dask"] if dask else [])]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, one thread a process. {versions}.\n")
    print("| what | measured |\n|---|---|")
    if arguments.look_ups:
        many_look_ups(arguments.look_ups)
    else:
        million(arguments.tasks, arguments.part, arguments.workers)


if __name__ == "__main__":
    main()
