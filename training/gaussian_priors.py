"""How near to the best possible a Gaussian prior can come on noisy sinusoids, and mixtures of them.

    python training/gaussian_priors.py

Linear regression on the true basis, sine and cosine, with noise of 0.3; its prior is a mixture
of Gaussians of one covariance, fitted to the weights of 20,000 tasks. Prints the mean squared
error over the Bayes floor, at 5, 10 and 20 rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from curves import SHOTS, bayes_floor, curve_tasks
from scipy.special import softmax
from sklearn.mixture import GaussianMixture

NOISE = 0.3
#: Tasks that the priors are fitted to, and the numbers of their Gaussians.
N_PAST, N_GAUSSIANS = 20_000, (1, 2, 4, 8, 16, 64)


def basis(x: np.ndarray) -> np.ndarray:
    """Sine and cosine of inputs (T, n), as (T, n, 2)."""
    return np.stack([np.sin(x), np.cos(x)], -1)


def error(prior: GaussianMixture, n_shot: int) -> float:
    """Mean squared error of the posterior mean against the noiseless curves."""
    X, y, X_query, _, truth = (
        a.reshape(len(a), -1) for a in curve_tasks("sinusoids", n_shot, NOISE)
    )
    F = basis(X)
    covariance = prior.covariances_
    precision = np.linalg.inv(F @ covariance @ F.mT + NOISE**2 * np.eye(n_shot))
    gain = covariance @ F.mT @ precision
    logs, weights = [], []
    for mean, share in zip(prior.means_, prior.weights_, strict=True):
        rest = (y - F @ mean)[..., None]
        logs.append(np.log(share) - 0.5 * (rest.mT @ precision @ rest)[:, 0, 0])
        weights.append(mean + (gain @ rest)[..., 0])
    posterior = (softmax(logs, axis=0)[..., None] * weights).sum(0)
    return float(np.square((basis(X_query) @ posterior[..., None])[..., 0] - truth).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args(argv)
    rng = np.random.default_rng(0)
    size, phase = rng.uniform(0.1, 5, N_PAST), rng.uniform(0, np.pi, N_PAST)
    tasks = np.stack([size * np.cos(phase), size * np.sin(phase)], 1)
    floors = [bayes_floor(n_shot, NOISE) for n_shot in SHOTS]
    for n in N_GAUSSIANS:
        prior = GaussianMixture(n, covariance_type="tied", random_state=0).fit(tasks)
        ratios = [error(prior, k) / floor for k, floor in zip(SHOTS, floors, strict=True)]
        print(n, [round(ratio, 3) for ratio in ratios], flush=True)


if __name__ == "__main__":
    main()
