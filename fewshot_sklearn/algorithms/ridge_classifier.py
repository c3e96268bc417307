"""A closed-form linear head on meta-learned features: ridge regression of class indicators.

L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi. Meta-learning with
differentiable closed-form solvers. ICLR 2019.

D. Boehning. Multinomial logistic regression algorithm. Annals of the Institute of Statistical
Mathematics 44 (1992). (for classes that recur)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import (
    KEPT_W,
    KEPT_Y,
    OF_PAIRS,
    KnownClasses,
    State,
    TakesIn,
    by_class,
    class_prior,
    intercept_of,
    of_known,
    present_classes,
    solve,
    those,
    with_intercept,
)
from ..tasks import Positive, Support

#: Features, at most, of which the regularisation is learned from all past episodes at once.
MOST_FEATURES = 256
#: The same of known classes, whose prior is learned from all past rows; and those of an encoder.
MOST_KNOWN_FEATURES, MOST_LEARNED_FEATURES = 128, 32
#: Variances of weights below it, in units of the noise, are none.
LEAST_VARIANCE = 1e-12
#: How often a class is drawn, on average, into the episodes that variances are learned from.
TIMES_DRAWN = 4
#: Of the outputs, to start from.
SCALE = 10.0
#: Standard deviation of what a feature's penalty, as a logarithm, is changed by itself.
OWN = 2.0
#: Of what all penalties, their differences, the intercept's and the scale are changed by.
BOUNDS = [(-6.0, 6.0), (-1.0, 1.0), (-6.0, 6.0), (-4.0, 4.0)]


def _weighted(Z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Features and class indicators, times the roots of the weights, in float64."""
    root = w.double().sqrt()[..., None]
    return root * with_intercept(Z), root * y.double()


def _fewest(phi: Tensor, target: Tensor) -> State:
    """All that a ridge regression needs of its rows: they themselves, or their products."""
    if phi.shape[-2] < phi.shape[-1]:
        return {"phi": phi, "target": target}
    return {"gram": phi.mT @ phi, "moment": phi.mT @ target}


class RidgeHeadClassification(TakesIn):
    """adapt: ridge regression of the class indicators (Bertinetto 2019, eq. 4, 6).

    predict: its outputs times a learned scale, as logits (eq. 7).

    Of known classes, those of all past tasks, the weights have a prior of their own: adapt is
    then a ridge regression of working responses after the other, a logistic regression
    (`KnownClasses`).
    """

    knows_classes = True
    faster = {"known.mean": 10.0, "known.factor": 10.0}

    further_rows_told = (
        "`partial_fit` adds further rows, new classes among them, to the products Z'Z and Z'Y that "
        "the solution takes, and needs no others; `forget` needs them once there are as many rows "
        "as features. Of classes that recur it adds the features of the rows, which it adapts to "
        "anew. Without a meta-init or with altered copies all rows, which the estimator keeps, are "
        "adapted to anew."
    )
    centres_inputs_without_past = True

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        alpha: float = 1.0,
        n_known: int = 0,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha!r}.")
        start = math.log(alpha)
        self.log_precision = nn.Parameter(torch.full((self.n_features + 1,), start))
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.known = KnownClasses(self.n_features + 1, n_known) if n_known else None

    def begin_known_classes(self, X: Tensor, codes: Tensor) -> None:
        assert self.known is not None
        self.known.begin(codes)

    def learn_known_classes(
        self,
        X: Tensor,
        codes: Tensor,
        tasks: np.ndarray,
        episodes: Iterable[tuple[dict[str, Tensor], Tensor]],
    ) -> bool:
        """Learn the prior of the known classes' weights from all past tasks at once."""
        assert self.known is not None
        learned = any(True for _ in self.encoder.parameters())
        if self.n_features > (MOST_LEARNED_FEATURES if learned else MOST_KNOWN_FEATURES):
            return False
        with torch.no_grad():
            phi = with_intercept(self.embed(X)).cpu()
        return self.known.learn(phi, codes, tasks)

    def learn_from_episodes(
        self, episodes: Iterable[tuple[dict[str, Tensor], Tensor]], n_classes: int
    ) -> bool:
        """Learn the regularisation: by the likelihood of all rows, then by that of the queries."""
        known, self.known = self.known, None  # of what is for new classes
        try:
            return self._learn_of_new_classes(episodes, n_classes)
        finally:
            self.known = known

    def _learn_of_new_classes(
        self, episodes: Iterable[tuple[dict[str, Tensor], Tensor]], n_classes: int
    ) -> bool:
        if self.n_features > MOST_FEATURES:
            return False
        kept, phi, codes, numbers, count = [], [], [], [], 0
        with torch.no_grad():
            for batch, y_query in episodes:
                y, w = batch["y"], batch["w"]
                Z, Z_query = self._both_embedded(batch["X"], batch["X_query"])
                kept.append((Z, y, w, Z_query, y_query))
                asked = torch.cat([y.argmax(-1).where(w > 0, -1), y_query], 1)
                there = asked >= 0
                phi.append(with_intercept(torch.cat([Z, Z_query], 1)[there]))
                codes.append(asked[there])
                numbers.append(count + there.nonzero()[:, 0])
                count += len(asked)
            rows = [torch.cat(part).cpu() for part in (phi, codes, numbers)]
        few = rows[2] < math.ceil(TIMES_DRAWN * n_classes / int(rows[1].max() + 1))
        try:
            prior = class_prior(*(part[few] for part in rows), n_classes=n_classes)
        except torch.linalg.LinAlgError:  # of classes that tell too little
            return False
        self._settle(-prior.variances.clamp(min=LEAST_VARIANCE).log(), kept, n_classes)
        return True

    def _both_embedded(self, X: Tensor, X_query: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.cat([X, X_query], 1)
        Z = self.embed(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return Z[:, : X.shape[1]], Z[:, X.shape[1] :]

    def _settle(self, learned: Tensor, kept: Sequence[tuple[Tensor, ...]], n_classes: int) -> None:
        """Change what was learned of indicators to what predicts the queries best.

        Their likelihood, times a normal prior that counts as much as one class: of how high all
        penalties are and how far each is from the others, of the intercept's, of the outputs'
        scale, and of each penalty by itself.
        """
        common = learned[:-1].median()
        apart = learned[:-1] - common
        sizes = np.array([len(batch[0]) for batch in kept], float)
        own = self.learned_at_once()

        def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
            with torch.no_grad():
                penalties = common + v[0] + (1 + v[1]) * apart + OWN * torch.from_numpy(v[4:])
                self.log_precision.copy_(torch.cat([penalties, learned[-1:] + v[2]]))
                self.log_scale.fill_(math.log(SCALE) + v[3])
            value, slopes = 0.5 * v @ v / n_classes, v / n_classes
            for share, (*task, y_query) in zip(sizes / sizes.sum(), kept, strict=True):
                with torch.enable_grad():
                    part = self.loss(self.forward_features(*task), y_query)
                    by, by_scale = (
                        slope.double().cpu().numpy() for slope in torch.autograd.grad(part, own)
                    )
                each = by[:-1]
                along = [each.sum(), each @ apart.numpy(), by[-1], by_scale, *(OWN * each)]
                value, slopes = (
                    value + share * float(part.detach()),
                    slopes + share * np.array(along),
                )
            return value, slopes

        required = [parameter.requires_grad for parameter in own]
        for parameter in own:
            parameter.requires_grad_(True)
        bounds = BOUNDS + [BOUNDS[0]] * len(apart)
        found = minimize(
            loss, np.zeros(len(bounds)), jac=True, bounds=bounds, options={"maxiter": 50}
        )
        loss(found.x)
        for parameter, was in zip(own, required, strict=True):
            parameter.requires_grad_(was)

    def learned_at_once(self) -> list[nn.Parameter]:
        return [self.log_precision, self.log_scale]

    def learned_of_known(self) -> list[nn.Parameter]:
        return [] if self.known is None else list(self.known.parameters())

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.known is not None:
            return self.known.adapt(with_intercept(Z), y, w)
        phi, target = _weighted(Z, y, w)
        if phi.shape[-2] < phi.shape[-1]:
            coef = self._among_rows(phi, target)
        else:
            coef = self._among_features(phi.mT @ phi, phi.mT @ target)
        return {"coef": coef, "present": present_classes(y, w)}

    def _among_rows(self, phi: Tensor, target: Tensor) -> Tensor:
        """The Woodbury identity (eq. 5-6): an n x n system."""
        scaled = phi / self.penalties()
        kernel = scaled @ phi.mT + torch.eye(phi.shape[-2], dtype=phi.dtype, device=phi.device)
        return scaled.mT @ solve(kernel, target)

    def _among_features(self, gram: Tensor, moment: Tensor) -> Tensor:
        return solve(gram + torch.diag(self.penalties()), moment)

    def penalties(self) -> Tensor:
        """Of each feature, and of the intercept (n_features + 1,)."""
        return self.log_precision.double().exp()

    # ------------------------------------------------------------------ further rows
    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.known is not None:
            return {"phi": with_intercept(Z), KEPT_Y: of_known(y, self.known.n_classes), KEPT_W: w}
        phi, target = _weighted(Z, y, w)
        return _fewest(phi, target)

    def adapt_to_take_in(self, support: Support) -> State:
        if self.known is not None:
            return super().adapt_to_take_in(support)
        sums = self.statistics(self.embed(support.X), support.y, support.w)
        return self._solved(sums, present_classes(support.y, support.w))

    def rows_kept(self, state: State) -> int:
        return state["phi"].shape[-2] if "phi" in state else 0

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        if self.known is not None:
            new = self.statistics(Z, y, w)
            phi, y, w = (
                torch.cat([state[k], new[k]], -1 if k == KEPT_W else -2)
                for k in ("phi", KEPT_Y, KEPT_W)
            )
            return self.known.adapt(phi, y, w) | {"phi": phi, KEPT_Y: y, KEPT_W: w}
        if index is not None:
            state = {
                k: t if k in ("phi", "gram") else by_class(t, index, -1) for k, t in state.items()
            }
        phi, target = _weighted(Z, y, w)
        if "phi" in state:
            phi, target = (
                torch.cat([state[k], t], -2) for k, t in (("phi", phi), ("target", target))
            )
            sums = _fewest(phi, target)
        else:
            gram, moment = state["gram"] + phi.mT @ phi, state["moment"] + phi.mT @ target
            sums = {"gram": gram, "moment": moment}
        return self._solved(sums, state["present"] | present_classes(y, w))

    def leave_out(self, state: State, kept: Tensor) -> State | None:
        if (
            self.known is not None or "gram" in state
        ):  # which holds the rows of all classes in one sum
            return None
        target = by_class(state["target"], kept, -1)
        phi, target, _ = those((target != 0).any(-1), state["phi"], target, target[..., 0])
        return self._solved({"phi": phi, "target": target}, by_class(state["present"], kept, -1))

    def _solved(self, sums: State, present: Tensor) -> State:
        if "phi" in sums:
            coef = self._among_rows(sums["phi"], sums["target"])
        else:
            coef = self._among_features(sums["gram"], sums["moment"])
        return {"coef": coef, "present": present, **sums}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        n = self.n_features + 1
        n = n if self.known is not None else min(n_rows, n)
        return super().numbers_to_adapt(n_rows, n_labels) + OF_PAIRS * n**2

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        if self.known is not None:
            return self.known.logits(state, with_intercept(Z)).to(Z.dtype)
        scores = (with_intercept(Z) @ state["coef"]).to(Z.dtype)
        return (self.log_scale.exp() * scores).masked_fill(
            ~state["present"][..., None, :], -torch.inf
        )


@with_shared_texts()
class RidgeHeadClassifier(FewShotClassifier):
    """Ridge regression of class indicators on meta-learned features.

    `fit` solves W = argmin ||ZW - Y||^2 + ||W||^2_Lambda in closed form (eq. 4 of
    [1]_; in the dual, eq. 6, when there are fewer rows than features), with the
    features Z and the regularisation Lambda, a penalty for each feature, learned
    on past tasks. Class probabilities are the softmax of the scaled outputs (eq. 7).

    Where the classes of past tasks recur (``MetaTrainer(classes=...)``), what each class
    is like is learned, too: the mean and the covariance of its weights. `fit` is then a
    Bayesian logistic regression towards them, `fit_prior` their mean, and classes without
    a labelled row are predicted as well.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    alpha : float or None, default=None
        Regularisation to start training on episodes from; a meta-init carries its
        learned one. None learns it from all past tasks at once (see Notes), and
        starts from 1.0 where that cannot be.
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

    Notes
    -----
    Ridge regression of class indicators is a linear mixed model whose random
    effects are the weights of classes, with no mean, for classes are exchangeable.
    With features that are not learned (no encoder), meta-training maximises its
    likelihood [2]_ over past episodes at once, in place of descending on them. One
    variance for all features, or one for each, which are then shrunk to the common
    one, whatever Akaike's corrected criterion chooses, give the penalties. As
    indicators are not normal, penalties and the scale of the outputs then follow
    the likelihood of the queries of the same episodes, under a prior that keeps
    them where they were if classes are few. With an encoder, network and
    regularisation are trained together, by differentiating through the solution as
    in [1]_, and the regularisation is then learned so once more if validation is
    the better for it. Neither where `alpha` is given, for more than 256 features,
    for tasks from a generator, or where training goes on from a meta-init.

    Of classes that recur the weights are random effects about a mean of their own, in a
    logistic regression. Meta-training estimates both by penalised quasi-likelihood [3]_:
    a linear mixed model of working responses, made anew until it settles; how tasks vary
    is chosen as in `RidgeHeadRegressor`. `fit` finds the most probable weights by ridge
    regressions of working responses that share one matrix [4]_, and logits are the less
    certain the less is known of a row [5]_.

    References
    ----------
    .. [1] L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi, "Meta-learning with
       differentiable closed-form solvers", ICLR 2019.
    .. [2] N. M. Laird and J. H. Ware, "Random-effects models for longitudinal data",
       Biometrics 38, 1982.
    .. [3] N. E. Breslow and D. G. Clayton, "Approximate inference in generalized linear
       mixed models", JASA 88, 1993.
    .. [4] D. Boehning, "Multinomial logistic regression algorithm", Annals of the
       Institute of Statistical Mathematics 44, 1992.
    .. [5] D. J. C. MacKay, "The evidence framework applied to classification networks",
       Neural Computation 4, 1992.

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
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
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
        self.freeze_encoder = freeze_encoder
        self.scale_inputs = scale_inputs
        self.layout = layout
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
        return intercept_of(
            self._state("coef"), self.meta_init_.fixed_spec, self.meta_init_.tensors
        )
