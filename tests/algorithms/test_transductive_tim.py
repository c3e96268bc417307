"""TIM against autograd's Adam on its loss, and against its alternating steps written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fewshot_sklearn import TransductiveTIMClassifier


@pytest.fixture(scope="module")
def task():
    """Support rows and labels, their weights, and queries of uneven classes."""
    X, y = load_digits(n_class=4, return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:60]
    return X[rows[:12]], y[rows[:12]], np.linspace(0.5, 2.0, 12), X[rows[12:]]


def unit(X):
    return torch.nn.functional.normalize(torch.tensor(X), dim=1)


def start(X, y, w):
    members = torch.nn.functional.one_hot(torch.tensor(y), 4).double()
    mass = torch.tensor(w)[:, None] * members
    return members, (mass.T @ unit(X)) / mass.sum(0)[:, None]


def logits(weights, Z, temperature):
    return -0.5 * temperature * torch.cdist(Z, weights).square()


def tsallis(p, alpha):
    if alpha == 1:
        return -(p * p.log()).sum(-1)
    return (1 - (p**alpha).sum(-1)) / (alpha - 1)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 5.0])
def test_descends_the_loss_as_adam_of_torch_does(task, alpha):
    X, y, w, X_query = task
    members, weights = start(X, y, w)
    weights = weights.requires_grad_()
    adam, share = torch.optim.Adam([weights], lr=1e-4), torch.tensor(w / w.sum())
    of_entropy = 0.1 if alpha == 1 else 1.0
    for _ in range(50):
        known = logits(weights, unit(X), 15.0).log_softmax(1)
        p = logits(weights, unit(X_query), 15.0).softmax(1)
        cross = -(share * (members * known).sum(1)).sum()
        loss = of_entropy * (cross + tsallis(p, alpha).mean()) - tsallis(p.mean(0), alpha)
        adam.zero_grad()
        loss.backward()
        adam.step()
    expected = logits(weights.detach(), unit(X_query), 15.0).softmax(1)
    clf = TransductiveTIMClassifier(alpha=alpha, n_steps=50).fit(X, y, w)
    np.testing.assert_allclose(clf.predict_proba(X_query), expected, rtol=1e-6, atol=1e-9)


def test_alternates_as_the_paper_has_it(task):
    X, y, w, X_query = task
    members, weights = start(X, y, w)
    members, weights, S, Q = (t.numpy() for t in (members, weights, unit(X), unit(X_query)))

    def answers(Z):
        d = ((Z[:, None] - weights[None]) ** 2).sum(2)
        p = np.exp(-15.0 / 2 * (d - d.min(1, keepdims=True)))
        return p / p.sum(1, keepdims=True)

    c, n = 0.1 / 1.1 * w / w.sum(), len(Q)
    for _ in range(20):
        p, q = answers(S), answers(Q) ** 1.1
        q = q / np.sqrt(q.sum(0))
        q = q / q.sum(1, keepdims=True)
        r, new = answers(Q), np.empty_like(weights)
        for k in range(4):
            pulled = sum(c[i] * (members[i, k] * S[i] + p[i, k] * (weights[k] - S[i]))
                         for i in range(len(S)))  # fmt: skip
            pulled = pulled + sum((q[j, k] * Q[j] + r[j, k] * (weights[k] - Q[j])) / n
                                  for j in range(n))  # fmt: skip
            new[k] = pulled / ((c * members[:, k]).sum() + q[:, k].mean())
        weights = new
    clf = TransductiveTIMClassifier(solver="adm", n_steps=20).fit(X, y, w)
    np.testing.assert_allclose(clf.predict_proba(X_query), answers(Q), rtol=1e-6, atol=1e-9)


def test_alternating_steps_are_of_shannons_entropy(task):
    X, y, _, _ = task
    with pytest.raises(ValueError, match="needs solver='gd'"):
        TransductiveTIMClassifier(solver="adm", alpha=2.0).fit(X, y)
