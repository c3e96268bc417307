"""A linear head whose weights, over past tasks, are no Gaussian: Bayes with a mixture of them.

J. Harrison, A. Sharma and M. Pavone. Meta-learning priors for efficient online Bayesian
regression. WAFR 2018 (one Gaussian).

C. M. Bishop. Pattern recognition and machine learning. Springer 2006
(section 9.2, mixtures of Gaussians; section 3.3, Bayesian linear regression; eq. 3.86, evidence).

A. P. Dempster, N. M. Laird and D. B. Rubin. Maximum likelihood from incomplete data via the EM
algorithm. JRSS B 39 (1977).

G. Jerfel, E. Grant, T. L. Griffiths and K. Heller. Reconciling meta-learning and continual
learning with online mixtures of tasks. NeurIPS 2019 (a mixture of what tasks start from).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import ProbabilisticRegressor, with_shared_texts
from ..learners import Gaussian, State, with_intercept
from ..tasks import Positive, Whole
from ._linear_posterior import FREE, NOISE_WITHOUT_PAST, LinearPosterior
from ._mixture_prior import mixture_prior

#: Past rows that are embedded at once.
ROWS_AT_ONCE = 4096


class MixtureRidge(LinearPosterior):
    """adapt: the posterior of the weights for each Gaussian of the prior, and of which it was.

    predict: mean and variance of the mixture of what they predict. The Gaussians have
    means of their own and one covariance Lambda0^-1 = C C', so that what has to be solved is
    solved once for all. Descent learns features, noise and, as good as, one Gaussian; the mixture
    is then that of which the weights of past tasks are most likely.
    """

    learns_last = True
    centres_inputs_without_past = True
    #: Its value may have to change by orders of magnitude, so its logarithm has far to go.
    faster = {"log_noise": 10.0}

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_components: int = 16,
        alpha: float = 1.0,
        noise: float = 1.0,
        past: bool = True,
    ):
        n_outputs = n_outputs or 1
        super().__init__(encoder, input_shape, n_outputs)
        if not (isinstance(n_components, int | np.integer) and n_components >= 1):
            raise ValueError(f"n_components must be an int, at least 1, got {n_components!r}.")
        for name, value in (("alpha", alpha), ("noise", noise)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        n, spread = self.n_features + 1, float(alpha) ** -0.5
        factor = torch.full((n,), spread)
        if not past:  # nothing is known of tasks: one Gaussian, and an intercept that is free
            n_components, factor[-1] = 1, FREE
        means = torch.zeros(n_components, n, n_outputs)
        if n_components > 1:  # apart, or all would learn the same
            means.normal_(std=spread / n**0.5)
        self.prior_factor = nn.Parameter(torch.diag(factor) if past else factor)
        self.prior_means = nn.Parameter(means)
        self.log_shares = nn.Parameter(torch.zeros(n_components))
        self.log_noise = nn.Parameter(torch.full((n_outputs,), 2 * float(np.log(noise))))

    @torch.no_grad()
    def learn_at_once(self, X: Tensor, y: Tensor, tasks: np.ndarray) -> bool:
        """Learn the mixture from all past tasks at once: of most likelihood for these features."""
        Z = torch.cat([self.embed(part) for part in X.split(ROWS_AT_ONCE)])
        phi, means = with_intercept(Z).double(), self.prior_means.double()
        shares = self.log_shares.double().softmax(0)
        centre = (shares[:, None, None] * means).sum(0)
        noise = (self.log_noise.double() / 2).exp()
        apart = (shares / means.shape[-1]).sqrt()[:, None, None] * (means - centre) / noise
        # a square root of the covariance of all Gaussians together
        factor = torch.linalg.qr(torch.cat([self.prior_factor.double(), _beside(apart)], 1).T).R.T
        rest = (self.scaled_targets(y).double() - phi @ centre) / noise
        found = mixture_prior(
            (phi @ factor).cpu().numpy(), rest.cpu().numpy(), tasks, len(self.prior_means)
        )
        if found is None:
            return False
        told = (found.means, found.factor, np.log(found.shares), found.noise)
        means, inside, log_shares, change = (torch.from_numpy(part).to(factor) for part in told)
        self.prior_means.copy_(centre + noise * change * (factor @ means))
        self.prior_factor.copy_(factor @ inside)
        self.log_shares.copy_(log_shares)
        self.log_noise.copy_(2 * (noise * change).log())
        return True

    def learned_at_once(self) -> list[nn.Parameter]:
        return [self.prior_factor, self.prior_means, self.log_shares, self.log_noise]

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        phi, w = with_intercept(Z), w.double()
        psi, targets = self._whitened(phi), self.scaled_targets(y).double()
        (k, _, m), means = self.prior_means.shape, self.prior_means.double()
        # what all Gaussians leave of the targets, side by side
        residual = targets.repeat(*[1] * (targets.ndim - 1), k) - phi @ _beside(means)
        shift, state = self._posterior(psi, residual, w)
        # what residuals weigh once the weights have moved: the exponent of eq. 3.86
        seen = psi.mT @ (w[..., None] * residual)
        rest = (w[..., None] * residual.square()).sum(-2) - (seen * shift).sum(-2)
        evidence = -0.5 * (rest.unflatten(-1, (k, m)) / self.log_noise.double().exp()).sum(-1)
        return {
            "coef": _beside(means) + self._unwhitened(shift),
            "log_shares": (self.log_shares.double() + evidence).log_softmax(-1),
            **state,
        }

    def predict_features(self, state: State, Z: Tensor) -> Gaussian:
        phi, shares = with_intercept(Z), state["log_shares"].exp()[..., None, :, None]
        each = (phi @ state["coef"]).unflatten(-1, (len(self.log_shares), -1))
        mean = (shares * each).sum(-2)
        apart = (shares * (each - mean[..., None, :]).square()).sum(-2)
        leverage = 1 + self.halves(state, phi).square().sum(-1)
        variance = leverage[..., None] * self.log_noise.double().exp() + apart
        return self.in_units(Gaussian(mean.to(Z.dtype), variance.to(Z.dtype)))  # type: ignore[return-value]

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        of_each = len(self.log_shares) * (n_rows + self.n_features)
        return super().numbers_to_adapt(n_rows, n_labels) + 2 * of_each

    def numbers_a_row(self, state: State) -> int:
        return super().numbers_a_row(state) + 2 * state["log_shares"].numel()


def _beside(means: Tensor) -> Tensor:
    """Means (n_components, n, n_outputs) as columns (n, n_components * n_outputs)."""
    return means.permute(1, 0, 2).flatten(1)


@with_shared_texts()
class MixtureRidgeRegressor(ProbabilisticRegressor):
    """Bayesian linear regression on learned features with a mixture of Gaussians as the prior.

    What `RidgeHeadRegressor` has, for past tasks whose weights are far from Gaussian: of several
    kinds, or bounded, such as amplitudes and phases. `fit` computes the posterior of the weights
    of a linear model on the encoder's features for each Gaussian of the prior, all of one
    covariance (eq. 7-8 of [1]_), and how likely the rows are under each (eq. 3.86 of [2]_).
    Predictions are mean and standard deviation of the mixture. Means, covariance, shares
    and noise are learned on past tasks (see Notes). Without a meta-init it is one
    Gaussian, and equals ``sklearn.linear_model.Ridge(alpha=1)``.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_components : int or None, default=None
        Gaussians of the prior. None takes the meta-init's, or 16.
    alpha : float or None, default=None
        Precision to start their covariance from, in units of the noise precision; a meta-init
        carries its learned one. None starts from 1.0.
    noise : float or None, default=None
        Noise standard deviation to start from, in units of the targets' standard deviation; a
        meta-init carries its learned one. None starts from 1.0; it is 0.1 without a meta-init.
    {device}
    {dtype}
        The solve itself is always float64.
    {random_state}
        Of the means that the Gaussians start from, too.
    {**encoder__params}

    Attributes
    ----------
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    RidgeHeadRegressor : One Gaussian, which further rows go into, with a covariance of functions.

    Notes
    -----
    Meta-training descends on episodes, for the features, the noise and the prior. By descent
    alone the Gaussians hardly come apart, so means, covariance, shares and noise are then learned
    once more, for these features, by maximum likelihood of past tasks: EM [4]_, in which
    the weights of a task are known as well as its rows tell. They stay so if validation is
    the better for it. Not without validation, where `alpha` or `noise` are given, where more than
    128 directions of the features tell of tasks, or where training goes on from a meta-init: from
    there descent goes on alone. Of each Gaussian there are eight past tasks at least; with fewer
    than eight times `n_components`, several are the same one. Of a generator as many tasks are
    drawn for it as were trained on, 10,000 at most. Tasks whose weights are uniform in a disc
    want some 32 Gaussians, and thousands of tasks; a few kinds of tasks are found in hundreds.

    References
    ----------
    .. [1] J. Harrison, A. Sharma and M. Pavone, "Meta-learning priors for efficient
       online Bayesian regression", WAFR 2018.
    .. [2] C. M. Bishop, "Pattern recognition and machine learning", Springer 2006.
    .. [3] G. Jerfel, E. Grant, T. L. Griffiths and K. Heller, "Reconciling meta-learning and
       continual learning with online mixtures of tasks", NeurIPS 2019.
    .. [4] A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete data
       via the EM algorithm", JRSS B 39, 1977.

    Examples
    --------
    >>> from fewshot_sklearn import MixtureRidgeRegressor
    >>> reg = MixtureRidgeRegressor().fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> mean, std = reg.predict([[1.], [9.]], return_std=True)
    >>> mean.round(2)
    array([ 3.  , 13.67])
    >>> bool(std[1] > std[0])
    True
    """

    _learner_class = MixtureRidge
    _defaults = {"n_components": 16, "alpha": 1.0, "noise": 1.0}
    _constraints = {
        "n_components": Whole(1) | None,
        "alpha": Positive() | None,
        "noise": Positive() | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_components: int | None = None,
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
        self.n_components = n_components
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
        # with no past to learn a prior from, it is one Gaussian, and the noise is low
        noise = NOISE_WITHOUT_PAST if self.noise is None else self.noise
        return params | {"past": False, "noise": noise}
