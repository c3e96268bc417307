"""A closed-form linear head on meta-learned features: ridge and Bayesian linear regression.

L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi. Meta-learning with
differentiable closed-form solvers. ICLR 2019.

J. Harrison, A. Sharma and M. Pavone. Meta-learning priors for efficient online
Bayesian regression. WAFR 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import ProbabilisticRegressor, with_shared_texts
from ..learners import (
    FunctionLearner,
    Gaussian,
    Outputs,
    State,
    TakesIn,
    evidence,
    intercept_of,
    inverse_of,
    task_prior,
    with_intercept,
)
from ..tasks import Positive
from ._linear_posterior import FREE, NOISE_WITHOUT_PAST, LinearPosterior, among_features

Found = TypeVar("Found")

#: Variance of the noise, in units of the targets', that is no noise: of targets that are all alike.
LEAST_NOISE = 1e-12
#: Features, at most, of which a prior is learned from all past tasks at once: given ones, and those
#: of an encoder, of which that takes longer than training it.
MOST_FEATURES, MOST_LEARNED_FEATURES = 128, 32


class RidgeHeadRegression(LinearPosterior, FunctionLearner, TakesIn):
    """adapt: the posterior of a Bayesian linear regression (Harrison 2018, eq. 7-8).

    predict: its predictive distribution (eq. 9). The prior covariance of the
    weights is the full matrix Lambda0^-1 = C C' with a learned factor C, so
    that the features may span more directions than tasks vary in. Without a
    past C is diagonal, and only the diagonal is kept. Of the posterior no more is
    kept than the directions that rows span, where these are few.
    """

    further_rows_told = (
        "`partial_fit` takes the posterior for the prior of the further rows, and needs no others. "
        "Without a meta-init, where the scale of the targets is that of all rows, it adapts anew "
        "to all of them, which the estimator keeps."
    )
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
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha!r}.")
        if not noise > 0:
            raise ValueError(f"noise must be positive, got {noise!r}.")
        spread = float(alpha) ** -0.5
        factor = torch.full((self.n_features + 1,), spread)
        if free_intercept:
            factor[-1] = FREE
        self.prior_factor = nn.Parameter(factor if free_intercept else torch.diag(factor))
        self.prior_mean = nn.Parameter(torch.zeros(self.n_features + 1, n_outputs))
        self.log_noise = nn.Parameter(torch.full((n_outputs,), 2 * float(np.log(noise))))

    def learn_at_once(self, X: Tensor, y: Tensor, tasks: np.ndarray) -> bool:
        """Learn the prior from all past tasks at once: of most likelihood for these features."""
        prior = self._of_all_tasks(task_prior, X, y, tasks)
        if prior is None:
            return False
        with torch.no_grad():
            self.prior_factor.copy_(prior.factor)
            self.prior_mean.copy_(prior.mean)
            self.log_noise.copy_(prior.noise_variance.clamp_min(LEAST_NOISE).log())
        return True

    def evidence(self, X: Tensor, y: Tensor, tasks: np.ndarray) -> float | None:
        return self._of_all_tasks(evidence, X, y, tasks)

    @torch.no_grad()
    def _of_all_tasks(
        self, function: Callable[..., Found], X: Tensor, y: Tensor, tasks: np.ndarray
    ) -> Found | None:
        """What a function finds of all tasks; None of too many features, or too little."""
        learned = any(True for _ in self.encoder.parameters()) and not self.frozen
        if self.n_features > (MOST_LEARNED_FEATURES if learned else MOST_FEATURES):
            return None
        phi, targets = with_intercept(self.embed(X)), self.scaled_targets(y).double()
        try:
            return function(phi.cpu().numpy(), targets.cpu().numpy(), tasks)
        except torch.linalg.LinAlgError:
            return None

    def learned_at_once(self) -> list[nn.Parameter]:
        return [self.prior_factor, self.prior_mean, self.log_noise]

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        phi, prior = with_intercept(Z), self.prior_mean.double()
        psi, residual = self._whitened(phi), self.scaled_targets(y).double() - phi @ prior
        shift, state = self._posterior(psi, residual, w.double())
        return {"coef": prior + self._unwhitened(shift), **state}

    def answering_features(self, state: State) -> Callable[[Tensor], Outputs]:
        if "root" in state:
            state = state | {"inverse": inverse_of(state["root"])}
        return super().answering_features(state)

    # ------------------------------------------------------------------ further rows
    @property
    def takes_in(self) -> bool:
        return self.prior_factor.ndim == 2  # else the posterior is not kept as a matrix

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        # the posterior is the prior of what comes (Harrison 2018, eq. 7-8, a row at a time)
        phi, w = with_intercept(Z), w.double()
        residual = self.scaled_targets(y).double() - phi @ state["coef"]
        if "spread" in state:
            shift, spread = _further_among_features(state["spread"], phi, residual, w)
            return {"coef": state["coef"] + shift, "spread": spread}
        # and where only directions are kept, further rows add theirs
        psi, factor = self._whitened(phi), self.prior_factor.double()
        if self._few(state["root"].shape[-1] + psi.shape[-2]):
            shift, kept = _further_among_rows(state, psi, residual, w)
            return {"coef": state["coef"] + factor @ shift, **kept}
        spread = _spread_of(state, factor)
        shift, spread = _further_among_features(spread, phi, residual, w)
        return {"coef": state["coef"] + shift, "spread": spread}

    # ------------------------------------------------------------------ functions
    def function_variance(self) -> Tensor:
        return self.log_noise.double().exp() * self.y_scale.double().square()

    def noise_variance(self) -> Tensor:
        return self.function_variance()

    def covariance_of_features(self, state: State, Z: Tensor) -> Tensor:
        half = self.halves(state, with_intercept(Z))
        return half @ half.mT

    def n_draws_of(self, state: State, n_rows: int) -> int:
        spanned = 0 if "spread" in state else state["root"].shape[-1]
        return spanned + self.n_features + 1

    def functions(self, state: State, Z: Tensor, numbers: Tensor) -> Tensor:
        # the weights are what is drawn, so that rows may be taken in parts
        def at(state: State, part: Tensor) -> Tensor:
            return self.halves(state, with_intercept(part)) @ numbers

        drawn = self._in_parts(at, state, Z, -2)
        assert isinstance(drawn, Tensor)
        return drawn

    def numbers_to_draw(self, state: State, n_rows: int) -> int:
        return 2 * n_rows * self.n_features

    def predict_features(self, state: State, Z: Tensor) -> Gaussian:
        phi = with_intercept(Z)
        leverage = 1 + self.halves(state, phi).square().sum(-1)
        mean = (phi @ state["coef"]).to(Z.dtype)
        variance = (leverage[..., None] * self.log_noise.double().exp()).to(Z.dtype)
        return self.in_units(Gaussian(mean, variance))  # type: ignore[return-value]


def _further_among_rows(
    state: State, psi: Tensor, residual: Tensor, w: Tensor
) -> tuple[Tensor, State]:
    """How the mean of whitened weights moves with further rows, and what is kept then."""
    known, old = state["directions"], state["root"]
    S, k = w.sqrt()[..., None], known.shape[-2]
    # of all at once, so that directions stay orthonormal where rows weigh nothing
    Q, R = torch.linalg.qr(torch.cat([known, S * psi], -2).mT)
    turned = R[..., :k, :k] @ old  # the known directions are the first ones, but for the sign
    rows = R[..., k:]
    precision = rows @ rows.mT
    precision[..., :k, :k] += turned @ turned.mT
    precision.diagonal(dim1=-2, dim2=-1)[..., k:] += 1.0
    root = torch.linalg.cholesky(precision)
    shift = Q @ torch.cholesky_solve(rows @ (S * residual), root)
    return shift, {"directions": Q.mT.contiguous(), "root": root}


def _further_among_features(
    spread: Tensor, phi: Tensor, residual: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    """How the mean of the weights moves with further rows, and the spread that is left."""
    shift, root = among_features(phi @ spread.mT, residual, w)
    return spread.mT @ shift, torch.linalg.solve_triangular(root, spread, upper=False)


def _spread_of(state: State, factor: Tensor) -> Tensor:
    """The posterior's spread as a matrix of all pairs of features."""
    directions = state["directions"]
    inside = torch.linalg.solve_triangular(state["root"], directions, upper=False)
    unit = torch.eye(directions.shape[-1], dtype=directions.dtype, device=directions.device)
    across = unit - directions.mT @ directions
    wide = torch.cat([inside, across], -2) @ factor.mT
    return torch.linalg.qr(wide, mode="r").R


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
    {freeze_encoder}
    {scale_inputs}
    {layout}
    alpha : float or None, default=None
        Prior precision to start training on episodes from, in units of the noise
        precision; a meta-init carries its learned one. None learns the prior from
        all past tasks at once (see Notes), and starts from 1.0 where that cannot be.
    noise : float or None, default=None
        Noise standard deviation to start training on episodes from, in units of the
        targets' standard deviation; a meta-init carries its learned one. None as for
        alpha, starting from 1.0 (starting low, squared errors far beyond the noise
        give gradients that Adam remembers for long); it is 0.1 without a meta-init.
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

    Notes
    -----
    With features that are not learned (no encoder), the weights of past tasks are
    random effects of a linear mixed model. Meta-training then maximises its
    restricted likelihood over all past tasks at once [3]_, in place of descending on
    episodes: their mean, their covariance (of the intercept alone, one variance,
    diagonal, diagonal and low rank, or full, as Akaike's corrected criterion
    chooses; variances of single features are shrunk to the common one) and the
    noise; that the mean is known from few tasks widens the
    covariance. With an encoder, network and prior are trained together, and the
    prior is then learned so once more if validation is the better for it. Neither
    where `alpha` or `noise` are given, for more than 128 features (32 of an encoder),
    for tasks from a generator, or where training goes on from a meta-init.

    References
    ----------
    .. [1] J. Harrison, A. Sharma and M. Pavone, "Meta-learning priors for efficient
       online Bayesian regression", WAFR 2018.
    .. [2] L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi, "Meta-learning with
       differentiable closed-form solvers", ICLR 2019.
    .. [3] N. M. Laird and J. H. Ware, "Random-effects models for longitudinal data",
       Biometrics 38, 1982.

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
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        alpha: float | None = None,
        noise: float | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.scale_inputs = scale_inputs
        self.layout = layout
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
        at_zero = intercept_of(
            self._state("coef"), self.meta_init_.fixed_spec, self.meta_init_.tensors
        )
        return self._in_target_units(at_zero, offset=True)
