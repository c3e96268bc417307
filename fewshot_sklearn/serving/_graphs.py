"""What of a fitted estimator goes into a file: a module of rows, and what its answers mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..estimators import (
    FewShotClassifier,
    FewShotEstimator,
    FewShotRegressor,
    OutputsOfRows,
    ProbabilisticRegressor,
)
from ..estimators import rows_to_try as rows_of_support
from ..learners import Gaussian
from ..trust import TrustedClassifier, TrustedRegressor
from ._steps import before_step, drawn_step

#: What counts as the probability of a class that an estimator rules out.
RULED_OUT = 1e-12
#: What to export in place of what cannot be, by the name of its class.
INSTEAD = {
    "ESMetaTrainer": "A trainer answers nothing: export its `estimator_`, once that is fitted.",
    "ESPolicyTrainer": "A policy is one vector of numbers: save `policy_.parameters` with numpy.",
    "MAMLPolicyTrainer": "A policy is one vector of numbers: save `policy_.parameters` with numpy.",
    "MetaEmbedding": "It answers with features. Export a classifier or a regressor that starts "
    "from the same meta-init.",
    "MetaTrainer": "A trainer answers nothing: export its `estimator_`, once that is fitted.",
    "StrategyClassifier": "It may be several estimators of any kind. Export the one that you take "
    "of its `estimators_`, such as `estimators_[best_strategy_]`.",
    "StrategySelector": "It answers nothing: export the strategy that is taken in the end.",
    "TaskwiseClassifier": "It is one estimator a task. Export each: `task_estimator(task)`.",
    "TrustLearner": "It answers nothing: export its `estimator_`, once that is fitted.",
}
OF_WORDS = "Sentences are no numbers, which a file takes: pickle it."
FEATURES_ALONE = "It makes features and answers nothing: export what comes after it."
INSTEAD |= dict.fromkeys(("ImageEncoder", "ImageReader", "SentenceEncoder"), FEATURES_ALONE)
INSTEAD |= dict.fromkeys(("TextClassifier", "TokenClassifier"), OF_WORDS)
INSTEAD["StrategyRegressor"] = INSTEAD["StrategyClassifier"]
INSTEAD["TaskwiseRegressor"] = INSTEAD["TaskwiseClassifier"]
#: What is said of those whose answer to a row depends on the others.
TOGETHER = (
    "It answers all rows of a call together. Export one that answers each row by itself, such as "
    "ProtoNetClassifier with the same meta-init."
)
#: What is said of estimators of other packages, which those that pool rows are made of.
OF_OTHERS = (
    "It computes with estimators of another package: skl2onnx exports those of scikit-learn."
)


class Drawn(NamedTuple):
    """A fitted estimator as a module, and how far its answers may be off.

    Attributes
    ----------
    module : nn.Module
        Rows to logits (n, n_classes); or to means and deviations, or None, (n, n_outputs).
    unit : ndarray of shape (1,) or (n_outputs,)
        What targets are counted in.
    plain : bool
        Whether it is one of this package's learners and nothing else.
    """

    module: nn.Module
    unit: np.ndarray
    plain: bool = False


# ------------------------------------------------------------------ modules
class Moments(nn.Module):
    """Means and deviations of a regression."""

    def __init__(self, outputs: OutputsOfRows):
        super().__init__()
        self.outputs = outputs

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self.outputs(X)
        if isinstance(found, Gaussian):
            return found.mean, found.variance.sqrt()
        return found, None


class After(nn.Module):
    """What answers, after steps of a pipeline."""

    def __init__(self, steps: list[nn.Module], final: nn.Module):
        super().__init__()
        self.steps, self.final = nn.Sequential(*steps), final

    def forward(self, X: Tensor) -> Any:
        return self.final(self.steps(X))


class Tempered(nn.Module):
    """Logits over a temperature, of the estimator's logarithms of probabilities if need be."""

    def __init__(self, logits: nn.Module, temperature: float, of_probabilities: bool):
        super().__init__()
        self.logits, self.temperature = logits, temperature
        self.of_probabilities = of_probabilities

    def forward(self, X: Tensor) -> Tensor:
        logits = self.logits(X)
        if self.of_probabilities:
            logits = logits.softmax(-1).clamp_min(RULED_OUT).log()
        return logits.double() / self.temperature


class Scaled(nn.Module):
    """Means, and calibrated deviations; made where the estimator has none."""

    scale: Tensor

    def __init__(self, moments: nn.Module, scale: np.ndarray):
        super().__init__()
        self.moments = moments
        self.register_buffer("scale", torch.tensor(np.asarray(scale, dtype=np.float64)))

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.moments(X)
        std = torch.ones_like(mean) if std is None else std
        least = float(np.finfo(np.float64).tiny)
        return mean.double(), std.double().clamp_min(least) * self.scale


class Answers(nn.Module):
    """What a file answers, by name."""

    def __init__(self, module: nn.Module, classifies: bool, flat: bool):
        super().__init__()
        self.module, self.classifies, self.flat = module, classifies, flat

    def forward(self, X: Tensor) -> dict[str, Tensor]:
        if self.classifies:
            logits = self.module(X)
            return {"label": logits.argmax(-1), "probabilities": logits.softmax(-1)}
        mean, std = self.module(X)
        told = {"mean": mean} if std is None else {"mean": mean, "std": std}
        return {name: t[:, 0] if self.flat else t for name, t in told.items()}


# ------------------------------------------------------------------ of estimators
def drawn(estimator: Any) -> Drawn:
    """A fitted estimator as a module.

    Parameters
    ----------
    estimator : estimator
        A classifier or regressor of this package, one that `TrustLearner` calibrated, or a
        pipeline that ends in one.

    Returns
    -------
    Drawn
        The module.

    Raises
    ------
    NotImplementedError
        When it cannot be; says what to export in its place.
    NotFittedError
        Before `fit`.
    """
    if isinstance(estimator, FrozenEstimator):
        return drawn(estimator.estimator)
    if isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        final = drawn(estimator.steps[-1][1])
        steps = [drawn_step(step) for _, step in estimator.steps[:-1]]
        return Drawn(After(steps, final.module), final.unit) if steps else final
    if isinstance(estimator, TrustedClassifier | TrustedRegressor):
        return _trusted(estimator)
    name = type(estimator).__name__
    together = name.startswith("Transductive")
    if isinstance(estimator, FewShotClassifier) and not together:
        outputs = OutputsOfRows(estimator)
        return Drawn(outputs, outputs.unit, plain=True)
    if isinstance(estimator, FewShotRegressor):
        outputs = OutputsOfRows(estimator)
        return Drawn(Moments(outputs), outputs.unit, plain=True)
    raise NotImplementedError(
        f"{name} cannot be exported. {TOGETHER if together else INSTEAD.get(name, OF_OTHERS)}"
    )


def _trusted(estimator: Any) -> Drawn:
    check_is_fitted(estimator)
    inner = drawn(estimator._answering())
    known = None if estimator.used_fallback_ else estimator.calibration_
    if isinstance(estimator, TrustedClassifier):
        if estimator.calibration_ is None:
            return inner._replace(plain=False)
        temperature = 1.0 if known is None else estimator.temperature_
        return Drawn(Tempered(inner.module, temperature, not inner.plain), inner.unit)
    if known is None:
        return inner._replace(plain=False)
    return Drawn(Scaled(inner.module, known.scale_at(estimator.n_shots_)), inner.unit)


def rows_to_try(estimator: Any) -> np.ndarray:
    """Rows that an estimator of which `drawn` makes a module can answer for."""
    if isinstance(estimator, FrozenEstimator):
        return rows_to_try(estimator.estimator)
    if isinstance(estimator, Pipeline):
        rows = rows_to_try(estimator.steps[-1][1])
        for _, step in reversed(estimator.steps[:-1]):
            rows = before_step(step, rows)
        return rows
    if isinstance(estimator, FewShotEstimator):
        return rows_of_support(estimator)
    return rows_to_try(estimator._answering())


def final_of(estimator: Any) -> Any:
    """The one of this package's learners that answers in the end."""
    if isinstance(estimator, FrozenEstimator):
        return final_of(estimator.estimator)
    if isinstance(estimator, Pipeline):
        return final_of(estimator.steps[-1][1])
    return (
        estimator if isinstance(estimator, FewShotEstimator) else final_of(estimator._answering())
    )


def kind_of(estimator: Any) -> str:
    """ "classifier" or "regressor"."""
    assert is_classifier(estimator) or is_regressor(estimator)
    return "classifier" if is_classifier(estimator) else "regressor"


def has_std(estimator: Any) -> bool:
    """Whether a regressor that can be drawn predicts deviations, too."""
    if isinstance(estimator, TrustedRegressor) and estimator.calibration_ is not None:
        if not estimator.used_fallback_:
            return True
        estimator = estimator.fallback_
    return isinstance(final_of(estimator), ProbabilisticRegressor)
