"""Neural processes: networks that read a support set and answer with a Gaussian at any point.

M. Garnelo et al. Conditional neural processes. ICML 2018.

H. Kim et al. Attentive neural processes. ICLR 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import ProbabilisticRegressor, with_shared_texts
from ..learners import (
    Gaussian,
    MultiHeadAttention,
    SmoothingLearner,
    State,
    TransformerLayer,
    check_sizes,
    predictive,
)
from ..tasks import Flag, Whole, shares


def _mlp(n_in: int, n_hidden: int, n_layers: int, n_out: int) -> nn.Sequential:
    """Linear layers with ReLU between them, which start as He et al. (2015) say."""
    widths = [n_in, *[n_hidden] * (n_layers - 1), n_out]
    layers: list[nn.Module] = []
    for width, units in zip(widths, widths[1:], strict=False):
        linear = nn.Linear(width, units)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class NeuralProcess(SmoothingLearner):
    """adapt: r_i = h(x_i, y_i). predict: g(x, r), with r their mean or read by attention.

    The mean is eq. 1-3 of Garnelo et al. 2018. Attention is the deterministic
    path of Kim et al. 2019 (section 3): the r_i read each other, a query reads
    the r_i by the likeness of x and x_i. The mean is given to g beside it, in
    place of the latent z. Where there is no past (`smooths`), the mean of y is
    that of a kernel smoother instead.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        attentive: bool = True,
        n_hidden: int = 128,
        n_heads: int = 8,
        smooths: bool = False,
    ):
        if attentive not in (True, False):
            raise ValueError(f"attentive must be True or False, got {attentive!r}.")
        n_outputs = n_outputs or 1
        super().__init__(encoder, input_shape, n_outputs, smooths=bool(attentive and smooths))
        check_sizes(n_hidden, n_heads if attentive else 1)
        self.attentive = attentive
        n_features = self.n_features
        self.h = _mlp(n_features + n_outputs, n_hidden, 3, n_hidden)
        n_read = 2 * n_hidden if attentive else n_hidden
        self.g = _mlp(n_features + n_read, n_hidden, 5, 2 * n_outputs)
        for p in self.g[-1].parameters():
            nn.init.zeros_(p)
        if attentive:
            self.self_attention = TransformerLayer(n_hidden, n_heads)
            self.place = _mlp(n_features, n_hidden, 2, n_hidden)
            self.cross_attention = MultiHeadAttention(n_hidden, n_heads)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        target = self.scaled_targets(y)
        r = self.h(torch.cat([Z, target], -1))
        mean = (shares(w)[..., None] * r).sum(-2)
        if not self.attentive:
            return {"r": mean}
        keys, values = self.self_attention.read(r)
        pairs = w.numel() * self.cross_attention.n_heads
        r = self.by_rows(lambda part: self.self_attention(part, keys, values, w), r, pairs)
        keys, values = self.cross_attention.project(self.place(Z), r)
        state = {"r": mean, "w": w, "keys": keys, "values": values}
        return state | {"Z": Z, "target": target} if self.smooths else state

    def predict_features(self, state: State, Z: Tensor) -> Gaussian:
        known = [Z, state["r"][..., None, :].expand(*Z.shape[:-1], -1)]
        smoothed: Tensor | float = 0.0
        if self.attentive:
            rows = state["keys"], state["values"], state["w"]
            known.append(self.cross_attention(self.place(Z), *rows))
        if self.smooths:
            smoothed = self.smoother(Z, state["Z"], state["w"]).exp() @ state["target"]
        mean, spread = self.g(torch.cat(known, -1)).chunk(2, -1)
        return self.in_units(predictive(smoothed + mean, spread))  # type: ignore[return-value]


@with_shared_texts()
class NeuralProcessRegressor(ProbabilisticRegressor):
    """Neural process: one network reads the support rows, another answers at any point.

    A network h turns each support row into r_i = h(x_i, y_i). In a conditional
    neural process (``attentive=False``) their mean r stands for the task and a
    network g turns (x, r) into the mean and standard deviation of y at x (eq.
    1-3 of [1]_). In an attentive one the r_i first read each other, and a query
    reads those whose x_i are like its own x, by multi-head attention
    (section 3 of [2]_; the deterministic path). `fit` runs h; no gradient is
    taken. Meta-training minimises the negative log likelihood of the queries
    (eq. 4 of [1]_).

    Where this departs from the papers: the latent z of [2]_, with which
    predictions would be no Gaussians, gives way to the mean of the r_i, which g
    sees beside what attention reads; the standard deviation is 0.01 + 0.99
    softplus in units of the targets' spread, not 0.1 + 0.9 softplus, since
    noise is often below a tenth. And g starts from zero: without a meta-init
    the conditional form predicts the mean of the targets, and the attentive
    form, to which only then the support targets smoothed by a Gaussian kernel
    are added, is a Nadaraya-Watson regression on scaled features.

    Parameters
    ----------
    {meta_init}
        The network on it is then untrained.
    {encoder}
        Its features are the x above.
    {freeze_encoder}
    {scale_inputs}
    {layout}
    attentive : bool or None, default=None
        Whether queries read the rows by attention rather than their mean. None
        takes the meta-init's, or True.
    n_hidden : int or None, default=None
        Width of all layers. None takes the meta-init's, or 128.
    n_heads : int or None, default=None
        Attention heads, which must divide `n_hidden`. None takes the
        meta-init's, or 8.
    {device}
    {dtype}
    {random_state}
        Those of the network, too.
    {**encoder__params}

    Attributes
    ----------
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    RidgeHeadRegressor : Bayesian linear regression on meta-learned features.
    InContextRegressor : A transformer over support rows and queries.

    References
    ----------
    .. [1] M. Garnelo et al., "Conditional neural processes", ICML 2018.
    .. [2] H. Kim et al., "Attentive neural processes", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import NeuralProcessRegressor
    >>> reg = NeuralProcessRegressor().fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> mean, std = reg.predict([[1.], [1.5]], return_std=True)
    >>> mean.round(2)
    array([3., 4.])
    >>> std.shape
    (2,)
    """

    _learner_class = NeuralProcess
    _defaults = {"attentive": True, "n_hidden": 128, "n_heads": 8}
    _constraints = {
        "attentive": Flag() | None,
        "n_hidden": Whole(1) | None,
        "n_heads": Whole(1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        attentive: bool | None = None,
        n_hidden: int | None = None,
        n_heads: int | None = None,
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
        self.attentive = attentive
        self.n_hidden = n_hidden
        self.n_heads = n_heads
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        # with a past to learn from, the kernel is in the way: sinusoids took longer to learn
        return super()._learner_params(trained) | {"smooths": trained is None}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.attentive is False and self.meta_init is None:
            tags.regressor_tags.poor_score = True  # it predicts the mean of the targets
        return tags
