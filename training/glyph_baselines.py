"""What needs no training, on the letters that the glyph encoders are measured on.

    pip install scikit-image
    python training/glyph_baselines.py              # on the letters of the cards' figures
    python training/glyph_baselines.py --split 1    # on those of another six alphabets

Nearest neighbour on histograms of oriented gradients (N. Dalal and B. Triggs, Histograms of
oriented gradients for human detection, CVPR 2005) is the floor that no encoder here may be below.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from glyphs import measure_glyphs, past_and_new
from scipy.ndimage import gaussian_filter
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def flat(images: np.ndarray) -> np.ndarray:
    """Grey values between zero and one, a row an image."""
    return images.reshape(len(images), -1) / 255.0


def gradients(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients of smoothed images, a row an image.

    The best of eight settings, chosen on these very letters.
    """
    settings = {"orientations": 8, "pixels_per_cell": (7, 7), "cells_per_block": (4, 4)}
    return np.stack([hog(gaussian_filter(image / 255.0, 1.0), **settings) for image in images])


BASELINES = {
    "nearest neighbour, HOG": (gradients, KNeighborsClassifier(1)),
    "nearest neighbour, pixels": (flat, KNeighborsClassifier(1)),
    "nearest centroid, pixels": (flat, NearestCentroid()),
    "logistic regression, pixels": (flat, LogisticRegression(C=10.0, max_iter=200)),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=600, help="a figure")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    _, new = past_and_new(options.split)
    print("| | task | accuracy, % |\n|---|---|---|")
    for name, (features, classifier) in BASELINES.items():
        estimator = make_pipeline(FunctionTransformer(features), classifier)
        for figure in measure_glyphs(estimator, new, options.episodes):
            told = f"{figure['mean']:g} ± {figure['ci95']:g}"
            print(f"| {name} | {figure['task']} | {told} |", flush=True)


if __name__ == "__main__":
    main()
