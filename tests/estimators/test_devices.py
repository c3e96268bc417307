"""The same answers on every device and in both precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import (
    IMAGE_CLASSIFIERS,
    REGRESSORS,
    every_estimator,
    meta_train,
    needs_cuda,
    scores_of,
)
from sklearn.base import clone

import fewshot_sklearn
from fewshot_sklearn import ProtoNetClassifier


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@every_estimator
def test_cuda_where_there_is_none(name):
    with pytest.raises(ValueError, match=r"device='cuda'.*no usable GPU"):
        getattr(fewshot_sklearn, name)(device="cuda").fit([[0.0], [1.0]], [0, 1])


@every_estimator
def test_float64_and_float32_agree(trained, task, name):
    X, y, X_query, _ = task(name)
    single = scores_of(trained[name].fit(X, y), X_query)
    double = scores_of(trained[name].set_params(dtype="float64").fit(X, y), X_query)
    # predictions of targets are always in float64: these may be far from zero
    assert single.dtype == (np.float64 if name in REGRESSORS else np.float32)
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)


@needs_cuda
@every_estimator
def test_cuda_equals_cpu(trained, task, name):
    X, y, X_query, _ = task(name)
    on_cpu = trained[name].set_params(device="cpu").fit(X, y)
    on_gpu = trained[name].set_params(device="cuda").fit(X, y)
    np.testing.assert_allclose(
        scores_of(on_gpu, X_query), scores_of(on_cpu, X_query), rtol=1e-3, atol=1e-4
    )
    assert all(isinstance(array, np.ndarray) for array in on_gpu.state_.values())
    on_gpu.set_params(device="cpu")  # fitted on one device, asked on another
    np.testing.assert_allclose(
        scores_of(on_gpu, X_query), scores_of(on_cpu, X_query), rtol=1e-3, atol=1e-4
    )


@needs_cuda
@pytest.mark.parametrize("make", IMAGE_CLASSIFIERS)
def test_cuda_equals_cpu_on_images(make):
    rng = np.random.default_rng(0)
    X, y = rng.random((6, 28, 28)), np.array([0, 0, 1, 1, 2, 2])
    clf = make(encoder="conv4", encoder__width=8, random_state=0)
    on_cpu, on_gpu = (clone(clf).set_params(device=d).fit(X, y) for d in ("cpu", "cuda"))
    assert on_cpu.meta_init_ == on_gpu.meta_init_
    np.testing.assert_allclose(
        on_cpu.predict_proba(X), on_gpu.predict_proba(X), rtol=1e-5, atol=1e-7
    )


@needs_cuda
def test_init_made_on_a_gpu_loads_on_a_cpu(task, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 64)), np.repeat(np.arange(10), 10)
    est = meta_train(ProtoNetClassifier(encoder="mlp"), X, y, n_way=3, n_shot=2, device="cuda")
    est.meta_init.save(tmp_path / "init.safetensors")
    X, y, X_query, _ = task("ProtoNetClassifier")
    on_cpu = ProtoNetClassifier(tmp_path / "init.safetensors", device="cpu").fit(X, y)
    np.testing.assert_allclose(
        on_cpu.predict_proba(X_query), est.fit(X, y).predict_proba(X_query), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("mps", "no float64.*device='cpu'"),
        ("meta", "'auto', 'cpu', 'cuda' or 'xpu'"),
        ("tpu", "'auto' or a torch device"),
        (None, "'auto' or a torch device"),
    ],
)
@every_estimator
def test_devices_that_cannot_be_had(name, device, told):
    with pytest.raises(ValueError, match=rf"device.*{told}"):
        getattr(fewshot_sklearn, name)(device=device).fit([[0.0], [1.0]], [0, 1])


def test_small_work_is_not_worth_a_gpu(monkeypatch):
    import fewshot_sklearn.estimators.device_choice as choice

    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(choice, "resolve_device", lambda device, solves=True: gpu)
    init = fewshot_sklearn.load_meta_init("omniglot-conv4")
    clf = ProtoNetClassifier(init)
    assert choice.device_for(clf, 5, (28, 28)).type == "cpu"
    assert choice.device_for(clf, 5000, (28, 28)) == gpu
    assert choice.device_for(clf.set_params(device="cuda"), 5, (28, 28)) == gpu
