"""FastAPI serves an exported model to eight threads at once: the service that the docs show."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from conftest import ROOT

from fewshot_sklearn import MAMLClassifier, export

pytest.importorskip("fastapi")
pytest.importorskip("onnxscript")
testclient = pytest.importorskip("fastapi.testclient")

N_THREADS, N_ASKED = 8, 20


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The app of the page, and the classifier that it serves."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 4)), np.repeat(["no", "perhaps", "yes"], 4)
    clf = MAMLClassifier(encoder="mlp", random_state=0).fit(X, y)
    monkeypatch.chdir(tmp_path)
    export(clf, "model.onnx")
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    (code,) = re.findall(r"(?ms)^:::\{code-block\} python\n:name: service\n(.*?)^:::", page)
    (tmp_path / "service.py").write_text(code)  # types are looked up in a module
    monkeypatch.syspath_prepend(tmp_path)
    import service

    return service.app, clf


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_eight_threads_get_the_answers_of_one(service):
    app, clf = service
    begin = Barrier(N_THREADS)

    def ask(seed):
        rng, off = np.random.default_rng(seed), []
        with testclient.TestClient(app) as client:
            begin.wait(60)
            for _ in range(N_ASKED):
                rows = rng.normal(size=(rng.integers(1, 30), 4))
                told = client.post("/predict", json={"rows": rows.tolist()}).json()
                off.append(np.abs(told["probabilities"] - clf.predict_proba(rows)).max())
                assert told["labels"] == clf.predict(rows).tolist()
        return max(off)

    with ThreadPoolExecutor(N_THREADS) as threads:
        assert max(threads.map(ask, range(N_THREADS))) < 1e-5
