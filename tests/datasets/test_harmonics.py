"""Harmonic tasks: two waves of one frequency and its double, read in a window."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_sklearn.datasets import make_harmonic_tasks


def test_harmonics_have_the_distribution_of_the_paper():
    generator = make_harmonic_tasks(n_shot=20, n_query=200, noise=0.0)
    found = []
    for i in range(80):
        X, y, X_query, y_query = generator(np.random.default_rng(i))
        assert (X.shape, y.shape, X_query.shape, y_query.shape) == (
            (20, 1), (20,), (200, 1), (200,)
        )  # fmt: skip
        x, y = np.concatenate([X, X_query])[:, 0], np.concatenate([y, y_query])
        grid = np.linspace(4.9, 7.1, 221)

        def left(w, x=x, y=y):
            design = np.stack([np.sin(w * x), np.cos(w * x), np.sin(2 * w * x), np.cos(2 * w * x)])
            coef, *_ = np.linalg.lstsq(design.T, y, rcond=None)
            return np.square(y - coef @ design).mean(), coef

        best = min(grid, key=lambda w: left(w)[0])
        error, (p, q, r, s) = left(best)
        assert error < 1e-2 * max(y.var(), 0.1)
        found.append([best, np.hypot(p, q) ** 2, np.hypot(r, s) ** 2, x.mean(), x.std()])
    w, first, second, centre, spread = np.array(found).T
    assert 4.97 < w.min() < 5.2 and 6.8 < w.max() < 7.03
    assert w.mean() == pytest.approx(6, abs=0.2)
    assert first.mean() == pytest.approx(1, abs=0.5)
    assert second.mean() == pytest.approx(1, abs=0.5)
    assert np.abs(centre).max() < 4.3
    assert centre.std() == pytest.approx(8 / 12**0.5, rel=0.2)
    assert spread.mean() == pytest.approx(1, rel=0.03)


def test_noise_has_the_standard_deviation_asked_for():
    plain, noisy = (
        make_harmonic_tasks(n_shot=5000, noise=noise)(np.random.default_rng(0))[1]
        for noise in (0.0, 0.3)
    )
    assert np.std(noisy - plain) == pytest.approx(0.3, rel=0.05)


def test_harmonics_as_arrays_of_tasks_of_many_sizes():
    past = make_harmonic_tasks(200, n_shot=(2, 4), n_query=1, random_state=0)
    again = make_harmonic_tasks(200, n_shot=(2, 4), n_query=1, random_state=0)
    assert set(np.bincount(past.groups)) == {3, 4, 5}
    assert past.data.shape == (len(past.target), 1)
    np.testing.assert_array_equal(past.target, again.target)


def test_a_batch_is_many_tasks_and_lacking_rows_weigh_nothing():
    generator = make_harmonic_tasks(n_shot=(2, 6), n_query=3)
    X, y, X_query, y_query, w = generator.batch(np.random.default_rng(0), 50)
    assert (X.shape, y.shape, X_query.shape) == ((50, 6, 1), (50, 6), (50, 3, 1))
    assert y_query.shape == (50, 3)
    assert set(w.sum(1)) == {2, 3, 4, 5, 6}


def test_the_generator_says_what_it_is():
    assert repr(make_harmonic_tasks(n_shot=5)) == "HarmonicTasks(n_shot=5, n_query=10, noise=0.1)"
