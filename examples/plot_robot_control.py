"""
Swing up a robot that has changed, after a few control steps
============================================================

A pendulum is to be swung up by a motor too weak to lift it at once. Of a new one nobody knows the
mass, the length, the gain and the sign of the motor, and below which command the motor sticks. What
300 earlier pendulums did has been kept. A ridge head learns from it how such robots move, adapts to
the last 48 transitions of the new one at each control step, and a planner looks ahead with its
predictions. It earns what the planner earns with the true model. Beside it, and behind it: MAML,
which adapts to the same transitions, one model for all robots, a correction of that one, and linear
regression on the transitions alone. Takes about two minutes, and ``pip install gymnasium``.
"""

# %%
# Robots: gymnasium's pendulum
# ----------------------------
# The simulator is gymnasium's own, with another mass and length, behind a motor of another gain
# that does nothing below some command.

import time
from functools import partial

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import MAMLRegressor, MetaTrainer, RidgeHeadRegressor, TaskwiseRegressor

N_PAST = 300  # robots
N_ROWS = 64  # transitions of each
N_NEW = 24
N_STEPS = 200
N_PROBES = 4  # commands at random, before there is anything to adapt to
WINDOW = 48  # transitions to adapt to
HORIZON = 15  # steps that the planner looks ahead
N_PLANS = 64
MOST = 2.0  # the largest command
TOP_SPEED, SECONDS = 8.0, 0.05  # of gymnasium's pendulum


class Robot:
    """A pendulum of its own, drawn from a seed."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.env = gymnasium.make("Pendulum-v1").unwrapped
        self.env.reset(seed=seed)
        self.env.m, self.env.l = rng.uniform(0.5, 1.5), rng.uniform(0.7, 1.3)
        self.env.max_torque = np.inf
        self.gain = rng.choice([-1, 1]) * rng.uniform(0.75, 1.5)
        self.sticks = rng.uniform(0.4, 0.8)

    def torque(self, command):
        turns = np.maximum(np.abs(command) - self.sticks, 0) * MOST / (MOST - self.sticks)
        return self.gain * np.sign(command) * turns

    def step(self, command):
        """The reward of a command; `state` is then the next angle and speed."""
        return self.env.step(np.array([self.torque(command)]))[1]

    @property
    def state(self):
        return np.array(self.env.state, dtype=float)

    def true_change(self, rows):
        """What a step adds to the speed: for the planner that knows the robot."""
        gravity = 1.5 * self.env.g / self.env.l * rows[:, 1]
        push = 3 / (self.env.m * self.env.l**2) * self.torque(rows[:, 3])
        return (gravity + push) * SECONDS


def as_rows(angle, speed, command):
    """What models see."""
    return np.stack([np.cos(angle), np.sin(angle), speed, command], -1)


# %%
# What is learned from past robots
# --------------------------------
# 64 single steps of each, from states and commands at random. A task is a robot, a row is a state
# and a command, the target is the change of speed.


def past_rows(seed):
    """Rows and changes of speed of one past robot."""
    robot, rng, X, y = Robot(seed), np.random.default_rng([seed, 1]), [], []
    while len(y) < N_ROWS:
        robot.env.reset(options={"x_init": np.pi, "y_init": TOP_SPEED - 0.5})
        (angle, speed), command = robot.state, rng.uniform(-MOST, MOST)
        robot.step(command)
        if abs(robot.state[1]) < TOP_SPEED:  # at the limit a step says little
            X.append(as_rows(angle, speed, command))
            y.append(robot.state[1] - speed)
    return np.array(X), np.array(y)


X_past, y_past = map(np.concatenate, zip(*map(past_rows, range(N_PAST)), strict=True))
robots_past = np.repeat(np.arange(N_PAST), N_ROWS)


def meta_trained(method, **options):
    began = time.process_time()
    trainer = MetaTrainer(method, n_shot=(1, WINDOW), random_state=0, verbose=0, **options)
    learned = trainer.fit(X_past, y_past, groups=robots_past).estimator_
    print(f"{type(method).__name__}: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    return learned


SIZE = {"encoder": "mlp", "encoder__hidden": (64, 64)}
ridge_head = meta_trained(RidgeHeadRegressor(**SIZE), lr=5e-3, max_epochs=50)
maml = meta_trained(MAMLRegressor(**SIZE), lr=3e-3, max_epochs=50)

began = time.process_time()
network = MLPRegressor(hidden_layer_sizes=(64, 64), early_stopping=True, random_state=0)
one_for_all = make_pipeline(StandardScaler(), network).fit(X_past, y_past)
print(f"one model for all: {time.process_time() - began:.0f} CPU-seconds")

# %%
# Models of new robots
# --------------------
# Each makes, of the recent transitions of several robots (robots, n, 4), a function from rows
# (robots, plans, 4) to changes of speed. `TaskwiseRegressor` adapts one model a robot in one call.


def adapted(learned, robots, X, y):
    n = len(robots)
    if n == 1:
        model = clone(learned).fit(X[0], y[0])
        return lambda rows: model.predict(rows[0])[None]
    models = TaskwiseRegressor(learned)
    models.fit(X.reshape(-1, 4), y.ravel(), groups=np.repeat(np.arange(n), X.shape[1]))

    def change(rows):
        groups = np.repeat(np.arange(n), rows.shape[1])
        return models.predict(rows.reshape(-1, 4), groups=groups).reshape(rows.shape[:2])

    return change


def true(robots, X, y):
    return lambda rows: np.stack([r.true_change(x) for r, x in zip(robots, rows, strict=True)])


def common(robots, X, y):
    return lambda rows: one_for_all.predict(rows.reshape(-1, 4)).reshape(rows.shape[:2])


def with_one(X):
    return np.concatenate([X, np.ones((*X.shape[:-1], 1))], -1)


def linear(robots, X, y):
    """A ridge regression a robot."""
    X = with_one(X)
    precision = X.mT @ X + 0.1 * np.eye(X.shape[-1])  # the best of 0.01, 0.1 and 1 on past robots
    weights = np.linalg.solve(precision, X.mT @ y[..., None])
    return lambda rows: (with_one(rows) @ weights)[..., 0]


def corrected(robots, X, y):
    """The model for all, and a ridge regression on what it leaves."""
    before = common(robots, X, y)
    correction = linear(robots, X, y - before(X))
    return lambda rows: before(rows) + correction(rows)


# %%
# The planner
# -----------
# Of 64 plans around the last one, each of 15 commands, the model says where they lead; the next
# plan is their mean, the cheap ones weighing most (Williams et al. 2017). It is the same for all.


def cost(angle, speed):
    return ((angle + np.pi) % (2 * np.pi) - np.pi) ** 2 + 0.1 * speed**2


def better_plans(change, states, plans, rng):
    """Plans (robots, HORIZON) for states (robots, 2), improved."""
    noise = rng.normal(size=(len(plans), N_PLANS, HORIZON))
    for t in range(1, HORIZON):  # commands that follow each other are alike
        noise[..., t] = 0.7 * noise[..., t - 1] + 0.7 * noise[..., t]
    tried = np.clip(plans[:, None] + 1.2 * noise, -MOST, MOST)
    angle, speed = (np.repeat(part[:, None], N_PLANS, 1) for part in states.T)
    costs = 0.0
    for t in range(HORIZON):
        step = change(as_rows(angle, speed, tried[..., t]))
        speed = np.clip(speed + step, -TOP_SPEED, TOP_SPEED)
        angle = angle + speed * SECONDS
        costs = costs + cost(angle, speed)
    weights = np.exp(-(costs - costs.min(1, keepdims=True)) / 2)
    return (weights[..., None] * tried).sum(1) / weights.sum(1)[:, None]


def controlled(model, seeds, n_steps=N_STEPS):
    """Returns of the robots of some seeds, their paths, and CPU-seconds a control step."""
    robots, rng = [Robot(seed) for seed in seeds], np.random.default_rng(0)
    for robot in robots:
        robot.env.state = np.array([np.pi, 0.0])  # hanging down
    returns, plans = np.zeros(len(robots)), np.zeros((len(robots), HORIZON))
    X, y, path, took = [], [], [], 0.0
    for t in range(n_steps):
        states = np.array([robot.state for robot in robots])
        if t < N_PROBES:
            commands = rng.uniform(-MOST, MOST, len(robots))
        else:
            began = time.process_time()
            recent = np.stack(X[-WINDOW:], 1), np.stack(y[-WINDOW:], 1)
            plans = better_plans(model(robots, *recent), states, plans, rng)
            commands, plans = plans[:, 0], np.pad(plans[:, 1:], [(0, 0), (0, 1)])
            took += time.process_time() - began
        returns += [robot.step(command) for robot, command in zip(robots, commands, strict=True)]
        X.append(as_rows(*states.T, commands))
        y.append([robot.state[1] for robot in robots] - states[:, 1])
        path.append(states[:, 0])
    return returns, np.array(path), took / (n_steps - N_PROBES)


# %%
# New robots
# ----------
# The return is gymnasium's: minus the sum, over ten seconds, of squared angle, speed and torque. It
# is compared on the same robots with that of the true model, with a 95% interval of the difference.

MODELS = {
    "true model": true,
    "adapted ridge head": partial(adapted, ridge_head),
    "adapted MAML": partial(adapted, maml),
    "one model for all, corrected": corrected,
    "linear regression": linear,
    "one model for all": common,
}
seeds = range(10_000, 10_000 + N_NEW)
returns, paths = {}, {}
with config_context(assume_finite=True):  # a predict of few rows is then mostly arithmetic
    for name, model in MODELS.items():
        returns[name], paths[name], _ = controlled(model, seeds)
        behind = returns["true model"] - returns[name]
        interval = 1.96 * behind.std(ddof=1) / np.sqrt(N_NEW)
        _, _, alone = controlled(model, seeds[:1], N_PROBES + 4)
        print(
            f"{name:30s} return {returns[name].mean():7.0f}, behind the true model by "
            f"{behind.mean():.0f} ± {interval:.0f}; {1000 * alone:.0f} CPU-ms a control step"
        )

# %%
# Film strips
# -----------
# The robot on which the model for all is at its median.

shown = np.argsort(returns["one model for all"])[N_NEW // 2]
frames = np.linspace(0, 0.4 * N_STEPS, 11).astype(int)
strips = ("adapted ridge head", "one model for all")
figure, axes = plt.subplots(2, len(frames), figsize=(11, 3))
for name, row in zip(strips, axes, strict=True):
    for frame, axis in zip(frames, row, strict=True):
        angle = paths[name][frame, shown]
        axis.plot([0, np.sin(angle)], [0, np.cos(angle)], "C3", linewidth=5)
        axis.plot(0, 0, "ko", markersize=4)
        axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[], yticks=[])
        axis.set_title(f"{frame * SECONDS:.1f} s", fontsize=8)
    row[0].set_ylabel(name, fontsize=8)
figure.tight_layout()
plt.show()

# %%
# All robots
# ----------

figure, axis = plt.subplots(figsize=(7, 3))
for place, found in enumerate(returns.values()):
    axis.plot(found, np.full(N_NEW, place), "o", color=f"C{place}", alpha=0.4)
    half = 1.96 * found.std(ddof=1) / np.sqrt(N_NEW)
    axis.errorbar(found.mean(), place + 0.25, xerr=half, fmt="|", color="k", capsize=3)
axis.set(yticks=range(len(returns)), yticklabels=list(returns), xlabel="return", ylim=(5.5, -0.5))
figure.tight_layout()
plt.show()
