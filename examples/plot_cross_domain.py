"""
How far from letters does an encoder of letters reach?
======================================================

The encoder that ships was meta-trained on handwritten letters. Here it tells five classes apart
from one picture of each, in domains ever less like letters: letters that it has not seen, printed
symbols, digits of a coarse scanner, letters in black on white instead of white on black, and
patches of photographs. Beside it the nearest neighbour on the pixels. The encoder wins by far on
letters and symbols, is level on digits, reads inverted letters badly and loses on photographs.

That a task is unlike the past can be seen before any answer is judged: by the distance of the
labelled pictures from the letters of the past, which is largest where accuracy is lowest, and by
`task_p_value_` of a `TrustLearner`. Both say that nothing is promised, not that all is lost: of the
symbols, which are read well, some are flagged too. Takes about a minute; all data are in packages.
"""

# %%
# Domains
# -------
# Pictures of 28 x 28 with ink in white, as the encoder knows them. The symbols are of the fonts in
# Matplotlib's wheel, the digits and photographs are scikit-learn's.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_images
from sklearn.neighbors import KNeighborsClassifier

from fewshot_sklearn import (
    EpisodeSplit,
    ProtoNetClassifier,
    TaskMemory,
    TrustLearner,
    few_shot_score,
    load_meta_init,
)
from fewshot_sklearn.datasets import load_omniglot

N_EPISODES = 600
N_TASKS = 200  # to be looked at by TrustLearner, of which it learns from as many
N_QUERY = 5
FEWER = 4  # each fourth drawing of the past is remembered
SYMBOLS = "αβγδεζηθλμξπρσφχψωΓΔΘΛΞΠΣΦΨΩ∀∂∃∅∇∈∏∑√∞∧∩∫≈≠≡≤≥⊂⊕⊗"
FACES = [f"DejaVu{kind}" for kind in ("Sans", "Sans-Bold", "SansMono", "Serif", "Serif-Bold")]
SIZES = 20, 24


def printed_symbols():
    """Each symbol in five faces and two sizes."""
    drawn = []
    for symbol in SYMBOLS:
        for face in FACES:
            for size in SIZES:
                font = ImageFont.truetype(
                    Path(get_data_path(), "fonts", "ttf", f"{face}.ttf"), size
                )
                picture = Image.new("L", (28, 28))
                ImageDraw.Draw(picture).text((14, 14), symbol, 255, font, anchor="mm")
                drawn.append(np.asarray(picture))
    return np.stack(drawn), np.repeat(list(SYMBOLS), len(FACES) * len(SIZES))


def coarse_digits():
    """Scikit-learn's digits, 8 x 8, each pixel three times as large."""
    X, y = load_digits(return_X_y=True)
    large = np.kron(X.reshape(-1, 8, 8), np.ones((3, 3))) * (255 / 16)
    return np.pad(large, [(0, 0), (2, 2), (2, 2)]).astype(np.uint8), y


def patches():
    """Grey tiles of two photographs; a class is one of twelve regions of each."""
    X, y = [], []
    for picture, image in enumerate(load_sample_images().images):
        grey = image.mean(2).astype(np.uint8)
        for i in range(grey.shape[0] // 28):
            for j in range(grey.shape[1] // 28):
                X.append(grey[28 * i : 28 * i + 28, 28 * j : 28 * j + 28])
                y.append(f"{picture} {i // 5} {j // 6}")
    return np.stack(X), np.array(y)


# Of the alphabets that it was not trained on, every other letter is to learn trust from.
init = load_meta_init("omniglot-conv4")
images, letters, alphabets = load_omniglot(return_X_y_groups=True)
past = ~np.isin(alphabets, init.card()["left out"].split(", "))
every_other = np.unique(letters, return_inverse=True)[1] % 2 == 0
kept, new = ~past & every_other, ~past & ~every_other
DOMAINS = {
    "new letters": (images[new], letters[new]),
    "printed symbols": printed_symbols(),
    "coarse digits": coarse_digits(),
    "letters, black on white": (255 - images[new], letters[new]),
    "photographs": patches(),
}

# %%
# What it knows, and what to trust
# --------------------------------
# The memory holds the mean features of each letter of the past. `TrustLearner` asks about tasks of
# the letters kept for it.

clf = ProtoNetClassifier(init)
began = time.process_time()
memory = TaskMemory.from_data(clf, images[past][::FEWER], letters[past][::FEWER])
learner = TrustLearner(clf, n_shots=(1,), n_query=N_QUERY, n_episodes=N_TASKS, random_state=0)
trusted = learner.fit(images[kept], letters[kept]).estimator_
print(f"memory and trust: {time.process_time() - began:.0f} CPU-seconds")

# %%
# Accuracy beside novelty
# -----------------------
# Five classes, one picture of each. Novelty is the mean distance of these five from the nearest
# letter of the past, in the encoder's features; flagged is a task whose p-value is below 0.01.

figure, (axis, tiles) = plt.subplots(
    1, 2, figsize=(11, 4.5), layout="constrained", width_ratios=(2, 1)
)
strips = []
for place, (name, (X, y)) in enumerate(DOMAINS.items()):
    how = dict(n_way=5, n_shot=1, n_query=N_QUERY, n_episodes=N_EPISODES, random_state=0)
    ours = few_shot_score(clf, X, y, **how)
    pixels = few_shot_score(KNeighborsClassifier(1), X.reshape(len(X), -1) / 255.0, y, **how)
    supports = [support for support, _ in EpisodeSplit(**how).split(X, y)]
    _, far = memory.nearest(clf.embed(X), n_neighbors=1)
    novelty = np.array([far[support, 0].mean() for support in supports])
    flagged = np.mean([trusted.fit(X[s], y[s]).task_p_value_ < 0.01 for s in supports[:N_TASKS]])
    print(
        f"{name:25s} accuracy {100 * ours.mean:.1f} ± {100 * ours.ci95:.1f} %, pixels "
        f"{100 * pixels.mean:.1f} ± {100 * pixels.ci95:.1f} %, novelty {novelty.mean():.1f}, "
        f"flagged {100 * flagged:.0f} % of tasks"
    )
    color = f"C{place}"
    axis.plot(novelty, ours.scores + np.linspace(-0.015, 0.015, N_EPISODES), ".", ms=2, color=color)
    axis.errorbar(novelty.mean(), ours.mean, ours.ci95, fmt="o", color=color, label=name, zorder=3)
    axis.plot(novelty.mean(), pixels.mean, "x", color=color, ms=8, zorder=3)
    classes = np.unique(y, return_index=True)[1][:: len(np.unique(y)) // 5][:5]
    strips.append(np.hstack(X[classes]))
axis.plot([], [], "kx", label="pixels' nearest neighbour")
axis.axhline(0.2, color="k", ls=":", lw=1)
axis.set(xlabel="novelty: distance from the letters of the past", ylabel="accuracy, five classes")
axis.legend(fontsize=8, loc="lower left")
tiles.imshow(np.vstack(strips), cmap="gray")
tiles.set(xticks=[], yticks=14 + 28 * np.arange(len(DOMAINS)), yticklabels=list(DOMAINS))
plt.show()
