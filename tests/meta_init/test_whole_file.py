"""Whatever the package writes is there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fewshot_sklearn import (
    Experience,
    MetaInit,
    TaskCalibration,
    TaskMemory,
    TaskwiseRegressor,
    TrustLearner,
)
from fewshot_sklearn.meta_init.whole_file import whole_file


def calibration():
    X, y = load_digits(return_X_y=True)
    learner = TrustLearner(n_way=3, n_shots=(1,), n_episodes=10, random_state=0)
    return learner.fit(X[:300], y[:300]).calibration_


#: What makes a thing that can be saved from a meta-trained regressor and its rows, and how it is
#: saved and loaded.
SAVED = {
    "MetaInit": (lambda reg, *data: reg.meta_init, MetaInit.save, MetaInit.load),
    "TaskMemory": (TaskMemory.from_data, TaskMemory.save, TaskMemory.load),
    "TaskCalibration": (lambda *_: calibration(), TaskCalibration.save, TaskCalibration.load),
    "Experience": (
        lambda *_: Experience.from_scores(["a", "b"], {1: np.array([[0.1, 0.2]])}),
        Experience.save,
        Experience.load,
    ),
    "tasks": (lambda reg, *data: TaskwiseRegressor(reg).fit(*data), None, None),
}


@pytest.fixture(scope="module", params=SAVED)
def thing(request, trained, sinusoid_new):
    """Functions of a path that save something and load it."""
    make, save, load = SAVED[request.param]
    made = make(trained["RidgeHeadRegressor"], *sinusoid_new)
    if save is None:
        return made.save_tasks, made.load_tasks
    return (lambda path: save(made, path)), load


@pytest.mark.parametrize("broken", ["replace", "fsync", "open"])
def test_a_failure_while_saving_leaves_the_old_file(thing, tmp_path, monkeypatch, broken):
    save, load = thing
    path = tmp_path / "saved"
    save(path)
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        save(path)
    monkeypatch.undo()
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["saved"]
    load(path)


def test_a_saved_file_has_the_usual_permissions(thing, tmp_path):
    save, _ = thing
    save(tmp_path / "saved")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    script = (
        "import os, signal, sys\n"
        "from fewshot_sklearn.meta_init.whole_file import whole_file\n"
        "with whole_file(sys.argv[1]) as file:\n"
        "    file.write(b'ne'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)])
    assert done.returncode != 0 and path.read_text() == "old"
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"


def test_an_error_of_the_writer_is_the_one_that_is_raised(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "file") as file:
        file.write(b"half")
        _ = 1 / 0
    assert not os.listdir(tmp_path)
