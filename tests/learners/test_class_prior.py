"""The learned prior of classes' weights against dense Gaussians and differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from fewshot_sklearn.learners import class_prior
from fewshot_sklearn.learners._class_likelihood import ClassCriterion
from fewshot_sklearn.learners._mixed_rows import batches
from fewshot_sklearn.learners._mixed_search import Layout
from fewshot_sklearn.learners.class_prior import _contrasts

torch.set_num_threads(1)


def made(n_episodes=10, ways=(2, 4), p=4, spread=None, seed=0, n_rows=6):
    """Episodes of normal classes, the last feature an intercept, rows in random order."""
    rng = np.random.default_rng(seed)
    spread = np.ones(p - 1) if spread is None else np.asarray(spread)
    rows, codes, episodes = [], [], []
    for episode in range(n_episodes):
        k = rng.integers(ways[0], ways[1] + 1)
        means = rng.standard_normal((k, p - 1)) * spread
        of = np.repeat(np.arange(k), n_rows)
        rows.append(means[of] + rng.standard_normal((len(of), p - 1)))
        codes.append(of)
        episodes.append(np.full(len(of), episode))
    rows = np.concatenate(rows)
    order = rng.permutation(len(rows))
    Phi = np.column_stack([rows, np.ones(len(rows))])[order]
    codes, episodes = (np.concatenate(part)[order] for part in (codes, episodes))
    return torch.tensor(Phi), torch.tensor(codes), torch.tensor(episodes)


def criterion(Phi, codes, episodes, n_classes=10**6):
    n_way = torch.tensor([int(codes[episodes == e].max()) + 1 for e in range(episodes.max() + 1)])
    Y = _contrasts(codes, n_way[episodes])
    data = batches(Phi, Y, episodes)
    return ClassCriterion(data, n_way - 1, 1e-12, n_classes), Y, n_way


@pytest.mark.parametrize("k", [2, 3, 7])
def test_contrasts_are_orthonormal_and_say_nothing_of_a_common_shift(k):
    H = _contrasts(torch.arange(k), torch.full((k,), k)).numpy()
    np.testing.assert_allclose(H.T @ H, np.eye(k - 1), atol=1e-14)
    np.testing.assert_allclose(H.sum(0), 0, atol=1e-14)


def test_likelihood_is_that_of_dense_gaussians():
    Phi, codes, episodes = made()
    whole, Y, n_way = criterion(Phi, codes, episodes)
    C = torch.tensor(np.random.default_rng(1).standard_normal((4, 3)))
    fit = whole(C)
    total, noise = 0.0, fit.noise_variance.item()
    for episode in range(10):
        mine = (episodes == episode).numpy()
        rows = Phi.numpy()[mine]
        V = noise * (np.eye(len(rows)) + rows @ (C @ C.T).numpy() @ rows.T)
        for contrast in Y.numpy()[mine].T[: n_way[episode] - 1]:
            total += multivariate_normal.logpdf(contrast, cov=V)
    assert fit.value == pytest.approx(-2 * total, rel=1e-10)
    again = whole(C * (1 + 1e-9))  # of least value by the noise
    assert again.value == pytest.approx(fit.value, abs=1e-5)


@pytest.mark.parametrize("structure", ["isotropic", "diagonal"])
def test_gradient_is_that_of_differences(structure):
    whole = criterion(*made(), n_classes=12)[0]
    layout = Layout.of(structure, "flat", 4, 0)
    theta = torch.tensor(np.random.default_rng(2).uniform(0.2, 2, layout.n_parameters))
    ours = layout.gradient(theta, whole(layout.factor(theta)))
    differences = approx_fprime(
        theta.numpy(), lambda flat: whole(layout.factor(torch.tensor(flat))).value, 1e-7
    )
    np.testing.assert_allclose(ours, differences, rtol=1e-4, atol=1e-4)


def test_a_class_that_is_drawn_again_counts_once():
    Phi, codes, episodes = made(ways=(4, 4))
    twice = [torch.cat([part, part]) for part in (Phi, codes)]
    both = torch.cat([episodes, episodes + 10])
    once, again = criterion(Phi, codes, episodes, 40)[0], criterion(*twice, both, 40)[0]
    assert (once.share, again.share) == (1.0, 0.5)
    assert once.draws == pytest.approx(again.draws)
    C = torch.eye(4).double()
    assert once(C).value == pytest.approx(again(C).value)


@pytest.mark.parametrize(
    "useless, expected", [(0, "isotropic"), (10, "diagonal")], ids=["none useless", "many useless"]
)
def test_features_vary_by_amounts_of_their_own_where_some_are_useless(useless, expected):
    spread = np.where(np.arange(15) < useless, 0.0, 1.5)
    found = class_prior(*made(12, (4, 4), 16, spread), n_classes=48)
    assert found.structure == expected
    assert found.choice[expected] == min(found.choice.values())
    if useless:
        assert found.variances[:useless].mean() < 0.4 * found.variances[useless:15].mean()


def test_units_of_features_do_not_matter():
    Phi, codes, episodes = made(12, (3, 3), 8)
    units = torch.tensor([1e-3, 10.0, 1e4, 1.0, 5.0, 0.2, 1.0, 1.0]).double()
    for structure in ("isotropic", "auto"):
        plain, other = (
            class_prior(P, codes, episodes, n_classes=36, structure=structure)
            for P in (Phi, Phi * units)
        )
        np.testing.assert_allclose(other.variances * units**2, plain.variances, rtol=1e-3)


def test_variances_are_shrunk_to_a_common_one_by_draws():
    data = made(12, (4, 4), 16, np.where(np.arange(15) < 10, 0.0, 1.5))
    chosen, alone, common = (
        class_prior(*data, n_classes=48, structure=s).variances[:15]
        * data[0][:, :15].square().mean(0)
        for s in ("auto", "diagonal", "isotropic")
    )
    assert (chosen - common).abs().sum() < (alone - common).abs().sum()
    between = (chosen - torch.minimum(alone, common) > -1e-9) & (
        torch.maximum(alone, common) - chosen > -1e-9
    )
    assert between.all()


def test_bad_calls():
    Phi, codes, episodes = made()
    with pytest.raises(ValueError, match="structure must be auto or one of"):
        class_prior(Phi, codes, episodes, n_classes=9, structure="full")
    with pytest.raises(ValueError, match="No episode has two classes"):
        class_prior(Phi, codes * 0, episodes, n_classes=9)
