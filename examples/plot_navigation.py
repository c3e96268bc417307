"""
A policy that finds its goal from a few rollouts
================================================

A point is to walk to a goal that it does not see: it sees where it is, and after each walk is told
what it has earned (2-D navigation, Finn et al. 2017; the goals are on a half circle). Evolution
strategies learn from walks to past goals a policy which after 16 walks to a new one heads for it
(ES-MAML, Song et al. 2020). No derivative of anything is asked, so that the same lines serve any
simulator. Beside it: the same adaptation from a policy that does best without, which took as many
walks to learn, and from a random policy. Takes about a minute.
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

from fewshot_sklearn import ESPolicyTrainer

N_PAST = 200
N_NEW = 100
MAX_ITER = 60  # steps of meta-training
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


def goals(n, seed):
    angle = np.random.default_rng(seed).uniform(0, np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


past = [partial(reach, goal=goal) for goal in goals(N_PAST, 0)]
new = [partial(reach, goal=goal) for goal in goals(N_NEW, 1)]

# %%
# Three starts
# ------------
# The one learned looks ahead through one adaptation of 8 pairs of walks. The other starts see the
# same number of walks and none. The size of a step of adaptation was chosen, for each start, on
# other goals.


def trained(**options):
    began = time.process_time()
    trainer = ESPolicyTrainer((2, 16, 2), n_pairs=8, lr=0.05, random_state=0, **options).fit(past)
    took = time.process_time() - began
    print(f"{trainer.n_rollouts_} walks, {took:.0f} CPU-seconds")
    return trainer


starts = {
    "learned to adapt": trained(max_iter=MAX_ITER, inner_lr=0.1),
    "learned without adapting": trained(n_steps=0, max_iter=17 * MAX_ITER, inner_lr=0.3),
    "random": trained(max_iter=0, inner_lr=0.1),
}

# %%
# New goals
# ---------
# Return after 0 to 3 adaptations of 16 walks each, mean over new goals with a 95% interval.

figure, (curves, plane) = plt.subplots(1, 2, figsize=(10, 4))
for name, trainer in starts.items():
    returns = np.array(
        [
            [task(trainer.adapt(task, n, random_state=i), None) for n in ADAPTATIONS]
            for i, task in enumerate(new)
        ]
    )
    mean, half = returns.mean(0), 1.96 * returns.std(0, ddof=1) / np.sqrt(N_NEW)
    told = ", ".join(f"{m:.1f} ± {h:.1f}" for m, h in zip(mean, half, strict=True))
    print(f"{name}: return after 0, 1, 2, 3 adaptations {told}")
    curves.errorbar(ADAPTATIONS, mean, half, marker="o", capsize=3, label=name)
curves.set(xlabel="adaptations, of 16 walks each", ylabel="return", xticks=ADAPTATIONS)
curves.legend()

# %%
# Walks to five of the goals
# --------------------------
# Dotted before adaptation, drawn after three; the stars are the goals.

learned = starts["learned to adapt"]
for i, task in enumerate(new[:5]):
    goal = task.keywords["goal"]
    for n, style in ((0, ":"), (3, "-")):
        places = walk(learned.adapt(task, n, random_state=i), goal)
        plane.plot(*np.vstack([np.zeros(2), places]).T, style, color=f"C{i}")
    plane.plot(*goal, "*", color=f"C{i}", markersize=12)
plane.set(aspect="equal", title="before, and after 48 walks")
figure.tight_layout()
plt.show()
