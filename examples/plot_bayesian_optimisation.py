"""
Find the top of a new function in a handful of evaluations
==========================================================

Machines of one kind answer to their settings in much the same way: whoever has
tuned hundreds of them needs few tries to tune the next. Here the functions are
sinusoids. A ridge head learns from past ones which functions there are, and
Thompson sampling (draw one function that agrees with what was seen, evaluate where
that one is highest) finds the top of a new one. A Gaussian process that starts
from nothing takes about twice as many evaluations. Takes about ten seconds.
"""

# %%
# The past: functions that were explored before
# ---------------------------------------------
# Meta-training learns features, and which weights on them a function of this
# kind has: a distribution of functions, before the first evaluation. ``n_shot`` from
# 0 says that it is to be right then, too.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.datasets import make_sinusoid_tasks

warnings.simplefilter("ignore", ConvergenceWarning)  # a kernel of three rows is at its bounds

trainer = MetaTrainer(
    RidgeHeadRegressor(encoder="mlp", encoder__hidden=(40, 40), encoder__activation="tanh"),
    n_shot=(0, 8),
    n_query=15,
    n_episodes=320,
    max_epochs=30,
    lr=1e-2,
    validation_fraction=0,
    random_state=0,
    verbose=0,
)
past = make_sinusoid_tasks(400, n_shot=10, n_query=15, random_state=0)
learned = trainer.fit(past.data, past.target, past.groups).estimator_

# %%
# Thompson sampling, in ten lines
# -------------------------------
# `sample_y` draws functions, `fit_prior` needs no row, `partial_fit` adds one.


def optimise(model, function, grid, n_evaluations, rng):
    """The rows that Thompson sampling evaluates."""
    asked = []
    for _ in range(n_evaluations):
        # of a function, not of observations of it, where the two are told apart
        options = {"noise": False} if model is learned else {}
        drawn = model.sample_y(grid, random_state=int(rng.integers(2**31)), **options)
        asked.append(grid[drawn[:, 0].argmax()])
        model.fit(np.array(asked), function(np.array(asked)[:, 0]))
    return np.array(asked)


def cold_process():
    """A Gaussian process that knows nothing yet, and tunes its kernel as it goes."""
    scale, length = ConstantKernel(5.0, (0.1, 100.0)), RBF(1.0, (0.3, 10.0))
    return GaussianProcessRegressor(scale * length + WhiteKernel(1e-4, "fixed"), random_state=0)


def regrets(function, grid, asked):
    """How far the best of the first 1, 2, ... evaluations is below the top."""
    return function(grid[:, 0]).max() - np.maximum.accumulate(function(asked[:, 0]))


# %%
# Beside a Gaussian process
# -------------------------
# On new functions, the regret is the distance of the best value so far from the top.

n_functions, n_evaluations = 20, 8
grid = np.linspace(-5, 5, 200)[:, None]
found = {"meta-learned ridge": [], "Gaussian process": []}
for seed in range(n_functions):
    drawn = np.random.default_rng(1000 + seed)
    amplitude, phase = drawn.uniform(1, 5), drawn.uniform(0, np.pi)

    def function(x, amplitude=amplitude, phase=phase):
        return amplitude * np.sin(x + phase)

    models = {"meta-learned ridge": learned.fit_prior(), "Gaussian process": cold_process()}
    for name, model in models.items():
        asked = optimise(model, function, grid, n_evaluations, np.random.default_rng(seed))
        found[name].append(regrets(function, grid, asked) / amplitude)

fig, ax = plt.subplots()
for name, values in found.items():
    mean = np.mean(values, axis=0)
    print(f"{name}: regret after 2, 4, 8 evaluations {mean[[1, 3, 7]].round(3)} of the amplitude")
    ax.plot(1 + np.arange(n_evaluations), mean, marker="o", label=name)
ax.set(xlabel="evaluations", ylabel="regret, of the amplitude", ylim=(0, None))
ax.legend()
plt.show()

# %%
# What it knows after two evaluations
# -----------------------------------
# Draws are whole functions of the kind that the past had: they agree with what was
# seen and with each other near it, and differ elsewhere.

asked = np.array([[-1.0], [1.5]])
learned.fit_prior().partial_fit(asked, function(asked[:, 0]))
fig, ax = plt.subplots()
ax.plot(grid, function(grid[:, 0]), "k", label="the new function")
ax.plot(grid, learned.sample_y(grid, 12, noise=False), "C0", alpha=0.3)
ax.plot(asked, function(asked[:, 0]), "ko")
ax.set(xlabel="x", ylabel="y")
ax.legend()
plt.show()
