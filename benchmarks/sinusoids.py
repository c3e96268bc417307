"""Sinusoid regression: MSE over 1,000 new tasks, beside plain scikit-learn on the same rows.

    python benchmarks/sinusoids.py ridge      # under a CPU-minute
    python benchmarks/sinusoids.py maml       # 70,000 meta-steps; resumes where it was stopped

Prints a row for benchmarks/RESULTS.md. The checkpoint is in the current folder, or --folder's.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import Ridge
from skorch.callbacks import GradientNormClipping, LRScheduler

import fewshot_sklearn
from fewshot_sklearn import MAMLRegressor, MetaTrainer, RidgeHeadRegressor, few_shot_score
from fewshot_sklearn.datasets import make_sinusoid_tasks

SHOTS = (5, 10, 20)
N_EPISODES = 1000


def score(estimator, n_shot: int) -> str:
    """MSE with its 95% interval, and that of the worst task."""
    tasks = make_sinusoid_tasks(N_EPISODES, n_shot=n_shot, n_query=50, random_state=2024)
    result = few_shot_score(
        estimator, tasks.data, tasks.target, tasks.groups,
        n_way=None, n_shot=n_shot, n_query=None, n_episodes=N_EPISODES,
        scoring="neg_mean_squared_error",
    )  # fmt: skip
    worst = -result.scores.min()
    return f"{-result.mean:.2e} ± {result.ci95:.0e} (worst {worst:.1e})"


def train_ridge(folder: Path) -> MetaTrainer:
    """Bayesian linear head on a 40-40 tanh network, 3,000 steps of 16 tasks."""
    epochs = 30
    trainer = MetaTrainer(
        RidgeHeadRegressor(encoder="mlp", encoder__hidden=(40, 40), encoder__activation="tanh"),
        n_episodes=1600,
        batch_size=16,
        lr=1e-2,
        optimizer__betas=(0.9, 0.99),
        max_epochs=epochs,
        validation_fraction=0,
        callbacks=[
            LRScheduler("CosineAnnealingLR", T_max=epochs),
            GradientNormClipping(1.0),
        ],
        random_state=0,
        verbose=0,
    )
    return trainer.fit(make_sinusoid_tasks(n_shot=(2, 10), n_query=20))


def train_maml(folder: Path) -> MetaTrainer:
    """MAML of the paper's 40-40 network: 70,000 second-order steps of 25 tasks, one inner step."""
    epochs = 70
    trainer = MetaTrainer(
        MAMLRegressor(encoder="mlp", encoder__hidden=(40, 40), n_steps=1, inner_lr=0.05),
        n_episodes=25_000,
        batch_size=25,
        lr=3e-3,
        max_epochs=epochs,
        validation_fraction=0,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
        checkpoint=folder / "maml_sinusoids.ckpt",
        random_state=0,
        verbose=0,
    )
    return trainer.fit(make_sinusoid_tasks(n_shot=10, n_query=10))


TRAIN = {"ridge": train_ridge, "maml": train_maml}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=TRAIN, default="ridge")
    parser.add_argument("--folder", type=Path, default=Path(), help="for the checkpoint")
    options = parser.parse_args(argv)
    what = options.what
    warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
    torch.set_num_threads(1)
    start = time.process_time()
    trainer = TRAIN[what](options.folder)
    print(f"{what}: trained in {time.process_time() - start:.0f} CPU-seconds (of this process)")
    print(trainer.meta_init_)
    estimator = trainer.estimator_
    rows = {what: estimator}
    if what == "maml":
        rows = {
            f"maml, {steps} step(s)": fewshot_sklearn.MAMLRegressor(
                trainer.meta_init_, n_steps=steps
            )
            for steps in (1, 5, 10, 50)
        }
    kernel = ConstantKernel(1.0) * RBF(1.0)
    rows["GP, RBF kernel, from scratch"] = GaussianProcessRegressor(
        kernel, alpha=1e-6, normalize_y=False, n_restarts_optimizer=2, random_state=0
    )
    rows["ridge, from scratch"] = Ridge()
    versions = (
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )
    print(f"MSE over {N_EPISODES:,} tasks, {time.strftime('%Y-%m-%d')}, {versions}")
    for name, candidate in rows.items():
        told = "  ".join(f"K={k}: {score(candidate, k)}" for k in SHOTS)
        print(f"{name:30} {told}", flush=True)


if __name__ == "__main__":
    main()
