"""Past rows on one scale, few columns of them: what distances and slopes are measured in."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

#: Features beyond these are reduced to as many principal components.
MAX_FEATURES = 64
#: Rows that principal components are made of.
ROWS_FOR_COMPONENTS = 5000


class FeatureSpace:
    """Standardised features, or their leading principal components where there are many."""

    def __init__(self, X: np.ndarray, rng: np.random.Generator, max_features: int = MAX_FEATURES):
        self.origin = X.mean(0)
        scale = X.std(0)
        # as StandardScaler has it: what is constant but for rounding is left as it is
        constant = scale <= 1e-9 * np.maximum(np.abs(self.origin), 1e-300)
        self.scale = np.where(constant, 1.0, scale)
        self.axes: np.ndarray | None = None
        if X.shape[1] > max_features:
            some = rng.permutation(len(X))[:ROWS_FOR_COMPONENTS]
            n = min(max_features, len(some) - 1) or 1
            seed = int(rng.integers(2**31))
            pca = PCA(n, svd_solver="randomized", random_state=seed)
            self.axes = pca.fit((X[some] - self.origin) / self.scale).components_.T

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Rows (n_rows, n_columns) in this space."""
        Z = (X - self.origin) / self.scale
        return Z if self.axes is None else Z @ self.axes

    def of_rows(self, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n_features, m) and intercepts (m,) in units of the rows.

        `coef` (1 + n_columns, m) are those in this space, the intercept first.
        """
        weights = coef[1:] if self.axes is None else self.axes @ coef[1:]
        weights = weights / self.scale[:, None]
        return weights, coef[0] - self.origin @ weights
