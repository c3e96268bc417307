"""Every script of benchmarks/, training/ and examples/ runs, at a tiny size, and says something.

A run is the script's own `main`, on few episodes of small data; what it prints must look like its
result, and what it writes must load. Scripts are found by listing the folders, so that one without
a line in `tiny_runs` fails here.
"""

from __future__ import annotations

import gc
import json
import re
import shlex
import socket
import sys
from importlib import import_module
from pathlib import Path

import made_data
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, needs_new_torch
from loading import FOLDERS, loaded, scripts
from tiny_runs import RUNS, SPEED, USED_BY

from fewshot_sklearn import MetaInit, MetaTrainer
from fewshot_sklearn.encoders import sentence_models

if not all((ROOT / folder).exists() for folder in FOLDERS):
    pytest.skip("the scripts are not here", allow_module_level=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of made data sets."""
    folder = tmp_path_factory.mktemp("data")
    made_data.write_folder(folder)
    return folder


@pytest.fixture
def short_training(monkeypatch):
    """Two tasks, once, of whatever a script trains: its own numbers are what takes minutes."""
    whole = MetaTrainer.__init__

    def shorter(trainer, *args, **options):
        whole(trainer, *args, **options)
        for name, most in (("n_episodes", 2), ("n_valid_episodes", 2), ("max_epochs", 1)):
            value = getattr(trainer, name)
            if isinstance(value, int):  # and not what a bad call puts there
                setattr(trainer, name, min(value, most))
        if trainer.compile == "auto":
            trainer.compile = False  # the compiler takes longer than all scripts together

    shorter.__wrapped__ = whole  # parameters are read off its signature
    monkeypatch.setattr(MetaTrainer, "__init__", shorter)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """An empty folder to run in and one to write to; no network, no sentence encoder."""

    def refuse(*args):
        raise OSError("a script reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for folder in ("here", "out", "encoder"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sentence_models, "model_folder", lambda *asked: tmp_path / "encoder")
    monkeypatch.setattr(sentence_models, "_read", lambda _, device: made_data.WordVectors(device))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FEWSHOT_DEMO_OUTPUT", str(tmp_path / "out"))
    gc.freeze()  # whoever times collects garbage each time: not what the tests hold
    yield tmp_path
    gc.unfreeze()
    plt.close("all")


def set_smaller(module, smaller, data, monkeypatch):
    """Set the constants of a run, each of which must be there."""
    for name, value in smaller.items():
        value = Path(value.format(data=data)) if isinstance(value, str) else value
        where, _, constant = name.rpartition(".")
        monkeypatch.setattr(import_module(where) if where else module, constant, value)


def with_constants(source, smaller, data):
    """A gallery's script, whose constants stand on lines of their own, with others."""
    for name, value in smaller.items():
        value = value.format(data=data) if isinstance(value, str) else value
        source, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", source)
        assert found == 1, f"{name} is set {found} times"
    return source


def read(path):
    """Whatever a script wrote."""
    readers = {
        ".json": lambda: json.loads(path.read_text()),
        ".npz": lambda: np.load(path)["embeddings"],
        ".png": lambda: plt.imread(path),
        ".safetensors": lambda: MetaInit.load(path).tensors,
    }
    return readers[path.suffix]()


def files_of_the_repository():
    folders = (ROOT / folder for folder in FOLDERS)
    return {path for folder in folders for path in folder.iterdir() if path.name != "__pycache__"}


CASES = [
    pytest.param(script, run, id=f"{script}-{i}" if len(runs) > 1 else script)
    for script, runs in RUNS.items()
    for i, run in enumerate(runs)
]


@needs_new_torch  # whoever measures does so with the tested versions
@pytest.mark.parametrize(("script", "run"), CASES)
def test_a_script_runs(script, run, data, short_training, alone, monkeypatch, capsys):
    before = files_of_the_repository()
    if script.startswith("examples/"):  # no functions: the gallery's
        run.before(None, monkeypatch)
        monkeypatch.setattr(sys, "argv", [script, *shlex.split(run.args.format(data=data))])
        smaller = with_constants((ROOT / script).read_text("utf-8"), run.smaller, data)
        exec(compile(smaller, script, "exec"), {"__name__": "__main__"})
    else:
        module = loaded(script, monkeypatch)
        run.before(module, monkeypatch)
        set_smaller(module, run.smaller, data, monkeypatch)
        for line in run.args.format(data=data, out=alone / "out").split(";"):
            assert module.main(shlex.split(line)) == run.returns
    printed = capsys.readouterr().out
    for expected in run.prints:
        assert re.search(expected, printed), printed
    assert not re.search(r"skipped|left out \(|not measured:|\bnan\b", printed), printed
    for name in run.writes:
        assert len(read(alone / "out" / name))
    assert not list((alone / "here").iterdir())  # files go where they are told to go
    assert files_of_the_repository() == before


# ---------------------------------------------------------------- the table
def test_each_script_has_a_run_or_a_user():
    assert set(RUNS) | set(USED_BY) == scripts()
    assert not set(RUNS) & set(USED_BY)


@pytest.mark.parametrize(("module", "user"), USED_BY.items())
def test_a_module_is_used_by_a_script_that_runs(module, user):
    path = Path(module)
    name = path.parent.name if path.name == "__init__.py" else path.stem
    used = rf"^\s*(from [\w.]*\b{name} import|import {name}\b)|: \"{name}\","
    assert re.search(used, (ROOT / user).read_text(), re.MULTILINE)
    while user in USED_BY:
        user = USED_BY[user]
    assert user in RUNS


def test_each_workload_has_a_run(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    named = [run.args.split()[0] for run in SPEED]
    assert named == ["--check", *import_module("workloads").WORKLOADS]
