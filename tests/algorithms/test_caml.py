"""CAML against torch's own transformer layers, one query and one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from sklearn.datasets import load_iris
from torch import nn

from fewshot_sklearn import CAMLClassifier, MetaInit
from fewshot_sklearn.algorithms.caml import CAML
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, pad_tasks


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    return (X - X.mean(0))[rows], y[rows]


@pytest.fixture
def learner():
    """With random weights, on the features as they are."""
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "n_hidden": 8, "n_heads": 2, "n_codes": 5}
    net = CAML(make_encoder("identity", (4,), {}), (4,), **sizes)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
        net.smoother.log_sharpness.fill_(-1.0)
    return net.double()


def as_torch_has_it(layer):
    """The same layer of torch's, with the same weights."""
    attention = layer.attention
    theirs = nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.self_attn.out_proj.load_state_dict(attention.out.state_dict())
        theirs.linear1.load_state_dict(layer.mlp[0].state_dict())
        theirs.linear2.load_state_dict(layer.mlp[2].state_dict())
        theirs.norm1.load_state_dict(layer.norm_rows.state_dict())
        theirs.norm2.load_state_dict(layer.norm_mixed.state_dict())
    return theirs.eval()


def logits_of(learner, X, y, x, codes, sharpness):
    """One query's: its token and those of the rows read each other."""
    rows = learner.row(X) + learner.label(codes[y])
    h = torch.cat([(learner.row(x) + learner.label.unknown)[None], rows])[None]
    for layer in learner.layers:
        h = as_torch_has_it(layer)(h)
    likeness = codes @ learner.answer(learner.norm(h[0, 0]))
    near = (-sharpness * (X - x).square().sum(1)).softmax(0)
    smoothed = torch.stack([near[y == k].sum() for k in range(len(codes))])
    return likeness + smoothed.log()


def test_a_sequence_for_each_query(iris, learner):
    X, y = (torch.as_tensor(t) for t in iris)
    batch, _ = pad_tasks([Task(*(t.numpy() for t in (X[:12], y[:12], X[12:20], y[12:20]))),
                          Task(*(t.numpy() for t in (X[20:40], y[20:40], X[40:44], y[40:44])))],
                         torch.float64)  # fmt: skip
    found = learner(**batch).detach()
    state = learner.adapt_features(X[:12], torch.eye(3).double()[y[:12]], torch.ones(12).double())
    for i in range(8):
        with torch.no_grad():
            expected = logits_of(learner, X[:12], y[:12], X[12 + i], state["codes"], np.exp(-1.0))
        torch.testing.assert_close(found[0, i], expected, rtol=1e-7, atol=1e-7)


def test_codes_are_equally_distant(learner):
    codes = learner.codes(torch.arange(5)).double()
    products = codes @ codes.T
    np.testing.assert_allclose(products.diagonal(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(products[~np.eye(5, dtype=bool)], -1 / 4, rtol=1e-6)


def test_codes_follow_from_the_rows(iris, learner):
    X, y = iris
    spec = CAMLClassifier(n_layers=2, n_hidden=8, n_heads=2, n_codes=5)._spec(learner)
    clf = CAMLClassifier(MetaInit.from_state(learner.state_dict(), spec), dtype="float64")
    plain = clf.fit(X[:30], y[:30]).predict_proba(X)
    named = clf.fit(X[:30], np.array(["c", "a", "b"])[y[:30]])
    np.testing.assert_allclose(named.predict_proba(X)[:, [2, 0, 1]], plain, rtol=1e-9)


def test_training_draws_all_codes(iris, learner):
    X, y = iris
    batch, y_query = pad_tasks([Task(X[:12], y[:12], X[12:20], y[12:20])], torch.float64)
    seen = set()
    draw = learner.codes
    learner.codes = lambda place: seen.update(place.flatten().tolist()) or draw(place)
    torch.manual_seed(0)
    losses = {
        round(learner.training_loss(**batch, y_query=y_query)[0].item(), 9) for _ in range(20)
    }
    assert seen == set(range(5)) and len(losses) > 5


def test_more_classes_than_codes(learner):
    """Those that share a code are told apart by the rows that are near."""
    X = torch.arange(7.0).double()[:, None].repeat(1, 4)
    batch, y_query = pad_tasks(
        [Task(X.numpy(), np.arange(7), X.numpy(), np.arange(7))], torch.float64
    )
    state = learner.adapt_features(X, torch.eye(7).double(), torch.ones(7).double())
    assert len(state["codes"].unique(dim=0)) == 5
    with torch.no_grad():
        learner.smoother.log_sharpness.fill_(5.0)
    assert (learner(**batch)[0].argmax(-1) == torch.arange(7)).all()
    assert learner.training_loss(**batch, y_query=y_query)[0].isfinite()


def test_without_a_past_there_is_no_network(iris):
    X, y = iris
    clf = CAMLClassifier().fit(X[:60], y[:60])
    assert not any("layers" in name for name in clf.meta_init_.tensors)
    many = CAMLClassifier().fit(np.arange(100.0)[:, None], np.arange(100))
    assert (many.predict(np.arange(100.0)[:, None]) == np.arange(100)).all()


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    trained = assert_learns(CAMLClassifier(**net, n_layers=1, n_hidden=32), margin)
    assert np.abs(trained.meta_init.tensors["answer.weight"]).max() > 0
