"""Policies that adapt to carts with a pole of which force, its sign, pole and mass are unknown.

    python benchmarks/cart_poles.py [--n-new 60] [--max-iter 60]

gymnasium's CartPole with another motor and pole a task. `ESPolicyTrainer` learns from 200 of them
where 16 rollouts a step of adaptation are to start; beside it the same steps from a random start,
and from a policy that was trained to do well on all without adapting. Printed is how long the pole
stays up, of 200 steps, after 0 to 3 adaptations.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import numpy as np

from fewshot_sklearn import ESPolicyTrainer

N_PAST = 200
N_STEPS = 200
ADAPTATIONS = range(4)
N_JUDGED = 4  # rollouts that judge a policy


def balance(policy: Any, rng: np.random.Generator, env: Any, **motor_and_pole: float) -> float:
    """How many steps the pole stays up."""
    for name, value in motor_and_pole.items():
        setattr(env, name, value)
    env.total_mass = env.masscart + env.masspole
    env.polemass_length = env.masspole * env.length
    state, _ = env.reset(seed=int(rng.integers(2**31)))
    for step in range(N_STEPS):
        state, _, fallen, _, _ = env.step(int(policy.predict(state)[0] > 0))
        if fallen:
            return float(step)
    return float(N_STEPS)


def cart(env: Any, seed: int) -> Any:
    """A cart of its own, drawn from a seed."""
    rng = np.random.default_rng(seed)
    return partial(
        balance,
        env=env,
        force_mag=rng.choice([-1, 1]) * rng.uniform(5, 15),
        length=rng.uniform(0.25, 1),
        masspole=rng.uniform(0.05, 0.3),
    )


def kept_up(trainer: ESPolicyTrainer, tasks: list[Any], n_steps: int) -> np.ndarray:
    """Of each task, after some steps of adaptation."""
    found = []
    for i, task in enumerate(tasks):
        policy = trainer.adapt(task, n_steps, random_state=i)
        judged = [task(policy, np.random.default_rng([i, j])) for j in range(N_JUDGED)]
        found.append(np.mean(judged))
    return np.array(found)


def main(argv: list[str] | None = None) -> None:
    import gymnasium

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-new", type=int, default=60)
    parser.add_argument("--max-iter", type=int, default=60)
    parser.add_argument("--inner-lr", type=float, default=3.0)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--sigma", type=float, default=0.5)
    asked = parser.parse_args(argv)
    env = gymnasium.make("CartPole-v1").unwrapped
    past = [cart(env, i) for i in range(N_PAST)]
    new = [cart(env, 10_000 + i) for i in range(asked.n_new)]
    es = partial(
        ESPolicyTrainer, (4, 1), inner_lr=asked.inner_lr, sigma=asked.sigma, lr=asked.lr,
        random_state=0,
    )  # fmt: skip
    starts = {
        "learned to adapt": es(max_iter=asked.max_iter),
        "learned without adapting": es(n_steps=0, max_iter=17 * asked.max_iter),
        "random": es(max_iter=0),
    }
    for name, trainer in starts.items():
        began = time.process_time()
        trainer.fit(past)
        cost = time.process_time() - began
        each = [kept_up(trainer, new, n) for n in ADAPTATIONS]
        half = [1.96 * steps.std(ddof=1) / np.sqrt(len(steps)) for steps in each]
        told = ", ".join(f"{s.mean():.0f} ± {h:.0f}" for s, h in zip(each, half, strict=True))
        print(f"{name}: {told}; {trainer.n_rollouts_} rollouts, {cost:.0f} CPU-seconds", flush=True)


if __name__ == "__main__":
    main()
