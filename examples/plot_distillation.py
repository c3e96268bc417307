"""
Teach a fast classifier with the probabilities of a slow ensemble
=================================================================

Five new letters, one labelled drawing of each, and forty more that nobody has labelled. Three
convolutional networks that ship with the package, which vote (`VotingClassifier`), tell them apart
nearly without error, but slowly. A small fully connected one is fast and less sure. So the
ensemble, the teacher, adapts to the five drawings and says how likely each of the forty is each
letter; the fast one, the student, is fitted to that: `fit` takes probabilities, a column a class,
in the place of labels (Hinton et al. 2015). From then on the teacher is not needed.

Two thirds of what the student is behind the teacher is made up so, more than by the student's own
guesses at the forty. That they are probabilities does not matter here, where the teacher is sure:
its guesses alone teach as much. Takes a minute or two.
"""

# %%
# Teacher and student
# -------------------
# The teacher's parts are meta-inits that ship, of three methods. The student is meta-trained on the
# alphabets that they were trained on; letters of six others are new to all.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import VotingClassifier

from fewshot_sklearn import (
    EpisodeSplit,
    KernelLogisticClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    load_meta_init,
)
from fewshot_sklearn.datasets import load_omniglot

N_WAY = 5
N_UNLABELLED = 8  # drawings of each letter
N_QUERY = 4
N_EPISODES = 600
MAX_EPOCHS = 10

images, letters, alphabets = load_omniglot(return_X_y_groups=True)
init = load_meta_init("omniglot-conv4")
new = np.isin(alphabets, init.card()["left out"].split(", "))
X, y = images[new], letters[new].astype(str)

began = time.process_time()
trainer = MetaTrainer(
    ProtoNetClassifier(encoder="mlp", encoder__hidden=(256, 64)),
    n_way=20,
    n_shot=1,
    n_query=3,
    max_epochs=MAX_EPOCHS,
    validation_fraction=0,
    random_state=0,
    verbose=0,
)
fast = trainer.fit(images[~new], letters[~new]).estimator_
slow = VotingClassifier(
    [
        ("prototypes", ProtoNetClassifier(init)),
        ("prototypes of turned letters, too", ProtoNetClassifier("omniglot-conv4-turns")),
        ("a kernel head", KernelLogisticClassifier("omniglot-conv4-kernel")),
    ],
    voting="soft",
)
print(f"meta-training of the student: {time.process_time() - began:.0f} CPU-seconds")

# %%
# One task after the other
# ------------------------
# The unlabelled drawings are the first of the rows that an episode would ask about. Labelled ones
# have a probability of one.

TAUGHT = (
    "the labels alone",
    "its own guesses",
    "the teacher's guesses",
    "the teacher's probabilities",
)
right = {name: [] for name in ("the teacher itself", *TAUGHT)}
seconds = {"teacher": 0.0, "student": 0.0}
split = EpisodeSplit(
    n_way=N_WAY,
    n_shot=1,
    n_query=N_UNLABELLED + N_QUERY,
    n_episodes=N_EPISODES,
    random_state=0,
)
for episode, (few, others) in enumerate(split.split(X, y)):
    others = np.random.default_rng(episode).permutation(others)
    more, asked = np.split(others, [N_WAY * N_UNLABELLED])
    both, labels, classes = np.concatenate([few, more]), y[few], np.unique(y[few])

    slow.fit(X[few], labels)
    taught = slow.predict_proba(X[more])
    began = time.process_time()
    right["the teacher itself"].append(np.mean(slow.predict(X[asked]) == y[asked]))
    seconds["teacher"] += time.process_time() - began

    sure = (labels[:, None] == classes).astype(float)
    guesses = np.concatenate([labels, classes[taught.argmax(1)]])
    students = (
        fast.fit(X[few], labels),
        ProtoNetClassifier(fast.meta_init, unlabelled="?").fit(
            X[both], np.concatenate([labels, np.repeat("?", len(more))])
        ),
        ProtoNetClassifier(fast.meta_init).fit(X[both], guesses),
        ProtoNetClassifier(fast.meta_init).fit(X[both], np.concatenate([sure, taught])),
    )
    for name, student in zip(TAUGHT, students, strict=True):
        began = time.process_time()
        predicted = student.predict(X[asked])
        seconds["student"] += (time.process_time() - began) / len(TAUGHT)
        truth = y[asked] if name != TAUGHT[-1] else np.searchsorted(classes, y[asked])
        right[name].append(np.mean(predicted == truth))

# %%
# What they get right, and how long they take
# -------------------------------------------

n_asked = N_EPISODES * N_WAY * N_QUERY
cost = {name: 1e6 * took / n_asked for name, took in seconds.items()}
gain = np.subtract(right["the teacher's probabilities"], right["the labels alone"])
print(f"{N_WAY} letters, one labelled drawing of each; accuracy, % ({N_EPISODES} episodes)")
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, found in right.items():
    mean, half = 100 * np.mean(found), 196 * np.std(found, ddof=1) / N_EPISODES**0.5
    who = "teacher" if name == "the teacher itself" else "student"
    print(f"{who + ': ' + name:38s} {mean:.1f} ± {half:.1f}, {cost[who]:.0f} us a prediction")
    axis.errorbar(cost[who], mean, half, fmt="o", capsize=4, label=f"{who}: {name}")
half = 196 * gain.std(ddof=1) / N_EPISODES**0.5
print(f"what the teacher's probabilities add: {100 * gain.mean():.1f} ± {half:.1f}")
axis.set(xlabel="microseconds of a processor, a prediction", ylabel="accuracy, %", xlim=0)
axis.legend(fontsize=8)
plt.show()
