"""
Learn to read new alphabets from one drawing of each letter
===========================================================

Meta-train a prototypical network on 24 of the alphabets that ship with the
package, keep the six others back, and see how well one drawing of each letter
of those is enough: beside the scikit-learn classifiers that see the same
drawings. Takes about five minutes on two cores.
"""

# %%
# The past: alphabets whose letters we have seen many times
# ---------------------------------------------------------
# Six alphabets, chosen by a seed, are kept out of everything below until the
# last two sections. Every letter turned by 90, 180 and 270 degrees is a new letter.

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from skorch.callbacks import LRScheduler

from fewshot_sklearn import MetaInit, MetaTrainer, ProtoNetClassifier, few_shot_score
from fewshot_sklearn.datasets import load_omniglot
from fewshot_sklearn.tasks import RandomAffine, add_rotations

output = Path(os.environ.get("FEWSHOT_DEMO_OUTPUT", "demo_output"))
output.mkdir(exist_ok=True)
epochs = int(os.environ.get("FEWSHOT_DEMO_EPOCHS", "14"))

print("reading the drawings that come with the package ...", flush=True)
images, letters, alphabets = load_omniglot(return_X_y_groups=True)
names = np.unique(alphabets.astype(str))
new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
X_past, y_past, alphabets_past = add_rotations(images[~new], letters[~new], alphabets[~new])
X_new, y_new, alphabets_new = images[new], letters[new], alphabets[new]
print(f"past: {len(np.unique(y_past))} letters of 24 alphabets, turned ones included")
print(f"new:  {len(np.unique(y_new))} letters of {', '.join(np.unique(alphabets_new.astype(str)))}")
print(f"meta-training: {epochs} epochs, some minutes; valid_score is of two alphabets kept out")

# %%
# Meta-train once
# ---------------
# An episode is 40 letters: one drawing of each to adapt to, three to be judged
# on. Two of the past alphabets are the validation set.

trainer = MetaTrainer(
    ProtoNetClassifier(encoder="conv4"),
    n_way=40,
    n_shot=1,
    n_query=3,
    n_episodes=96,
    n_valid_episodes=24,
    batch_size=2,
    validation_fraction=0.08,
    augment=RandomAffine(),
    lr=2e-3,
    max_epochs=epochs,
    callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
    random_state=0,
)
start = time.perf_counter()
trainer.fit(X_past, y_past, groups=alphabets_past)
cost = time.perf_counter() - start
trainer.meta_init_.save(output / "omniglot.safetensors")
print(f"meta-trained in {cost:.0f} s on {torch.get_num_threads()} threads: {trainer.meta_init_}")

# %%
# For ever after: fit on one drawing each
# ---------------------------------------
# Five letters that nobody has seen, one drawing of each.

clf = ProtoNetClassifier(MetaInit.load(output / "omniglot.safetensors"))
rng = np.random.default_rng(1)
five = rng.choice(np.unique(y_new.astype(str)), 5, replace=False)
support = np.array([rng.choice(np.flatnonzero(y_new == letter)) for letter in five])
query = np.concatenate([np.setdiff1d(np.flatnonzero(y_new == letter), support) for letter in five])
start = time.perf_counter()
clf.fit(X_new[support], y_new[support])
predicted = clf.predict(X_new[query])
print(f"fit on 5 drawings and predict {len(query)}: {1e3 * (time.perf_counter() - start):.0f} ms")
print(f"accuracy: {(predicted == y_new[query]).mean():.3f}")

# %%
# Does it help? Compare with plain scikit-learn
# ---------------------------------------------
# 600 episodes of letters drawn from all six new alphabets together, the same
# for all. No classifier but ours has seen other letters before.


def flatten():
    return FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255.0)


rivals = {
    "ProtoNet, meta-trained": clf,
    "pixel nearest neighbour": make_pipeline(flatten(), Normalizer(), KNeighborsClassifier(1)),
    "pixel logistic regression": make_pipeline(flatten(), LogisticRegression(max_iter=200)),
}
settings = {"5-way 1-shot": (5, 1), "5-way 5-shot": (5, 5), "20-way 1-shot": (20, 1)}
scores = {}
print(f"\n{'accuracy, % (95% interval, 600 episodes)':42}", *(f"{s:>16}" for s in settings))
for name, estimator in rivals.items():
    for setting, (n_way, n_shot) in settings.items():
        scores[name, setting] = few_shot_score(
            estimator, X_new, y_new, n_way=n_way, n_shot=n_shot, n_query=5, random_state=0
        )
    told = (scores[name, s] for s in settings)
    print(f"{name:42}", *(f"{100 * s.mean:9.2f} ± {100 * s.ci95:4.2f}" for s in told))
within = few_shot_score(clf, X_new, y_new, alphabets_new, n_way=20, n_query=5, random_state=0)
told = f"{100 * within.mean:.2f} ± {100 * within.ci95:.2f}"
print(f"harder: 20 letters of one alphabet, 1 shot:  {told}")

# %%
# The picture
# -----------
# Above, the five drawings that were learned from, and what was made of ten
# others, in green where it is right and in red where it is wrong, with what
# they are; below, the comparison.


def short(letter):
    return str(letter).replace("/character", " ")


figure = plt.figure(figsize=(10, 8), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1.4, 1])
tiles = top.subplots(3, 5)
shown = rng.permutation(len(query))[:10]
for column, tile in enumerate(tiles[0]):
    tile.imshow(X_new[support[column]], cmap="gray_r")
    tile.set_title(short(y_new[support[column]]), fontsize=8)
for tile, chosen in zip(tiles[1:].flat, shown, strict=True):
    told, truth = predicted[chosen], y_new[query[chosen]]
    tile.imshow(X_new[query[chosen]], cmap="gray_r")
    tile.set_title(
        f"told: {short(told)}\nis: {short(truth)}",
        fontsize=8,
        color="tab:green" if told == truth else "tab:red",
    )
for tile in tiles.flat:
    tile.set(xticks=[], yticks=[])
tiles[0, 0].set_ylabel("learned from")
tiles[1, 0].set_ylabel("predicted")
top.suptitle("One drawing of each of five new letters, and ten others (green: right, red: wrong)")
axis = bottom.subplots()
height = 0.8 / len(rivals)
for i, name in enumerate(rivals):
    where = np.arange(len(settings)) + i * height
    found = [scores[name, s] for s in settings]
    axis.barh(
        where, [100 * s.mean for s in found], height, xerr=[100 * s.ci95 for s in found], label=name
    )
axis.set_yticks(np.arange(len(settings)) + 1.5 * height, list(settings))
axis.invert_yaxis()
axis.set(xlabel="accuracy on letters of new alphabets, %", xlim=(0, 100))
axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, frameon=False, fontsize=8)
figure.savefig(output / "omniglot.png", dpi=150)
print(f"\nwritten: {output / 'omniglot.safetensors'}, {output / 'omniglot.png'}")
