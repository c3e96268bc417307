"""Policies that adapt by gradients: beside derivatives by hand, and simulators that play alike."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fewshot_sklearn import ESPolicyTrainer, MAMLPolicyTrainer
from fewshot_sklearn.meta_training import Policy

LAYERS = (2, 3, 1)
STATES = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1]], dtype=torch.float64)
FEW = {"layers": LAYERS, "max_iter": 3, "n_tasks": 4, "lr": 0.01, "random_state": 0}


def near(policy, rng, best):
    """Minus half the squared distance of all parameters to the best ones of this task."""
    return -0.5 * ((policy.parameters - best) ** 2).sum()


def steer(policy, rng, gain, goal):
    """A point on a line is pushed by a motor of some gain; noise from the generator."""
    place = speed = torch.zeros(1, dtype=torch.float64)
    earned = torch.zeros((), dtype=torch.float64)
    for _ in range(8):
        push = gain * torch.tanh(policy.predict(torch.cat([place, speed])))
        speed = 0.9 * speed + 0.3 * push + 0.01 * rng.normal()
        place = place + speed
        earned = earned - ((place - goal) ** 2).sum()
    return earned


def motors(n, seed=0):
    rng = np.random.default_rng(seed)
    gains = rng.choice([-1, 1], n) * rng.uniform(0.5, 1.5, n)
    return [partial(steer, gain=g, goal=1.0) for g in gains]


# ------------------------------------------------------------------ the network in torch
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_policy_gives_tensors_for_tensors(dtype):
    policy = Policy(LAYERS, np.random.default_rng(0).normal(size=2 * 3 + 3 + 3 + 1))
    actions = policy.predict(STATES.to(dtype))
    assert isinstance(actions, torch.Tensor) and actions.dtype == dtype
    np.testing.assert_allclose(actions.numpy(), policy.predict(STATES.numpy()), rtol=1e-5)
    in_torch = Policy(LAYERS, torch.tensor(policy.parameters, requires_grad=True))
    torch.testing.assert_close(in_torch.predict(STATES.to(dtype)), actions)
    actions = in_torch.predict([1, 2])  # whole numbers
    actions.sum().backward()
    assert in_torch.parameters.grad.abs().max() > 0
    with pytest.raises(ValueError, match="An observation must be 2 numbers"):
        policy.predict(torch.zeros(3))


# ------------------------------------------------------------------ learning
def test_a_step_of_adaptation_is_the_gradient():
    best = torch.linspace(-1, 1, 13, dtype=torch.float64)
    trainer = MAMLPolicyTrainer(LAYERS, max_iter=0, inner_lr=0.3, random_state=0)
    start = trainer.fit([partial(near, best=best)]).policy_.parameters
    task = partial(near, best=best)
    adapted = trainer.adapt(task).parameters
    np.testing.assert_allclose(adapted, start + 0.3 * (best.numpy() - start))
    np.testing.assert_allclose(
        trainer.adapt(task, 3).parameters - best.numpy(), 0.7**3 * (start - best.numpy())
    )
    short = clone(trainer).set_params(max_norm=0.5).fit([task]).adapt(task).parameters
    np.testing.assert_allclose(np.linalg.norm(short - start), 0.3 * 0.5)
    far = clone(trainer).set_params(max_norm=1e6).fit([task]).adapt(task).parameters
    np.testing.assert_allclose(far, adapted)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("vectorize", [False, True])
def test_the_meta_gradient_is_that_of_finite_differences(first_order, vectorize, monkeypatch):
    """Of the return after adaptation; to first order, of what follows once the step is fixed."""
    trainer = MAMLPolicyTrainer(
        LAYERS, n_steps=2, inner_lr=0.05, max_iter=1, n_tasks=1, random_state=3,
        first_order=first_order, vectorize=vectorize,
    )  # fmt: skip
    (task,) = motors(1)
    found = []
    step = torch.optim.Adam.step

    def kept(optimizer, *args):
        found.append(optimizer.param_groups[0]["params"][0].grad.clone())
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", kept)
    trainer.fit([task])
    start = torch.tensor(clone(trainer).set_params(max_iter=0).fit([task]).policy_.parameters)
    policy, seeds = Policy(LAYERS, start), (_seed_of(3), 0, 0)

    def ahead(parameters):
        return trainer._looked_ahead(policy, parameters, seeds, task)

    if first_order:
        adapted = trainer._adapted(policy, start, task, 2, np.random.default_rng(seeds))
        fixed = (adapted - start).detach()

        def ahead(parameters):
            rng = np.random.default_rng(seeds)
            rng.normal(size=16)  # what the two rollouts before it drew
            return task(Policy(LAYERS, parameters + fixed), rng)

    wanted = [
        float(ahead(start + 1e-6 * e) - ahead(start - 1e-6 * e)) / 2e-6
        for e in torch.eye(len(start), dtype=torch.float64)
    ]
    np.testing.assert_allclose(found[0].numpy(), wanted, rtol=1e-5, atol=1e-6)


def _seed_of(random_state):
    return int(np.random.RandomState(random_state).randint(2**31))


def test_it_learns_to_find_out_the_sign_of_a_motor(margin):
    """No policy is good for both signs; after one step on a rollout it is."""
    options = {"inner_lr": 0.3, "max_norm": 1.0, "n_tasks": 16, "vectorize": True}
    trainer = MAMLPolicyTrainer((2, 8, 1), max_iter=80, random_state=0, **options)
    trainer.fit(motors(64))
    new = motors(30, seed=1)
    before, after = (
        np.mean([float(t(trainer.adapt(t, n), np.random.default_rng(0))) for t in new])
        for n in (0, 1)
    )
    margin.above(after / before, 0.0, "a loss still")
    margin.below(after / before, 0.7, "what is left of the loss")


def test_tasks_in_torch_serve_evolution_strategies_too():
    trainer = ESPolicyTrainer((2, 1), max_iter=2, n_pairs=2, n_outer_pairs=2, random_state=0)
    assert np.isfinite(trainer.fit(motors(3)).history_).all()


# ------------------------------------------------------------------ the same answers
@pytest.mark.parametrize("options", [{}, {"first_order": True}, {"max_norm": 0.1, "n_steps": 2}])
def test_vectorized_or_one_by_one(options):
    one, other = (
        MAMLPolicyTrainer(**(FEW | options), vectorize=v).fit(motors(10)) for v in (False, True)
    )
    np.testing.assert_allclose(one.policy_.parameters, other.policy_.parameters, rtol=1e-7)
    np.testing.assert_allclose(one.history_, other.history_)
    task = motors(1, seed=2)[0]
    np.testing.assert_allclose(one.adapt(task, 2).parameters, other.adapt(task, 2).parameters)


def test_keywords_may_be_arrays_of_any_kind():
    goals = [np.array([1.0]), [2], torch.tensor([3.0], dtype=torch.float64)]
    tasks = [partial(steer, gain=1, goal=goal) for goal in goals]
    trainer = MAMLPolicyTrainer(**FEW, vectorize=True).fit(tasks)
    assert np.isfinite(trainer.adapt(tasks[0]).parameters).all()


def test_same_seed_same_policy_and_adapt_changes_nothing():
    one, other = (MAMLPolicyTrainer(**FEW).fit(motors(10)) for _ in range(2))
    np.testing.assert_array_equal(one.policy_.parameters, other.policy_.parameters)
    assert one.n_rollouts_ == 3 * 4 * 2 and one.history_.shape == (3,)
    before = one.policy_.parameters.copy()
    a, b = (one.adapt(motors(1)[0], 2).parameters for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.policy_.parameters, before)
    assert not np.array_equal(a, one.adapt(motors(1)[0], 2, random_state=5).parameters)
    assert isinstance(a, np.ndarray)


def test_adaptation_goes_on_from_a_policy():
    """Nothing is random in this task: one step after another is two steps."""
    trainer = MAMLPolicyTrainer(LAYERS, max_iter=0, random_state=0)
    task = partial(near, best=torch.ones(13, dtype=torch.float64))
    trainer.fit([task])
    first = trainer.adapt(task)
    np.testing.assert_allclose(
        trainer.adapt(task, policy=first).parameters, trainer.adapt(task, 2).parameters
    )
    with pytest.raises(ValueError, match="policy must be None or a Policy of layers"):
        trainer.adapt(task, policy=Policy((1, 1), np.zeros(2)))


# ------------------------------------------------------------------ refused
def test_wrong_tasks():
    trainer = MAMLPolicyTrainer(**FEW)
    with pytest.raises(NotFittedError):
        trainer.adapt(motors(1)[0])
    with pytest.raises(ValueError, match="tasks is empty"):
        trainer.fit([])
    with pytest.raises(TypeError, match="tasks must be an iterable"):
        trainer.fit(steer)
    for bad in (1.0, np.zeros(1), torch.zeros(2), None):
        with pytest.raises(TypeError, match="must return a tensor of one number"):
            trainer.fit([lambda policy, rng, bad=bad: bad])
    with pytest.raises(ValueError, match="finite number"):
        trainer.fit([partial(steer, gain=np.nan, goal=1.0)])
    assert not hasattr(trainer, "policy_")
    trainer.fit(motors(2))
    with pytest.raises(ValueError, match="finite number"):
        trainer.adapt(partial(steer, gain=np.nan, goal=1.0))
    with pytest.raises(TypeError, match="A task must be a function"):
        trainer.adapt(3)
    for name, value in (("n_steps", -1), ("random_state", "seed")):
        with pytest.raises(ValueError, match=f"{name} must be"):
            trainer.adapt(motors(1)[0], **{name: value})


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ([steer], "partial of one function"),
        ([partial(steer, gain=1.0, goal=1.0), partial(steer, goal=1.0)], "partial of one function"),
        ([partial(steer, gain=1.0, goal=1.0), partial(near, best=1.0)], "partial of one function"),
        ([partial(steer, gain="big", goal=1.0)], "gain is 'big'"),
        ([partial(near, best=np.zeros(n)) for n in (2, 3)], "arrays of one shape; best"),
    ],
)
def test_tasks_that_cannot_be_vectorized(tasks, told):
    with pytest.raises(TypeError, match=told):
        MAMLPolicyTrainer(**FEW, vectorize=True).fit(tasks)
