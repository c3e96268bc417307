"""The rows of the tables of docs/methods.md: estimators above any encoder, and what each needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import fewshot_sklearn as fs

#: One step in plain gradient descent, a large one, from a head of zeros: for pictures of letters.
LARGE_STEP = {"n_steps": 1, "inner_lr": 2.0}


class Row(NamedTuple):
    """A method of the tables.

    Parameters
    ----------
    label : str
        Its name there.
    estimator : estimator, or list of (str, estimator)
        What is trained; estimators to choose among by past tasks.
    options : dict or None, default=None
        What differs in the trainer's parameters; None where nothing is meta-trained.
    places : bool, default=False
        Whether it compares places of a map, which rows of numbers have not.
    """

    label: str
    estimator: Any
    options: dict[str, Any] | None = None
    places: bool = False


def named(kind: type, net: dict[str, Any], note: str = "", places: bool = False, **own: Any) -> Row:
    """A row that has the name of its class."""
    return Row(kind.__name__ + note, kind(**net, **own), {}, places)


def flat_strategies() -> list[tuple[str, Any]]:
    """Plain classifiers of the numbers of a row, to choose among."""
    return [
        ("nearest class mean", NearestCentroid()),
        ("nearest neighbour", make_pipeline(Normalizer(), KNeighborsClassifier(1))),
        ("logistic regression", LogisticRegression(C=0.1, max_iter=200)),
        ("random forest", RandomForestClassifier(50, random_state=0)),
    ]


def classifiers(net: dict[str, Any], pictures: bool) -> dict[str, Row]:
    """Rows by short name.

    Parameters
    ----------
    net : dict
        The encoder and its parameters.
    pictures : bool
        Whether rows are pictures of letters, for which steps and maps were chosen.
    """
    maps = net | {"encoder__pools": 3} if pictures else net
    step = LARGE_STEP if pictures else {}
    one = {"inner_lr": 2.0} if pictures else {}
    on_maps = ", encoder__pools=3"
    return {
        "proto": named(fs.ProtoNetClassifier, net),
        "proto-places": named(fs.ProtoNetClassifier, maps, on_maps, True),
        "cosine": named(fs.ProtoNetClassifier, net, ', metric="cosine"', metric="cosine"),
        "gaussian": named(fs.GaussianProtoNetClassifier, net),
        "matching": named(fs.MatchingNetClassifier, net),
        "full-context": named(
            fs.MatchingNetClassifier, net, ", full_context=True", full_context=True
        ),
        "relation": named(fs.RelationNetClassifier, net),
        "simple-cnaps": named(fs.SimpleCNAPSClassifier, net),
        "feat": named(fs.FEATClassifier, net),
        "tadam": named(fs.TADAMClassifier, net),
        "dn4": named(fs.DN4Classifier, maps, on_maps, True),
        "frn": named(fs.FRNClassifier, maps, on_maps, True),
        "deep-emd": named(fs.DeepEMDClassifier, maps, on_maps, True),
        "siamese": named(fs.SiameseClassifier, net),
        "simpleshot": named(fs.NearestClassMeanClassifier, net),
        "baseline++": named(fs.BaselinePlusPlusClassifier, net),
        "ridge": named(fs.RidgeHeadClassifier, net),
        "r2d2": named(fs.R2D2Classifier, net),
        "meta-opt-net": named(fs.MetaOptNetClassifier, net),
        "kernel": named(fs.DeepKernelClassifier, net),
        "maml": named(fs.MAMLClassifier, net, **step),
        "fomaml": named(
            fs.MAMLClassifier, net, ", first_order=True (FOMAML)", first_order=True, **step
        ),
        "anil": named(fs.MAMLClassifier, net, ", head_only=True (ANIL)", head_only=True, **step),
        "meta-sgd": named(fs.MetaSGDClassifier, net, **one),
        "maml++": named(fs.MAMLPlusPlusClassifier, net, **step),
        "boil": named(
            fs.BOILClassifier, net, **({"n_steps": 1, "inner_lr": 0.5} if pictures else {})
        ),
        "cavia": named(fs.CAVIAClassifier, net, **({"inner_lr": 1.0} if pictures else {})),
        "meta-curvature": named(fs.MetaCurvatureClassifier, net, **step),
        "imaml": named(fs.IMAMLClassifier, net, n_steps=5, inner_lr=0.5),
        "reptile": Row(
            "ReptileClassifier",
            fs.ReptileClassifier(**net, inner_lr=1.0, train_steps=5, inner_batch=20, n_steps=5),
            {"n_shot": 10 if pictures else 5, "n_way": 5, "optimizer": torch.optim.SGD, "lr": 1.0},
        ),
        "protomaml": named(fs.ProtoMAMLClassifier, net, n_steps=1, inner_lr=0.01),
        "meta-lstm": named(fs.MetaLSTMClassifier, net, n_steps=1, inner_lr=0.9),
        "leo": named(fs.LEOClassifier, net),
        "mann": named(fs.MANNClassifier, net),
        "snail": named(fs.SNAILClassifier, net),
        "in-context": named(fs.InContextClassifier, net),
        "caml": named(fs.CAMLClassifier, net),
        "propagation": named(fs.TransductivePropagationClassifier, net),
        "pt-map": named(fs.TransductivePTMAPClassifier, net),
        "laplacian": named(fs.TransductiveLaplacianShotClassifier, net),
        "tim": named(fs.TransductiveTIMClassifier, net),
        "evolution": Row(
            'ESMetaTrainer(ProtoNetClassifier, weighting="ranks"), small episodes',
            fs.ProtoNetClassifier(**net),
            {"trainer": fs.ESMetaTrainer, "weighting": "ranks", "n_perturbations": 8, "lr": 2e-2}
            | {"n_way": 5, "batch_size": 1},
        ),
        "evolution-plain": Row(
            "ESMetaTrainer(RidgeHeadClassifier), no network",
            fs.RidgeHeadClassifier(),
            {"trainer": fs.ESMetaTrainer, "lr": 2e-2},
        ),
        "strategies": Row("StrategySelector of four plain classifiers", flat_strategies(), {}),
        "plain-mean": Row("nearest class mean of the numbers", NearestCentroid()),
        "plain-nn": Row("nearest neighbour of the numbers", flat_strategies()[1][1]),
        "plain-lr": Row("logistic regression of the numbers", flat_strategies()[2][1]),
    }


def regressors(net: dict[str, Any], waves: bool) -> dict[str, Row]:
    """Rows by short name.

    Parameters
    ----------
    net : dict
        The encoder and its parameters.
    waves : bool
        Whether targets are those of noise-free waves, for which steps were chosen.
    """
    step = {"inner_lr": 0.05} if waves else {}
    five = step | {"n_steps": 5} if waves else {}
    kernel = ConstantKernel(1.0) * RBF(1.0)
    noise = kernel if waves else kernel + WhiteKernel(0.1)
    process = GaussianProcessRegressor(
        noise, alpha=1e-6, n_restarts_optimizer=2, normalize_y=not waves, random_state=0
    )
    transformer = fs.InContextRegressor(**net)
    return {
        "ridge": named(fs.RidgeHeadRegressor, net),
        "mixture": Row(  # validation decides whether the mixture is learned anew at the end
            "MixtureRidgeRegressor", fs.MixtureRidgeRegressor(**net), {"validation_fraction": 0.1}
        ),
        "kernel": Row("DeepKernelRegressor", fs.DeepKernelRegressor(**net), {"lr": 1e-2}),
        "neural-process": named(
            fs.NeuralProcessRegressor, net, ", attentive=False", attentive=False
        ),
        "attentive": named(fs.NeuralProcessRegressor, net),
        "in-context": Row("InContextRegressor", transformer, {"lr": 1e-3}),
        "maml": named(fs.MAMLRegressor, net, **five),
        "fomaml": named(
            fs.MAMLRegressor, net, ", first_order=True (FOMAML)", first_order=True, **five
        ),
        "anil": named(fs.MAMLRegressor, net, ", head_only=True (ANIL)", head_only=True, **five),
        "meta-sgd": named(fs.MetaSGDRegressor, net, **step),
        "maml++": named(fs.MAMLPlusPlusRegressor, net, **step),
        "boil": named(fs.BOILRegressor, net, **step),
        "cavia": named(fs.CAVIARegressor, {}, n_hidden=40, **step),
        "meta-curvature": named(fs.MetaCurvatureRegressor, net, **step),
        "imaml": named(fs.IMAMLRegressor, net, lam=1.0, **step),
        "reptile": Row(
            "ReptileRegressor",
            fs.ReptileRegressor(**net, inner_lr=0.02, train_steps=32, n_steps=32),
            {"optimizer": torch.optim.SGD, "lr": 0.5},
        ),
        "gp": Row("Gaussian process of scikit-learn, RBF kernel", scaled(process, waves)),
        "plain-ridge": Row("ridge of scikit-learn", scaled(Ridge(), waves)),
        "mean": Row("mean of the support", DummyRegressor()),
    }


def scaled(estimator: Any, waves: bool) -> Any:
    """With columns of one spread, where there are several."""
    return estimator if waves else make_pipeline(StandardScaler(), estimator)
