"""Meta-reinforcement learning by autograd: a policy that is a gradient step from any task's.

C. Finn, P. Abbeel and S. Levine. Model-agnostic meta-learning for fast adaptation of deep
networks. ICML 2017 (section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tasks import Flag, Positive, Seed, Several, Whole, check_parameters
from .policies import (
    Policy,
    PolicyTask,
    _PolicyTrainer,
    check_alone,
    checked_tasks,
    first_policy,
    seed_of,
)


class MAMLPolicyTrainer(_PolicyTrainer):
    """Learn a policy that adapts to a new task in a few gradient steps, one rollout each.

    A task is a function that plays one episode in torch, a simulator that autograd sees
    through, and returns what was earned. Adaptation climbs its return f,

        U(theta) = theta + inner_lr grad f(theta),

    and meta-training climbs the return after adaptation, f(U(theta)), by its gradient
    through adaptation and simulator (MAML [1]_). Where there is no such simulator,
    `ESPolicyTrainer` has the same methods and asks for no derivative.

    Parameters
    ----------
    layers : sequence of int, default=(1, 1)
        Sizes of the policy's network: of observations, of hidden layers (tanh), of
        actions; two sizes are a linear policy.
    n_steps : int, default=1
        Steps of adaptation that meta-training looks ahead, and that `adapt` takes.
    inner_lr : float, default=0.1
        Size of a step of adaptation.
    max_norm : float or None, default=None
        Longest gradient of a step, of adaptation or of meta-training; a longer one is
        shortened to it, as those of simulators can be enormous. None is no limit.
    first_order : bool, default=False
        Whether meta-training ignores second derivatives.
    n_tasks : int, default=20
        Tasks of a step of meta-training.
    vectorize : bool, default=False
        Whether they are played at once (``torch.func.vmap``), which is many times as
        quick. Tasks must then be ``functools.partial`` of one function, with numbers or
        arrays of one shape as keywords; it gets them as tensors, and may not branch on
        their values. The result is the same.
    lr : float, default=0.03
        Size of a step of meta-training (Adam's).
    max_iter : int, default=100
        Steps of meta-training.
    random_state : int, RandomState instance or None, default=None
        Seeds the first parameters, which tasks a step has, and the tasks' generators.

    Attributes
    ----------
    policy_ : Policy
        What was learned, before adaptation: ``policy_.predict(observations)`` gives
        actions, and ``policy_.parameters`` is the vector that was trained.
    n_rollouts_ : int
        Rollouts that meta-training took.
    history_ : ndarray of shape (max_iter,)
        Mean return after adaptation of the tasks of each step.

    See Also
    --------
    ESPolicyTrainer : Without derivatives.
    MAMLRegressor : The same for tasks that are rows and targets.

    Notes
    -----
    A task's derivative need not be that of its simulator. If it returns a surrogate
    whose gradient is the policy gradient, log-probabilities of actions times what they
    earned, adaptation is that of section 5.3 of [1]_. The tasks of a step draw the same
    random numbers, others in each step. Meta-training takes
    ``max_iter * n_tasks * (n_steps + 1)`` rollouts.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine, "Model-agnostic meta-learning for fast
       adaptation of deep networks", ICML 2017.

    Examples
    --------
    >>> from functools import partial
    >>> import torch
    >>> from fewshot_sklearn import MAMLPolicyTrainer
    >>> def reach(policy, rng, goal):
    ...     return -((policy.predict(torch.zeros(1)) - goal) ** 2).sum()
    >>> past = [partial(reach, goal=goal) for goal in (1.0, 2.0, 3.0)]
    >>> trainer = MAMLPolicyTrainer(layers=(1, 1), vectorize=True, random_state=0).fit(past)
    >>> bool(1 < trainer.policy_.predict([0.0])[0] < 3)
    True
    >>> adapted = trainer.adapt(past[2], n_steps=5)
    >>> bool(adapted.predict([0.0])[0] > trainer.policy_.predict([0.0])[0])
    True
    """

    _constraints = {
        "layers": Several(Whole(1), least=2),
        "n_steps": Whole(0),
        "inner_lr": Positive(),
        "max_norm": Positive() | None,
        "first_order": Flag(),
        "n_tasks": Whole(1),
        "vectorize": Flag(),
        "lr": Positive(),
        "max_iter": Whole(0),
        "random_state": Seed(),
    }

    def __init__(
        self,
        layers: Any = (1, 1),
        *,
        n_steps: int = 1,
        inner_lr: float = 0.1,
        max_norm: float | None = None,
        first_order: bool = False,
        n_tasks: int = 20,
        vectorize: bool = False,
        lr: float = 0.03,
        max_iter: int = 100,
        random_state: Any = None,
    ):
        self.layers = layers
        self.n_steps = n_steps
        self.inner_lr = inner_lr
        self.max_norm = max_norm
        self.first_order = first_order
        self.n_tasks = n_tasks
        self.vectorize = vectorize
        self.lr = lr
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, tasks: Iterable[PolicyTask], y: Any = None) -> MAMLPolicyTrainer:
        """Learn from past tasks where adaptation is to start.

        Parameters
        ----------
        tasks : iterable of callable
            Each ``task(policy, rng) -> Tensor``: plays an episode in torch with
            ``policy.predict(observation)``, which takes and gives tensors, and returns
            the one number that was earned, more being better. What is random in it
            should come from `rng`, a numpy Generator.
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
            When a task cannot be called, or gives no tensor of one number; with
            ``vectorize=True`` also when tasks are not partials of one function.
        """
        check_parameters(self)
        check_alone()
        tasks = checked_tasks(tasks)
        if self.vectorize:
            function, numbers = _function_of(tasks)
        seed = seed_of(self.random_state)
        policy = first_policy(tuple(int(n) for n in self.layers), np.random.default_rng(seed))
        parameters = torch.tensor(policy.parameters, requires_grad=True)
        optimizer = torch.optim.Adam([parameters], lr=self.lr, maximize=True)
        history = []
        for step in range(self.max_iter):
            rng = np.random.default_rng([seed, step])
            chosen = rng.choice(len(tasks), self.n_tasks, replace=len(tasks) < self.n_tasks)
            ahead = partial(self._looked_ahead, policy, parameters, (seed, step, 0))
            if self.vectorize:
                some = {name: values[chosen] for name, values in numbers.items()}
                returns = torch.func.vmap(partial(_with_keywords, ahead, function))(some)
            else:
                returns = torch.stack([ahead(tasks[i]) for i in chosen])
            (gradient,) = torch.autograd.grad(returns.mean(), parameters)
            _check_finite(returns, gradient)
            parameters.grad = self._shortened(gradient)
            optimizer.step()
            history.append(float(returns.detach().mean()))
        self.policy_ = Policy(policy.layers, parameters.detach().numpy().copy())
        self.history_ = np.array(history)
        self.n_rollouts_ = self.max_iter * self.n_tasks * (self.n_steps + 1)
        return self

    # ------------------------------------------------------------------ steps
    def _adapted_policy(
        self, policy: Policy, task: PolicyTask, n_steps: int, rng: np.random.Generator
    ) -> Policy:
        if self.vectorize:  # it gets tensors, as in meta-training
            function, numbers = _function_of([task])
            task = partial(function, **{name: values[0] for name, values in numbers.items()})
        adapted = self._adapted(
            policy, torch.tensor(policy.parameters), task, n_steps, rng
        ).detach()
        _check_finite(adapted)
        return Policy(policy.layers, adapted.numpy())

    def _looked_ahead(
        self, policy: Policy, parameters: Tensor, seeds: tuple[int, ...], task: PolicyTask
    ) -> Tensor:
        """What is earned after adaptation."""
        rng = np.random.default_rng(seeds)
        adapted = self._adapted(policy, parameters, task, self.n_steps, rng)
        return _earned(adapted, policy, task, rng)

    def _adapted(
        self,
        policy: Policy,
        parameters: Tensor,
        task: PolicyTask,
        n_steps: int,
        rng: np.random.Generator,
    ) -> Tensor:
        for _ in range(n_steps):
            uphill = torch.func.grad(_earned)(parameters, policy, task, rng)
            if self.first_order:
                uphill = uphill.detach()
            parameters = parameters + self.inner_lr * self._shortened(uphill)
        return parameters

    def _shortened(self, gradient: Tensor) -> Tensor:
        if self.max_norm is None:
            return gradient
        return gradient * (self.max_norm / (gradient.norm() + 1e-12)).clamp(max=1)


def _earned(
    parameters: Tensor, policy: Policy, task: PolicyTask, rng: np.random.Generator
) -> Tensor:
    """The return of one rollout, as a function of the policy's parameters."""
    earned = task(Policy(policy.layers, parameters), rng)
    if not isinstance(earned, Tensor) or earned.numel() != 1:
        raise TypeError(
            "A task must return a tensor of one number, computed by torch from what "
            f"policy.predict gives; got {earned!r:.80}. ESPolicyTrainer asks for no derivative."
        )
    return earned.reshape(()).double()


def _with_keywords(
    ahead: Callable[[PolicyTask], Tensor], function: PolicyTask, keywords: dict[str, Tensor]
) -> Tensor:
    return ahead(partial(function, **keywords))


def _function_of(
    tasks: list[PolicyTask],
) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """The one function of which all tasks are partials, and their keywords, stacked."""
    partials = [task for task in tasks if isinstance(task, partial) and not task.args]
    alike = len(partials) == len(tasks) and all(
        task.func is partials[0].func and task.keywords.keys() == partials[0].keywords.keys()
        for task in partials
    )
    if not alike:
        raise TypeError(
            "With vectorize=True, tasks must be functools.partial of one function with the same "
            "keywords: partial(play, mass=1.0), partial(play, mass=2.0), ..."
        )
    numbers = {}
    for name, first in partials[0].keywords.items():
        try:
            values = [torch.as_tensor(task.keywords[name]) for task in partials]
            values = [v if v.dtype == torch.float32 else v.double() for v in values]
            numbers[name] = torch.stack(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"With vectorize=True, keywords must be numbers or arrays of one shape; {name} is "
                f"{first!r:.80} in the first task."
            ) from error
    return partials[0].func, numbers


def _check_finite(*found: Tensor) -> None:
    if not all(numbers.isfinite().all() for numbers in found):
        raise ValueError(
            "A task must return a finite number with a finite gradient; got one that is not. Long "
            "episodes can make gradients enormous: max_norm limits them."
        )
