"""Artificial regression tasks: what tables without a history and with numbers to tell teach.

Features come as those of `task_priors` do, and so do the scores that there become
classes. Here a score becomes a target: with noise from none to nearly all, of several
kinds, bent as prices, counts and marks are, and beside categories that shift it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from task_priors import (
    ArtificialTask,
    Rng,
    Rows,
    TaskPrior,
    log_uniform,
    measured,
    network_scores,
    process_scores,
    standard,
    tree_scores,
)
from task_priors import linear_scores as linear_in_all

#: Targets lie within so many of their standard deviations.
FARTHEST = 8.0


def linear_scores(rng: Rng, n: int, d: int, n_scores: int) -> Rows:
    """Linear in the features, and in one case of three in products of two of them."""
    X, scores = linear_in_all(rng, n, d, n_scores)
    if rng.random() < 0.35:
        pairs = rng.integers(d, size=(2, int(rng.integers(1, 4))))
        products = standard(X[:, pairs[0]] * X[:, pairs[1]])
        weights = rng.normal(size=(pairs.shape[1], n_scores))
        scores = scores + rng.uniform(0.2, 1.0) * products @ weights
    return X, scores


def additive_scores(rng: Rng, n: int, d: int, n_scores: int) -> Rows:
    """Sums of bent features: saturating, with a threshold, a bend or a maximum."""
    X = linear_in_all(rng, n, d, 1)[0]
    scores = np.zeros((n, n_scores))
    for j in rng.choice(d, size=int(rng.integers(1, min(d, 8) + 1)), replace=False):
        x = (X[:, [j]] - rng.normal()) * log_uniform(rng, 0.5, 3.0)
        shapes = np.tanh(x), np.maximum(x, 0), np.abs(x), x, np.exp(-(x**2)), np.clip(x, -1, 1)
        scores = scores + standard(shapes[rng.integers(len(shapes))]) * rng.normal(size=n_scores)
    return X, scores


def factor_scores(rng: Rng, n: int, d: int, n_scores: int) -> Rows:
    """What a few factors, one before all, make of a target and of all features, each with noise.

    Sizes of things, marks of pupils, prices and equipments of houses are so: nearly every
    feature tells something, and many the same.
    """
    k = int(rng.integers(1, 5))
    factors = linear_in_all(rng, n, k, 1)[0] * rng.uniform(0.2, 1.0) ** np.arange(k)
    loadings = rng.normal(size=(k, d)) * (rng.random((k, d)) < rng.uniform(0.4, 1.0))
    X = factors @ loadings
    X = X + log_uniform(rng, 0.1, 1.5) * np.exp(0.5 * rng.normal(size=d)) * rng.normal(size=(n, d))
    scores = factors @ (rng.normal(size=(k, n_scores)) + np.eye(k, n_scores))
    if rng.random() < 0.3:
        scores = scores + rng.uniform(0.1, 0.6) * standard(scores) ** 2
    return X, scores


#: Where targets come from, and how often.
SOURCES: tuple[tuple[Callable[[Rng, int, int, int], Rows], float], ...] = (
    (factor_scores, 0.3),
    (linear_scores, 0.2),
    (additive_scores, 0.16),
    (network_scores, 0.16),
    (process_scores, 0.06),
    (tree_scores, 0.12),
)


def categories(rng: Rng, X: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Categories as columns of zeros and ones, and how they shift the target.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    X : ndarray of shape (n, d)
        Features, with which some categories go.
    n_columns : int
        Columns, at most.

    Returns
    -------
    columns : ndarray of shape (n, <= n_columns)
        One for each category, each row in one of them.
    shift : ndarray of shape (n,)
        What is to be added to the target, about zero.
    """
    n, columns, shift = len(X), [], np.zeros(len(X))
    while n_columns >= 2:
        k = min(n_columns, int(rng.integers(2, 7)))
        if rng.random() < 0.4:
            x = X[:, rng.integers(X.shape[1])] + rng.uniform(0, 1) * rng.normal(size=n)
            codes = np.searchsorted(np.quantile(x, np.sort(rng.random(k - 1))), x)
        else:
            codes = rng.choice(k, size=n, p=rng.dirichlet(np.full(k, 2.0)))
        columns.append(np.eye(k)[rng.permutation(k)[codes]])
        slope = rng.normal(size=k) * rng.choice([0.0, 0.5]) if X.shape[1] else np.zeros(k)
        effect = rng.normal(size=k) * rng.choice([0.0, 0.5, 1.0])
        shift = shift + effect[codes] + slope[codes] * X[:, rng.integers(X.shape[1])]
        n_columns -= k
        if rng.random() < 0.3:
            break
    return np.hstack([np.empty((n, 0)), *columns]), shift - shift.mean()


def noisy(rng: Rng, signal: np.ndarray, X: np.ndarray) -> np.ndarray:
    """A signal of deviation one with noise: even, heavy-tailed, outlying, or more in some places.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    signal : ndarray of shape (n,)
        What is to be learned.
    X : ndarray of shape (n, d)
        Features, of which one may say where there is more.

    Returns
    -------
    ndarray of shape (n,)
        What is observed of it.
    """
    n, kind = len(signal), rng.integers(6)
    noise = rng.normal(size=n)
    if kind == 1:
        noise = rng.standard_t(3, size=n)
    elif kind == 2:
        noise = np.where(rng.random(n) < 0.05, 6 * rng.normal(size=n), noise)
    elif kind == 3:
        where = signal if rng.random() < 0.6 else standard(X)[:, rng.integers(X.shape[1])]
        noise = noise * np.exp(rng.uniform(0.3, 1.0) * np.clip(where, -3, 3))
    level = 0.0 if rng.random() < 0.04 else log_uniform(rng, 0.02, 3.0)
    return signal + level * noise


def bent(rng: Rng, y: np.ndarray) -> np.ndarray:
    """Targets as they are told: prices, powers, counts, levels, marks up to a most."""
    y, kind = standard(y), rng.integers(12)
    if kind == 0:
        return np.exp(rng.uniform(0.3, 1.3) * y)
    if kind == 1:
        return np.sign(y) * np.abs(y) ** rng.uniform(1.2, 2.5)
    if kind == 2:
        return np.round(y * log_uniform(rng, 0.8, 8.0))
    if kind == 3:
        return np.clip(y, *np.quantile(y, [rng.uniform(0, 0.3), rng.uniform(0.7, 1.0)]))
    if kind == 4:
        return np.log1p(np.exp(rng.uniform(1, 3) * y))
    return y


def explained(X: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance of targets that the other rows tell: 0 is no more than their mean.

    Of kernel ridge regressions, linear and with a city-block kernel, whichever does better on
    rows that are left out.
    """
    Z, y = standard(X), standard(y)
    inner = Z @ Z.T / Z.shape[1]
    gaps = np.abs(Z[:, None] - Z).sum(-1)
    best = 0.0
    for K, penalty in ((inner, 1.0), (inner, 0.01), (np.exp(-gaps / gaps.mean()), 0.1)):
        inverse = np.linalg.inv(K + 1.0 + penalty * np.eye(len(y)))
        left_out = inverse @ y / inverse.diagonal()
        best = max(best, 1 - float((left_out**2).mean()))
    return best


class TargetPrior(TaskPrior):
    """Draws artificial regression tasks; a generator for ``MetaTrainer.fit``.

    Parameters
    ----------
    n_tables : int, default=20_000
        Tables to draw tasks from, each made when first asked for and kept.
    seed : int, default=0
        With its number, all that a table depends on.
    n_rows : (low, high), default=(2, 100)
        Labelled rows of a task; few are drawn as often as many.
    max_features : int, default=64
        Most features.
    n_query : int, default=24
        Rows to be told.
    fill : bool, default=True
        Whether to fill up tables of fewer features with columns of zeros, so
        that all tasks have the same width.

    Examples
    --------
    >>> import numpy as np
    >>> from target_priors import TargetPrior
    >>> task = TargetPrior(n_rows=(3, 20), fill=False)(np.random.default_rng(0))
    >>> 3 <= len(task.y) <= 20, len(task.y_query)
    (True, 24)
    """

    def __init__(
        self,
        n_tables: int = 20_000,
        seed: int = 0,
        n_rows: tuple[int, int] = (2, 100),
        max_features: int = 64,
        n_query: int = 24,
        fill: bool = True,
    ):
        super().__init__(n_tables, seed, n_rows, 1, max_features, n_query, fill)

    def _drawn(self, rng: Rng) -> Rows | None:
        """A table; seldom one in which even many rows tell little."""
        n_features = max(1, round(log_uniform(rng, 0.7, self.max_features + 0.4)))
        n_columns = int(rng.integers(2, n_features)) if rng.random() < 0.3 < n_features / 10 else 0
        n_numbers = n_features - n_columns
        d = n_numbers
        if rng.random() < 0.4:
            d = int(rng.integers(max(1, n_numbers // 4), n_numbers + 1))
        rules, chances = zip(*SOURCES, strict=True)
        rule = rules[rng.choice(len(rules), p=chances)]
        n = self.n_rows[1] + 2 * self.n_query
        hidden, scores = rule(rng, n, d, 1)
        columns, shift = categories(rng, hidden, n_columns)
        signal = standard(standard(scores[:, 0]) + rng.uniform(0.3, 1.5) * shift)
        y = bent(rng, noisy(rng, signal, hidden))
        X = measured(rng, hidden, n_numbers)
        X = np.hstack([X, columns, np.zeros((n, n_columns - columns.shape[1]))])
        X = np.clip(np.nan_to_num(X, nan=0.0, posinf=1e6, neginf=-1e6), -1e6, 1e6)
        y = np.clip(standard(y), -FARTHEST, FARTHEST)
        known = np.isfinite(y).all() and y.std() > 0
        if not known or rng.random() > 0.05 + 1.2 * explained(X, y):
            return None
        return X.astype(np.float32), standard(y)

    def _task(self, rng: Rng, X: np.ndarray, y: np.ndarray) -> ArtificialTask:
        low, high = self.n_rows
        n = round(log_uniform(rng, low - 0.5, high + 0.49))
        order = rng.permutation(len(y))
        support, query = order[:n], order[n : n + self.n_query]
        if self.fill:
            X = np.pad(X, ((0, 0), (0, self.max_features - X.shape[1])))
        # the unit and the offset of a target mean nothing, and neither does its sign
        unit = rng.choice([-1.0, 1.0])
        return ArtificialTask(X[support], unit * y[support], X[query], unit * y[query])
