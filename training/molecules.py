"""Ten active and ten inactive molecules of a new assay: what past assays add.

    python training/molecules.py --data FOLDER            # Tox21 and SIDER, as published
    python training/molecules.py --data FOLDER --choose   # how the settings were chosen

FOLDER holds ``tox21.csv.gz`` and ``sider.csv.gz``: a column of SMILES, and one column an assay
of zeros, ones and blanks (https://moleculenet.org). Needs rdkit. Nothing that is made of the
data is kept: the data are under their owners' terms.

A molecule is described by what past assays say of it: its label where it was measured, what a
random forest of the assay predicts where it was not. On these few columns `RidgeHeadRegressor`
learns, from the past assays, the prior of the weights, mean and covariance: which directions
matter to a new assay, before its first label and after twenty.

The last three assays of Tox21 and the last six of SIDER are new, the others past, as in

Y. Wang, A. Abuduweili, Q. Yao and D. Dou. Property-aware relation networks for
few-shot molecular property prediction. NeurIPS 2021.

Z. Guo, C. Zhang, W. Yu, J. Herr, O. Wiest, M. Jiang and N. Chawla. Few-shot graph learning for
molecular property prediction. WWW 2021.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestCentroid

from fewshot_sklearn import MetaTrainer, RidgeHeadClassifier, RidgeHeadRegressor, few_shot_score
from fewshot_sklearn.model_selection import standard_error

#: Assays held out, from the last.
N_NEW = {"tox21": 3, "sider": 6}
#: Columns that are no assay.
NOT_ASSAYS = ("smiles", "mol_id")
#: Labelled molecules of a new assay, active and inactive each.
N_SHOT = 10
#: Molecules asked about in an episode of training, active and inactive each.
N_QUERY = 32
#: Trees of an assay's forest, and of the one that is fitted to a support set alone.
N_TREES, N_TREES_ALONE = 100, 50
#: Principal components of the fingerprints that may stand beside the past assays.
N_COMPONENTS = 10
#: What `choose` found best on the past assays of both: with components or not, and epochs.
SETTINGS = (False, 10)
SEED = 0


# ------------------------------------------------------------------ molecules
class Assays(NamedTuple):
    """Molecules, and what was measured of them.

    Parameters
    ----------
    names : tuple of str
        The assays.
    fingerprints : ndarray of shape (n_molecules, n_features), dtype float32
        ECFP4 counts (logarithms) of 2,048 bits, then MACCS keys and descriptors.
    labels : ndarray of shape (n_molecules, n_assays)
        1 active, 0 inactive, NaN not measured.
    """

    names: tuple[str, ...]
    fingerprints: np.ndarray
    labels: np.ndarray

    @property
    def small(self) -> np.ndarray:
        """MACCS keys and descriptors alone."""
        return self.fingerprints[:, 2048:]


def read_assays(path: str | Path) -> Assays:
    """Read a table of SMILES and labels.

    Rows whose SMILES does not parse are left out. Rows of one molecule become
    one, which is active where any of them is.
    """
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    table = pd.read_csv(path)
    molecules = [Chem.MolFromSmiles(text) for text in table["smiles"]]
    fine = [molecule is not None for molecule in molecules]
    molecules = [molecule for molecule in molecules if molecule is not None]
    same = np.array([Chem.MolToSmiles(molecule) for molecule in molecules])
    labels = table[fine].drop(columns=list(NOT_ASSAYS), errors="ignore").groupby(same).max()
    canonical, first = np.unique(same, return_index=True)
    assert list(labels.index) == list(canonical)
    fingerprints = molecular_features([molecules[i] for i in first])
    return Assays(tuple(labels.columns), fingerprints, labels.to_numpy(float))


def molecular_features(molecules: Sequence[Any]) -> np.ndarray:
    """Fingerprints and descriptors, the latter by rank: (n_molecules, n_features) float32."""
    from rdkit.Chem import MACCSkeys, rdFingerprintGenerator, rdMolDescriptors

    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    properties = rdMolDescriptors.Properties()
    surfaces = (
        rdMolDescriptors.PEOE_VSA_,
        rdMolDescriptors.SMR_VSA_,
        rdMolDescriptors.SlogP_VSA_,
    )
    counts = np.log1p([morgan.GetCountFingerprintAsNumPy(m) for m in molecules])
    keys = np.array([list(MACCSkeys.GenMACCSKeys(m)) for m in molecules])
    numbers = np.array(
        [[*properties.ComputeProperties(m), *(v for s in surfaces for v in s(m))]
         for m in molecules]
    )  # fmt: skip
    # their scales differ by orders of magnitude, and a few are huge
    ranks = rankdata(np.nan_to_num(numbers), axis=0) / len(numbers) - 0.5
    return np.hstack([counts, keys, ranks]).astype(np.float32)


# ------------------------------------------------------------------ what the past says of them
def predicted_activities(
    assays: Assays, rows: np.ndarray, n_trees: int = N_TREES, seed: int = SEED
) -> np.ndarray:
    """What a random forest of each assay predicts for each molecule, never from its own label.

    Forests learn from `rows` (bool) of the past assays, and predict these by the
    trees that did not see them: probabilities (n_molecules, n_assays).
    """
    X = assays.fingerprints[:, (assays.fingerprints[rows] > 0).sum(0) >= 10]
    predicted = np.empty_like(assays.labels)
    for j, labels in enumerate(assays.labels.T):
        known = rows & ~np.isnan(labels)
        forest = RandomForestClassifier(n_trees, oob_score=True, random_state=seed + j)
        with warnings.catch_warnings():  # with very few trees
            warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
            forest.fit(X[known], labels[known])
        out_of_bag = np.nan_to_num(forest.oob_decision_function_[:, 1], nan=labels[known].mean())
        predicted[known, j] = out_of_bag
        predicted[~known, j] = forest.predict_proba(X[~known])[:, 1]
    return predicted


def activity_columns(
    labels: np.ndarray, predicted: np.ndarray, rows: np.ndarray, known: bool
) -> np.ndarray:
    """Past activities of each molecule as columns of mean zero and variance one.

    Measured labels, and predictions where there are none; or, with `known`
    false, predictions alone. The scale is that of `rows` (bool). Zero says nothing.
    """
    if known:
        columns = np.where(np.isnan(labels), predicted, labels)
        mean = np.nanmean(labels[rows], 0)
        scale = np.sqrt(mean * (1 - mean))
    else:
        columns = np.log((predicted + 0.01) / (1.01 - predicted))
        mean, scale = columns[rows].mean(0), columns[rows].std(0)
    return (columns - mean) / scale


def components(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first principal components of features, of variance one among the rows."""
    pca = PCA(N_COMPONENTS, whiten=True, svd_solver="randomized", random_state=SEED)
    return pca.fit(features[rows]).transform(features)


# ------------------------------------------------------------------ learning from past assays
class PastEpisodes:
    """Episodes of past assays: a generator of tasks for `MetaTrainer`.

    The column that tells the activity in the episode's own assay is set to zero.

    `columns` (n_molecules, n_past or more) has past activities first; `labels`
    (n_molecules, n_past) is NaN where nothing was measured; `rows` (bool) says
    which molecules to draw from.
    """

    def __init__(self, columns: np.ndarray, labels: np.ndarray, rows: np.ndarray):
        self.columns = columns
        self.pools = [
            tuple(np.flatnonzero(rows & (label == activity)) for activity in (1, 0))
            for label in labels.T
        ]

    def __call__(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        own = int(rng.integers(len(self.pools)))
        support, query = [], []
        for pool in self.pools[own]:
            shuffled = rng.permutation(pool)
            shot = min(N_SHOT, len(pool) // 2)
            support.append(shuffled[:shot])
            query.append(rng.choice(shuffled[shot:], N_QUERY))
        parts: list[np.ndarray] = []
        for active, inactive in (support, query):
            X = self.columns[np.concatenate([active, inactive])]
            X[:, own] = 0
            parts += [X, np.repeat([1.0, -1.0], [len(active), len(inactive)])]
        return parts[0], parts[1], parts[2], parts[3]


def meta_train(episodes: PastEpisodes, n_epochs: int, seed: int = SEED) -> MetaTrainer:
    """Learn the prior of a linear model from past assays."""
    trainer = MetaTrainer(
        RidgeHeadRegressor(alpha=30.0), lr=3e-3, max_epochs=n_epochs, validation_fraction=0,
        random_state=seed, verbose=0, device="cpu",
    )  # fmt: skip
    return trainer.fit(episodes)


class ActivityClassifier(ClassifierMixin, BaseEstimator):
    """A regressor of +1 (active) and -1 (inactive) as a classifier.

    Past assays tell which molecules tend to be active. A few-shot classifier
    could not use that: to it, the classes of a new task are exchangeable.
    """

    def __init__(self, regressor: Any):
        self.regressor = regressor

    def fit(self, X: Any, y: Any) -> ActivityClassifier:
        """Fit to molecules and their labels, 0 or 1."""
        self.classes_ = np.unique(y)
        target = np.where(np.asarray(y) == self.classes_[-1], 1.0, -1.0)
        self.regressor_ = clone(self.regressor).fit(X, target)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """How active: the regressor's prediction."""
        return self.regressor_.predict(X)

    def predict(self, X: Any) -> np.ndarray:
        """Labels."""
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def meta_train_network(assays: Assays, rows: np.ndarray, n_epochs: int = 30) -> Any:
    """The usual way, for comparison: a ridge head on features learned across past assays."""
    measured = [np.flatnonzero(rows & ~np.isnan(label)) for label in assays.labels.T]
    trainer = MetaTrainer(
        RidgeHeadClassifier(encoder="mlp", encoder__hidden=(256, 64), encoder__dropout=0.2),
        n_way=2, n_shot=N_SHOT, n_query=N_QUERY // 2, max_epochs=n_epochs,
        validation_fraction=0, random_state=SEED, verbose=0, device="cpu",
    )  # fmt: skip
    y = np.concatenate([label[m] for label, m in zip(assays.labels.T, measured, strict=True)])
    groups = np.repeat(np.arange(len(measured)), [len(m) for m in measured])
    return trainer.fit(assays.small[np.concatenate(measured)], y.astype(int), groups).estimator_


# ------------------------------------------------------------------ measuring
def assay_scores(
    estimator: Any, X: np.ndarray, labels: np.ndarray, n_episodes: int, seed: int = SEED
) -> list[np.ndarray]:
    """ROC-AUC on all other molecules of each assay, after N_SHOT active and inactive ones.

    One array of `n_episodes` scores an assay; the seed makes the episodes the
    same for every estimator.
    """
    scores = []
    for label in labels.T:
        known = ~np.isnan(label)
        score = few_shot_score(
            estimator, X[known], label[known].astype(int), n_way=2, n_shot=N_SHOT, n_query=None,
            n_episodes=n_episodes, scoring="roc_auc", random_state=seed,
        )  # fmt: skip
        scores.append(score.scores)
    return scores


def figure(task: str, scores: list[np.ndarray]) -> dict[str, Any]:
    """Mean over assays, with the interval of what other support sets would give."""
    error = np.sqrt(sum(standard_error(one)[0] ** 2 for one in scores)) / len(scores)
    return {
        "task": task,
        "score": "roc_auc",
        "mean": round(float(np.mean([one.mean() for one in scores])), 4),
        "ci95": round(float(1.96 * error), 4),
        "episodes": sum(map(len, scores)),
    }


class Situation(NamedTuple):
    """What is known of molecules when a new assay comes.

    Past assays; labels in the new ones; and, for each fold, the molecules of the
    past and those of the new assays (both bool), past activities as columns, and
    components of the fingerprints.
    """

    past: Assays
    new: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def situations(assays: Assays, n_new: int, n_trees: int = N_TREES) -> dict[bool, Situation]:
    """Past and new assays, with the molecules' own past labels known (True) or not (False).

    Where they are known, molecules of the new assays take part in the past
    ones, as in the published protocol. Where they are not, half of the
    molecules are past, the others new; then the other way round.
    """
    past = Assays(assays.names[:-n_new], assays.fingerprints, assays.labels[:, :-n_new])
    new = assays.labels[:, -n_new:]
    half = np.random.default_rng(SEED).permutation(len(new)) % 2 == 0
    everyone = np.ones(len(new), bool)
    predicted = {side: predicted_activities(past, half == side, n_trees) for side in (True, False)}
    others = {side: components(past.small, half == side) for side in (True, False)}
    filled = np.where(half[:, None], predicted[False], predicted[True])
    known = activity_columns(past.labels, filled, everyone, known=True)
    strict = [
        (rows, ~rows, activity_columns(past.labels, predicted[side], rows, known=False),
         others[side])
        for side, rows in ((True, half), (False, ~half))
    ]  # fmt: skip
    return {
        True: Situation(past, new, [(everyone, everyone, known, components(past.small, everyone))]),
        False: Situation(past, new, strict),
    }


def measure(
    name: str, situation: Situation, known: bool, n_episodes: int = 600, baselines: bool = True
) -> list[dict[str, Any]]:
    """Measure the method and what stands beside it, on the same episodes.

    `n_episodes` is of all new assays together. Without `baselines` the network,
    and what does not use past assays, are left out. Where no support is used,
    ``episodes`` and ``ci95`` are 0.
    """
    with_components, n_epochs = SETTINGS
    past, new, folds = situation
    adapted: dict[str, list[np.ndarray]] = {}
    unadapted: dict[str, list[float]] = {}
    each = n_episodes // (new.shape[1] * len(folds))
    for rows, asked, activities, others in folds:
        columns = np.hstack([activities, others]) if with_components else activities
        reg = meta_train(PastEpisodes(columns, past.labels, rows), n_epochs).estimator_
        methods: dict[str, tuple[Any, np.ndarray]] = {
            "past activities, learned prior": (ActivityClassifier(reg), columns),
            "past activities, ridge without past": (RidgeHeadClassifier(), columns),
        }
        if baselines:
            network = meta_train_network(past, rows)
            methods["meta-learned network, ridge head"] = network, past.small
        if baselines and known:  # they know nothing of the past in either situation
            forest = RandomForestClassifier(N_TREES_ALONE, random_state=SEED)
            methods |= {
                "ridge head without past, support alone": (RidgeHeadClassifier(), past.small),
                "random forest, support alone": (forest, past.small),
                "logistic regression, support alone": (LogisticRegression(), past.small),
                "nearest centroid, support alone": (NearestCentroid(), past.small),
            }
        for method, (estimator, X) in methods.items():
            scores = assay_scores(estimator, X[asked], new[asked], each)
            adapted.setdefault(method, []).extend(scores)
        answers = {
            "learned prior, no support": clone(reg).fit_prior().predict(columns),
            "mean of past activities, no support": activities.mean(1),
        }
        for method, answer in answers.items():
            for label in new.T:
                m = asked & ~np.isnan(label)
                unadapted.setdefault(method, []).append(roc_auc_score(label[m], answer[m]))
    kind = f"{name}, " + ("past labels of the molecules known" if known else "molecules new")
    figures = [figure(f"{kind}: {method}", scores) for method, scores in adapted.items()]
    for method, values in unadapted.items():
        mean = round(float(np.mean(values)), 4)
        figures.append(
            {"task": f"{kind}: {method}", "score": "roc_auc", "mean": mean, "ci95": 0.0,
             "episodes": 0}
        )  # fmt: skip
    return figures


def choose(
    situation: Situation, epochs: Sequence[int] = (3, 10), n_folds: int = 3, n_episodes: int = 10
) -> dict[Any, float]:
    """Mean ROC-AUC of each setting on past assays that are taken as new, by turns."""
    scores: dict[Any, list[float]] = {}
    past = situation.past
    rows, _, activities, others = situation.folds[0]
    counts = np.array([(past.labels[rows] == activity).sum(0) for activity in (0, 1)])
    large = np.flatnonzero(counts.min(0) > 3 * N_SHOT)  # others say little
    for fold in range(n_folds):
        held_out = large[fold::n_folds]
        kept = [j for j in range(len(past.names)) if j not in held_out]
        for with_components in (False, True):
            columns = activities[:, kept]
            if with_components:
                columns = np.hstack([columns, others])
            episodes = PastEpisodes(columns, past.labels[:, kept], rows)
            trainer, done = meta_train(episodes, epochs[0]), epochs[0]
            for n_epochs in epochs:
                if n_epochs > done:
                    trainer.set_params(max_epochs=n_epochs - done)
                    trainer.partial_fit(episodes)
                    done = n_epochs
                found = assay_scores(
                    ActivityClassifier(trainer.estimator_), columns[rows],
                    past.labels[np.ix_(rows, held_out)], n_episodes,
                )  # fmt: skip
                scores.setdefault((with_components, n_epochs), []).extend(
                    one.mean() for one in found
                )
    return {setting: float(np.mean(found)) for setting, found in scores.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or choose settings, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--name", nargs="+", choices=list(N_NEW), default=list(N_NEW))
    parser.add_argument("--episodes", type=int, default=600, help="of a data set")
    parser.add_argument("--trees", type=int, default=N_TREES, help="of an assay's forest")
    parser.add_argument("--choose", action="store_true", help="compare settings on past assays")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    # keys that no molecule of a support set has
    warnings.filterwarnings("ignore", message="self.within_class_std_dev_ has at least 1 zero")
    for name in options.name:
        start = time.process_time()
        assays = read_assays(options.data / f"{name}.csv.gz")
        found = situations(assays, N_NEW[name], options.trees)
        print(f"{name}: features and forests, {time.process_time() - start:.0f} CPU-seconds")
        for known, situation in found.items():
            if options.choose:
                for setting, score in choose(situation).items():
                    print(f"{name}, known={known}, (components, epochs)={setting}: {score:.4f}")
                continue
            for line in measure(name, situation, known, options.episodes):
                print(f"{line['task']}: {line['mean']:.4f} ± {line['ci95']:.4f}", flush=True)
        print(f"{name}: {time.process_time() - start:.0f} CPU-seconds in all", flush=True)


if __name__ == "__main__":
    main()
