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
#: What the error on past tasks may rise by, as a share, for strategies to be left out, the worst
#: first: less than that is what past tasks say by chance, and new ones may say otherwise.
WORTH = 0.01
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
    places = np.flatnonzero(usable)
    places = places[np.argsort(np.diag(products)[places], kind="stable")]
    E = products[np.ix_(places, places)]
    if E[0, 0] <= 0:  # some make no error at all
        weights[places] = np.diag(E) <= 0
        return weights / weights.sum()
    kept = found = _least_squares(E, n_episodes)
    most = (1 + WORTH) * (found @ E @ found)
    for n in range(len(E) - 1, 0, -1):
        found = _least_squares(E[:n, :n], n_episodes)
        if found @ E[:n, :n] @ found > most:
            break
        kept = found
    weights[places[: len(kept)]] = kept
    return weights


def _least_squares(E: np.ndarray, n_episodes: int) -> np.ndarray:
    """Weights of the least error of strategies of which the first is the best."""
    E = E / E[0, 0] + DOUBT / n_episodes * np.eye(len(E))
    values, vectors = eigh(E)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    system = np.vstack([root, np.full(len(E), SUM_TO_ONE)])
    found = nnls(system, np.append(np.zeros(len(E)), SUM_TO_ONE))[0]
    return found / found.sum()


@lru_cache(maxsize=32)
def stacking_rows(experience: Any) -> np.ndarray:
    """Weights (n_shots, n_strategies) by what an `Experience` knows, for each number of shots."""
    rows = []
    for i, n in enumerate(experience.n_episodes):
        products = np.array(experience.products[i]) / n
        products[np.array(experience.successes[i]) < n] = np.inf
        rows.append(stacking_weights(products, n))
    return np.array(rows)
