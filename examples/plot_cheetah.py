"""
A running robot with a broken joint, after 128 steps
====================================================

MuJoCo's half cheetah has six motors. Each robot has motors of its own strengths, and one joint is
dead. Sixty robots of the past had a dead thigh or foot; of the new ones it is a shin, front or
back. A ridge head learns from the past what broken robots do, and adapts to the last 128
transitions of a new one. Beside it: one network for all robots, a correction of that one from the
same transitions, and linear regression on these alone (Nagabandi et al. 2019 have the task).

One step ahead its error is less than two thirds of that of one model for all; the correction
comes close, and their intervals overlap. It does not run better: no planner that looks ahead with a
learned model gets far, and the one with the adapted model less far than that with one model for
all, while the same planner with the simulator in place of a model does run. What a robot does at
random is not what it does when it runs. Takes over a minute, and
``pip install gymnasium mujoco``.
"""

# %%
# Robots
# ------
# A state is 17 numbers, a command six, 20 of them a second.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor, TaskwiseRegressor

try:
    import gymnasium
    import mujoco
    from mujoco import rollout
except ImportError:
    raise SystemExit("This example needs a simulator: pip install gymnasium mujoco") from None

N_PAST = 60  # robots
N_ROWS = 256  # transitions of each
N_NEW = 60
WINDOW = 128  # transitions to adapt to
N_LATER = 32  # transitions to be judged on, when learning
AHEAD = 10  # steps
N_STARTS = 80  # for predictions
N_RUNNING = 12  # new robots that are to run
N_STEPS = 100  # of running, five seconds
HORIZON = 7
N_PLANS = 64
MAX_EPOCHS = 12
DEAD_PAST, DEAD_NEW = (0, 2, 3, 5), (1, 4)  # thighs and feet; shins
HIDDEN = (128, 64)
mujoco.set_mju_user_warning(lambda message: None)  # of how gymnasium describes the robot
ENV = gymnasium.make("HalfCheetah-v5").unwrapped
GEAR = ENV.model.actuator_gear[:, 0].copy()
print("half cheetah:", ", ".join(ENV.model.actuator(i).name for i in range(6)), flush=True)


class Cheetah:
    """One robot: strengths of motors, one of them dead, positions and speeds."""

    def __init__(self, seed, dead):
        self.seed, self.gear = seed, GEAR * np.random.default_rng(seed).uniform(0.6, 1.2, 6)
        self.gear[dead] = 0
        self.stand()

    def stand(self):
        ENV.reset(seed=self.seed)
        self.place, self.speed = ENV.data.qpos.copy(), ENV.data.qvel.copy()

    @property
    def state(self):
        return np.concatenate([self.place[1:], self.speed])

    def step(self, command):
        """The reward, gymnasium's: speed forward, less a tenth of the squared command."""
        ENV.model.actuator_gear[:, 0] = self.gear
        ENV.set_state(self.place, self.speed)
        reward = ENV.step(command)[1]
        self.place, self.speed = ENV.data.qpos.copy(), ENV.data.qvel.copy()
        return reward


def robots(n, dead, first):
    return [Cheetah(first + i, dead[i % len(dead)]) for i in range(n)]


def at_random(robot, n):
    """Rows and changes of state; commands at random that follow each other smoothly."""
    rng, command, X, y = np.random.default_rng([robot.seed, 1]), np.zeros(6), [], []
    for _ in range(n):
        command = 0.8 * command + 0.6 * rng.normal(size=6)
        before = robot.state
        robot.step(np.clip(command, -1, 1))
        X.append(np.concatenate([before, np.clip(command, -1, 1)]))
        y.append(robot.state - before)
    return np.array(X), np.array(y)


# %%
# What is learned from past robots
# --------------------------------
# An episode is what adaptation will be: the last 128 transitions, then later ones of the same
# robot. Rows drawn from all of its life would be more alike than those are.

pairs = [at_random(robot, N_ROWS) for robot in robots(N_PAST, DEAD_PAST, 1000)]
X_past, y_past = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
UNIT = y_past.std(0)
changes = y_past / UNIT
SPREAD = X_past[:, :17].std(0)
LOW, HIGH = np.quantile(X_past[:, :17], [0.001, 0.999], axis=0)


def episode(rng):
    first = rng.integers(N_PAST) * N_ROWS
    now = first + rng.integers(WINDOW, N_ROWS - N_LATER + 1)
    later = rng.choice(np.arange(now, first + N_ROWS), N_LATER, replace=False)
    X, y = X_past, changes
    return X[now - WINDOW : now], y[now - WINDOW : now], X[later], y[later]


began = time.process_time()
trainer = MetaTrainer(
    RidgeHeadRegressor(encoder="mlp", encoder__hidden=HIDDEN),
    lr=3e-3,
    max_epochs=MAX_EPOCHS,
    random_state=0,
    verbose=0,
)
learned = trainer.fit(episode).estimator_
print(f"meta-training: {time.process_time() - began:.0f} CPU-seconds", flush=True)

began = time.process_time()
network = MLPRegressor(hidden_layer_sizes=HIDDEN, early_stopping=True, random_state=0, max_iter=60)
one_for_all = make_pipeline(StandardScaler(), network).fit(X_past, changes)
print(f"one model for all: {time.process_time() - began:.0f} CPU-seconds", flush=True)

# %%
# Models of new robots
# --------------------
# Each makes, of transitions of several robots (robots, n, ...), a function from rows
# (robots, m, 23) to changes.


def adapted(X, y):
    n = len(X)
    models = TaskwiseRegressor(learned)
    models.fit(X.reshape(-1, 23), y.reshape(-1, 17), groups=np.repeat(np.arange(n), X.shape[1]))

    def change(rows):
        groups = np.repeat(np.arange(n), rows.shape[1])
        return models.predict(rows.reshape(-1, 23), groups=groups).reshape(*rows.shape[:2], 17)

    return change


def common(X, y):
    return lambda rows: one_for_all.predict(rows.reshape(-1, 23)).reshape(*rows.shape[:2], 17)


def with_one(X):
    return np.concatenate([X, np.full((*X.shape[:-1], 1), 5.0)], -1)


def linear(X, y, penalty=10.0):
    X = with_one(X)
    weights = np.linalg.solve(X.mT @ X + penalty * np.eye(24), X.mT @ y)
    return lambda rows: with_one(rows) @ weights


def corrected(X, y):
    """The model for all, and a ridge regression on what it leaves."""
    before = common(X, y)
    correction = linear(X, y - before(X), 30.0)
    return lambda rows: before(rows) + correction(rows)


MODELS = {
    "adapted ridge head": adapted,
    "one model for all, corrected": corrected,
    "one model for all": common,
    "linear regression": linear,
}


def after(change, states, commands):
    """States (robots, m, 17) one step on."""
    step = np.clip(change(np.concatenate([states, commands], -1)), -6, 6) * UNIT
    return np.clip(states + step, LOW, HIGH)


# %%
# How well they predict
# ---------------------
# Error one step ahead, in variances of the change. Ten steps ahead: in variances of the state, the
# median over starts. Means over new robots, with a 95% interval.


def mean_and_half(values):
    return values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))


n_rows = WINDOW + N_STARTS + AHEAD
pairs = [at_random(robot, n_rows) for robot in robots(N_NEW, DEAD_NEW, 2000)]
X_new, y_new = (np.stack(parts) for parts in zip(*pairs, strict=True))
starts = slice(WINDOW, WINDOW + N_STARTS)
figure, (errors, running) = plt.subplots(1, 2, figsize=(11, 4))
with config_context(assume_finite=True):
    for name, model in MODELS.items():
        change = model(X_new[:, :WINDOW], y_new[:, :WINDOW] / UNIT)
        one = (change(X_new[:, starts]) - y_new[:, starts] / UNIT) ** 2
        states, curve = X_new[:, starts, :17], []
        for k in range(AHEAD):
            states = after(change, states, X_new[:, WINDOW + k : WINDOW + k + N_STARTS, 17:])
            true = X_new[:, WINDOW + k + 1 : WINDOW + k + 1 + N_STARTS, :17]
            off = (((states - true) / SPREAD) ** 2).mean(2)
            curve.append(mean_and_half(np.median(off, 1)))
        mean, half = mean_and_half(one.mean((1, 2)))
        print(
            f"{name:30s} error {mean:.3f} ± {half:.3f}; {AHEAD} steps ahead "
            f"{curve[-1][0]:.2f} ± {curve[-1][1]:.2f}",
            flush=True,
        )
        errors.errorbar(range(1, AHEAD + 1), *np.array(curve).T, label=name, capsize=2)
errors.set(xlabel="steps ahead", ylabel="squared error, in variances of the state", ylim=(0, 0.7))
errors.legend(fontsize=8)

# %%
# How well they run
# -----------------
# A robot makes 128 commands at random, is put on its feet, and runs for five seconds: of 64 plans
# around the last one, each of seven commands, the model says what they earn; the next plan is
# their mean, the good ones weighing most (Williams et al. 2017). The same with the simulator, which
# knows the robot, in place of a model.


def earned_by_model(model):
    def earned(runners, X, y, tried):
        change = model(np.stack(X[-WINDOW:], 1), np.stack(y[-WINDOW:], 1) / UNIT)
        states = np.repeat(np.array([r.state for r in runners])[:, None], N_PLANS, 1)
        speeds = 0.0
        for t in range(HORIZON):
            states = after(change, states, tried[:, :, t])
            speeds = speeds + states[..., 8]
        return speeds

    return earned


def earned_by_simulator(runners, X, y, tried):
    places, data = [], mujoco.MjData(ENV.model)
    for robot, plans in zip(runners, tried, strict=True):
        ENV.model.actuator_gear[:, 0] = robot.gear
        now = np.tile(np.concatenate([[0.0], robot.place, robot.speed]), (N_PLANS, 1))
        path, _ = rollout.rollout(ENV.model, data, now, np.repeat(plans, ENV.frame_skip, axis=1))
        places.append((path[:, -1, 1] - robot.place[0]) / ENV.dt)
    return np.array(places)


def run(earned, n):
    """Returns of the first n of the robots that are to run, of N_STEPS steps."""
    runners, rng = robots(n, DEAD_NEW, 3000), np.random.default_rng(0)
    X, y = (
        list(np.stack(p, 1)) for p in zip(*(at_random(r, WINDOW) for r in runners), strict=True)
    )
    for robot in runners:
        robot.stand()
    plans, returns = np.zeros((n, HORIZON, 6)), np.zeros(n)
    for _ in range(N_STEPS):
        noise = rng.normal(size=(n, N_PLANS, HORIZON, 6))
        for t in range(1, HORIZON):  # commands that follow each other are alike
            noise[:, :, t] = 0.7 * noise[:, :, t - 1] + 0.7 * noise[:, :, t]
        tried = np.clip(plans[:, None] + 0.6 * noise, -1, 1)
        values = earned(runners, X, y, tried) - 0.1 * (tried**2).sum((2, 3))
        best, spread = values.max(1, keepdims=True), values.std(1, keepdims=True)
        weights = np.exp(4 * (values - best) / (spread + 1e-9))
        plans = np.einsum("np,np...->n...", weights / weights.sum(1, keepdims=True), tried)
        before, commands = np.array([robot.state for robot in runners]), plans[:, 0]
        returns += [robot.step(c) for robot, c in zip(runners, commands, strict=True)]
        X.append(np.concatenate([before, commands], 1))
        y.append(np.array([robot.state for robot in runners]) - before)
        plans = np.pad(plans[:, 1:], [(0, 0), (0, 1), (0, 0)])
    return returns


PLANNERS = {name: earned_by_model(model) for name, model in MODELS.items()}
PLANNERS["the simulator itself"] = earned_by_simulator
with config_context(assume_finite=True):
    for place, (name, earned) in enumerate(PLANNERS.items()):
        began = time.process_time()
        returns = run(earned, N_RUNNING)
        cost = 1000 * (time.process_time() - began) / N_STEPS / N_RUNNING
        mean, half = mean_and_half(returns)
        print(f"{name:30s} return {mean:.0f} ± {half:.0f}; {cost:.0f} CPU-ms a step of a robot")
        running.plot(returns, np.full(N_RUNNING, place), "o", color=f"C{place}", alpha=0.4)
        running.errorbar(mean, place + 0.25, xerr=half, fmt="|", color="k", capsize=3)
running.set(yticks=range(len(PLANNERS)), yticklabels=list(PLANNERS), xlabel="return, 100 steps")
running.invert_yaxis()
figure.tight_layout()
plt.show()
