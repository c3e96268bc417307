"""
Policies that adapt in one rollout, or in eight without derivatives
===================================================================

An arm hangs down and is to be held up. Of a new one nobody knows the mass, the length, the gain of
its motor, and which way that turns: no one policy lifts them all. From 200 earlier arms a policy is
learned that a step of adaptation turns into one for the arm at hand: by MAML (Finn et al. 2017),
one rollout a step, where the simulator is written in torch and can be differentiated; by evolution
strategies (Song et al. 2020), eight rollouts a step, where it is gymnasium's own and nothing can.
Both are played in gymnasium's. Beside them: the same steps from a random start, and from a policy
that was trained to do well on all arms without adapting.

After one rollout MAML has the arms near upright, where the others are after three or not at all;
evolution strategies take 24 rollouts to come close. The policy trained without adapting does
better before than any other, and steps of adaptation spoil it. MAML differentiates the simulator of
the new arm, too: without a model of it that is not to be had, where evolution strategies need
nothing but returns. Takes about two minutes, and ``pip install gymnasium``.
"""

# %%
# Arms: gymnasium's pendulum
# --------------------------
# A task is a function that plays one episode with a policy and returns what was earned: here minus
# the sum, over two and a half seconds, of squared angle, speed and torque. Once in gymnasium, once
# in torch.

import time
from functools import partial

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
import torch

from fewshot_sklearn import ESPolicyTrainer, MAMLPolicyTrainer

N_PAST = 200
N_NEW = 60
N_STEPS = 50
MAX_ITER = 40  # of MAML
ES_ITER = 40
MOST = 10.0  # torque; gravity's is up to 9.6
SECONDS = 0.05
ADAPTATIONS = range(4)
ENV = gymnasium.make("Pendulum-v1").unwrapped
ENV.reset(seed=0)
ENV.max_torque = np.inf


def played(policy, rng, mass, length, gain, path=None):
    """The return of an episode in gymnasium."""
    ENV.m, ENV.l, ENV.state = mass, length, np.array([np.pi, 0.0])  # hanging down
    earned = 0.0
    for _ in range(N_STEPS):
        angle, speed = ENV.state
        command = policy.predict([np.cos(angle), np.sin(angle), speed / 4])
        earned += ENV.step(gain * MOST * np.tanh(command))[1]
        if path is not None:
            path.append(angle)
    return earned


def simulated(policy, rng, mass, length, gain):
    """The same in torch, which autograd sees through."""
    angle, speed = torch.tensor([np.pi, 0.0], dtype=torch.float64)
    earned = 0.0
    for _ in range(N_STEPS):
        command = policy.predict(torch.stack([angle.cos(), angle.sin(), speed / 4]))
        torque = gain * MOST * torch.tanh(command[0])
        off = torch.remainder(angle + np.pi, 2 * np.pi) - np.pi
        earned = earned - (off**2 + 0.1 * speed**2 + 0.001 * torque**2)
        gravity = 1.5 * ENV.g / length * angle.sin()
        speed = speed + (gravity + 3 / (mass * length**2) * torque) * SECONDS
        speed = speed.clamp(-ENV.max_speed, ENV.max_speed)
        angle = angle + speed * SECONDS
    return earned


def arms(n, seed):
    rng = np.random.default_rng(seed)
    return [
        {
            "mass": rng.uniform(0.5, 1.5),
            "length": rng.uniform(0.7, 1.3),
            "gain": rng.choice([-1, 1]) * rng.uniform(0.75, 1.25),
        }
        for _ in range(n)
    ]


past, new = arms(N_PAST, 0), arms(N_NEW, 2)

# %%
# What is learned from past arms
# ------------------------------
# `fit` takes tasks, `adapt` a task, and what it gives predicts actions. Simulators in torch are
# played at once for many arms (``vectorize=True``). Sizes of steps were chosen on other arms.


maml = partial(
    MAMLPolicyTrainer, (3, 16, 1), max_norm=1.0, n_tasks=30, vectorize=True, random_state=0
)
es = partial(ESPolicyTrainer, (3, 1), n_pairs=4, sigma=0.3, lr=0.1, random_state=0)
STARTS = {
    "MAML": (maml(n_steps=2, inner_lr=0.5, max_iter=MAX_ITER), simulated),
    "gradients, trained without adapting": (
        maml(n_steps=0, inner_lr=0.5, max_iter=3 * MAX_ITER),
        simulated,
    ),
    "gradients from scratch": (maml(inner_lr=0.5, max_iter=0), simulated),
    "ES": (es(max_iter=ES_ITER, inner_lr=1.0), played),
    "ES from scratch": (es(max_iter=0, inner_lr=2.0), played),
}
for name, (trainer, play) in STARTS.items():
    began = time.process_time()
    trainer.fit([partial(play, **arm) for arm in past])
    took = time.process_time() - began
    print(f"{name}: {trainer.n_rollouts_} rollouts, {took:.0f} CPU-seconds", flush=True)

# %%
# New arms
# --------
# Return in gymnasium after 0 to 3 steps of adaptation, mean over new arms with a 95% interval.


def returns_of(name, arm, seed):
    """Return after each number of steps; adaptation goes on from the policy before."""
    trainer, play = STARTS[name]
    policy, found = trainer.policy_, []
    for n in ADAPTATIONS:
        if n:
            policy = trainer.adapt(partial(play, **arm), 1, 4 * seed + n, policy)
        found.append(played(policy, None, **arm))
    return found


figure, (curves, angles) = plt.subplots(1, 2, figsize=(11, 4))
for i, (name, (trainer, play)) in enumerate(STARTS.items()):
    returns = np.array([returns_of(name, arm, k) for k, arm in enumerate(new)])
    mean, half = returns.mean(0), 1.96 * returns.std(0, ddof=1) / np.sqrt(N_NEW)
    each = 1 if play is simulated else 2 * trainer.n_pairs
    told = ", ".join(f"{m:.0f} ± {h:.0f}" for m, h in zip(mean, half, strict=True))
    print(f"{name}: return after 0, 1, 2, 3 steps of {each} rollouts: {told}", flush=True)
    curves.errorbar(
        [n + 0.04 * i for n in ADAPTATIONS],
        mean,
        half,
        fmt="-o" if each == 1 else "--s",
        capsize=3,
        label=f"{name} ({each} rollout{'s' * (each > 1)} a step)",
    )
curves.set(xlabel="steps of adaptation", ylabel="return", xticks=ADAPTATIONS)
curves.legend(fontsize=8)

# %%
# Twenty of them
# --------------
# How far each is from upright, before adaptation and after two rollouts.

learned, _ = STARTS["MAML"]
for n, color in ((0, "0.7"), (2, "C0")):
    for arm in new[:20]:
        path = []
        played(learned.adapt(partial(simulated, **arm), n), None, **arm, path=path)
        off = np.abs((np.array(path) + np.pi) % (2 * np.pi) - np.pi)
        angles.plot(SECONDS * np.arange(N_STEPS), np.degrees(off), color=color, linewidth=1)
angles.plot([], color="0.7", label="before")
angles.plot([], color="C0", label="after two rollouts")
angles.set(xlabel="seconds", ylabel="degrees from upright", title="MAML")
angles.legend()
figure.tight_layout()
plt.show()
