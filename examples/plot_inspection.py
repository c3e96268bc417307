"""
Look at what a few-shot estimator knows
=======================================

Five questions to ask a meta-trained estimator, and the picture or table that
answers each: what does it see in this task, what does a new class remind it of,
why did it predict this, how alike are the past tasks, and how does it adapt?
Takes about a minute on one core.
"""

# %%
# A prototypical network that has read 24 alphabets
# -------------------------------------------------
# Six of the bundled alphabets are kept back. The training is short: the
# one of :doc:`plot_omniglot` goes on for longer, and reads better.

import matplotlib.pyplot as plt
import numpy as np

from fewshot_sklearn import MAMLRegressor, MetaTrainer, ProtoNetClassifier, TaskMemory
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks
from fewshot_sklearn.inspection import (
    AdaptationDisplay,
    EmbeddingDisplay,
    PrototypeDisplay,
    TaskSimilarityDisplay,
)

images, letters, alphabets = load_omniglot(return_X_y_groups=True)
names = np.unique(alphabets.astype(str))
new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
trainer = MetaTrainer(
    ProtoNetClassifier(encoder="conv4"),
    n_way=14,
    n_shot=1,
    n_query=3,
    n_episodes=60,
    batch_size=2,
    lr=2e-3,
    max_epochs=5,
    validation_fraction=0,
    random_state=0,
    verbose=0,
)
clf = trainer.fit(images[~new], letters[~new], groups=alphabets[~new]).estimator_
print(clf.meta_init)

# %%
# What does it see in this task?
# ------------------------------
# Five letters of Sanskrit that it has never seen, three drawings of each to
# learn from, twelve to be judged on. `EmbeddingDisplay` shows them where the
# classifier decides, in the features of its encoder: a query belongs to the
# nearest star. Where two classes overlap *and* crosses pile up, more support
# rows help; a support row far from its star may carry a wrong label. Mind the
# axes: two dimensions show about half of the variance.

rng = np.random.default_rng(3)
five = rng.choice(np.unique(letters[alphabets == "Sanskrit"].astype(str)), 5, replace=False)
drawn = np.stack([rng.permutation(np.flatnonzero(letters == letter))[:15] for letter in five])
support, query = drawn[:, :3].ravel(), drawn[:, 3:].ravel()
X_support, y_support = images[support], letters[support].astype(str)
X_query, y_query = images[query], letters[query].astype(str)
EmbeddingDisplay.from_estimator(clf, X_support, y_support, X_query, y_query)
plt.show()

# %%
# What does a new class remind it of?
# -----------------------------------
# A `TaskMemory` holds the mean features of each past class: no drawing, unless
# asked to keep the most typical one of each, as here. `PrototypeDisplay` shows
# the past letters whose means are nearest to those of the new ones: most of
# them are Bengali, the nearest relative of Sanskrit's script among the past.

past = np.flatnonzero(~new)[::2]  # ten drawings a letter are plenty for a mean
memory = TaskMemory.from_data(clf, images[past], letters[past], alphabets[past], keep_rows=True)
print(memory)
PrototypeDisplay.from_estimator(clf, X_support, y_support, past=memory)
plt.show()

# %%
# Why did it predict this?
# ------------------------
# The same neighbourhoods in numbers, for one row that was classified wrongly:
# the nearest support rows, with their labels, and the nearest past letters.

clf.fit(X_support, y_support)
wrong = np.flatnonzero(clf.predict(X_query) != y_query)[:1]
print("it is:", *y_query[wrong])
told = clf.explain(X_query[wrong], past=memory)
print(told.drop(columns=["row", "metric"]).round(2).to_string(index=False, na_rep=""))

# %%
# How alike are the past tasks?
# -----------------------------
# By alphabet: how far the letters of one are, on average, from the nearest
# letter of another. The order is that of a hierarchical clustering, so families
# are blocks on the diagonal. What the matrix shows to be unlike everything else
# is where more past tasks would help most.

TaskSimilarityDisplay.from_memory(memory, by="groups")
plt.show()

# %%
# How does it adapt?
# ------------------
# Methods of the other kind, such as MAML, learn a task in gradient steps.
# `AdaptationDisplay` follows the loss of the support rows and the score of the
# queries from step to step, also past the number that it was trained with
# (the dotted line). Here a sinusoid is fitted to ten points.

sinusoids = make_sinusoid_tasks(300, n_shot=10, n_query=15, random_state=0)
trainer = MetaTrainer(
    MAMLRegressor(encoder="mlp", encoder__hidden=(40, 40), n_steps=5, inner_lr=0.05),
    n_shot=10,
    n_query=10,
    n_episodes=200,
    lr=3e-3,
    max_epochs=25,
    validation_fraction=0,
    random_state=0,
    verbose=0,
)
reg = trainer.fit(sinusoids.data, sinusoids.target, sinusoids.groups).estimator_
task = make_sinusoid_tasks(1, n_shot=10, n_query=50, random_state=5)
X, y = task.data, task.target
AdaptationDisplay.from_estimator(reg, X[:10], y[:10], X[10:], y[10:], n_steps=20, log_loss=True)
plt.show()

# %%
# Which past functions are like the new one?
# ------------------------------------------
# All sinusoids have the same inputs: it is not by features that two of them
# resemble each other, but by what was learned of them. The memory of a
# regression holds the adapted network of each past task; those that explain
# the ten new rows best come first. On the map, two tasks are as far apart as
# their networks' predictions: in the middle is the function that is flat, the
# amplitude grows outward, and the phase goes around, half a turn as in the data.

functions = TaskMemory.from_data(reg, sinusoids.data, sinusoids.target, sinusoids.groups)
ids, errors = functions.nearest_tasks(reg, X[:10], y[:10])
print("past tasks that explain the new rows best:", ids, "errors:", errors.round(3))
TaskSimilarityDisplay.from_memory(
    functions,
    estimator=reg,
    X=np.linspace(-5, 5, 50)[:, None],
    kind="map",
    values=functions.y_scale[:, 0],
    values_label="standard deviation of the targets",
)
plt.show()
