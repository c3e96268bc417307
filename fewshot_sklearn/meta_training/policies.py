"""What a policy is, and what a task is to which it adapts: a function that plays one episode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

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
