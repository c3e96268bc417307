"""
A policy that finds its goal from a few rollouts
================================================

A point is to walk to a goal that it does not see: it sees where it is, and after each walk is told
what it has earned (2-D navigation, Finn et al. 2017; the goals are on a half circle). Two trainers
learn from walks to past goals where adaptation to a new one is to start. Evolution strategies ask
for no derivative, so that the same lines serve any simulator (ES-MAML, Song et al. 2020): the
policy heads for the goal after 16 walks. MAML differentiates the walk itself, which is written in
torch for it, and arrives after three. Beside each: the same adaptation from a policy that does best
without, which took as many walks to learn, and from a random policy. Takes under two minutes.
"""

# %%
# A task is a function
# --------------------
# It plays one episode with the policy and returns what was earned: here minus the distances to
# the goal, summed over 20 steps of at most 0.1 in each direction.

import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch

from fewshot_sklearn import ESPolicyTrainer, MAMLPolicyTrainer

N_PAST = 200
N_NEW = 100
MAX_ITER = 60  # steps of meta-training
MAML_ITER = 150
N_STEPS = 20  # of a walk
ADAPTATIONS = range(4)


def walk(policy, goal):
    """The places of one walk, from the origin."""
    place, places = np.zeros(2), []
    for _ in range(N_STEPS):
        place = place + np.clip(policy.predict(place), -0.1, 0.1)
        places.append(place)
    return np.array(places)


def reach(policy, rng, goal):
    return -np.sqrt(((walk(policy, goal) - goal) ** 2).sum(1)).sum()


def reach_in_torch(policy, rng, goal):
    """The same, for autograd."""
    place, earned = torch.zeros(2, dtype=torch.float64), 0.0
    for _ in range(N_STEPS):
        place = place + policy.predict(place).clamp(-0.1, 0.1)
        earned = earned - ((place - goal) ** 2).sum().sqrt()
    return earned


def goals(n, seed):
    angle = np.random.default_rng(seed).uniform(0, np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


past, new = goals(N_PAST, 0), goals(N_NEW, 1)

# %%
# Six starts
# ----------
# Those learned look ahead, evolution strategies through one adaptation of 8 pairs of walks, MAML
# through three of one walk each. The other starts see the same number of walks and none. The size
# of a step of adaptation was chosen, for each start, on other goals.

es = partial(ESPolicyTrainer, (2, 16, 2), n_pairs=8, lr=0.05, random_state=0)
maml = partial(
    MAMLPolicyTrainer, (2, 16, 2), max_norm=1.0, inner_lr=0.1, lr=0.02, vectorize=True,
    random_state=0,
)  # fmt: skip
STARTS = {
    "ES, learned to adapt": (es(max_iter=MAX_ITER, inner_lr=0.1), reach),
    "ES, learned without adapting": (es(n_steps=0, max_iter=17 * MAX_ITER, inner_lr=0.3), reach),
    "ES, random": (es(max_iter=0, inner_lr=0.1), reach),
    "MAML, learned to adapt": (maml(n_steps=3, max_iter=MAML_ITER), reach_in_torch),
    "MAML, learned without adapting": (maml(n_steps=0, max_iter=4 * MAML_ITER), reach_in_torch),
    "MAML, random": (maml(max_iter=0), reach_in_torch),
}
for name, (trainer, play) in STARTS.items():
    began = time.process_time()
    trainer.fit([partial(play, goal=goal) for goal in past])
    took = time.process_time() - began
    print(f"{name}: {trainer.n_rollouts_} walks, {took:.0f} CPU-seconds", flush=True)

# %%
# New goals
# ---------
# Return after 0 to 3 adaptations, mean over new goals with a 95% interval.


def adapted(name, goal, seed):
    """The policies after each number of adaptations."""
    trainer, play = STARTS[name]
    policies = [trainer.policy_]
    for n in ADAPTATIONS[1:]:
        task = partial(play, goal=goal)
        policies.append(trainer.adapt(task, 1, 4 * seed + n, policies[-1]))
    return policies


figure, (curves, plane) = plt.subplots(1, 2, figsize=(10, 4))
for name, (_, play) in STARTS.items():
    returns = np.array(
        [[reach(p, None, goal) for p in adapted(name, goal, i)] for i, goal in enumerate(new)]
    )
    mean, half = returns.mean(0), 1.96 * returns.std(0, ddof=1) / np.sqrt(N_NEW)
    told = ", ".join(f"{m:.1f} ± {h:.1f}" for m, h in zip(mean, half, strict=True))
    print(f"{name}: return after 0, 1, 2, 3 adaptations {told}", flush=True)
    style = "-o" if play is reach_in_torch else "--s"
    curves.errorbar(ADAPTATIONS, mean, half, fmt=style, capsize=3, label=name)
curves.set(xlabel="adaptations: MAML 1 walk, ES 16", ylabel="return", xticks=ADAPTATIONS)
curves.legend(fontsize=8)

# %%
# Walks to five of the goals
# --------------------------
# Of MAML: dotted before adaptation, drawn after three walks; the stars are the goals.

for i, goal in enumerate(new[:5]):
    policies = adapted("MAML, learned to adapt", goal, i)
    for policy, style in ((policies[0], ":"), (policies[-1], "-")):
        places = walk(policy, goal)
        plane.plot(*np.vstack([np.zeros(2), places]).T, style, color=f"C{i}")
    plane.plot(*goal, "*", color=f"C{i}", markersize=12)
plane.set(aspect="equal", title="MAML, before and after 3 walks")
figure.tight_layout()
plt.show()
