"""TIM: prototypes that make the answers to all queries sure, and their classes even.

M. Boudiaf, Z. I. Masud, J. Rony, J. Dolz, P. Piantanida and I. Ben Ayed. Transductive
information maximization for few-shot learning. NeurIPS 2020.

O. Veilleux, M. Boudiaf, P. Piantanida and I. Ben Ayed. Realistic evaluation of
transductive few-shot learning. NeurIPS 2021 (alpha-TIM).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import with_shared_texts
from ..learners import (
    KEPT_W,
    KEPT_Y,
    ROWS,
    PretrainedTransductiveLearner,
    State,
    class_means,
    present_classes,
)
from ..tasks import Number, OneOf, Positive, Whole, shares
from ._transductive import TransductiveClassifier

SOLVERS = ("gd", "adm")
#: Steps of each solver, as in the paper.
STEPS = {"gd": 1000, "adm": 150}
#: Adam, as in the paper: its step size, and its usual other numbers.
STEP_SIZE, BETAS, EPS = 1e-4, (0.9, 0.999), 1e-8
#: Weights of the support's cross-entropy and of the entropy of single answers: in TIM, and in
#: alpha-TIM.
WEIGHTS, ALPHA_WEIGHTS = 0.1, 1.0


class TIM(PretrainedTransductiveLearner):
    """predict: softmax of -temperature / 2 |z - w_k|^2, after w was fitted to the queries.

    The loss is support_weight CE - H(mean answer) + conditional_weight mean H(answer).
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        solver: str = "gd",
        alpha: float = 1.0,
        temperature: float = 15.0,
        support_weight: float | None = None,
        conditional_weight: float | None = None,
        n_steps: int | None = None,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if solver not in SOLVERS:
            raise ValueError(f"solver must be one of {list(SOLVERS)}, got {solver!r}.")
        if solver == "adm" and alpha != 1:
            raise ValueError(
                f"alpha={alpha!r} needs solver='gd': the alternating steps are of Shannon's "
                "entropy, alpha=1."
            )
        usual = WEIGHTS if alpha == 1 else ALPHA_WEIGHTS
        self.solver, self.alpha, self.temperature = solver, alpha, temperature
        self.support_weight = usual if support_weight is None else support_weight
        self.conditional_weight = usual if conditional_weight is None else conditional_weight
        self.n_steps = STEPS[solver] if n_steps is None else n_steps

    def answer_together(self, state: State, Z: Tensor, asked: Tensor) -> Tensor:
        y, present = state[KEPT_Y], present_classes(state[KEPT_Y], state[KEPT_W])
        support, Z = F.normalize(state[ROWS], dim=-1), F.normalize(Z, dim=-1)
        weights = class_means(state, support)
        known = support, y, self.support_weight * shares(state[KEPT_W])[..., None]
        step = self._descend if self.solver == "gd" else self._alternate
        weights = step(weights, known, Z, shares(asked)[..., None], present[..., None, :])
        return self._logits(weights, Z)

    def _logits(self, weights: Tensor, Z: Tensor) -> Tensor:
        """Logits (..., n, n_way), but for what all classes have in common."""
        return self.temperature * (Z @ weights.mT - 0.5 * weights.square().sum(-1)[..., None, :])

    def _log_answers(self, weights: Tensor, Z: Tensor, present: Tensor) -> Tensor:
        """Logarithms of the probabilities; very small ones of absent classes."""
        least = torch.finfo(Z.dtype).min / 4
        return self._logits(weights, Z).masked_fill(~present, least).log_softmax(-1)

    # ------------------------------------------------------------------ gradient descent
    def _descend(
        self,
        weights: Tensor,
        known: tuple[Tensor, Tensor, Tensor],
        Z: Tensor,
        share: Tensor,
        present: Tensor,
    ) -> Tensor:
        """Adam on the prototypes, by the gradient written out."""
        mean = square = torch.zeros_like(weights)
        for i in range(1, self.n_steps + 1):
            slope = self._slope(weights, known, Z, share, present)
            mean = BETAS[0] * mean + (1 - BETAS[0]) * slope
            square = BETAS[1] * square + (1 - BETAS[1]) * slope.square()
            size = (square / (1 - BETAS[1] ** i)).sqrt() + EPS
            weights = weights - STEP_SIZE / (1 - BETAS[0] ** i) * mean / size
        return weights

    def _slope(
        self,
        weights: Tensor,
        known: tuple[Tensor, Tensor, Tensor],
        Z: Tensor,
        share: Tensor,
        present: Tensor,
    ) -> Tensor:
        """Gradient of the loss with respect to the prototypes."""
        support, y, w = known
        p_support = self._log_answers(weights, support, present).exp()
        of_support = w * (y.sum(-1, keepdim=True) * p_support - y)
        log_p = self._log_answers(weights, Z, present)
        p = log_p.exp()
        marginal = (share * p).sum(-2, keepdim=True)
        tiny = torch.finfo(Z.dtype).tiny
        rise = self.conditional_weight * self._entropy_slope(p, log_p)
        rise = rise - self._entropy_slope(marginal, marginal.clamp_min(tiny).log())
        of_query = share * p * (rise - (p * rise).sum(-1, keepdim=True))
        pull = of_support.mT @ support + of_query.mT @ Z
        push = (of_support.sum(-2) + of_query.sum(-2))[..., None] * weights
        return self.temperature * (pull - push)

    def _entropy_slope(self, p: Tensor, log_p: Tensor) -> Tensor:
        """Derivative of the entropy, Shannon's or Tsallis's of order alpha; up to a constant."""
        if self.alpha == 1:
            return -log_p
        return -self.alpha / (self.alpha - 1) * ((self.alpha - 1) * log_p).exp()

    # ------------------------------------------------------------------ alternating directions
    def _alternate(
        self,
        weights: Tensor,
        known: tuple[Tensor, Tensor, Tensor],
        Z: Tensor,
        share: Tensor,
        present: Tensor,
    ) -> Tensor:
        """In turn the answers wanted and the prototypes nearest to them."""
        support, y, w = known
        w = w / (1 + self.conditional_weight)
        tiny = torch.finfo(Z.dtype).tiny
        for _ in range(self.n_steps):
            log_p = self._log_answers(weights, Z, present)
            sharp = ((1 + self.conditional_weight) * log_p).exp()
            wanted = sharp / (share * sharp).sum(-2, keepdim=True).clamp_min(tiny).sqrt()
            wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(tiny)
            p_support = self._log_answers(weights, support, present).exp()
            of_support, of_query = w * (y - p_support), share * (wanted - log_p.exp())
            pull = of_support.mT @ support + of_query.mT @ Z
            push = ((w * p_support).sum(-2) + (share * log_p.exp()).sum(-2))[..., None] * weights
            total = ((w * y).sum(-2) + (share * wanted).sum(-2)).clamp_min(tiny)
            weights = (pull + push) / total[..., None]
        return weights


@with_shared_texts()
class TransductiveTIMClassifier(TransductiveClassifier):
    """TIM: nearest prototypes, moved until the answers to all queries are sure and even.

    **Transductive**: all rows of a call of `predict` are answered together, and the answer to
    one depends on the others. In features of length one (brought to it here), each class starts
    at the mean w_k of its support rows, and a row's logits are -temperature / 2 (z - w_k)^2
    [1]_. `predict` then moves the w_k to minimise::

        support_weight * CE(support) - H(mean answer) + conditional_weight * mean H(answer)

    that is, to maximise the mutual information of rows and answers. The first entropy makes
    classes occur equally often: where they do not, `alpha` above one holds less to that [2]_.

    Meta-training trains the encoder under a linear classifier of all past classes, as in the
    paper. Answers to rows do not depend on their order.

    Parameters
    ----------
    {meta_init}
        One of `ProtoNetClassifier` or `NearestClassMeanClassifier` will do, too: its
        encoder is taken.
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    solver : {"gd", "adm"} or None, default=None
        How the prototypes move: by Adam, or by steps in closed form in alternating
        directions (appendix of [1]_), which are several times as quick. None takes the
        meta-init's, or ``"gd"`` without one.
    alpha : float or None, default=None
        Order of Tsallis's entropy for the queries: 1 is Shannon's. The second paper takes 2 for
        one shot and 7 for five or more. Only with ``solver="gd"``. None takes the
        meta-init's, or 1.0 without one.
    temperature : float or None, default=None
        How sharply closeness tells classes apart. None takes the meta-init's, or 15.0.
    support_weight : float or None, default=None
        Weight of the support's cross-entropy. None is 0.1 with Shannon's entropy and 1.0 with
        another, as in the papers.
    conditional_weight : float or None, default=None
        Weight of the mean entropy of single answers. None is as with `support_weight`.
    n_steps : int or None, default=None
        Steps: None is 1000 of ``"gd"``, 150 of ``"adm"``.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    TransductivePTMAPClassifier : Optimal transport in place of entropies.
    NearestClassMeanClassifier : Each row by itself.

    References
    ----------
    .. [1] M. Boudiaf, Z. I. Masud, J. Rony, J. Dolz, P. Piantanida and I. Ben Ayed,
       "Transductive information maximization for few-shot learning", NeurIPS 2020.
    .. [2] O. Veilleux, M. Boudiaf, P. Piantanida and I. Ben Ayed, "Realistic evaluation of
       transductive few-shot learning", NeurIPS 2021.

    Examples
    --------
    >>> from fewshot_sklearn import TransductiveTIMClassifier
    >>> clf = TransductiveTIMClassifier().fit([[1., 0.], [0., 1.]], ["a", "b"])
    >>> clf.predict([[4., 0.], [5., 1.], [3., 1.], [5., 4.]])
    array(['a', 'a', 'a', 'b'], dtype='<U1')
    >>> clf.predict([[5., 4.]])  # by itself
    array(['a'], dtype='<U1')
    """

    _learner_class = TIM
    _defaults = {
        "solver": "gd",
        "alpha": 1.0,
        "temperature": 15.0,
        "support_weight": None,
        "conditional_weight": None,
        "n_steps": None,
    }
    _constraints = {
        "solver": OneOf(*SOLVERS) | None,
        "alpha": Number(low=1) | None,
        "temperature": Positive() | None,
        "support_weight": Number(low=0) | None,
        "conditional_weight": Number(low=0) | None,
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
        solver: str | None = None,
        alpha: float | None = None,
        temperature: float | None = None,
        support_weight: float | None = None,
        conditional_weight: float | None = None,
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
        self.solver = solver
        self.alpha = alpha
        self.temperature = temperature
        self.support_weight = support_weight
        self.conditional_weight = conditional_weight
        self.n_steps = n_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
