"""Fitted estimators as files that answer alike: every public one, and a clear no of the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from functools import cache
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIERS, REGRESSORS, ROOT, TRANSDUCTIVE, meta_train, needs_new_torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import (
    MetaEmbedding,
    NeuralProcessRegressor,
    PooledClassifier,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    StrategyClassifier,
    TaskwiseClassifier,
    export,
)
from fewshot_sklearn.encoders import ENCODERS
from fewshot_sklearn.serving import exporting

SIZES = (1, 3, 257)
#: Sizes of networks, where small ones do.
SMALL = {
    "InContextClassifier": {"n_layers": 1, "n_hidden": 8, "n_heads": 2},
    "InContextRegressor": {"n_layers": 1, "n_hidden": 8, "n_heads": 2},
    "MANNClassifier": {"controller_size": 8, "n_reads": 2},
    "NeuralProcessRegressor": {"n_hidden": 8},
}
#: The estimators that cannot be exported, and what the error says to do.
REFUSED = {
    "ESMetaTrainer": "export its `estimator_`",
    "ESPolicyTrainer": r"`policy_\.parameters`",
    "ImageEncoder": "export what comes after",
    "ImageReader": "export what comes after",
    "MAMLPolicyTrainer": r"`policy_\.parameters`",
    "MetaEmbedding": "Export a classifier or a regressor",
    "MetaTrainer": "export its `estimator_`",
    "PooledClassifier": "skl2onnx",
    "PooledMixedRegressor": "another package",
    "PooledRegressor": "skl2onnx",
    "PooledStatisticsClassifier": "skl2onnx",
    "PooledStatisticsRegressor": "skl2onnx",
    "SentenceEncoder": "export what comes after",
    "StrategyClassifier": r"estimators_\[best_strategy_\]",
    "StrategyRegressor": r"estimators_\[best_strategy_\]",
    "StrategySelector": "export the strategy",
    "TaskwiseClassifier": r"task_estimator\(task\)",
    "TaskwiseRegressor": r"task_estimator\(task\)",
    "TextClassifier": "Sentences are no numbers",
    "TokenClassifier": "Sentences are no numbers",
    "TrustLearner": "export its `estimator_`",
}
#: Those that can, beside the methods themselves: see test_parts.
TOGETHER = "answers each row by itself"
REFUSED |= dict.fromkeys((*TRANSDUCTIVE, "TransductiveAssignmentClassifier"), TOGETHER)
EXPORTED = [name for name in CLASSIFIERS + REGRESSORS if name not in REFUSED]
AROUND = {"TrustedClassifier", "TrustedRegressor"}


def rows(n=15, seed=0, width=4):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, width)) * 2 + 1
    return X, np.array(["no", "perhaps", "yes"])[np.arange(n) % 3], X[:, 0] ** 2 + X[:, 1]


def past(name):
    """A tiny meta-trained estimator of that name: of so little that it is quick."""
    own = {"encoder": "mlp", "encoder__hidden": (8,), **SMALL.get(name, {})}
    estimator = getattr(fewshot_sklearn, name)(**own)
    X, labels, targets = rows(60, seed=1)
    few = {"n_shot": 2, "n_query": 2, "n_episodes": 2, "max_epochs": 1}
    if name in REGRESSORS:
        return meta_train(estimator, X, targets, np.arange(60) % 6, **few)
    return meta_train(estimator, X, labels, n_way=2, **few)


def served(path):
    """What a file answers, as a function of rows, and what it says of itself."""
    if path.suffix == ".onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        told = session.get_modelmeta().custom_metadata_map

        def answer(X):
            return dict(zip(names, session.run(None, {"X": X}), strict=True))
    else:
        told = dict.fromkeys(("classes", "estimator", "feature_names", "fewshot_sklearn"), "")
        module = torch.export.load(path, extra_files=told).module()

        def answer(X):
            return {name: t.numpy() for name, t in module(torch.tensor(X)).items()}

    return answer, {name: json.loads(text) for name, text in told.items() if text}


def assert_alike(estimator, path, X, as_rows=np.asarray):
    """The file answers as the estimator does, however many rows there are."""
    answer, told = served(path)
    for n in SIZES:
        places = np.arange(n) % len(X)
        some = X.iloc[places] if hasattr(X, "iloc") else X[places]
        got = answer(as_rows(some))
        if hasattr(estimator, "classes_"):
            proba = estimator.predict_proba(some)
            np.testing.assert_allclose(got["probabilities"], proba, atol=1e-5, rtol=0)
            sure = proba.max(1) > np.sort(proba)[:, -2] + 2e-5 if proba.shape[1] > 1 else proba > 0
            labels = np.array(told["classes"])[got["label"]]
            assert (labels == estimator.predict(some))[np.ravel(sure)].all()
            continue
        wanted = {"mean": estimator.predict(some)}
        if "std" in got:
            wanted["std"] = estimator.predict(some, return_std=True)[1]
        for name, right in wanted.items():
            np.testing.assert_allclose(got[name], right, atol=1e-5 * max(1, np.abs(right).max()))
    return got, told


kinds = pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
EXTRA = ("onnx", "onnxscript", "onnxruntime")


@pytest.fixture(autouse=True)
def needs_the_extra(request):
    """Those that write .onnx files are left out where what that takes is not installed."""
    if "suffix" in request.fixturenames and request.getfixturevalue("suffix") == ".onnx":
        for name in EXTRA:
            pytest.importorskip(name)


@pytest.fixture(scope="module", autouse=True)
def operations_are_read_once():
    """Those of ONNX, which torch reads anew at each export: half of what a small one takes."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = ONNXRegistry.from_torchlib
    except (ImportError, AttributeError):  # elsewhere in this torch: it takes longer
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(read)))
        yield


# ------------------------------------------------------------------ every estimator
@pytest.mark.parametrize("name", EXPORTED)
def test_a_file_answers_alike(name, tmp_path, monkeypatch):
    if name == "MANNClassifier" and torch.__version__.startswith("2.4."):
        pytest.skip("torch 2.4 can't draw it")
    X, labels, targets = rows()
    estimator = past(name).fit(X, labels if name in CLASSIFIERS else targets)
    # both files are of one program, which takes longest to draw
    drawn, draw = {}, exporting.program_of
    monkeypatch.setattr(
        exporting, "program_of", lambda *given: drawn.get(0) or drawn.setdefault(0, draw(*given))
    )
    # the other kind, too, was compared with the estimator before it was there
    for suffix in [".pt2", ".onnx"] if all(map(find_spec, EXTRA)) else [".pt2"]:
        path = tmp_path / f"model{suffix}"
        export(estimator, path)
        # it does not say where whoever wrote it keeps the package
        assert os.fsencode(os.path.dirname(fewshot_sklearn.__file__)) not in path.read_bytes()
    got, told = assert_alike(estimator, path, rows(seed=2)[0])
    assert set(got) in ({"label", "probabilities"}, {"mean"}, {"mean", "std"})
    assert told["estimator"] == name and told["fewshot_sklearn"] == fewshot_sklearn.__version__
    assert told["feature_names"] is None


def test_the_others_say_no():
    public = (getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__)
    kinds = [c for c in public if isinstance(c, type) and issubclass(c, BaseEstimator)]
    assert {kind.__name__ for kind in kinds} == {*EXPORTED, *AROUND, *REFUSED}


def test_the_page_says_so():
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    told = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*) \|$", page))
    assert set(told) == {*EXPORTED, *AROUND, *REFUSED}
    for name, cells in told.items():
        onnx, torch_alone = cells.split(" | ")
        can = name not in REFUSED
        assert onnx.startswith("yes") == torch_alone.startswith("yes") == can, name
        assert onnx.startswith("no") == torch_alone.startswith("no") == (not can), name


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_says_what_to_do(name, tmp_path):
    kind = getattr(fewshot_sklearn, name)
    estimator = kind(ProtoNetClassifier()) if "Trainer" in name else kind()
    with pytest.raises(NotImplementedError, match=rf"{name} cannot be exported.*{REFUSED[name]}"):
        export(estimator, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_what_is_to_be_done_instead_can_be_done(tmp_path):
    X, y, _ = rows()
    tasks = TaskwiseClassifier().fit(X, y, groups=np.arange(15) % 2)
    strategies = StrategyClassifier({"means": ProtoNetClassifier()}).fit(X, y)
    for one in (tasks.task_estimator(1), strategies.estimators_[strategies.best_strategy_]):
        export(one, tmp_path / "model.pt2")
        assert_alike(one, tmp_path / "model.pt2", X)
    for fitted in (tasks, strategies, PooledClassifier(LogisticRegression()).fit(X, y)):
        with pytest.raises(NotImplementedError, match="cannot be exported"):
            export(fitted, tmp_path / "other.pt2")
    with pytest.raises(NotImplementedError, match=r"LogisticRegression cannot.*skl2onnx"):
        export(LogisticRegression().fit(X, y), tmp_path / "other.pt2")
    with pytest.raises(NotImplementedError, match="MetaEmbedding"):
        export(MetaEmbedding().fit(X), tmp_path / "other.pt2")


# ------------------------------------------------------------------ any number of rows
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_that_has_a_name(name, tmp_path):
    shape = (8, 8) if name in ("conv4", "resnet8", "resnet12") else (8,)
    small = {"resnet8": {"widths": (4, 8, 8)}, "resnet12": {"widths": (4, 4, 8, 8)}}
    small |= {"conv4": {"width": 8, "turns": 4, "rms": 1.0}, "series": {"width": 8}}
    X = np.random.default_rng(0).normal(size=(15, *shape)).astype(np.float32)
    own = {f"encoder__{key}": value for key, value in small.get(name, {}).items()}
    clf = ProtoNetClassifier(encoder=name, **own).fit(X, rows()[1])
    export(clf, tmp_path / "model.pt2")
    assert_alike(clf, tmp_path / "model.pt2", X)


@pytest.mark.parametrize("suffix", [".onnx"])
def test_images_in_any_number(suffix, tmp_path):
    X = np.random.default_rng(0).normal(size=(15, 8, 8)).astype(np.float32)
    own = {"encoder__width": 8, "encoder__turns": 4, "dtype": "float32"}
    clf = ProtoNetClassifier(encoder="conv4", **own).fit(X, rows()[1])
    path = tmp_path / f"model{suffix}"
    export(clf, path)
    assert_alike(clf, path, X)


def test_onnxruntime_convolves_in_single_precision_alone(tmp_path):
    for name in EXTRA:
        pytest.importorskip(name)
    X = np.random.default_rng(0).normal(size=(6, 8, 8))
    clf = ProtoNetClassifier(encoder="conv4", encoder__width=8).fit(X, rows(6)[1])
    with pytest.raises(NotImplementedError, match=r"dtype='float32', or export it to a .pt2"):
        export(clf, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Branches(nn.Linear):
    """An encoder that looks at values."""

    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


def test_an_encoder_that_branches_is_refused(tmp_path):
    X, y, _ = rows()
    clf = ProtoNetClassifier(encoder=Branches(4, 4)).fit(X, y)
    with pytest.raises(NotImplementedError, match="branches on values"):
        export(clf, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ what is in the file
@pytest.mark.parametrize("classes", [[3, 7, -1], [True, False], [1.0, 2.5e3], ["b", "ä"]])
def test_labels_of_any_kind_that_json_has(classes, tmp_path):
    X, path = rows()[0], tmp_path / "model.pt2"
    clf = ProtoNetClassifier().fit(X, np.array(classes)[np.arange(15) % len(classes)])
    export(clf, path)
    assert assert_alike(clf, path, X)[1]["classes"] == sorted(classes)


def test_labels_that_json_has_not(tmp_path):
    X = rows()[0]
    y = np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")[np.arange(15) % 2]
    clf = ProtoNetClassifier().fit(X, y)
    with pytest.raises(NotImplementedError, match="labels must be strings, numbers or bools"):
        export(clf, tmp_path / "model.pt2")


def test_rows_come_in_the_type_that_fit_saw(tmp_path):
    path = tmp_path / "model.pt2"
    for dtype in (np.uint8, np.float32, np.float64):
        X = rows()[0].clip(0).astype(dtype)
        clf = ProtoNetClassifier().fit(X, rows()[1])
        export(clf, path)
        assert_alike(clf, path, X)
    export(clf, path, check=X.astype(np.float32))
    assert_alike(clf, path, X.astype(np.float32))


def test_columns_are_named(tmp_path):
    X, _, y = rows()
    table = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    reg = RidgeHeadRegressor().fit(table, y)
    export(reg, tmp_path / "model.pt2")
    told = assert_alike(reg, tmp_path / "model.pt2", table)[1]
    assert told["feature_names"] == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        export(reg, tmp_path / "model.pt2", check=table[["b", "a", "c", "d"]])


def test_several_targets_keep_their_shape(tmp_path):
    X, _, y = rows()
    for targets in (y, y[:, None], np.stack([y, 1e6 * y], 1)):
        reg = RidgeHeadRegressor().fit(X, targets)
        export(reg, tmp_path / "model.pt2")
        assert served(tmp_path / "model.pt2")[0](X)["mean"].shape == targets.shape


def test_a_file_holds_no_more_than_it_needs(tmp_path):
    X, _, y = rows()
    reg = NeuralProcessRegressor().fit(X, y)
    export(reg, tmp_path / "model.pt2")
    whole = sum(t.nbytes for t in reg.meta_init_.tensors.values())
    assert (tmp_path / "model.pt2").stat().st_size < whole / 2


def test_rows_far_from_zero(tmp_path):
    X, _, y = rows()
    reg = RidgeHeadRegressor().fit(X + 1.7e9, y)
    export(reg, tmp_path / "model.pt2")
    assert_alike(reg, tmp_path / "model.pt2", X + 1.7e9)


# ------------------------------------------------------------------ checked, whole or not at all
@pytest.fixture
def fitted():
    X, y, _ = rows()
    return ProtoNetClassifier().fit(X, y)


@kinds
def test_a_file_that_answers_otherwise_is_not_written(suffix, fitted, tmp_path, monkeypatch):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"the old one")
    right = ProtoNetClassifier.predict_proba
    monkeypatch.setattr(ProtoNetClassifier, "predict_proba", lambda self, X: right(self, X) + 2e-5)
    with pytest.raises(ValueError, match=rf"model{suffix} was not written: its probabilities"):
        export(fitted, path)
    assert path.read_bytes() == b"the old one" and len(list(tmp_path.iterdir())) == 1


def test_rows_are_checked_on_which_it_is_told(fitted, tmp_path, monkeypatch):
    asked = []
    right = ProtoNetClassifier.predict_proba
    monkeypatch.setattr(
        ProtoNetClassifier, "predict_proba", lambda self, X: asked.append(X) or right(self, X)
    )
    X = rows(5, seed=3)[0]
    export(fitted, tmp_path / "model.pt2", check=X)
    assert len(asked) == 1 and asked[0] is X
    export(fitted, tmp_path / "model.pt2")
    assert (asked[1] == rows()[0]).all()


@pytest.mark.parametrize("check", [np.zeros((0, 4)), [1.0, 2.0], np.zeros((2, 3)), "rows"])
def test_rows_to_check_on_must_be_rows(check, fitted, tmp_path):
    with pytest.raises(ValueError):
        export(fitted, tmp_path / "model.pt2", check=check)
    assert not list(tmp_path.iterdir())


def test_bad_calls(fitted, tmp_path):
    for path in (tmp_path / "model.h5", tmp_path / "model", tmp_path / "model.ONNX"):
        with pytest.raises(ValueError, match=r"must end in .onnx \(.*\) or .pt2"):
            export(fitted, path)
    for path in (3, None, ""):
        with pytest.raises(ValueError, match="path must be a path"):
            export(fitted, path)
    for estimator in (ProtoNetClassifier, None, "estimator"):
        with pytest.raises(ValueError, match="estimator must be a fitted estimator"):
            export(estimator, tmp_path / "model.pt2")
    for estimator in (ProtoNetClassifier(), RidgeHeadRegressor()):
        with pytest.raises(NotFittedError):
            export(estimator, tmp_path / "model.pt2")
    with pytest.raises(ValueError, match="dtype"):
        export(fitted.set_params(dtype="float32"), tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_without_the_extra(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"fewshot-sklearn\[export\]"):
        export(fitted, tmp_path / "model.onnx")
    export(fitted, tmp_path / "model.pt2")


# ------------------------------------------------------------------ without this package
def test_torch_alone_reads_a_file(fitted, tmp_path):
    path = tmp_path / "model.pt2"
    export(fitted, path)
    X = rows(4, seed=5)[0]
    np.save(tmp_path / "rows.npy", X)
    program = (
        "import sys, json\n"
        "sys.modules['fewshot_sklearn'] = sys.modules['sklearn'] = None\n"  # neither can be had
        "import numpy as np, torch\n"
        "told = {'classes': ''}\n"
        "module = torch.export.load(sys.argv[1], extra_files=told).module()\n"
        "answers = module(torch.tensor(np.load(sys.argv[2])))\n"
        "print(json.dumps([answers['probabilities'].tolist(), json.loads(told['classes'])]))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, path, tmp_path / "rows.npy"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    proba, classes = json.loads(done.stdout)
    np.testing.assert_allclose(proba, fitted.predict_proba(X), atol=1e-5)
    assert classes == ["no", "perhaps", "yes"]


# ------------------------------------------------------------------ threads
@needs_new_torch
def test_others_compute_while_a_file_is_written(fitted, tmp_path):
    X, _, targets = rows()
    reg = RidgeHeadRegressor(encoder="mlp", random_state=0).fit(X, targets)
    right, done, wrong = reg.predict(X), threading.Event(), []

    def compute():
        while not done.is_set():
            again = RidgeHeadRegressor(encoder="mlp", random_state=0).fit(X, targets)
            wrong.append((reg.predict(X) != right).any() or (again.predict(X) != right).any())

    def write(name):
        export(fitted, tmp_path / name)

    computing = threading.Thread(target=compute)
    computing.start()
    writing = [threading.Thread(target=write, args=(f"{i}.pt2",)) for i in range(2)]
    try:
        for thread in writing:
            thread.start()
        for thread in writing:
            thread.join()
    finally:
        done.set()
        computing.join()
    assert wrong and not any(wrong)
    for i in range(2):
        assert_alike(fitted, tmp_path / f"{i}.pt2", X)


def test_export_changes_nothing(fitted, tmp_path):
    X = rows()[0]
    before, state = fitted.predict_proba(X), {k: v.copy() for k, v in fitted.state_.items()}
    drawn = torch.random.get_rng_state()
    export(fitted, tmp_path / "model.pt2")
    assert (torch.random.get_rng_state() == drawn).all()
    assert (fitted.predict_proba(X) == before).all()
    assert all((fitted.state_[name] == t).all() for name, t in state.items())
