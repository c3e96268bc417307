"""Meta-reinforcement learning without gradients: a policy that adapts in a few rollouts.

X. Song, W. Gao, Y. Yang, K. Choromanski, A. Pacchiano and Y. Tang. ES-MAML: Simple
Hessian-free meta learning. ICLR 2020.

T. Salimans, J. Ho, X. Chen, S. Sidor and I. Sutskever. Evolution strategies as a
scalable alternative to reinforcement learning. arXiv:1703.03864, 2017.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from ..tasks import (
    N_JOBS,
    OneOf,
    Positive,
    Seed,
    Several,
    Whole,
    check_parameters,
)
from ._shaping import centred_ranks
from .policies import (
    Policy,
    PolicyTask,
    _PolicyTrainer,
    check_alone,
    checked_tasks,
    first_policy,
    seed_of,
)


class ESPolicyTrainer(_PolicyTrainer):
    """Learn a policy that adapts to a new task in a few rollouts, by evolution strategies.

    A task is any function that plays one episode and returns what was earned: a
    simulator, a game, a machine. No derivative is asked of it. Adaptation climbs the
    smoothed return E_e f(theta + sigma e), by antithetic pairs of perturbations [1]_,

        U(theta) = theta + inner_lr / (2 k sigma)
                   sum_i [s(theta + sigma e_i) - s(theta - sigma e_i)] e_i,

    and meta-training climbs the return after adaptation, f(U(theta)), by the same
    estimate [2]_ (zero-order ES-MAML). The shaped returns s are centred ranks or the
    returns themselves.

    Parameters
    ----------
    layers : sequence of int, default=(1, 1)
        Sizes of the policy's network: of observations, of hidden layers (tanh), of
        actions; two sizes are a linear policy.
    n_steps : int, default=1
        Steps of adaptation that meta-training looks ahead, and that `adapt` takes, of
        ``2 * n_pairs`` rollouts each.
    n_pairs : int, default=8
        Pairs of perturbations of a step of adaptation, k: it takes 2k rollouts.
    inner_lr : float, default=0.1
        Size of a step of adaptation.
    sigma : float, default=0.1
        Standard deviation of the perturbations, inner and outer.
    shaping : {"ranks", "returns"}, default="ranks"
        What of the returns counts: ``"ranks"``, from -0.5 to 0.5, so that no outlier
        rules and the units of returns do not matter; or ``"returns"``, so that
        adaptation takes small steps where there is little to gain.
    n_outer_pairs : int, default=20
        Pairs of perturbations of a step of meta-training, each adapted to one task.
    lr : float, default=0.03
        Size of a step of meta-training (Adam's; the gradient is of ranks).
    max_iter : int, default=100
        Steps of meta-training.
    n_jobs : int or None, default=None
        Processes for the rollouts of meta-training. Tasks must then be picklable; the
        result is the same.
    random_state : int, RandomState instance or None, default=None
        Seeds the first parameters, the perturbations and the tasks' generators.

    Attributes
    ----------
    policy_ : Policy
        What was learned, before adaptation: ``policy_.predict(observations)`` gives
        actions, and ``policy_.parameters`` is the vector that was trained.
    n_rollouts_ : int
        Rollouts that meta-training took.
    history_ : ndarray of shape (max_iter,)
        Mean return after adaptation of the perturbed policies of each step.

    See Also
    --------
    MAMLPolicyTrainer : By gradients, where a simulator is written in torch.
    ESMetaTrainer : Evolution strategies for tasks that are rows and targets.

    Notes
    -----
    The two sides of a pair meet the same task, the same random numbers within it, and
    the same perturbations of adaptation. Meta-training takes
    ``max_iter * 2 * n_outer_pairs * (2 * n_steps * n_pairs + 1)`` rollouts.

    References
    ----------
    .. [1] T. Salimans, J. Ho, X. Chen, S. Sidor and I. Sutskever, "Evolution
       strategies as a scalable alternative to reinforcement learning",
       arXiv:1703.03864, 2017.
    .. [2] X. Song, W. Gao, Y. Yang, K. Choromanski, A. Pacchiano and Y. Tang,
       "ES-MAML: Simple Hessian-free meta learning", ICLR 2020.

    Examples
    --------
    >>> from functools import partial
    >>> from fewshot_sklearn import ESPolicyTrainer
    >>> def reach(policy, rng, goal):
    ...     return -float(abs(policy.predict([0.0])[0] - goal))
    >>> past = [partial(reach, goal=goal) for goal in (1.0, 2.0, 3.0)]
    >>> trainer = ESPolicyTrainer(layers=(1, 1), max_iter=100, random_state=0).fit(past)
    >>> bool(1 < trainer.policy_.predict([0.0])[0] < 3)
    True
    >>> adapted = trainer.adapt(past[2], n_steps=5)
    >>> bool(adapted.predict([0.0])[0] > trainer.policy_.predict([0.0])[0])
    True
    """

    _constraints = {
        "layers": Several(Whole(1), least=2),
        "n_steps": Whole(0),
        "n_pairs": Whole(1),
        "inner_lr": Positive(),
        "sigma": Positive(),
        "shaping": OneOf("ranks", "returns"),
        "n_outer_pairs": Whole(1),
        "lr": Positive(),
        "max_iter": Whole(0),
        "n_jobs": N_JOBS,
        "random_state": Seed(),
    }

    def __init__(
        self,
        layers: Any = (1, 1),
        *,
        n_steps: int = 1,
        n_pairs: int = 8,
        inner_lr: float = 0.1,
        sigma: float = 0.1,
        shaping: str = "ranks",
        n_outer_pairs: int = 20,
        lr: float = 0.03,
        max_iter: int = 100,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.layers = layers
        self.n_steps = n_steps
        self.n_pairs = n_pairs
        self.inner_lr = inner_lr
        self.sigma = sigma
        self.shaping = shaping
        self.n_outer_pairs = n_outer_pairs
        self.lr = lr
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, tasks: Iterable[PolicyTask], y: Any = None) -> ESPolicyTrainer:
        """Learn from past tasks where adaptation is to start.

        Parameters
        ----------
        tasks : iterable of callable
            Each ``task(policy, rng) -> float``: plays an episode with
            ``policy.predict(observation)`` and returns what was earned, more being
            better. What is random in it should come from `rng`, a numpy Generator.
        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted trainer.

        Raises
        ------
        ValueError
            When there is no task, or a return is no finite number; or under torchrun, where
            each of several processes would do the same.
        TypeError
            When a task cannot be called.
        """
        check_parameters(self)
        check_alone()
        tasks = checked_tasks(tasks)
        seed = seed_of(self.random_state)
        policy = first_policy(tuple(int(n) for n in self.layers), np.random.default_rng(seed))
        parameters = torch.tensor(policy.parameters)
        optimizer = torch.optim.Adam([parameters], lr=self.lr)
        history = []
        # one pool for all steps; the work of one pair depends on nothing but its seeds
        with Parallel(n_jobs=self.n_jobs) as parallel:
            for step in range(self.max_iter):
                seeds = [(seed, step, i) for i in range(self.n_outer_pairs)]
                pairs = parallel(delayed(self._pair)(policy, tasks, s) for s in seeds)
                returns = np.array(pairs)
                noise = np.stack([_perturbation(policy, s) for s in seeds])
                parameters.grad = -torch.from_numpy(self._gradient(returns, noise, "ranks"))
                optimizer.step()  # uphill
                policy = Policy(policy.layers, parameters.numpy().copy())
                history.append(returns.mean())
        self.policy_, self.history_ = policy, np.array(history)
        each = 2 * self.n_steps * self.n_pairs + 1
        self.n_rollouts_ = self.max_iter * 2 * self.n_outer_pairs * each
        return self

    # ------------------------------------------------------------------ steps
    def _pair(
        self, policy: Policy, tasks: list[PolicyTask], seeds: tuple[int, ...]
    ) -> tuple[float, float]:
        """Returns after adaptation of a perturbation and its mirror image, on one task."""
        e = _perturbation(policy, seeds)
        task = tasks[np.random.default_rng([*seeds, 1]).integers(len(tasks))]
        up, down = (
            _played(
                task, self._adapted_policy(policy.moved(size * e), task, self.n_steps, rng), rng
            )
            for size in (self.sigma, -self.sigma)
            for rng in (np.random.default_rng([*seeds, 2]),)  # the same for both
        )
        return up, down

    def _adapted_policy(
        self, policy: Policy, task: PolicyTask, n_steps: int, rng: np.random.Generator
    ) -> Policy:
        for _ in range(n_steps):
            noise = rng.normal(size=(self.n_pairs, len(policy.parameters)))
            seeds = rng.integers(2**63, size=self.n_pairs)
            returns = np.array(
                [
                    [
                        _played(task, policy.moved(size * e), np.random.default_rng(seed))
                        for size in (self.sigma, -self.sigma)
                    ]
                    for e, seed in zip(noise, seeds, strict=True)
                ]
            )
            policy = policy.moved(self.inner_lr * self._gradient(returns, noise, self.shaping))
        return policy

    def _gradient(self, returns: np.ndarray, noise: np.ndarray, shaping: str) -> np.ndarray:
        """Of the smoothed return: from returns (n, 2) of the pairs that noise (n, d) made."""
        shaped = centred_ranks(returns) if shaping == "ranks" else returns
        return (shaped[:, 0] - shaped[:, 1]) @ noise / (2 * len(noise) * self.sigma)


def _played(task: PolicyTask, policy: Policy, rng: np.random.Generator) -> float:
    """The return of one rollout, which must be a finite number."""
    earned = task(policy, rng)
    try:
        number = float(earned)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"A task must return a finite number, what was earned; got {earned!r}.")
    return number


def _perturbation(policy: Policy, seeds: tuple[int, ...]) -> np.ndarray:
    """Drawn anew where it is needed, from its seeds alone."""
    return np.random.default_rng([*seeds, 0]).normal(size=len(policy.parameters))
