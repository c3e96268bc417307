"""A meta-init that was loaded stays what it was, whatever becomes of its file."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from fewshot_sklearn import MetaInit, ProtoNetClassifier

#: Run in a process of its own, as a bus error ends it.
SCRIPT = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from joblib import Parallel, delayed
from fewshot_sklearn import MetaInit, ProtoNetClassifier

def emptied(path):
    path.write_bytes(b"")

def cut_short(path):
    os.truncate(path, 5000)

def overwritten(path):
    with open(path, "r+b") as file:
        file.write(os.urandom(path.stat().st_size))

def replaced(path):
    other = path.with_suffix(".other")
    other.write_bytes(b"x")
    os.replace(other, path)

def deleted(path):
    path.unlink()

rng = np.random.default_rng(0)
X, y, X_new = rng.normal(size=(6, 64)), np.arange(6) % 3, rng.normal(size=(40, 64))

def answers(init):
    return ProtoNetClassifier(init).fit(X, y).predict_proba(X_new)

for change in (emptied, cut_short, overwritten, replaced, deleted):
    path = Path(shutil.copy(sys.argv[1], sys.argv[1] + ".copy"))
    init = MetaInit.load(path)
    fitted = ProtoNetClassifier(init).fit(X, y)
    before, digest = answers(init), init.digest
    change(path)
    assert (answers(init) == before).all() and (fitted.predict_proba(X_new) == before).all()
    anew = ProtoNetClassifier(init, dtype="float64").fit(X, y).predict_proba(X_new)
    assert np.allclose(anew, before, atol=1e-4)
    if change is emptied:
        for elsewhere in Parallel(2)(delayed(answers)(init) for _ in range(2)):
            assert np.allclose(elsewhere, before, atol=1e-6)
    init.save(sys.argv[1] + ".saved")
    assert MetaInit.load(sys.argv[1] + ".saved").digest == digest
    print(change.__name__, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    """A file large enough for joblib to map what it shares."""
    X = np.random.default_rng(0).normal(size=(20, 64))
    net = {"encoder": "mlp", "encoder__hidden": (512, 512), "dtype": "float32"}
    init = ProtoNetClassifier(**net, random_state=0).fit(X, np.arange(20) % 2).meta_init_
    assert init.nbytes > 2**20
    init.save(tmp_path / "init.safetensors")
    return tmp_path / "init.safetensors"


def test_a_process_goes_on_as_though_nothing_had_happened(path):
    command = [sys.executable, "-c", SCRIPT, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert done.stdout.split() == ["emptied", "cut_short", "overwritten", "replaced", "deleted"]


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no ordinary file"):
        MetaInit.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no ordinary file"):
        MetaInit.load(tmp_path / "pipe")  # to open it would wait for ever
    with pytest.raises(FileNotFoundError):
        MetaInit.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        MetaInit.load("a\0b")


def test_a_file_larger_than_any_meta_init_is_refused_unread(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**42)
    with pytest.raises(ValueError, match="at most"):
        MetaInit.load(tmp_path / "sparse")
