"""Curves of single numbers: natural cubic splines, as an independent implementation has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from fewshot_sklearn.encoders import make_encoder


def features(x, **params):
    rows = torch.as_tensor(x, dtype=torch.float64)
    return make_encoder("spline", rows.shape[1:], params)(rows).numpy()


@pytest.mark.parametrize("n_knots", [3, 5, 8])
def test_they_span_scipys_natural_splines(n_knots):
    x = np.linspace(-2, 2, 200)
    knots = np.linspace(-2, 2, n_knots)
    heights = np.random.default_rng(0).normal(size=n_knots)
    curve = CubicSpline(knots, heights, bc_type="natural")(x)
    basis = np.column_stack([features(x[:, None], n_knots=n_knots), np.ones(200)])
    assert basis.shape[1] == n_knots
    fitted = basis @ np.linalg.lstsq(basis, curve, rcond=None)[0]
    np.testing.assert_allclose(fitted, curve, atol=1e-9)


def test_they_are_straight_beyond_the_outer_knots():
    x = np.linspace(2, 9, 50)[:, None]
    bent = features(np.vstack([x, -x]))
    for part in (bent[:50], bent[50:]):
        assert np.abs(np.diff(part, 2, axis=0)).max() < 1e-9


def test_only_the_columns_named_bend_and_rows_come_first():
    x = np.random.default_rng(0).normal(size=(6, 4))
    found = features(x, columns=[1, 3], n_knots=4)
    np.testing.assert_array_equal(found[:, :4], x)
    assert found.shape == (6, 4 + 2 * 2)
    moved = x.copy()
    moved[:, [0, 2]] += 1
    np.testing.assert_array_equal(features(moved, columns=[1, 3], n_knots=4)[:, 4:], found[:, 4:])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"columns": [4]}, "columns must be below the 4 numbers"),
        ({"n_knots": 2}, "n_knots must be"),
        ({"extent": 0.0}, "extent must be"),
    ],
)
def test_wrong_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        features(np.zeros((1, 4)), **params)
