"""LEO: gradient descent in a space of few dimensions, of which class weights are decoded.

A. A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero and R. Hadsell.
Meta-learning with latent embedding optimization. ICLR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    FeatureLearner,
    Outputs,
    State,
    SupportLoss,
    present_classes,
    spread,
)
from ..tasks import Number, Positive, Whole
from ._class_means import first_log_scale

#: What the decoder starts from, in units of the features: its weights, and the deviations.
DECODED = 0.1
#: Logarithms of standard deviations are held within it.
WIDEST = 10.0
#: Numbers that are held at once for each pair of rows and unit of the relation network.
OF_PAIRS = 4


class LEO(FeatureLearner):
    """adapt: encodes classes, descends in their latent codes, decodes, descends in the weights.

    predict: a linear classifier of the features.
    """

    scales_inputs_without_past = True
    learned_only = ("encode", "relate", "decode", "rates")
    faster = {"rates.latent": 10.0, "rates.weight": 10.0}

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_latent: int = 64,
        n_steps: int = 5,
        n_finetuning_steps: int = 5,
        inner_lr: float = 1.0,
        finetuning_lr: float = 0.001,
        kl_weight: float = 1e-3,
        encoder_penalty: float = 1e-9,
        orthogonality_penalty: float = 1e-3,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        least = {"n_latent": (n_latent, 1), "n_steps": (n_steps, 0)}
        least |= {"n_finetuning_steps": (n_finetuning_steps, 0)}
        for name, (value, low) in least.items():
            if not (isinstance(value, int | np.integer) and value >= low):
                raise ValueError(f"{name} must be an int, at least {low}, got {value!r}.")
        for name, rate in {"inner_lr": inner_lr, "finetuning_lr": finetuning_lr}.items():
            if not rate > 0:
                raise ValueError(f"{name} must be positive, got {rate!r}.")
        self.n_latent, self.n_steps = int(n_latent), int(n_steps)
        self.n_finetuning_steps = int(n_finetuning_steps)
        self.penalties = float(kl_weight), float(encoder_penalty), float(orthogonality_penalty)
        if not all(penalty >= 0 for penalty in self.penalties):
            raise ValueError(f"No penalty may be below 0, got {self.penalties!r}.")
        self.log_scale = nn.Parameter(torch.tensor(first_log_scale(encoder, self.n_features)))
        self.encode: Any = None
        self.relate: Any = None
        self.decode: Any = None
        self.rates: Any = None
        if not past:
            return
        width = 2 * self.n_latent
        self.encode = nn.Linear(self.n_features, self.n_latent, bias=False)
        self.relate = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.decode = nn.Linear(self.n_latent, 2 * self.n_features, bias=False)
        logs = {"latent": math.log(inner_lr), "weight": math.log(finetuning_lr)}
        self.rates = nn.ParameterDict({k: torch.tensor(v) for k, v in logs.items()})
        with torch.no_grad():
            nn.init.orthogonal_(self.decode.weight, DECODED)

    # ------------------------------------------------------------------ codes of classes
    def codes(self, Z: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of deviations (..., n_way, n_latent) of the classes (eq. 4).

        Parameters
        ----------
        Z : Tensor of shape (..., n, n_features)
            Features.
        mass : Tensor of shape (..., n_way, n)
            How much each row counts for each class, zero or summing to one.
        """
        first, second, last = self.relate
        e = self.encode(Z)
        of_own, of_other = first.weight.chunk(2, -1)
        own, other = e @ of_own.mT, (e @ of_other.mT)[..., None, :, :]
        n_present = (mass.sum(-1) > 0).sum(-1)[..., None]
        counted = (mass.sum(-2) / n_present.clamp_min(1))[..., None, None, :]

        def related(part: Tensor) -> Tensor:
            pairs = F.relu(second(F.relu(part[..., :, None, :] + other)))
            return (counted @ pairs)[..., 0, :]

        numbers = OF_PAIRS * Z.shape[:-1].numel() * 2 * self.n_latent
        means, logs = last(mass @ self.by_rows(related, own, numbers)).chunk(2, -1)
        return means, logs.clamp(-WIDEST, WIDEST)

    def decoded(self, z: Tensor, chance: Tensor | None) -> Tensor:
        """What codes add to class means (..., n_way, n_features): the mean, or drawn (eq. 5)."""
        mean, log = self.decode(z).chunk(2, -1)
        if chance is None:
            return mean
        return mean + DECODED * log.clamp(-WIDEST, WIDEST).exp() * chance

    def decoded_back(self, slope: Tensor, z: Tensor, chance: Tensor | None) -> Tensor:
        """The slope at codes, given that at what is decoded of them."""
        of_mean, of_log = self.decode.weight.chunk(2)
        if chance is None:
            return slope @ of_mean
        log = z @ of_log.mT
        inside = (log.abs() < WIDEST).to(log.dtype)
        drawn = DECODED * log.clamp(-WIDEST, WIDEST).exp() * chance * inside
        return slope @ of_mean + (slope * drawn) @ of_log

    # ------------------------------------------------------------------ descent
    def at(
        self, weight: Tensor, bias: Tensor, Z: Tensor, loss: SupportLoss
    ) -> tuple[Tensor, Tensor]:
        """The support loss, and its slope at the weights."""
        parts = self.parts_of(Z, weight[..., 0].numel() * 4 + Z.shape[:-2].numel() * Z.shape[-1])
        losses = [loss] if len(parts) == 1 else loss.split(parts[0].shape[-2])
        value: Any = 0.0
        slope: Any = 0.0
        for part, some in zip(parts, losses, strict=True):
            more, by_row = some.value_and_slope(part @ weight.mT + bias[..., None, :])
            value, slope = value + more, slope + by_row.mT @ part
        return value, slope

    def descended(
        self, start: Tensor, at: Callable[[Tensor], tuple[Tensor, Tensor]], rate: Tensor, n: int
    ) -> Tensor:
        """Where n steps lead; once trained, one that ends above the start is taken back."""
        x = start
        if not n:
            return x
        first, slope = at(x)
        for step in range(n):
            trial = x - spread(rate, slope) * slope
            if self.training and step == n - 1:
                return trial
            value, new = at(trial)
            if self.training:
                x, slope = trial, new
                continue
            good = value <= first  # False for NaN
            x = torch.where(spread(good, x), trial, x)
            slope = torch.where(spread(good, x), new, slope)
            rate = torch.where(good, rate, rate / 2)
        return x

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return self._adapted(Z, y, w, None)[0]

    def _adapted(
        self, Z: Tensor, y: Tensor, w: Tensor, chance: Tensor | None
    ) -> tuple[State, dict[str, Tensor]]:
        """The state, and what training has penalties on; codes and weights are drawn by chance."""
        mass, present = (w[..., None] * y).mT, present_classes(y, w)
        mass = mass / mass.sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        means, there = mass @ Z, present.to(Z.dtype)[..., None]
        centre = (there.mT @ means) / there.sum(-2, keepdim=True).clamp_min(1.0)
        means, rows = there * (means - centre), Z - centre
        scale = self.log_scale.exp()
        weight, bias = 2 * scale * means, -scale * means.square().sum(-1)
        told: dict[str, Tensor] = {}
        if self.encode is not None:
            weight, told = self._learned(Z, rows, mass, weight, bias, (y, w), chance)
        return {"weight": weight, "bias": bias, "centre": centre, "present": present}, told

    def _learned(
        self,
        Z: Tensor,
        rows: Tensor,
        mass: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: tuple[Tensor, Tensor],
        chance: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights after both descents (algorithm 1, lines 5-11)."""
        loss = DescendsCrossEntropy.support_loss(*labels)
        unit = 2 * self.log_scale.exp()
        mean, log = self.codes(Z, mass)
        z, drawn = mean, None
        if chance is not None:
            of_code, drawn = chance.split([self.n_latent, self.n_features], -1)
            z = mean + log.exp() * of_code

        def made(z: Tensor) -> Tensor:
            return weight + unit * self.decoded(z, drawn)

        def at_code(z: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = self.at(made(z), bias, rows, loss)
            return value, self.decoded_back(unit * slope, z, drawn)

        ones = Z.new_ones(Z.shape[:-2])
        found = self.descended(z, at_code, self.rates["latent"].exp() * ones, self.n_steps)
        ended = self.descended(
            made(found),
            lambda weight: self.at(weight, bias, rows, loss),
            self.rates["weight"].exp() * ones,
            self.n_finetuning_steps,
        )
        return ended, {"mean": mean, "log": log, "z": z, "found": found}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        logits = (Z - state["centre"]) @ state["weight"].mT + state["bias"][..., None, :]
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        # a copy of the features, and the pairs of at least one row
        pairs = 0 if self.encode is None else OF_PAIRS * n_rows * 2 * self.n_latent
        return super().numbers_to_adapt(n_rows, n_labels) + n_rows * self.n_features + pairs

    # ------------------------------------------------------------------ what is trained
    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """The loss of the queries, with codes and weights drawn, and the penalties (eq. 6, 7)."""
        if self.encode is None:
            return super().training_loss(X, y, w, X_query, y_query)
        n = X.shape[1]
        Z = self.embed_of_tasks(torch.cat([X, X_query], 1))
        state, told = self._adapted(Z[:, :n], y, w, self._chance(len(w), y.shape[-1], Z))
        outputs = self.predict_features(state, Z[:, n:])
        kl, apart = self._divergences(told, state["present"])
        weights = zip(self.penalties, (kl, apart, self._unlike_orthogonal()), strict=True)
        penalty = torch.stack([weight * part for weight, part in weights]).sum()
        return self.loss(outputs, y_query) + penalty, outputs

    def _chance(self, n_tasks: int, n_way: int, like: Tensor) -> Tensor:
        """Normal numbers for the code and the weights of each class."""
        shape = (n_way, self.n_latent + self.n_features)
        if self.random_numbers is None:
            chance = torch.rand((n_tasks, *shape), device=like.device)
        else:
            chance = self.random_numbers.of_each(n_tasks, shape, like.device)
        tiny = torch.finfo(torch.float32).eps
        return (2 * chance - 1).clamp(tiny - 1, 1 - tiny).erfinv().mul(2**0.5).to(like.dtype)

    def _divergences(self, told: dict[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """KL from a standard normal, and how far codes moved; means over classes and numbers."""
        mean, log = told["mean"], told["log"]
        kl = 0.5 * (mean.square() + (2 * log).exp() - 1) - log
        moved = (told["found"].detach() - told["z"]).square()
        counted = present.to(mean.dtype)[..., None]
        total = (counted.sum() * self.n_latent).clamp_min(1.0)
        return (counted * kl).sum() / total, (counted * moved).sum() / total

    def _unlike_orthogonal(self) -> Tensor:
        """Mean square of the correlations between what the latent numbers decode to (eq. 7)."""
        along = F.normalize(self.decode.weight, dim=0)
        unit = torch.eye(self.n_latent, dtype=along.dtype, device=along.device)
        return (along.mT @ along - unit).square().mean()


@with_shared_texts()
class LEOClassifier(FewShotClassifier):
    """LEO: gradient descent on a few numbers a class, of which its weights are decoded.

    An encoder and a relation network, which compares all pairs of support rows, tell a
    Gaussian code of each class (eq. 4 of [1]_). A decoder makes of it the weights of a
    linear classifier of the features (eq. 5). `fit` takes `n_steps` gradient steps
    of the codes, on the cross-entropy of the support rows, and `n_finetuning_steps` of the
    decoded weights themselves, with step sizes that were learned. Meta-training learns all
    of that from how well the queries are told apart, differentiating through both descents.
    In training codes and weights are drawn from their Gaussians; at `fit` they are the
    means, so that it is deterministic.

    In the paper features come from an encoder that was trained before: pass such a module
    with ``freeze_encoder=True``. Without, the two are trained together. Without a meta-init
    nothing is decoded and nothing descends: the nearest class mean wins.

    Some things differ from the paper. What is decoded is added to the weights of a nearest
    class mean, 2 (c_k - m), with m the mean of the class means c_k, which is also taken off the
    features: so training starts from a classifier. Classes count alike in the relation
    network however many rows they have. Random numbers are drawn once a task, not at each
    step. There is no dropout, and weights are penalised by the optimizer alone, if at all. A
    step at `fit` that ends above the loss of the start is taken back and the step size halved.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_latent : int or None, default=None
        Numbers in the code of a class. None takes the meta-init's, or 64.
    n_steps : int or None, default=None
        Steps in the latent space. None takes the meta-init's, or 5.
    n_finetuning_steps : int or None, default=None
        Steps in the space of weights that follow. None takes the meta-init's, or 5.
    inner_lr : float or None, default=None
        What the step size in the latent space starts from; a meta-init carries its
        learned one. None is 1.
    finetuning_lr : float or None, default=None
        The same of the other steps. None is 0.001.
    kl_weight : float or None, default=None
        What the codes' divergence from a standard normal costs in training. None takes the
        meta-init's, or 0.001.
    encoder_penalty : float or None, default=None
        What the squared way from the encoded to the adapted codes costs. None takes the
        meta-init's, or 1e-9.
    orthogonality_penalty : float or None, default=None
        What squared correlations within the decoder cost. None takes the meta-init's,
        or 0.001.
    {device}
    {dtype}
    {random_state}
        Those of the networks, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    CAVIAClassifier : A few numbers a class adapt, too, from zeros.
    ProtoMAMLClassifier : Starts from the class means; all weights adapt.

    References
    ----------
    .. [1] A. A. Rusu, D. Rao, J. Sygnowski, O. Vinyals, R. Pascanu, S. Osindero and
       R. Hadsell, "Meta-learning with latent embedding optimization", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import LEOClassifier
    >>> clf = LEOClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = LEO
    _defaults = {
        "n_latent": 64,
        "n_steps": 5,
        "n_finetuning_steps": 5,
        "inner_lr": 1.0,
        "finetuning_lr": 0.001,
        "kl_weight": 1e-3,
        "encoder_penalty": 1e-9,
        "orthogonality_penalty": 1e-3,
    }
    _constraints = {
        "n_latent": Whole(1) | None,
        "n_steps": Whole(0) | None,
        "n_finetuning_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "finetuning_lr": Positive() | None,
        "kl_weight": Number(0) | None,
        "encoder_penalty": Number(0) | None,
        "orthogonality_penalty": Number(0) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_latent: int | None = None,
        n_steps: int | None = None,
        n_finetuning_steps: int | None = None,
        inner_lr: float | None = None,
        finetuning_lr: float | None = None,
        kl_weight: float | None = None,
        encoder_penalty: float | None = None,
        orthogonality_penalty: float | None = None,
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
        self.n_latent = n_latent
        self.n_steps = n_steps
        self.n_finetuning_steps = n_finetuning_steps
        self.inner_lr = inner_lr
        self.finetuning_lr = finetuning_lr
        self.kl_weight = kl_weight
        self.encoder_penalty = encoder_penalty
        self.orthogonality_penalty = orthogonality_penalty
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}
