"""
Find the best molecule of a new assay, from what past assays measured
=====================================================================

An assay measures how strongly molecules act on a target. Of a new one sixteen molecules have been
measured; how strong are the others, and which should be measured next? A molecule is described by
its fingerprint and by what past assays said of it. A deep kernel learns from the past assays which
of that matters; it is asked about molecules whose scaffold (the ring system that chemists call a
series) is none of the sixteen. Beside it: ridge regression and a random forest on the same columns
and, what one has without any past, ridge regression on the fingerprint alone.

Most of the gain is what past assays said of these molecules: as columns they help plain ridge
regression, too, and the deep kernel is only just ahead of that. Molecules that no past assay has
measured have no such columns.

The data are 279 assays of ChEMBL (CC BY-SA 3.0), as DeepChem has them. They do not come with the
package: ``python plot_molecules.py FOLDER`` reads ``FOLDER/chembl_5thresh.csv.gz``. Needs
``pip install rdkit`` and takes about a minute and a half.
"""

# %%
# Molecules
# ---------
# The fingerprint counts substructures, hashed to 512 columns.

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

from fewshot_sklearn import DeepKernelRegressor, MetaTrainer, select_queries

LEAST = 64  # molecules of an assay
N_NEW = 80  # assays
N_BITS = 512
N_SHOT = 16  # measured molecules of a new assay
N_DRAWS = 8  # of those, for each new assay
N_TREES = 20
MAX_EPOCHS = 5
N_FIRST = 4  # molecules measured before the search for the best one
N_ROUND = 4  # and in each round of it
N_ROUNDS = 7

path = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "chembl_5thresh.csv.gz"
if not path.exists():
    print(
        f"{path} is absent: DeepChem's loader dc.molnet.load_chembl fetches chembl_5thresh.csv.gz"
    )
    sys.exit(0)

from rdkit import Chem  # noqa: E402
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator  # noqa: E402
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles  # noqa: E402

table = pd.read_csv(path)
strength = table.drop(columns="smiles").to_numpy(float)  # minus log10 of a concentration
strength = strength[:, np.isfinite(strength).sum(0) >= LEAST]
molecules = [Chem.MolFromSmiles(smiles) for smiles in table["smiles"]]
generator = GetMorganGenerator(radius=2, fpSize=N_BITS)
bits = np.log1p([generator.GetCountFingerprintAsNumPy(molecule) for molecule in molecules])
scaffolds = np.array([MurckoScaffoldSmiles(mol=molecule) for molecule in molecules])

order = np.random.default_rng(0).permutation(strength.shape[1])
new, past = strength[:, order[:N_NEW]], strength[:, order[N_NEW:]]
print(f"{len(bits)} molecules, {past.shape[1]} past assays and {new.shape[1]} new ones")

# %%
# What the past is worth as columns
# ---------------------------------
# Each past assay is a column: how far above its mean a molecule was, and zero where it was not
# measured. In a task of the past its own column is zero, too.

said = np.nan_to_num((past - np.nanmean(past, 0)) / np.nanstd(past, 0))
rows = np.hstack([2 * said, bits - bits.mean(0)]).astype(np.float32)
fingerprint = rows[:, said.shape[1] :]

rng = np.random.default_rng(1)
X_past, y_past, groups = [], [], []
for assay, measured in enumerate(np.isfinite(past).T):
    chosen = rng.permutation(np.flatnonzero(measured))[:150]
    X_past.append(rows[chosen])
    X_past[-1][:, assay] = 0
    y_past.append(past[chosen, assay])
    groups.append(np.full(len(chosen), assay))

began = time.process_time()
trainer = MetaTrainer(
    DeepKernelRegressor(encoder="residual", scale_inputs=False, lengthscale=1.0),
    n_shot=(8, 32),
    n_query=32,
    max_epochs=MAX_EPOCHS,
    lr=3e-4,
    validation_fraction=0,
    random_state=0,
    verbose=0,
)
learned = trainer.fit(*map(np.concatenate, (X_past, y_past, groups))).estimator_
print(f"meta-training: {time.process_time() - began:.0f} CPU-seconds")

# %%
# New assays
# ----------
# R2 on the molecules of other scaffolds, and the error in units of log10. The mean is over the new
# assays, of the mean over draws of sixteen molecules in each, with a 95% interval.

MODELS = {
    "deep kernel, meta-trained": (learned, rows),
    "ridge": (Ridge(10.0), rows),  # the best of those tried on past assays
    "random forest": (RandomForestRegressor(N_TREES, max_features=0.3, random_state=0), rows),
    "ridge, fingerprint alone": (Ridge(10.0), fingerprint),
}


def told(values):
    """A mean over assays with its interval."""
    return f"{np.mean(values):.2f} ± {1.96 * np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


def tasks(n_draws):
    """New assays, a few measured molecules and those of other scaffolds."""
    rng = np.random.default_rng(2)
    for assay, y in enumerate(new.T):
        for _ in range(n_draws):
            support, others = np.split(rng.permutation(np.flatnonzero(np.isfinite(y))), [N_SHOT])
            asked = others[~np.isin(scaffolds[others], scaffolds[support])]
            yield assay, y, support, asked


r2 = {}
for name, (model, X) in MODELS.items():
    began, found = time.process_time(), np.zeros((2, N_NEW, N_DRAWS))
    for i, (assay, y, support, asked) in enumerate(tasks(N_DRAWS)):
        error = y[asked] - clone(model).fit(X[support], y[support]).predict(X[asked])
        square = (error**2).mean()
        found[:, assay, i % N_DRAWS] = 1 - square / y[asked].var(), square**0.5
    r2[name], rmse = found.mean(2)
    cost = 1000 * (time.process_time() - began) / (N_NEW * N_DRAWS)
    behind = told(r2["deep kernel, meta-trained"] - r2[name])
    print(f"{name:33s} R2 {told(r2[name])}, behind by {behind}; RMSE {told(rmse)}; {cost:.0f} ms")

# %%
# Which to measure next
# ---------------------
# The best molecule of an assay is sought, four at a time. Thompson sampling draws functions that
# agree with what was measured (`sample_y`) and takes the best molecule of each; being greedy is to
# take those predicted to be best.


def thompson(X, y, pool, rng):
    drawn = clone(learned).fit(X, y).sample_y(pool, 4 * N_ROUND, int(rng.integers(2**31)), False)
    return list(dict.fromkeys(drawn.argmax(0)))[:N_ROUND]


def greedy(model):
    return lambda X, y, pool, rng: clone(model).fit(X, y).predict(pool).argsort()[::-1][:N_ROUND]


SEARCHES = {
    "deep kernel, Thompson sampling": (thompson, rows),
    "deep kernel, greedy": (greedy(learned), rows),
    "ridge, greedy": (greedy(Ridge(10.0)), rows),
    "ridge, fingerprint alone, greedy": (greedy(Ridge(10.0)), fingerprint),
    "at random": (lambda X, y, pool, rng: rng.permutation(len(pool))[:N_ROUND], rows),
}


def search(choose, X, y, rng):
    """How far the best of the molecules measured so far is from the best, round by round."""
    left = rng.permutation(np.flatnonzero(np.isfinite(y)))
    measured, left, found = left[:N_FIRST], left[N_FIRST:], []
    for _ in range(N_ROUNDS):
        found.append(np.nanmax(y) - y[measured].max())
        chosen = np.asarray(choose(X[measured], y[measured], X[left], rng))
        measured, left = np.append(measured, left[chosen]), np.delete(left, chosen)
    return [*found, np.nanmax(y) - y[measured].max()]


figure, (bars, curves) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
tests, last = N_FIRST + N_ROUND * np.arange(N_ROUNDS + 1), {}
for name, (choose, X) in SEARCHES.items():
    gaps = np.array([search(choose, X, y, np.random.default_rng(i)) for i, y in enumerate(new.T)])
    half = 1.96 * gaps.std(0, ddof=1) / len(gaps) ** 0.5
    last[name] = gaps[:, -1]
    print(f"{name:33s} best found after {tests[-1]} tests is {told(last[name])} below the best")
    curves.errorbar(tests, gaps.mean(0), half, marker="o", capsize=3, label=name)
gained = told(last["ridge, greedy"] - last["deep kernel, Thompson sampling"])
print(f"Thompson sampling is ahead of greedy ridge by {gained}")
curves.set(xlabel="molecules measured", ylabel="best found, log10 units below the best", ylim=0)
curves.legend(fontsize=8)
for place, values in enumerate(r2.values()):
    bars.barh(place, values.mean(), xerr=1.96 * values.std() / N_NEW**0.5, color=f"C{place}")
bars.set(yticks=range(len(r2)), yticklabels=list(r2), xlabel=f"R2 from {N_SHOT} molecules")
bars.invert_yaxis()

# %%
# To learn about all molecules rather than to find the best, `select_queries` says which to measure:
# here those whose strength is least certain given the others.

_, y, support, asked = next(tasks(1))
model = clone(learned).fit(rows[support], y[support])
for place in asked[select_queries(model, rows[asked], 3)]:
    print(f"measure next, to learn most: {table['smiles'][place]}")
plt.show()
