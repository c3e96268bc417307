"""A closed-form linear head on meta-learned features: ridge and Bayesian linear regression.

L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi. Meta-learning with
differentiable closed-form solvers. ICLR 2019.

J. Harrison, A. Sharma and M. Pavone. Meta-learning priors for efficient online
Bayesian regression. WAFR 2018.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, ProbabilisticRegressor, with_shared_texts
from ..learners import FeatureLearner, Gaussian, State, present_classes
from ..meta_init import MetaInit
from ..tasks import Positive

#: Prior standard deviation, in noise units, of an intercept that is free.
FREE = 1e4
#: What the noise is taken to be with no past tasks to learn it from.
NOISE_WITHOUT_PAST = 0.1


def _check_alpha(alpha: float) -> float:
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha!r}.")
    return float(alpha)


def _intercept(coef: np.ndarray, init: MetaInit) -> np.ndarray:
    """Where all features are zero; without a past and an encoder that is where X is zero."""
    plain = init.spec["encoder"]["name"] == "identity" and not init.spec.get("past", True)
    if not plain:
        return coef[-1]
    centre = np.float64(init.tensors["x_mean"]) + init.tensors["x_rest"]
    return coef[-1] - centre.ravel() @ coef[:-1]


def with_intercept(Z: Tensor) -> Tensor:
    # the solves are small and badly conditioned: they are always done in float64
    return torch.cat([Z, torch.ones_like(Z[..., :1])], -1).double()


class RidgeHeadRegression(FeatureLearner):
    """adapt: the posterior of a Bayesian linear regression (Harrison 2018, eq. 7-8).

    predict: its predictive distribution (eq. 9). The prior covariance of the
    weights is the full matrix Lambda0^-1 = C C' with a learned factor C, so
    that the features may span more directions than tasks vary in.
    """

    centres_inputs_without_past = True
    #: Its value may have to change by orders of magnitude, so its logarithm has far to go.
    faster = {"log_noise": 10.0}

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        alpha: float = 1.0,
        noise: float = 1.0,
        free_intercept: bool = False,
    ):
        n_outputs = n_outputs or 1
        super().__init__(encoder, input_shape, n_outputs)
        if not noise > 0:
            raise ValueError(f"noise must be positive, got {noise!r}.")
        spread = _check_alpha(alpha) ** -0.5
        factor = torch.full((self.n_features + 1,), spread)
        if free_intercept:
            factor[-1] = FREE
        self.prior_factor = nn.Parameter(torch.diag(factor))
        self.prior_mean = nn.Parameter(torch.zeros(self.n_features + 1, n_outputs))
        self.log_noise = nn.Parameter(torch.full((n_outputs,), 2 * float(np.log(noise))))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        phi, prior, factor = (
            with_intercept(Z),
            self.prior_mean.double(),
            self.prior_factor.double(),
        )
        target = self.scaled_targets(y).double()
        psi = phi @ factor  # features in which the prior is the unit matrix
        weighted = psi.mT * w.double()[..., None, :]
        precision = weighted @ psi + torch.eye(psi.shape[-1], dtype=psi.dtype, device=psi.device)
        root = torch.linalg.cholesky(precision)
        shift = torch.cholesky_solve(weighted @ (target - phi @ prior), root)
        # the posterior covariance is spread' spread
        spread = torch.linalg.solve_triangular(root, factor.T, upper=False)
        return {"coef": prior + factor @ shift, "spread": spread}

    def predict_features(self, state: State, Z: Tensor) -> Gaussian:
        phi = with_intercept(Z)
        leverage = 1 + (phi @ state["spread"].mT).square().sum(-1)
        mean = (phi @ state["coef"]).to(Z.dtype)
        variance = (leverage[..., None] * self.log_noise.double().exp()).to(Z.dtype)
        return self.in_units(Gaussian(mean, variance))  # type: ignore[return-value]


class RidgeHeadClassification(FeatureLearner):
    """adapt: ridge regression of the class indicators (Bertinetto 2019, eq. 4, 6).

    predict: its outputs times a learned scale, as logits (eq. 7).
    """

    centres_inputs_without_past = True

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        alpha: float = 1.0,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        start = math.log(_check_alpha(alpha))
        self.log_precision = nn.Parameter(torch.full((self.n_features + 1,), start))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        root = w.double().sqrt()[..., None]
        phi, target = root * with_intercept(Z), root * y.double()
        precision = self.log_precision.double().exp()
        scaled = phi / precision
        if phi.shape[-2] < phi.shape[-1]:  # the Woodbury identity (eq. 5-6): an n x n system
            kernel = scaled @ phi.mT + torch.eye(phi.shape[-2], dtype=phi.dtype, device=phi.device)
            coef = scaled.mT @ torch.linalg.solve(kernel, target)
        else:
            coef = torch.linalg.solve(phi.mT @ phi + torch.diag(precision), phi.mT @ target)
        return {"coef": coef, "present": present_classes(y, w)}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        scores = (with_intercept(Z) @ state["coef"]).to(Z.dtype)
        return (self.log_scale.exp() * scores).masked_fill(
            ~state["present"][..., None, :], -torch.inf
        )


@with_shared_texts()
class RidgeHeadClassifier(FewShotClassifier):
    """Ridge regression of class indicators on meta-learned features.

    `fit` solves W = argmin ||ZW - Y||^2 + ||W||^2_Lambda in closed form (eq. 4 of
    [1]_; in the dual, eq. 6, when there are fewer rows than features), with the
    features Z and the regularisation Lambda learned on past tasks by
    differentiating through the solution. Class probabilities are the softmax
    of the scaled outputs (eq. 7).

    Parameters
    ----------
    {meta_init}
    {encoder}
    alpha : float or None, default=None
        Regularisation to start meta-training from, 1.0 if None; a meta-init
        carries its learned one.
    {n_augment}
    {augment}
    {device}
    {dtype}
        The solve itself is always float64.
    {random_state}
        Seeds the altered copies, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    coef_ : ndarray of shape (n_classes, n_features_out)
        Weights on the encoder's features.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : Class means in place of a regression.

    References
    ----------
    .. [1] L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi, "Meta-learning with
       differentiable closed-form solvers", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import RidgeHeadClassifier
    >>> clf = RidgeHeadClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = RidgeHeadClassification
    _defaults = {"alpha": 1.0}
    _constraints = {"alpha": Positive() | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        alpha: float | None = None,
        n_augment: int = 0,
        augment: Any = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.alpha = alpha
        self.n_augment = n_augment
        self.augment = augment
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def coef_(self) -> np.ndarray:
        return self._state("coef")[:-1].T

    @property
    def intercept_(self) -> np.ndarray:
        return _intercept(self._state("coef"), self.meta_init_)


@with_shared_texts()
class RidgeHeadRegressor(ProbabilisticRegressor):
    """Bayesian linear regression on meta-learned features, with predictive uncertainty.

    `fit` computes the posterior of the weights of a linear model on the
    encoder's features, given a Gaussian prior whose mean K0, precision Lambda0
    and noise were learned on past tasks together with the features: eq. 7-8 of
    [1]_; the posterior mean is a ridge regression [2]_ towards K0. Predictions
    are Gaussian (eq. 9 of [1]_). Without a meta-init it equals
    ``sklearn.linear_model.Ridge(alpha=1)``.

    Parameters
    ----------
    {meta_init}
    {encoder}
    alpha : float or None, default=None
        Prior precision to start meta-training from, 1.0 if None, in units of
        the noise precision; a meta-init carries its learned one.
    noise : float or None, default=None
        Noise standard deviation to start meta-training from, in units of the
        targets' standard deviation; a meta-init carries its learned one. None
        starts from 1.0 (starting low, squared errors far beyond the noise give
        gradients that Adam remembers for long), and is 0.1 without a meta-init.
    {device}
    {dtype}
        The solve itself is always float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_out,) or (n_outputs, n_features_out)
        Posterior mean of the weights on the encoder's features.
    intercept_ : float or ndarray of shape (n_outputs,)
        Posterior mean of the intercept.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLRegressor : Adapts the whole network by gradient descent.

    References
    ----------
    .. [1] J. Harrison, A. Sharma and M. Pavone, "Meta-learning priors for efficient
       online Bayesian regression", WAFR 2018.
    .. [2] L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi, "Meta-learning with
       differentiable closed-form solvers", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import RidgeHeadRegressor
    >>> reg = RidgeHeadRegressor().fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> mean, std = reg.predict([[1.], [9.]], return_std=True)
    >>> mean.round(2)
    array([ 3.  , 13.67])
    >>> bool(std[1] > std[0])
    True
    """

    _learner_class = RidgeHeadRegression
    _defaults = {"alpha": 1.0, "noise": 1.0}
    _constraints = {"alpha": Positive() | None, "noise": Positive() | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        alpha: float | None = None,
        noise: float | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.alpha = alpha
        self.noise = noise
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        params = super()._learner_params(trained)
        if trained is not None:
            return params
        # with no past to learn a prior from, the intercept is not held back
        noise = NOISE_WITHOUT_PAST if self.noise is None else self.noise
        return params | {"free_intercept": True, "noise": noise}

    def _in_target_units(self, rows: np.ndarray, offset: bool) -> np.ndarray:
        tensors = self.meta_init_.tensors
        scale, mean = (np.float64(tensors[name]) for name in ("y_scale", "y_mean"))
        out = rows * scale + (mean + tensors.get("y_rest", 0) if offset else 0)
        return out.T if self._y_ndim == 2 else out[..., 0]

    @property
    def coef_(self) -> np.ndarray:
        return self._in_target_units(self._state("coef")[:-1], offset=False)

    @property
    def intercept_(self) -> np.ndarray | float:
        at_zero = _intercept(self._state("coef"), self.meta_init_)
        return self._in_target_units(at_zero, offset=True)
