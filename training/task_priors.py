"""Artificial classification tasks: what tables without a history are learned from.

N. Hollmann, S. Müller, K. Eggensperger and F. Hutter. TabPFN: a transformer
that solves small tabular classification problems in a second. ICLR 2023
(section 4: structural causal models as a prior over tables).

A. Rahimi and B. Recht. Random features for large-scale kernel machines.
NeurIPS 2007 (how functions of a Gaussian process are drawn).

A task is drawn in three steps: hidden causes and a rule that gives each row its
class (`CAUSES`), the features that are measured of it (`measured`), and a split
into labelled rows and rows to be told (`TaskPrior`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Rng = np.random.Generator
#: Features of rows (n, n_features), and codes of their classes (n,) or scores (n, n_way).
Rows = tuple[np.ndarray, np.ndarray]


def standard(X: np.ndarray) -> np.ndarray:
    """Columns of mean zero and deviation one."""
    scale = X.std(0)
    return (X - X.mean(0)) / np.where(scale > 1e-9, scale, 1.0)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _causes(rng: Rng, n: int, d: int) -> np.ndarray:
    """Rows of d causes: independent, correlated, clustered or heavy-tailed."""
    kind = rng.integers(4)
    X = rng.normal(size=(n, d))
    if kind == 1:
        rank = int(rng.integers(1, max(2, d // 2) + 1))
        X = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + rng.uniform(0.1, 1) * X
    elif kind == 2:
        centres = rng.normal(size=(int(rng.integers(2, 7)), d)) * rng.uniform(1, 3)
        X = X + centres[rng.integers(len(centres), size=n)]
    elif kind == 3:
        X = X if rng.random() < 0.5 else rng.uniform(-1.7, 1.7, size=(n, d))
    return standard(X)


_ACTIVATIONS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    np.tanh, lambda x: np.maximum(x, 0), np.sin, np.abs, lambda x: x, np.square,
    lambda x: np.where(x > 0, 1.0, -1.0), lambda x: 1 / (1 + np.exp(-3 * x)),
)  # fmt: skip


# ------------------------------------------------------------------ from scores to classes
def _classes_from_scores(rng: Rng, scores: np.ndarray, n_way: int) -> np.ndarray:
    """The largest of several scores, or the interval that a single one falls into."""
    if scores.shape[1] >= n_way and rng.random() < 0.7:
        scores = standard(scores[:, :n_way])
        scores = scores + rng.normal(size=n_way) * rng.choice([0.0, 0.3, 1.0])
        return scores.argmax(1)
    shares = rng.dirichlet(np.full(n_way, log_uniform(rng, 1.0, 20.0)))
    cuts = np.quantile(scores[:, 0], np.cumsum(shares)[:-1])
    codes = np.searchsorted(cuts, scores[:, 0])
    return rng.permutation(n_way)[codes] if rng.random() < 0.7 else codes


def network_scores(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Structural causal model: features and scores are nodes of one random network.

    Layers of nodes, each a random function of a few nodes of the layer before,
    with noise; what is observed are nodes of any layer, and the scores come
    from others, so features cause them or are caused by them.
    """
    width = int(rng.integers(max(4, d // 3), max(8, d) + 8))
    nodes = _causes(rng, n, int(rng.integers(2, max(4, d // 2) + 3)))
    layers, noise = [nodes], log_uniform(rng, 0.01, 0.5)
    fan_in = int(rng.integers(1, 6))
    for _ in range(int(rng.integers(1, 5))):
        weights = np.zeros((nodes.shape[1], width))
        for j in range(width):
            chosen = rng.integers(nodes.shape[1], size=fan_in)
            weights[chosen, j] += rng.normal(size=fan_in)
        act = _ACTIVATIONS[rng.integers(len(_ACTIVATIONS))]
        mixed = standard(nodes @ weights) + rng.normal(size=width) * 0.5
        nodes = standard(act(mixed)) + noise * rng.normal(size=(n, width))
        layers.append(nodes)
    everything = np.concatenate(layers, 1)
    d = min(d, everything.shape[1] - 1)
    # neighbours in the last layers are closer to each other than nodes from anywhere
    start = rng.integers(everything.shape[1] - d) if rng.random() < 0.3 else None
    order = rng.permutation(everything.shape[1])
    observed = np.arange(start, start + d) if start is not None else order[:d]
    rest = np.setdiff1d(order, observed)
    n_scores = n_way if rng.random() < 0.5 else 1
    targets = rng.choice(rest, size=n_scores, replace=len(rest) < n_scores)
    scores = everything[:, targets]
    if n_scores > 1:
        scores = scores @ rng.normal(size=(n_scores, n_scores))
    return everything[:, observed], scores


def causal_network(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Classes from the scores of a structural causal model."""
    X, scores = network_scores(rng, n, d, n_way)
    return X, _classes_from_scores(rng, scores, n_way)


def process_scores(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Functions of a Gaussian process of some of the features, by random Fourier features."""
    X = _causes(rng, n, d)
    relevant = rng.random(d) < rng.uniform(0.2, 1.0)
    relevant[rng.integers(d)] = True
    scale = relevant * np.exp(rng.normal(size=d) * 0.7)
    scale /= np.sqrt((scale**2).sum()) * log_uniform(rng, 0.5, 4.0)
    tails = np.sqrt(rng.chisquare(3, size=(1, 128)) / 3) if rng.random() < 0.5 else 1.0
    frequencies = rng.normal(size=(d, 128)) * scale[:, None] / tails
    waves = np.cos(X @ frequencies + rng.uniform(0, 2 * np.pi, size=128))
    scores = waves @ rng.normal(size=(128, n_way)) / 8
    return X, scores


def gaussian_process(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Classes from noisy functions of a Gaussian process."""
    X, scores = process_scores(rng, n, d, n_way)
    scores = scores + log_uniform(rng, 0.01, 0.3) * rng.normal(size=scores.shape)
    return X, _classes_from_scores(rng, scores, n_way)


def tree_scores(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """A few random trees with splits along single features."""
    X = _causes(rng, n, d)
    favoured = rng.dirichlet(np.full(d, log_uniform(rng, 0.1, 3.0)))
    scores = np.zeros((n, n_way))
    depth = int(rng.integers(1, 5))
    for _ in range(int(rng.integers(1, 9))):
        leaf = np.zeros(n, dtype=int)
        for _ in range(depth):
            feature = rng.choice(d, size=2**depth, p=favoured)
            cut = np.quantile(X, rng.uniform(0.15, 0.85), axis=0)
            column = feature[leaf % len(feature)]
            leaf = 2 * leaf + (X[np.arange(n), column] > cut[column])
        scores += rng.normal(size=(2**depth, n_way))[leaf % 2**depth]
    return X, scores


def tree_ensemble(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Classes from the sum of a few random trees."""
    X, scores = tree_scores(rng, n, d, n_way)
    scores = scores + 0.05 * rng.normal(size=scores.shape)
    return X, _classes_from_scores(rng, scores, n_way)


def linear_scores(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Scores that are linear in the features, in few of them or in all."""
    X = _causes(rng, n, d)
    weights = rng.normal(size=(d, n_way)) * np.exp(rng.normal(size=(d, 1)))
    weights *= rng.random((d, 1)) < rng.uniform(0.1, 1.0)
    return X, standard(X @ weights + 1e-6 * rng.normal(size=(n, n_way)))


def linear_rule(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Classes from linear logits."""
    X, scores = linear_scores(rng, n, d, n_way)
    noise = rng.gumbel(size=scores.shape) / log_uniform(rng, 1.0, 30.0)
    return X, _classes_from_scores(rng, scores + noise, n_way)


def class_prototypes(rng: Rng, n: int, d: int, n_way: int) -> Rows:
    """Each class scatters about one or a few prototypes, in a space of some dimensions.

    Scatter may be shared or each class's own, and lies along some directions
    more than along others; this is what classes of things, such as species or
    shapes, look like.
    """
    shares = rng.dirichlet(np.full(n_way, log_uniform(rng, 1.0, 50.0)))
    y = rng.choice(n_way, size=n, p=shares)
    k = int(rng.integers(1, min(d, 30) + 1))
    n_modes = int(rng.choice([1, 1, 1, 2, 3]))
    centres = rng.normal(size=(n_way, n_modes, k)) * np.exp(rng.normal(size=k) * 0.7)
    within = rng.normal(size=(n, k))
    own = np.exp(rng.normal(size=(n_way, k)) * rng.choice([0.0, 0.2, 0.6]))
    apart = log_uniform(rng, 0.5, 6.0) / np.sqrt(k)
    if rng.random() < 0.5:  # scatter along shared directions
        rank = int(rng.integers(1, k + 1))
        shared = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, k)) / np.sqrt(rank)
        within = 0.4 * within + shared
    hidden = apart * centres[y, rng.integers(n_modes, size=n)] + own[y] * within
    if rng.random() < 0.4 and k == d:
        return hidden, y
    mixing = rng.normal(size=(k, d)) * (rng.random((k, d)) < rng.uniform(0.1, 1.0))
    X = hidden @ mixing
    noise = log_uniform(rng, 0.01, 0.7) * np.maximum(X.std(0), 1e-3)
    X = X + noise * rng.normal(size=(n, d))
    if rng.random() < 0.3:
        X = _ACTIVATIONS[rng.integers(len(_ACTIVATIONS))](standard(X))
    return X, y


#: The rules, and how often each is drawn.
CAUSES: tuple[tuple[Callable[[Rng, int, int, int], Rows], float], ...] = (
    (causal_network, 0.3),
    (class_prototypes, 0.34),
    (linear_rule, 0.14),
    (gaussian_process, 0.11),
    (tree_ensemble, 0.11),
)


# ------------------------------------------------------------------ what is measured
def measured(rng: Rng, X: np.ndarray, n_features: int) -> np.ndarray:
    """Features as tables have them: skewed, discrete, repeated, irrelevant, of any unit.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    X : ndarray of shape (n, d)
        Columns to measure.
    n_features : int
        Columns of the table; those beyond d repeat others, with noise, or mean
        nothing.

    Returns
    -------
    ndarray of shape (n, n_features)
        The table, its columns in random order.
    """
    d = X.shape[1]
    X = standard(X)
    if n_features > d:
        repeated = X[:, rng.integers(d, size=n_features - d)]
        noise = rng.normal(size=repeated.shape)
        repeats = rng.random(n_features - d) < rng.uniform()
        X = np.concatenate([X, np.where(repeats, repeated + rng.uniform(0, 0.7) * noise, noise)], 1)
    X = X[:, rng.permutation(n_features)]
    strange = rng.random() ** 2  # most tables have few columns that are not plain numbers
    how = np.where(rng.random(n_features) < strange, rng.integers(1, 9, size=n_features), 0)
    if rng.random() < 0.2:  # all columns of one kind, such as counts or yes and no
        how[:] = rng.integers(1, 9)
    for j in np.flatnonzero(how):
        X[:, j] = _bent(rng, X[:, j], how[j])
    units = np.exp(rng.normal(size=n_features) * 2)
    return X * units + rng.normal(size=n_features) * units


def _bent(rng: Rng, x: np.ndarray, how: int) -> np.ndarray:
    if how == 1:
        return np.exp(rng.uniform(0.3, 1.2) * x)
    if how == 2:
        return np.sign(x) * np.abs(x) ** rng.uniform(1.3, 3)
    if how == 3:  # yes and no
        return (x > np.quantile(x, rng.uniform(0.1, 0.9))).astype(float)
    if how == 4:  # a few levels in order
        return np.searchsorted(np.sort(rng.normal(size=rng.integers(2, 8))), x).astype(float)
    if how == 5:  # a few levels in no order
        levels = np.searchsorted(np.sort(rng.normal(size=rng.integers(2, 6))), x)
        return rng.permutation(levels.max() + 1)[levels].astype(float)
    if how == 6:  # counts
        return rng.poisson(np.exp(np.clip(rng.uniform(-1, 2) + 0.7 * x, -5, 5))).astype(float)
    if how == 7:  # none of it, often
        return np.maximum(x - np.quantile(x, rng.uniform(0.2, 0.8)), 0)
    return x + rng.standard_t(2, size=len(x)) * rng.uniform(0.05, 0.5)


def told_apart(X: np.ndarray, y: np.ndarray) -> float:
    """How far rows tell their classes: 0 is no better than a guess, 1 is without fault.

    Of the nearest row and the nearest class mean, on standardised features,
    whichever does better on all rows of a task.
    """
    Z, members = standard(X), (y[:, None] == np.unique(y)).astype(float)
    among = Z @ Z.T
    sizes = np.diag(among)
    distances = sizes[:, None] + sizes - 2 * among
    np.fill_diagonal(distances, np.inf)
    nearest = (y[distances.argmin(1)] == y).mean()
    counts = members.sum(0)
    means = members / counts
    to_mean = 2 * among @ means - np.einsum("ic,ij,jc->c", means, among, means, optimize=True)
    # a row is left out of its own mean
    own = members * (sizes[:, None] / counts)
    by_mean = (np.unique(y)[(to_mean - 2 * own).argmax(1)] == y).mean()
    guess = counts.max() / len(y)
    return max(0.0, (max(nearest, by_mean) - guess) / (1 - guess + 1e-9))


# ------------------------------------------------------------------ tasks
class ArtificialTask(NamedTuple):
    """One task: labelled rows, and rows of the same classes to be told."""

    X: np.ndarray
    y: np.ndarray
    X_query: np.ndarray
    y_query: np.ndarray


class TaskPrior:
    """Draws artificial tasks; a generator for ``MetaTrainer.fit``.

    Parameters
    ----------
    n_tables : int, default=20_000
        Tables to draw tasks from, each made when first asked for and kept. Tasks
        of one table differ in their rows and in how many are labelled.
    seed : int, default=0
        With its number, all that a table depends on.
    n_rows : (low, high), default=(3, 60)
        Labelled rows of a task; few are drawn as often as many.
    max_way : int, default=10
        Most classes; one table in ten has up to twice as many.
    max_features : int, default=64
        Most features.
    n_query : int, default=40
        Most rows to be told.
    fill : bool, default=True
        Whether to fill up tables of fewer features with columns of zeros, so
        that all tasks have the same width.

    Examples
    --------
    >>> import numpy as np
    >>> from task_priors import TaskPrior
    >>> task = TaskPrior(n_rows=(3, 20), fill=False)(np.random.default_rng(0))
    >>> len(task.X) <= 20 and set(task.y_query) <= set(task.y)
    True
    """

    def __init__(
        self,
        n_tables: int = 20_000,
        seed: int = 0,
        n_rows: tuple[int, int] = (3, 60),
        max_way: int = 10,
        max_features: int = 64,
        n_query: int = 40,
        fill: bool = True,
    ):
        self.n_tables, self.seed, self.n_rows = n_tables, seed, n_rows
        self.max_way, self.max_features = max_way, max_features
        self.n_query, self.fill = n_query, fill
        self._tables: dict[int, Rows] = {}

    def __call__(self, rng: Rng) -> ArtificialTask:
        """Draw one task.

        Parameters
        ----------
        rng : numpy.random.Generator
            Chooses the table, and its rows.

        Returns
        -------
        ArtificialTask
            Labelled rows of at least two classes, and at least one row to be
            told.
        """
        while True:
            task = self._task(rng, *self.table(int(rng.integers(self.n_tables))))
            if task is not None:
                return task

    def table(self, number: int) -> Rows:
        """The rows and classes of one table.

        Parameters
        ----------
        number : int
            Which table.

        Returns
        -------
        X : ndarray of shape (n, n_features) and dtype float32
            Rows.
        y : ndarray of shape (n,)
            Codes of the classes.
        """
        if number not in self._tables:
            rng = np.random.default_rng([self.seed, number])
            rows = None
            while rows is None:
                rows = self._drawn(rng)
            self._tables[number] = rows
        return self._tables[number]

    def _drawn(self, rng: Rng) -> Rows | None:
        """A table; seldom one in which even many rows tell little."""
        most = 2 * self.max_way if rng.random() < 0.1 else self.max_way
        n_way = 2 if rng.random() < 0.3 else int(rng.integers(2, most + 1))
        n_features = max(1, round(log_uniform(rng, 0.7, self.max_features + 0.4)))
        d = n_features
        if rng.random() < 0.3:
            d = int(rng.integers(max(1, n_features // 4), n_features + 1))
        rules, chances = zip(*CAUSES, strict=True)
        rule = rules[rng.choice(len(rules), p=chances)]
        n = 2 * (self.n_rows[1] + self.n_query)
        X, y = rule(rng, n, d, n_way)
        X = measured(rng, X, n_features)
        X = np.clip(np.nan_to_num(X, nan=0.0, posinf=1e6, neginf=-1e6), -1e6, 1e6)
        if len(np.unique(y)) < 2 or rng.random() > 0.05 + 1.4 * told_apart(X, y) ** 1.5:
            return None
        if rng.random() < 0.15:
            wrong = rng.random(len(y)) < rng.uniform(0, 0.2)
            y = np.where(wrong, rng.integers(n_way, size=len(y)), y)
        return X.astype(np.float32), y

    def _task(self, rng: Rng, X: np.ndarray, y: np.ndarray) -> ArtificialTask | None:
        low, high = self.n_rows
        n = round(log_uniform(rng, low - 0.5, high + 0.49))
        order = self._order(rng, y)
        support, rest = order[:n], rng.permutation(order[n:])
        if y.max() >= n:  # few rows of many classes are no task: keep some classes
            kept = rng.permutation(np.unique(y))[: int(rng.integers(2, max(2, n) + 1))]
            order = order[np.isin(y[order], kept)]
            support, rest = order[:n], rng.permutation(order[n:])
        classes = np.unique(y[support])
        query = rest[np.isin(y[rest], classes)][: self.n_query]
        if len(classes) < 2 or not len(query):
            return None
        if self.fill:
            X = np.pad(X, ((0, 0), (0, self.max_features - X.shape[1])))
        return ArtificialTask(X[support], y[support], X[query], y[query])

    def _order(self, rng: Rng, y: np.ndarray) -> np.ndarray:
        """Rows as they come; or first one of each class; or one of each class in turn."""
        order = rng.permutation(len(y))
        how = rng.integers(3)
        if how == 0:
            return order
        turn = np.empty(len(y), dtype=int)  # how many of the class came before
        for c in np.unique(y):
            own = order[y[order] == c]
            turn[own] = np.arange(len(own))
        key = np.minimum(turn, 1) if how == 1 else turn
        return order[np.argsort(key[order], kind="stable")]
