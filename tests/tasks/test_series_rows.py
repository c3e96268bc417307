"""Series of different lengths in one array."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_sklearn.tasks import check_padded, pad_series


def test_shorter_series_are_followed_by_nan():
    X = pad_series([[1, 2, 3], np.arange(5.0)])
    np.testing.assert_array_equal(X, [[1, 2, 3, np.nan, np.nan], [0, 1, 2, 3, 4]])
    assert pad_series([[1, 2, 3]], n_times=4).shape == (1, 4)


def test_channels_that_are_not_there_are_nan():
    X = pad_series([np.ones((4, 3)), np.ones((5, 1)), np.ones(5)])
    assert X.shape == (3, 5, 3)
    assert np.isnan(X[1:, :, 1:]).all() and (X[1:, :, 0] == 1).all()
    assert np.isnan(X[0, 4]).all() and (X[0, :4] == 1).all()
    check_padded(X)


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ([np.ones(5), np.ones(9)], r"series\[1\] has 9 times, more than n_times=8"),
        ([np.ones(5), np.ones((2, 2, 2))], r"series\[1\] has shape \(2, 2, 2\)"),
        ([np.ones(5), []], r"series\[1\] has shape \(0,\)"),
        ([], "series is empty"),
    ],
)
def test_what_does_not_fit_is_refused(series, told):
    with pytest.raises(ValueError, match=told):
        pad_series(series, n_times=8)


def test_channels_that_end_at_different_times_are_refused():
    X = np.ones((2, 6, 2))
    X[1, 4:, 0] = np.nan
    with pytest.raises(ValueError, match="channels that end at different times"):
        check_padded(X)
