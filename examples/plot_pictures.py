"""
From a folder of pictures to a classifier
=========================================

A folder with a subfolder a class is read, five pictures of each class are learned from, and the
others are named. The pictures are patches of photographs, and the question is of which one: the
astronaut, the coffee, the rocket. A small network learns from the patches of six other photographs
what tells such apart. It is right more often than what needs no past: logistic regression on twelve
statistics of the colours, logistic regression on the pixels, and their nearest neighbour. Takes one
to two minutes, and ``pip install scikit-image``, in whose wheel most of the photographs are; the
others are scikit-learn's and Matplotlib's.

With a folder of your own: ``python plot_pictures.py FOLDER`` takes it in the place of the new
photographs.
"""

# %%
# A folder
# --------
# Patches of 48 x 48 on a grid, so that no two overlap, written as a user's pictures would be.

import sys
import tempfile
import time
from importlib.metadata import distribution
from itertools import permutations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import get_data_path
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from fewshot_sklearn import MetaTrainer, RidgeHeadClassifier, few_shot_score
from fewshot_sklearn.datasets import load_image_folder

SIZE = 48
N_PATCHES = 50  # of each part of a past photograph
N_EPISODES = 600
MAX_EPOCHS = 6
N_SHOT = 5
PAST = "chelsea.png", "china", "color.png", "ihc.png", "motorcycle_left.png", "retina.jpg"
NEW = (
    "astronaut.png",
    "coffee.png",
    "flower",
    "grace_hopper.jpg",
    "hubble_deep_field.jpg",
    "rocket.jpg",
)


def photograph(name):
    """One of the three packages'."""
    if name in ("china", "flower"):
        return load_sample_images().images[name == "flower"]
    place = distribution("scikit-image").locate_file(f"skimage/data/{name}")
    if name == "grace_hopper.jpg":
        place = Path(get_data_path(), "sample_data", name)
    return np.asarray(Image.open(place).convert("RGB"))


def write_folder(folder):
    """A subfolder for each new photograph."""
    for name in NEW:
        picture = photograph(name)
        (folder / Path(name).stem).mkdir()
        for i in range(0, picture.shape[0] - SIZE + 1, SIZE):
            for j in range(0, picture.shape[1] - SIZE + 1, SIZE):
                patch = Image.fromarray(picture[i : i + SIZE, j : j + SIZE])
                patch.save(folder / Path(name).stem / f"{i:04}-{j:04}.png")


with tempfile.TemporaryDirectory() as made:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else made)
    if len(sys.argv) == 1:
        write_folder(folder)
    pictures = load_image_folder(folder, size=(SIZE, SIZE))
X, y = pictures.data, pictures.target
print(f"{len(X)} pictures of {len(pictures.classes)} classes: {', '.join(pictures.classes)}")

# %%
# What is learned from
# --------------------
# Patches anywhere in quarters of six other photographs; each quarter, and each permutation of its
# colours, is a class, so that there are more of them. How this is done was chosen on other splits.

rng = np.random.default_rng(0)
X_past, y_past = [], []
for name in PAST:
    picture = photograph(name)
    high, wide = np.array(picture.shape[:2]) // 2
    for quarter in range(4):
        top, left = np.array(divmod(quarter, 2)) * (high, wide)
        for order in permutations(range(3)):
            corners = rng.integers(
                (top, left), (top + high - SIZE, left + wide - SIZE), (N_PATCHES, 2)
            )
            X_past += [picture[i : i + SIZE, j : j + SIZE][..., order] for i, j in corners]
            y_past += [f"{name} {quarter} {order}"] * N_PATCHES

began = time.process_time()
trainer = MetaTrainer(
    RidgeHeadClassifier(
        encoder="conv4",
        encoder__width=32,
        encoder__pool="moments",
        encoder__color_moments=True,
    ),
    n_way=5,
    n_shot=(1, 5),
    n_query=6,
    n_episodes=64,
    batch_size=4,
    max_epochs=MAX_EPOCHS,
    validation_fraction=0,
    random_state=0,
    verbose=0,
)
learned = trainer.fit(np.stack(X_past), np.array(y_past)).estimator_
print(f"meta-training: {time.process_time() - began:.0f} CPU-seconds")

# %%
# Beside what needs no past
# -------------------------
# Accuracy when five classes are drawn and five pictures of each, over 600 draws, the same for all.

Z = X.reshape(len(X), -1, 3) / 255
statistics = np.hstack([Z.mean(1), Z.std(1), *np.quantile(Z, [0.25, 0.75], 1)])
small = X[:, ::4, ::4].reshape(len(X), -1) / 255
MODELS = {
    "meta-trained network": (learned, X),
    "statistics of colours, logistic": (LogisticRegression(C=100, max_iter=300), statistics),
    "pixels, logistic": (LogisticRegression(C=1, max_iter=300), small),
    "pixels, nearest neighbour": (KNeighborsClassifier(1), small),
}
n_way = min(5, len(pictures.classes))
for name, (model, rows) in MODELS.items():
    began = time.process_time()
    score = few_shot_score(
        model, rows, y, n_way=n_way, n_shot=N_SHOT, n_query=5, n_episodes=N_EPISODES, random_state=0
    )
    took = time.process_time() - began
    print(f"{name:33s} {100 * score.mean:.1f} ± {100 * score.ci95:.1f} %, {took:.0f} CPU-seconds")

# %%
# Named
# -----
# Five pictures of every class are learned from; of the others as many of each are shown, with
# the name that they are given, red where it is wrong.

order = rng.permutation(len(X))
support = np.concatenate([order[y[order] == name][:N_SHOT] for name in pictures.classes])
others = np.setdiff1d(order, support)
began = time.process_time()
predicted = learned.fit(X[support], y[support]).predict(X[others])
took = 1000 * (time.process_time() - began)
print(f"fitted to {len(support)} and {len(others)} named in {took:.0f} CPU-ms")
figure, tiles = plt.subplots(4, 9, figsize=(11, 5.5), layout="constrained")
mixed = rng.permutation(len(others))
shown = [
    mixed[y[others[mixed]] == name][: 36 // len(pictures.classes)] for name in pictures.classes
]
for tile, place in zip(tiles.flat, np.concatenate(shown), strict=False):
    tile.imshow(X[others[place]])
    right = predicted[place] == y[others[place]]
    tile.set_title(str(predicted[place])[:12], fontsize=8, color="k" if right else "r")
for tile in tiles.flat:
    tile.axis("off")
plt.show()
