"""How much each strategy's answer counts in a mean: by what their errors have in common.

With E_ij the mean product of the errors of strategies i and j on past tasks, a mean of their
answers with weights w has the mean squared error w'Ew, which is least for some w >= 0 of sum one.

J. M. Bates and C. W. J. Granger. The combination of forecasts. Operational Research
Quarterly 20, 1969.

L. Breiman. Stacked regressions. Machine Learning 24, 1996 (weights that are not negative).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import nnls

#: What every strategy's own squared error is thought to be higher by, as a share of the least of
#: them and per episode seen: few episodes tell little, and equal weights are safer.
DOUBT = 2.0
#: How much more a sum that is not one costs than any error.
SUM_TO_ONE = 1e4


def stacking_weights(products: np.ndarray, n_episodes: int) -> np.ndarray:
    """The weights of the least mean squared error.

    Parameters
    ----------
    products : ndarray of shape (n, n)
        Mean products of errors; not finite in the rows of strategies that are not to be used.
    n_episodes : int
        Episodes that they are means of.

    Returns
    -------
    ndarray of shape (n,)
        Not negative, of sum one; zeros where no strategy is to be used.
    """
    weights = np.zeros(len(products))
    usable = np.isfinite(np.diag(products))
    if not usable.any():
        return weights
    E = products[np.ix_(usable, usable)]
    least = np.diag(E).min()
    if least <= 0:  # some make no error at all
        weights[usable] = np.diag(E) <= 0
        return weights / weights.sum()
    E = E / least + DOUBT / n_episodes * np.eye(len(E))
    values, vectors = eigh(E)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    system = np.vstack([root, np.full(len(E), SUM_TO_ONE)])
    found = nnls(system, np.append(np.zeros(len(E)), SUM_TO_ONE))[0]
    weights[usable] = found / found.sum()
    return weights


@lru_cache(maxsize=32)
def stacking_rows(experience: Any) -> np.ndarray:
    """Weights (n_shots, n_strategies) by what an `Experience` knows, for each number of shots."""
    rows = []
    for i, n in enumerate(experience.n_episodes):
        products = np.array(experience.products[i]) / n
        products[np.array(experience.successes[i]) < n] = np.inf
        rows.append(stacking_weights(products, n))
    return np.array(rows)
