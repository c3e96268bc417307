"""What a policy is, what a task is, a function that plays one episode, and how one adapts to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..tasks import Seed, Whole, check_arguments
from ._ranks import in_several_processes

#: A task: the return of one rollout of a policy; what is random in it comes from the generator.
PolicyTask = Callable[["Policy", np.random.Generator], Any]


@dataclass(frozen=True)
class Policy:
    """A small network from observations to actions, as one vector of numbers.

    Parameters
    ----------
    layers : tuple of int
        Sizes: of observations, of hidden layers (tanh), of actions.
    parameters : ndarray or Tensor of shape (n_parameters,)
        Weights and biases, layer by layer. Not written to.
    """

    layers: tuple[int, ...]
    parameters: Any

    def predict(self, observations: Any) -> Any:
        """The actions for some observations.

        Parameters
        ----------
        observations : array-like or Tensor, of shape (n_observations,) or (n, n_observations)
            One observation, or several.

        Returns
        -------
        ndarray or Tensor, of shape (n_actions,) or (n, n_actions)
            Actions, without bounds. A tensor for a tensor, of its dtype: autograd sees
            through it, to the observations and to parameters that are a tensor.

        Raises
        ------
        ValueError
            When an observation is not as many numbers as the policy takes.
        """
        if isinstance(observations, Tensor) or isinstance(self.parameters, Tensor):
            h: Any = torch.as_tensor(observations)
            h = h if h.is_floating_point() else h.double()
            parameters: Any = torch.as_tensor(self.parameters).to(h)
            tanh: Any = torch.tanh
        else:
            h, parameters, tanh = np.asarray(observations, dtype=float), self.parameters, np.tanh
        if h.ndim not in (1, 2) or h.shape[-1] != self.layers[0]:
            raise ValueError(
                f"An observation must be {self.layers[0]} numbers, the first of layers="
                f"{self.layers}; got an array of shape {tuple(h.shape)}."
            )
        at = 0
        for i, (n_in, n_out) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if i:
                h = tanh(h)
            weights = parameters[at : at + n_in * n_out].reshape(n_in, n_out)
            at += n_in * n_out
            h = h @ weights + parameters[at : at + n_out]
            at += n_out
        return h

    def moved(self, step: Any) -> Policy:
        """The policy whose parameters are these and a step.

        Parameters
        ----------
        step : ndarray or Tensor of shape (n_parameters,)
            What is added.

        Returns
        -------
        Policy
            A new one.
        """
        return Policy(self.layers, self.parameters + step)


class _PolicyTrainer(BaseEstimator):
    """How a fitted trainer adapts; its kind says what rollouts are made of it."""

    n_steps: int
    random_state: Any
    policy_: Policy

    def adapt(
        self,
        task: PolicyTask,
        n_steps: int | None = None,
        random_state: Any = None,
        policy: Policy | None = None,
    ) -> Policy:
        """The policy after rollouts of a new task; what was learned stays as it is.

        Parameters
        ----------
        task : callable
            As in `fit`.
        n_steps : int or None, default=None
            Steps of adaptation. None is `n_steps` of the trainer.
        random_state : int, RandomState instance or None, default=None
            Seeds what adaptation draws and the task's generator. None is that of the
            trainer.
        policy : Policy or None, default=None
            Where to start: of an earlier `adapt`, to go on with rollouts that come later
            (with another `random_state`). None is ``policy_``.

        Returns
        -------
        Policy
            Adapted: ``predict(observations)`` gives actions.

        Raises
        ------
        ValueError
            When `policy` has other layers, or what the task returns is no finite number.
        TypeError
            When the task cannot be called, or returns what `fit` does not take.
        """
        check_is_fitted(self)
        allowed = {"n_steps": Whole(0) | None, "random_state": Seed()}
        check_arguments(allowed, n_steps=n_steps, random_state=random_state)
        (task,) = checked_tasks([task])
        start = starting_policy(self.policy_, policy)
        given = self.random_state if random_state is None else random_state
        rng = np.random.default_rng(seed_of(given))
        return self._adapted_policy(start, task, self.n_steps if n_steps is None else n_steps, rng)

    def _adapted_policy(
        self, policy: Policy, task: PolicyTask, n_steps: int, rng: np.random.Generator
    ) -> Policy:
        raise NotImplementedError


def check_alone() -> None:
    """Refuse to train where several processes would all do the same."""
    if in_several_processes():
        raise ValueError(
            "A trainer of policies trains in one process, and each of several would do the same "
            "work. Run it without torchrun; n_jobs of ESPolicyTrainer shares out its rollouts, and "
            "vectorize=True of MAMLPolicyTrainer plays tasks at once."
        )


def checked_tasks(tasks: Iterable[PolicyTask]) -> list[PolicyTask]:
    if callable(tasks) or not isinstance(tasks, Iterable):
        raise TypeError(
            f"tasks must be an iterable of functions task(policy, rng) -> float, got {tasks!r:.80}."
        )
    tasks = list(tasks)
    if not tasks:
        raise ValueError("tasks is empty: there is nothing to learn from.")
    for task in tasks:
        if not callable(task):
            raise TypeError(f"A task must be a function task(policy, rng) -> float, got {task!r}.")
    return tasks


def first_policy(layers: tuple[int, ...], rng: np.random.Generator) -> Policy:
    """Weights of variance 1 / inputs, the last layer's a tenth of that spread, no biases."""
    parts = []
    for i, (n_in, n_out) in enumerate(zip(layers, layers[1:], strict=False)):
        scale = (0.1 if i == len(layers) - 2 else 1.0) / np.sqrt(n_in)
        parts += [scale * rng.normal(size=n_in * n_out), np.zeros(n_out)]
    return Policy(layers, np.concatenate(parts))


def starting_policy(learned: Policy, given: Policy | None) -> Policy:
    """The one given, which must be a network like that learned; or the latter."""
    if given is None:
        return learned
    if not isinstance(given, Policy) or given.layers != learned.layers:
        raise ValueError(
            f"policy must be None or a Policy of layers {learned.layers}, as `adapt` gives; got "
            f"{given!r:.80}."
        )
    return given


def seed_of(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(2**31))
