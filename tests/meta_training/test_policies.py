"""Policies that adapt by evolution strategies: on tasks whose best policy is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fewshot_sklearn import ESPolicyTrainer
from fewshot_sklearn.meta_training import Policy

LAYERS = (1, 2)  # a linear policy: 4 parameters


def near(policy, rng, best):
    """Minus the squared distance of all parameters to the best ones of this task."""
    return -float(np.sum((policy.parameters - best) ** 2))


def tasks_around(centre, n=16, spread=0.5):
    """Quadratic tasks whose best parameters have this mean, exactly."""
    moved = np.random.default_rng(0).normal(scale=spread, size=(n // 2, len(centre)))
    return [partial(near, best=centre + m) for m in np.concatenate([moved, -moved])]


CENTRE = np.array([1.0, -2.0, 0.5, 1.5])
FEW = {"layers": LAYERS, "max_iter": 3, "n_pairs": 3, "n_outer_pairs": 4, "random_state": 0}


def distance(policy, task):
    return np.sqrt(-task(policy, None))


# ------------------------------------------------------------------ the network
def test_policy_is_the_network_that_it_says():
    rng = np.random.default_rng(0)
    policy = Policy((3, 4, 2), rng.normal(size=3 * 4 + 4 + 4 * 2 + 2))
    first, bias, second, last = np.split(policy.parameters, [12, 16, 24])
    X = rng.normal(size=(5, 3))
    hidden = np.tanh(X @ first.reshape(3, 4) + bias)
    np.testing.assert_allclose(policy.predict(X), hidden @ second.reshape(4, 2) + last)
    np.testing.assert_allclose(policy.predict(X[0]), policy.predict(X)[0])
    moved = policy.moved(np.ones(26))
    np.testing.assert_array_equal(moved.parameters, policy.parameters + 1)


# ------------------------------------------------------------------ learning
def test_quadratic_tasks_lead_to_their_middle_and_adaptation_to_the_task(margin):
    """By symmetry the start that is best for all is the mean of the tasks' best parameters."""
    tasks = tasks_around(CENTRE)
    trainer = ESPolicyTrainer(LAYERS, max_iter=200, inner_lr=0.05, lr=0.05, random_state=0)
    learned = trainer.fit(tasks).policy_
    margin.below(np.linalg.norm(learned.parameters - CENTRE), 1.0, "to the middle")
    new = partial(near, best=CENTRE + np.array([1.5, 0.0, -1.5, 0.0]))
    steps = [distance(trainer.adapt(new, n, random_state=1), new) for n in (0, 4, 12)]
    margin.below(steps[1] / steps[0], 1.0, "after 4 steps")
    margin.below(steps[2] / steps[1], 1.0, "after 12 steps")


@pytest.mark.parametrize("shaping", ["ranks", "returns"])
def test_adaptation_climbs_along_the_gradient(shaping, margin):
    """With many pairs the estimate is the gradient: of a quadratic exactly, up to a factor."""
    task = partial(near, best=CENTRE)
    trainer = ESPolicyTrainer(LAYERS, max_iter=0, n_pairs=2000, shaping=shaping, random_state=0)
    start = trainer.fit([task]).policy_.parameters
    step = trainer.adapt(task).parameters - start
    uphill = 2 * (CENTRE - start)
    cosine = step @ uphill / np.linalg.norm(step) / np.linalg.norm(uphill)
    margin.above(cosine, 0.97, "direction")
    if shaping == "returns":
        margin.below(np.linalg.norm(step / 0.1 - uphill) / np.linalg.norm(uphill), 0.2, "size")


def test_ranks_do_not_mind_units_nor_outliers():
    task = partial(near, best=CENTRE)

    def loud(policy, rng):
        return 1e6 * task(policy, rng) ** 3  # increasing

    one, other = (ESPolicyTrainer(**FEW).fit([t]).policy_ for t in (task, loud))
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_equal_returns_teach_nothing():
    trainer = ESPolicyTrainer(**FEW).fit([lambda policy, rng: 1.0])
    start = clone(trainer).set_params(max_iter=0).fit([lambda policy, rng: 1.0])
    np.testing.assert_array_equal(trainer.policy_.parameters, start.policy_.parameters)


# ------------------------------------------------------------------ reproducible
def noisy(policy, rng):
    return float(-np.sum((policy.parameters - CENTRE) ** 2) + rng.normal())


def test_same_seed_same_policy_whatever_the_processes():
    def learned(**options):
        return ESPolicyTrainer(**(FEW | options)).fit([noisy, *tasks_around(CENTRE)])

    one = learned()
    for other in (learned(), learned(n_jobs=2)):
        np.testing.assert_array_equal(one.policy_.parameters, other.policy_.parameters)
        np.testing.assert_array_equal(one.history_, other.history_)
    assert not np.array_equal(one.policy_.parameters, learned(random_state=1).policy_.parameters)
    a, b = (one.adapt(noisy, 2).parameters for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, one.adapt(noisy, 2, random_state=5).parameters)


def balanced(policy, rng, force):
    """Steps for which gymnasium's cart keeps its pole up."""
    env = pytest.importorskip("gymnasium").make("CartPole-v1").unwrapped
    env.force_mag = force
    state, _ = env.reset(seed=int(rng.integers(2**31)))
    for step in range(50):
        state, _, fallen, _, _ = env.step(int(policy.predict(state)[0] > 0))
        if fallen:
            return step
    return 50


def test_gymnasium_in_processes_as_in_one():
    pytest.importorskip("gymnasium")
    past = [partial(balanced, force=force) for force in (-10, 10)]
    options = {"n_pairs": 2, "n_outer_pairs": 2, "max_iter": 2, "random_state": 0}
    one, two = (ESPolicyTrainer((4, 1), n_jobs=n, **options).fit(past) for n in (None, 2))
    np.testing.assert_array_equal(one.policy_.parameters, two.policy_.parameters)
    assert one.adapt(past[0]).predict([0.0, 0.0, 0.1, 0.0]).shape == (1,)
    assert one.history_.min() > 5


def test_the_two_sides_of_a_pair_meet_the_same_random_numbers():
    """Noise that is the same on both sides cancels: nothing but it is earned here."""
    options = FEW | {"shaping": "returns", "n_steps": 2}
    trainer = ESPolicyTrainer(**(options | {"max_iter": 0})).fit([noisy])
    adapted = trainer.adapt(lambda policy, rng: rng.normal())
    np.testing.assert_array_equal(adapted.parameters, trainer.policy_.parameters)


def test_adapt_changes_nothing_that_was_learned_and_counts_are_right():
    counted = []

    def task(policy, rng):
        counted.append(1)
        return float(rng.normal())

    trainer = ESPolicyTrainer(**FEW).fit([task])
    assert trainer.n_rollouts_ == len(counted) == 3 * 2 * 4 * (2 * 3 + 1)
    assert trainer.history_.shape == (3,)
    before = trainer.policy_.parameters.copy()
    counted.clear()
    trainer.adapt(task, 3)
    assert len(counted) == 3 * 2 * 3
    np.testing.assert_array_equal(trainer.policy_.parameters, before)
    state = np.random.get_state()[1]  # noqa: NPY002
    trainer.fit([task])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_adaptation_goes_on_from_a_policy():
    trainer = ESPolicyTrainer(**FEW).fit([noisy])
    task = partial(near, best=CENTRE)
    first = trainer.adapt(task, random_state=1)
    both = trainer.adapt(task, random_state=2, policy=first)
    alone = trainer.adapt(task, random_state=2)
    assert not np.array_equal(both.parameters, alone.parameters)
    np.testing.assert_array_equal(trainer.adapt(task, 0, policy=first).parameters, first.parameters)
    for wrong in (Policy((1, 3), np.zeros(6)), first.parameters):
        with pytest.raises(ValueError, match=r"policy must be None or a Policy of layers \(1, 2\)"):
            trainer.adapt(task, policy=wrong)


# ------------------------------------------------------------------ refused
def test_wrong_tasks():
    trainer = ESPolicyTrainer(**FEW)
    with pytest.raises(NotFittedError):
        trainer.adapt(noisy)
    with pytest.raises(ValueError, match="tasks is empty"):
        trainer.fit([])
    for wrong in (noisy, 3):
        with pytest.raises(TypeError, match="tasks must be an iterable"):
            trainer.fit(wrong)
    with pytest.raises(TypeError, match="A task must be a function"):
        trainer.fit([noisy, "a task"])
    for bad in (np.nan, np.inf, None, [1.0, 2.0]):
        with pytest.raises(ValueError, match="must return a finite number"):
            trainer.fit([lambda policy, rng, bad=bad: bad])
    assert not hasattr(trainer, "policy_")
    trainer.fit([noisy])
    with pytest.raises(TypeError, match="A task must be a function"):
        trainer.adapt(3)
    for name, value in (("n_steps", -1), ("random_state", "seed")):
        with pytest.raises(ValueError, match=f"{name} must be"):
            trainer.adapt(noisy, **{name: value})


@pytest.mark.parametrize("observations", [0.0, [1.0, 2.0, 3.0], [[1.0], [2.0]], [[[1.0, 2.0]]]])
def test_an_observation_of_another_size_is_refused(observations):
    policy = ESPolicyTrainer((2, 1), max_iter=0).fit([lambda policy, rng: 0.0]).policy_
    assert policy.predict([1.0, 2.0]).shape == (1,)
    assert policy.predict([[1.0, 2.0]] * 3).shape == (3, 1)
    with pytest.raises(ValueError, match="An observation must be 2 numbers"):
        policy.predict(observations)
