"""The prior of a linear model's weights, learned from past tasks by maximum likelihood.

A task t is y_t = Phi_t b_t + e_t with b_t ~ N(mu, s^2 C C') and e_t ~ N(0, s^2): a linear mixed
model. mu and s^2 have closed forms given C; what is left is a smooth function of C, whose gradient
has a closed form, too.

D. Bates, M. Mächler, B. Bolker and S. Walker. Fitting linear mixed-effects models using lme4.
Journal of Statistical Software 67 (2015): the relative factor C, and the profiled criterion.

N. Laird, N. Lange and D. Stram. Maximum likelihood computations with repeated measures:
application of the EM algorithm. JASA 82 (1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

#: Kinds of covariance between tasks, the simplest first.
STRUCTURES = ("intercept", "isotropic", "diagonal", "low_rank", "full")
#: How the mean of the weights is estimated.
MEANS = ("flat", "ridge", "ard")
#: Numbers that one batch of tasks may hold.
AT_ONCE = 2**22
#: Numbers that are not worth a batch of their own.
FEW = 2**14
#: Steps of expectation maximisation before the quasi-Newton ones.
EM_STEPS = 8
#: Squared residuals that are rounding, as a share of those of one regression for all tasks.
ROUNDING = 1e-12
#: Numbers in the rows of as many tasks as are searched, and chosen by, before all tasks are.
FIRST = 2**18
#: What is below it counts as zero, in units of the noise.
ZERO = 1e-3


class Batch(NamedTuple):
    """Tasks of about as many rows each, in no more rows than there are features."""

    #: (T, m, p) and (T, m, K): an orthogonal transform of each task's rows; missing ones are zero.
    rows: Tensor
    targets: Tensor
    #: (T, K): squared lengths of what of the targets is orthogonal to the rows.
    rest: Tensor
    #: (T,): rows that there were.
    sizes: Tensor
    #: (T,): number of the task.
    tasks: Tensor


@dataclass(frozen=True)
class TaskPrior:
    """What past tasks say of a new one: b ~ N(mean_k, noise_variance_k factor factor')."""

    #: (p, K), the mean of the weights of each output.
    mean: Tensor
    #: (p, p), lower triangular, in units of the noise: counts how uncertain the mean is.
    factor: Tensor
    #: (K,).
    noise_variance: Tensor
    #: The restricted, or the usual, log-likelihood at its maximum.
    loglik: float
    structure: str
    #: (p, q), in units of the noise: how tasks vary around their mean.
    between: Tensor
    #: (p, p), in units of the noise: how uncertain the mean is.
    mean_covariance: Tensor
    #: (p,), in units of the noise: the standard deviations that the means' weights were given.
    mean_spread: Tensor
    #: Evaluations of the likelihood.
    n_evaluations: int
    #: By what there was to choose from, the corrected information criterion: the lower, the better.
    choice: dict[str, float] = field(default_factory=dict)


# --------------------------------------------------------------------------- rows of the tasks
def batches(Phi: Tensor, Y: Tensor, tasks: Tensor) -> list[Batch]:
    """Tasks of similar sizes together, and none in more rows than features.

    Parameters
    ----------
    Phi : Tensor of shape (N, p)
        Features.
    Y : Tensor of shape (N, K)
        Targets.
    tasks : Tensor of shape (N,)
        Number of each row's task, from 0.

    Returns
    -------
    list of Batch
        Smallest tasks first.
    """
    order = torch.argsort(tasks, stable=True)
    sizes = torch.bincount(tasks)
    starts = sizes.cumsum(0) - sizes
    by_size = torch.argsort(sizes, stable=True)
    by_size = by_size[sizes[by_size] > 0]
    made, at = [], 0
    both = torch.cat([Phi, Y], 1)
    while at < len(by_size):
        smallest = int(sizes[by_size[at]])
        # sizes within a batch differ by a half at most, as far as rows are compressed anyway
        fits = sizes[by_size] <= max(smallest + 2, 3 * smallest // 2)
        most = max(1, AT_ONCE // (both.shape[1] * (3 * smallest // 2 + 2)))
        some = by_size[at : min(int(fits.sum()), at + most)]
        n = int(sizes[some].max())
        number = torch.arange(n)
        there = number < sizes[some, None]
        index = order[(starts[some, None] + number).clamp(max=len(order) - 1)]
        block = torch.where(there[..., None], both[index], 0.0)
        made.append(_compressed(block, Phi.shape[1], sizes[some], some))
        at += len(some)
    return _merged(made)


def _merged(data: list[Batch]) -> list[Batch]:
    """Fewer batches, where rows of zeros that make tasks as long as others cost little."""
    out = data[:1]
    for batch in data[1:]:
        last = out[-1]
        (T, m, p), (more, n, _) = last.rows.shape, batch.rows.shape
        together = (T + more) * n * (p + batch.targets.shape[-1])
        if together > AT_ONCE or (T * (n - m) * p > FEW and m < n):
            out.append(batch)
            continue
        longer = [torch.nn.functional.pad(part, (0, 0, 0, n - m)) for part in last[:2]]
        parts = zip((*longer, *last[2:]), batch, strict=True)
        out[-1] = Batch(*(torch.cat(pair) for pair in parts))
    return out


def _compressed(block: Tensor, p: int, sizes: Tensor, tasks: Tensor) -> Batch:
    rest = block.new_zeros(len(block), block.shape[-1] - p)
    if block.shape[1] > p:
        triangle = torch.linalg.qr(block, mode="r").R
        rest = triangle[:, p:, p:].square().sum(1)
        block = triangle[:, :p]
    return Batch(block[..., :p].contiguous(), block[..., p:].contiguous(), rest, sizes, tasks)


def some_tasks(data: Sequence[Batch], chosen: Tensor) -> list[Batch]:
    """Those of the tasks for which `chosen`, a mask by number, is true."""
    kept = [Batch(*(part[chosen[batch.tasks]] for part in batch)) for batch in data]
    return [batch for batch in kept if len(batch.tasks)]


def whitened(batch: Batch, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """V^-1/2 rows, V^-1/2 targets and log|V| of each task, V = I + rows C C' rows'."""
    U = batch.rows @ C
    both = torch.cat([batch.rows, batch.targets], -1)
    m, q = U.shape[-2:]
    if m <= q:
        root = torch.linalg.cholesky(_plus_one(U @ U.mT))
        white = torch.linalg.solve_triangular(root, both, upper=False)
    else:
        # with I + U'U = L L', the root W of V^-1 = W W' is I - U L'^-1 (I + L)^-1 U'
        root = torch.linalg.cholesky(_plus_one(U.mT @ U))
        inner = torch.linalg.solve_triangular(root, U.mT @ both, upper=False)
        white = both - U @ torch.linalg.solve_triangular(_plus_one(root).mT, inner, upper=True)
    p = batch.rows.shape[-1]
    logdet = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return white[..., :p], white[..., p:], logdet


def _plus_one(matrices: Tensor) -> Tensor:
    return matrices + torch.eye(matrices.shape[-1], dtype=matrices.dtype)


# --------------------------------------------------------------------------- the criterion
class Fit(NamedTuple):
    """The likelihood at one C, and what comes with it."""

    #: Minus twice the (restricted) log-likelihood.
    value: float
    #: (p, p): its derivative by the covariance of the weights; that by C is 2 by_covariance C.
    by_covariance: Tensor
    #: (p,): its derivative by the standard deviations of the mean.
    by_spread: Tensor
    mean: Tensor
    #: (p, r): the covariance of the mean, in units of the noise, is mean_root mean_root'.
    mean_root: Tensor
    noise_variance: Tensor


@dataclass(frozen=True)
class Criterion:
    """The profiled likelihood of past tasks.

    Parameters
    ----------
    data : sequence of Batch
        The tasks.
    basis : Tensor of shape (p, r)
        Directions in which rows differ: those that the mean may take.
    floor : Tensor of shape (K,)
        Squared residuals that are rounding.
    restricted : bool
        Whether the likelihood is that of the residuals (REML).
    """

    data: Sequence[Batch]
    basis: Tensor
    floor: Tensor
    restricted: bool

    @property
    def n_rows(self) -> int:
        return sum(int(batch.sizes.sum()) for batch in self.data)

    @property
    def n_tasks(self) -> int:
        return sum(len(batch.tasks) for batch in self.data)

    def __call__(self, C: Tensor, spread: Tensor | None = None) -> Fit:
        """Evaluate at a factor, and at standard deviations of the mean (None: a flat prior)."""
        white = [whitened(batch, C) for batch in self.data]
        p, K = self.basis.shape[0], self.floor.shape[0]
        total = torch.cat([torch.cat([X, z], -1).flatten(0, 1) for X, z, _ in white])
        total = total.T @ total
        S, Sz = total[:p, :p], total[:p, p:]
        if spread is None:
            basis, held = self.basis, S.new_zeros(self.basis.shape[1])
        else:
            basis, held = torch.diag(spread), torch.ones_like(spread)
            basis[-1, -1], held[-1] = 1.0, 0.0
        root = torch.linalg.cholesky(basis.T @ S @ basis + torch.diag(held))
        shift = torch.cholesky_solve(basis.T @ Sz, root)
        mean = basis @ shift
        N = torch.linalg.solve_triangular(root, basis.T, upper=False).T

        dof = self.n_rows - (len(held) - float(held.sum()) if self.restricted else 0)
        errors = [z - X @ mean for X, z, _ in white]
        rss = self.floor + (held[:, None] * shift.square()).sum(0)
        rss = rss + sum(batch.rest.sum(0) for batch in self.data)
        rss = rss + sum(e.square().sum((0, 1)) for e in errors)
        logdets = sum(float(logdet.sum()) for _, _, logdet in white)
        of_mean = 2 * float(root.diagonal().log().sum())
        if not self.restricted and spread is None:
            of_mean = 0.0
        value = K * (logdets + of_mean + dof * (1 + math.log(2 * math.pi / dof)))
        value += dof * float(rss.log().sum())

        by_covariance = K * S
        scaled = (dof / rss).sqrt()
        Xe = S.new_zeros(p, K)
        for (X, _, _), e in zip(white, errors, strict=True):
            g = X.mT @ e
            Xe += g.sum(0)
            pulls = (g * scaled).mT.flatten(0, 1)
            by_covariance = by_covariance - pulls.T @ pulls
            if self.restricted or spread is not None:
                B = X @ N
                doubled = (B @ B.mT @ X).flatten(0, 1)
                by_covariance = by_covariance - K * X.flatten(0, 1).T @ doubled
        by_spread = S.new_zeros(p)
        if spread is not None:
            inverse = torch.cholesky_inverse(root)
            by_spread = 2 * K * ((S @ basis) * inverse.T).sum(1) - 2 * (scaled**2 * Xe * shift).sum(
                1
            )
            by_spread[-1] = 0.0
        return Fit(value, by_covariance, by_spread, mean, N, rss / dof)


# --------------------------------------------------------------------------- what is searched
@dataclass(frozen=True)
class Layout:
    """Where the parameters of a structure stand in its factor C, and in the mean's spread."""

    structure: str
    shape: tuple[int, int]
    rows: Tensor
    columns: Tensor
    #: Which parameter each of these entries is.
    entries: Tensor
    #: Which parameter each weight's spread is, of all but the last; None: the mean is free.
    spreads: Tensor | None
    n_factor: int

    @classmethod
    def of(cls, structure: str, mean: str, p: int, rank: int) -> Layout:
        number = torch.arange(p)
        rows, columns, entries = number, number, number
        shape = (p, p)
        if structure == "intercept":
            rows, columns, entries = number[-1:], number[:1], number[:1]
            shape = (p, 1)
        elif structure == "isotropic":
            entries = (number == p - 1).long()
        elif structure == "low_rank":
            wide = torch.cartesian_prod(number, torch.arange(rank))
            rows, columns = torch.cat([rows, wide[:, 0]]), torch.cat([columns, p + wide[:, 1]])
            entries = torch.arange(len(rows))
            shape = (p, p + rank)
        elif structure == "full":
            rows, columns = torch.tril_indices(p, p)
            entries = torch.arange(len(rows))
        n_factor = int(entries.max()) + 1
        spreads = {"flat": None, "ridge": torch.zeros(p - 1).long(), "ard": number[:-1]}[mean]
        return cls(structure, shape, rows, columns, entries, spreads, n_factor)

    @property
    def n_parameters(self) -> int:
        extra = 0 if self.spreads is None or not len(self.spreads) else int(self.spreads.max()) + 1
        return self.n_factor + extra

    def factor(self, theta: Tensor) -> Tensor:
        C = theta.new_zeros(self.shape)
        C[self.rows, self.columns] = theta[self.entries]
        return C

    def spread(self, theta: Tensor) -> Tensor | None:
        if self.spreads is None:
            return None
        return torch.cat([theta[self.n_factor + self.spreads], theta.new_ones(1)])

    def tied(self, of_entries: Tensor, of_spreads: Tensor, mean: bool = False) -> Tensor:
        """Sums, or means, over the entries and the spreads that are the same parameter."""
        index = self.entries
        if self.spreads is not None:
            index = torch.cat([index, self.n_factor + self.spreads])
            of_entries = torch.cat([of_entries, of_spreads[:-1]])
        sums = of_entries.new_zeros(self.n_parameters).index_add(0, index, of_entries)
        return sums / torch.bincount(index, minlength=len(sums)) if mean else sums

    def gradient(self, theta: Tensor, fit: Fit) -> Tensor:
        by_factor = 2 * fit.by_covariance @ self.factor(theta)
        return self.tied(by_factor[self.rows, self.columns], fit.by_spread)


def em_step(criterion: Criterion, layout: Layout, theta: Tensor) -> tuple[Tensor, Fit]:
    """One step of expectation maximisation, and what it started from.

    The covariance Sigma of the weights becomes Sigma - Sigma G Sigma / T with G the derivative by
    Sigma: all that the step needs is known with the gradient.
    """
    C, spread = layout.factor(theta), layout.spread(theta)
    fit = criterion(C, spread)
    K = criterion.floor.shape[0]
    inner = C.T @ fit.by_covariance @ C / (criterion.n_tasks * K)
    new_spread = theta.new_zeros(len(C))
    if spread is not None:
        u2 = (fit.mean.square() / fit.noise_variance).mean(1)
        new_spread = u2 + fit.mean_root.square().sum(1)
    if layout.structure == "full":
        # not all of the step, where rounding would make it indefinite
        new = C @ torch.linalg.cholesky(_plus_one(-(1 - 1e-9) * inner))
        out = layout.tied(new[layout.rows, layout.columns], new_spread, mean=True)
        out[layout.n_factor :] = out[layout.n_factor :].sqrt()
        return out, fit
    shrunk = (1 - inner.diagonal()).clamp(min=0)
    variances = C[layout.rows, layout.columns].square() * shrunk
    return layout.tied(variances, new_spread, mean=True).sqrt(), fit


class Found(NamedTuple):
    """Parameters of a layout at which the criterion is smallest."""

    layout: Layout
    theta: Tensor
    fit: Fit
    n_evaluations: int


def search(criterion: Criterion, layout: Layout, theta: Tensor, em_steps: int = EM_STEPS) -> Found:
    """The smallest value of the criterion from `theta` on."""
    count = 0
    if layout.structure != "low_rank":
        for _ in range(em_steps):
            theta, _ = em_step(criterion, layout, theta)
            count += 1

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        here = torch.from_numpy(np.array(flat))
        fit = criterion(layout.factor(here), layout.spread(here))
        return fit.value, layout.gradient(here, fit).numpy()

    for _ in range(3):
        found = minimize(
            value,
            theta.numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-13, "gtol": 1e-4, "maxcor": 20},
        )
        theta = torch.from_numpy(found.x)
        fit = criterion(layout.factor(theta), layout.spread(theta))
        away = _off_the_boundary(criterion, layout, theta, fit)
        if away is None:
            break
        theta = away
    return Found(layout, theta, fit, count)


def _off_the_boundary(
    criterion: Criterion, layout: Layout, theta: Tensor, fit: Fit
) -> Tensor | None:
    """Parameters that are zero, where the gradient is, though the likelihood rises from there."""
    if layout.structure in ("low_rank", "full"):
        return None
    by_variance = fit.by_covariance.diagonal()
    slopes = layout.tied(by_variance[layout.rows], torch.zeros_like(by_variance))
    draws = criterion.n_tasks * criterion.floor.shape[0]
    small = theta[: layout.n_factor].abs() < ZERO
    stuck = small & (slopes[: layout.n_factor] < -ZERO * draws)
    if not stuck.any():
        return None
    moved = theta.clone()
    moved[: layout.n_factor][stuck] = 0.1
    return moved


# --------------------------------------------------------------------------- the choice
def fitted(
    criterion: Criterion, structure: str, mean: str, rank: int = 1, simpler: Found | None = None
) -> Found:
    """The most likely prior of a structure; of "low_rank", from one with fewer directions on."""
    p = criterion.basis.shape[0]
    layout = Layout.of(structure, mean, p, rank)
    if structure != "low_rank":
        theta = torch.ones(layout.n_parameters, dtype=torch.float64)
        if structure == "full":
            theta[: layout.n_factor] = (layout.rows == layout.columns).double()
        return search(criterion, layout, theta)
    before = simpler or fitted(criterion, "diagonal", mean)
    C = before.layout.factor(before.theta)
    more = rank - (C.shape[1] - p)
    # combinations of how tasks vary so far in which the likelihood says that they vary more
    uphill = torch.linalg.eigh(-C.T @ before.fit.by_covariance @ C)[1][:, -more:]
    wide = torch.cat([C[:, p:], C @ uphill], 1).flatten()
    theta = torch.cat([before.theta[:p], wide, before.theta[before.layout.n_factor :]])
    return search(criterion, layout, theta)


def chosen(criterion: Criterion, structure: str, mean: str) -> tuple[Found, dict[str, float]]:
    """The most likely prior of what is asked for, "auto" by Akaike's corrected criterion."""
    told: dict[str, float] = {}
    if mean == "auto":
        kinds = {kind: fitted(criterion, "isotropic", kind) for kind in ("ridge", "ard")}
        # spreads are as many as weights, not as tasks: the plain criterion
        told = {
            f"mean {kind}": found.fit.value + 2 * int((_spreads(found) > ZERO).sum())
            for kind, found in kinds.items()
        }
        mean = min(kinds, key=lambda kind: told[f"mean {kind}"])
    if structure != "auto":
        return fitted(criterion, structure, mean), told
    p = criterion.basis.shape[0]
    # every task is one draw, of each output's weights, from the covariance
    draws = criterion.n_tasks * criterion.floor.shape[0]
    tried: dict[str, Found] = {}

    def attempt(name: str, n_parameters: int, *args: Any) -> bool:
        """Whether it is better than all before; not tried with too few tasks to be."""
        if tried and n_parameters >= draws - 1:
            return False
        found = fitted(criterion, name.split()[0], mean, *args)
        best = min(told[other] for other in tried) if tried else math.inf
        tried[name], told[name] = found, _corrected(found, draws)
        return told[name] < best

    attempt("intercept", 1)
    if p > 1:
        attempt("isotropic", 2)
    if p > 2:
        attempt("diagonal", 2)
        rank, before = 1, tried.get("diagonal")
        while rank <= p // 2 and attempt(f"low_rank {rank}", 1 + p * rank, rank, before):
            before, rank = tried[f"low_rank {rank}"], 2 * rank
    if p > 1:
        attempt("full", p * (p + 1) // 2)
    return tried[min(tried, key=lambda name: told[name])], told


def _spreads(found: Found) -> Tensor:
    return found.theta[found.layout.n_factor :].abs()


def _corrected(found: Found, draws: int) -> float:
    """Akaike's corrected criterion; variances that are zero are no parameters."""
    layout, theta = found.layout, found.theta
    n = layout.n_factor
    if layout.structure in ("diagonal", "low_rank"):
        on_diagonal = layout.rows == layout.columns
        rank = layout.shape[1] - layout.shape[0]
        n = int((~on_diagonal | (theta[:n].abs() > ZERO)).sum()) - rank * (rank - 1) // 2
    # with two tasks or fewer, or too many parameters, there is nothing to tell by
    return found.fit.value + (2 * n * draws / (draws - n - 1) if n < draws - 1 else math.inf)


# --------------------------------------------------------------------------- the prior
def task_prior(
    Phi: Any,
    Y: Any,
    tasks: Any,
    *,
    structure: str = "auto",
    mean: str = "auto",
    restricted: bool = True,
) -> TaskPrior:
    """Estimate the prior of a linear model's weights from past tasks.

    Parameters
    ----------
    Phi : array-like of shape (N, p)
        Features; the last column is the intercept.
    Y : array-like of shape (N,) or (N, K)
        Targets. Outputs share the covariance of their weights, in units of their noise.
    tasks : array-like of shape (N,)
        Which task each row is of.
    structure : {"auto", "intercept", "isotropic", "diagonal", "low_rank", "full"}, default="auto"
        What varies between tasks: the intercept alone; the weights, too, all as much; each by
        its own amount; and one direction besides; anything. "auto" takes that of the lowest
        corrected information criterion, a task a draw, and may take more directions.
    mean : {"auto", "ridge", "ard", "flat"}, default="auto"
        The prior of the mean of the weights but the intercept's: normal, of one variance or of
        one for each feature, which are learned ("auto" chooses between these); or none.
    restricted : bool, default=True
        Restricted maximum likelihood; False: maximum likelihood, of a flat mean.

    Returns
    -------
    TaskPrior
        The prior of a new task.

    Raises
    ------
    ValueError
        If there are no more rows than free weights of the mean, or an option is unknown.
    """
    if structure not in ("auto", *STRUCTURES) or mean not in ("auto", *MEANS):
        raise ValueError(
            f"structure must be auto or one of {STRUCTURES}, mean auto or one of {MEANS}; got "
            f"{structure!r} and {mean!r}."
        )
    if not restricted and mean != "flat":
        raise ValueError(f"restricted=False wants mean='flat', got {mean!r}.")
    Phi, Y = (torch.from_numpy(np.array(A, dtype=np.float64)) for A in (Phi, Y))
    Y = Y[:, None] if Y.ndim == 1 else Y
    codes = torch.from_numpy(np.unique(np.asarray(tasks), return_inverse=True)[1].ravel())
    scale = Phi.square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    criterion = _criterion(Phi / scale, Y, codes, restricted)
    free = criterion.basis.shape[1] if mean == "flat" else 1
    if free >= len(Phi):
        raise ValueError(
            f"{len(Phi)} rows do not determine {free} weights of the mean and the noise; pass "
            "more past rows" + (", or mean='ridge'." if mean == "flat" else ".")
        )
    if Phi.shape[1] == 1 and mean == "auto":
        mean = "flat"
    first = _first(criterion)
    found, choice = chosen(first, structure, mean)
    if first is not criterion:
        again = search(criterion, found.layout, found.theta, em_steps=1)
        found = again._replace(n_evaluations=again.n_evaluations + found.n_evaluations)
    return _in_units(found, criterion, scale, choice)


def _criterion(Phi: Tensor, Y: Tensor, tasks: Tensor, restricted: bool) -> Criterion:
    values, vectors = torch.linalg.eigh(Phi.T @ Phi)
    basis = vectors[:, values > 1e-10 * values[-1]]
    X = Phi @ basis
    pooled = Y - X @ torch.linalg.solve(X.T @ X, X.T @ Y)
    # targets that are all zero have no scale of their own
    floor = ROUNDING * pooled.square().sum(0) + 1e-30 * Y.square().sum(0) + 1e-200
    return Criterion(batches(Phi, Y, tasks), basis, floor, restricted)


def _first(criterion: Criterion) -> Criterion:
    """The same of only some of the tasks, drawn evenly, if there are many."""
    total = sum(batch.rows.numel() for batch in criterion.data)
    if total <= 2 * FIRST:
        return criterion
    n = criterion.n_tasks
    some = torch.zeros(n, dtype=torch.bool)
    some[np.random.default_rng(0).permutation(n)[: max(1, n * FIRST // total)]] = True
    return replace(criterion, data=some_tasks(criterion.data, some))


def _in_units(
    found: Found, criterion: Criterion, scale: Tensor, choice: dict[str, float]
) -> TaskPrior:
    """The prior of weights of features that are not divided by `scale`."""
    layout, fit = found.layout, found.fit
    between = layout.factor(found.theta) / scale[:, None]
    root = fit.mean_root / scale[:, None]
    spread = layout.spread(found.theta)
    spread = torch.full_like(scale, torch.inf) if spread is None else spread.abs() / scale
    spread[-1] = torch.inf
    value = fit.value
    if criterion.restricted and layout.spreads is None:
        value += 2 * len(fit.noise_variance) * float(scale.log().sum())
    return TaskPrior(
        mean=fit.mean / scale[:, None],
        factor=_triangular(torch.cat([between, root], 1)),
        noise_variance=fit.noise_variance,
        loglik=-value / 2,
        structure=layout.structure,
        between=between,
        mean_covariance=root @ root.T,
        mean_spread=spread,
        n_evaluations=found.n_evaluations,
        choice=choice,
    )


def _triangular(wide: Tensor) -> Tensor:
    """A square lower triangular L, its diagonal not negative, with L L' = wide wide'."""
    R = torch.linalg.qr(wide.T, mode="r").R
    p = len(wide)
    L = wide.new_zeros(p, p)
    L[:, : len(R)] = R.T
    sign = torch.where(L.diagonal() < 0, -1.0, 1.0)
    return L * sign
