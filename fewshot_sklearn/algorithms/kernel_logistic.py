"""Kernel logistic regression with a kernel, a penalty and a ridge beside it learned on past tasks.

J. Zhu and T. Hastie. Kernel logistic regression and the import vector machine.
Journal of Computational and Graphical Statistics 14, 2005.

L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi. Meta-learning with
differentiable closed-form solvers. ICLR 2019 (a solver inside of meta-training).

D. Böhning. Multinomial logistic regression algorithm. Annals of the Institute
of Statistical Mathematics 44, 1992.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Residual, Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import KeepsFeatures, State, inverse, make_kernel, present_classes, solve
from ..tasks import Positive, Whole

#: The kernel of a row with itself is one; this keeps equal rows from making it singular.
JITTER = 1e-6
#: Tables of all pairs of rows, and of rows and classes, that the steps hold at once.
OF_PAIRS, OF_LABELS = 6, 6


class KernelLogistic(KeepsFeatures):
    """adapt: coefficients of logistic regression and of ridge regression. predict: their logits.

    With S = diag(sqrt(w)) the scores are f = K S a. Each step minimises a
    quadratic that bounds the loss from above (Böhning 1992). Its curvature is
    the same everywhere, so all steps take one matrix inverse. They are
    accelerated (Nesterov). Always in float64.
    """

    scales_inputs_without_past = True
    features_in = "Z"

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        lengthscale: float | None = None,
        penalty: float = 0.03,
        noise: float = 0.3,
        ridge: float = 5.0,
        n_steps: int = 40,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not (isinstance(n_steps, int | np.integer) and n_steps >= 1):
            raise ValueError(f"n_steps must be an int, at least 1, got {n_steps!r}.")
        for name, value in (("penalty", penalty), ("noise", noise), ("ridge", ridge)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        self.n_steps = int(n_steps)
        self.kernel = make_kernel("rbf", self.n_features, lengthscale)
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty)))
        self.log_noise = nn.Parameter(torch.tensor(2 * math.log(noise)))
        self.log_ridge = nn.Parameter(torch.tensor(math.log(ridge)))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def fit_scale(self, X: Tensor | None, y: Tensor | None, w: Tensor | None = None) -> None:
        # cosines of embeddings are what they were made for, as they are: seen from the mean of
        # past rows, rows of another kind would all look alike
        super().fit_scale(None if isinstance(self.encoder, Residual) else X, y, w)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        present = present_classes(y, w)
        S, Y = w.double().sqrt()[..., None], y.double()
        K = self.kernel(Z.double(), Z.double())
        A = S * K * S.mT
        unit = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        mask = torch.zeros_like(Y[..., :1, :]).masked_fill(~present[..., None, :], -torch.inf)
        penalty = self.log_penalty.double().exp() + JITTER
        inverted = inverse(0.5 * A + penalty * unit)
        # a step on the coefficients is one on the scores f of the support, by a single product
        H = (K * S.mT) @ inverted * S.mT
        f = ahead = pull = torch.zeros_like(Y)
        for i in range(self.n_steps):
            pull = 0.5 * ahead + Y - (ahead + mask).softmax(-1)
            before, f = f, H @ pull
            ahead = f + i / (i + 3) * (f - before)
        a = inverted @ (S * pull)
        # each class against the rest by least squares, as a second opinion
        noise = self.log_noise.double().exp() + JITTER
        usual = 1 / present.double().sum(-1).clamp_min(1.0)[..., None, None]
        wanted = torch.where(present[..., None, :], Y - usual, 0.0)
        ridge = solve(A + noise * unit, S * wanted)
        coef = S * (a + self.log_ridge.double().exp() * ridge)
        return {"Z": Z, "coef": coef, "present": present}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        steps = OF_LABELS * n_rows * n_labels
        return super().numbers_to_adapt(n_rows, n_labels) + steps + OF_PAIRS * n_rows**2

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        scores = self.kernel(Z.double(), state["Z"].double()) @ state["coef"]
        logits = self.log_scale.exp() * scores.to(Z.dtype)
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)


@with_shared_texts()
class KernelLogisticClassifier(FewShotClassifier):
    """Kernel logistic regression whose kernel and penalties were learned on past tasks.

    The scores of the classes are functions f = sum_i k(x, x_i) a_i of the
    encoder's features. `fit` minimises their cross-entropy on the support rows
    plus penalty / 2 times the squared norm of f (eq. 6 of [1]_), in `n_steps`
    accelerated steps on the quadratic bound of [2]_, and adds to them, weighted by
    a learned number, the scores of a ridge regression of the class indicators
    with the same kernel. Few rows a class favour the first, more rows the
    second, and their sum does better than either. Meta-training
    differentiates through all of it, as [3]_ does, and learns encoder,
    lengthscale, penalty, noise, weight and scale from the queries'
    cross-entropy.

    For embeddings of a large model, ``encoder="residual"`` with
    ``lengthscale=1.0`` starts from their cosines.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    lengthscale : float or None, default=None
        Lengthscale of the kernel exp(-d^2 / 2 l^2) to start meta-training from.
        None is the root of the number of features.
    penalty : float or None, default=None
        Penalty to start meta-training from, 0.03 if None.
    noise : float or None, default=None
        Standard deviation of the ridge regression's noise to start
        meta-training from, 0.3 if None.
    ridge : float or None, default=None
        Weight of the ridge regression to start meta-training from, 5.0 if None.
    n_steps : int or None, default=None
        Steps at `fit`. None takes the meta-init's, or 40.
    {device}
    {dtype}
        The regressions are always in float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    dual_coef_ : ndarray of shape (n_rows, n_classes)
        Coefficients of the support rows' kernels.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    DeepKernelClassifier : The ridge regression alone, trained on marginal likelihoods.
    RidgeHeadClassifier : Ridge regression on the features themselves.

    References
    ----------
    .. [1] J. Zhu and T. Hastie, "Kernel logistic regression and the import vector
       machine", Journal of Computational and Graphical Statistics 14, 2005.
    .. [2] D. Böhning, "Multinomial logistic regression algorithm", Annals of the
       Institute of Statistical Mathematics 44, 1992.
    .. [3] L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi, "Meta-learning with
       differentiable closed-form solvers", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import KernelLogisticClassifier
    >>> clf = KernelLogisticClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = KernelLogistic
    _defaults = {"lengthscale": None, "penalty": 0.03, "noise": 0.3, "ridge": 5.0, "n_steps": 40}
    _constraints = {
        "lengthscale": Positive() | None,
        "penalty": Positive() | None,
        "noise": Positive() | None,
        "ridge": Positive() | None,
        "n_steps": Whole(1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        lengthscale: float | None = None,
        penalty: float | None = None,
        noise: float | None = None,
        ridge: float | None = None,
        n_steps: int | None = None,
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
        self.lengthscale = lengthscale
        self.penalty = penalty
        self.noise = noise
        self.ridge = ridge
        self.n_steps = n_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def dual_coef_(self) -> np.ndarray:
        return self._state("coef")
