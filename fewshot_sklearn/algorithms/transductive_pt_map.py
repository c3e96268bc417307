"""PT-MAP: class means found together with an even transport of all queries to the classes.

Y. Hu, V. Gripon and S. Pateux. Leveraging the feature distribution in transfer-based few-shot
learning. ICANN 2021.
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
from ..tasks import Flag, Number, Positive, Whole, shares
from ._neighbours import squared_distances
from ._transductive import TransductiveClassifier

#: What is added to features, in units of a row's size, so that a power of zero has a slope.
EPS = 1e-6
#: Rounds in which prices are sought, at most, and how far sums may then be off.
ROUNDS, OFF_BY = 1000, 1e-9
#: Rounds after which a GPU is asked, and waited for, whether they were enough.
UNASKED = 10
#: Shares of Newton's step that are tried; how far it goes at most, and what keeps it from infinity.
SHARES, FARTHEST, SOFTENED = (0.0, 1.0, 0.25, 0.06), 30.0, 1e-12
#: Logarithm of the least kernel, against the likeliest class of a row.
LEAST = -300.0


class PTMAP(PretrainedTransductiveLearner):
    """predict: power transform, then in turn answers (Sinkhorn) and class means (MAP)."""

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        power: float = 0.5,
        sharpness: float = 10.0,
        update_rate: float = 0.2,
        balanced: bool = True,
        n_steps: int = 20,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        self.power, self.sharpness, self.update_rate = power, sharpness, update_rate
        self.balanced, self.n_steps = balanced, n_steps

    def answer_together(self, state: State, Z: Tensor, asked: Tensor) -> Tensor:
        w, present = state[KEPT_W], present_classes(state[KEPT_Y], state[KEPT_W])[..., None, :]
        support, Z = self._centred(self._powers(state[ROWS]), self._powers(Z), w, asked, present)
        mass = w[..., None] * state[KEPT_Y]
        means = class_means(state, support)
        tiny = torch.finfo(Z.dtype).tiny
        prices = torch.zeros_like(means[..., 0], dtype=torch.float64)
        logs, prices = self._log_answers(Z, means, asked, present, prices)
        for _ in range(self.n_steps):
            counted = asked[..., None] * logs.exp()
            total = (mass.sum(-2) + counted.sum(-2)).clamp_min(tiny)
            found = (mass.mT @ support + counted.mT @ Z) / total[..., None]
            means = means + self.update_rate * (found - means)
            logs, prices = self._log_answers(Z, means, asked, present, prices)
        return logs

    def _powers(self, Z: Tensor) -> Tensor:
        """Each feature to the power, with its sign; then rows of length one."""
        size = Z.abs().amax(-1, keepdim=True)
        Z = Z / torch.where(size > 0, size, 1.0)
        powers = (Z.abs() + EPS * (size > 0).to(Z.dtype)) ** self.power
        return F.normalize(torch.where(Z < 0, -powers, powers), dim=-1)

    @staticmethod
    def _centred(
        support: Tensor, Z: Tensor, w: Tensor, asked: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Support and queries about zero, each by their own mean, and of length one again."""
        of_support = shares(w)[..., None, :] @ support
        of_queries = shares(asked)[..., None, :] @ Z
        # of fewer queries than classes the mean says more of which classes are asked
        few = _few(asked, present)
        one = (present.sum((-1, -2)) == 1)[..., None, None]
        of_support = torch.where(one, 0.0, of_support)
        of_queries = torch.where(few | one, of_support, of_queries)
        return F.normalize(support - of_support, dim=-1), F.normalize(Z - of_queries, dim=-1)

    def _log_answers(
        self, Z: Tensor, means: Tensor, asked: Tensor, present: Tensor, prices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logarithms of the probabilities (..., n, n_way), and the classes' prices for them."""
        logs = -self.sharpness * squared_distances(Z, means)
        logs = logs.masked_fill(~present, -torch.inf)
        if self.balanced:
            prices = even_prices(logs, asked, present, prices)
        return (logs - prices[..., None, :].to(Z.dtype)).log_softmax(-1), prices


def _few(asked: Tensor, present: Tensor) -> Tensor:
    """Whether there are fewer queries than classes (..., 1, 1)."""
    return (asked.sum(-1) < present.sum((-1, -2)))[..., None, None]


def even_prices(logs: Tensor, asked: Tensor, present: Tensor, prices: Tensor) -> Tensor:
    """What to subtract (..., n_way) from logits, that all classes are equally frequent.

    A round is a sweep of Sinkhorn's algorithm, by which sums are never further off than before, and
    from there so much of Newton's step as brings them nearest. In float64. Each task goes on until
    its sums are right, whichever others it is in a batch with. None where there are fewer rows than
    classes.

    Parameters
    ----------
    logs : Tensor of shape (..., n, n_way)
        Logits, minus infinity for absent classes.
    asked : Tensor of shape (..., n)
        One, or zero for padding.
    present : Tensor of bool of shape (..., 1, n_way)
        Which classes there are.
    prices : Tensor of shape (..., n_way), float64
        Where to start.
    """
    logs, there, few = logs.double(), present[..., 0, :], _few(asked, present)[..., 0, :]
    logs = (logs - logs.amax(-1, keepdim=True)).clamp_min(LEAST).masked_fill(~present, -torch.inf)
    asked = asked.double()
    # in units of what each class is to have, all sums are to be one
    asked = asked / asked.sum(-1, keepdim=True) * there.sum(-1, keepdim=True)
    every = 1 if logs.device.type == "cpu" else UNASKED
    for n_rounds in range(1, ROUNDS + 1):
        sums = _answered(logs, asked, prices).sum(-2)
        going = (_off(sums, there).amax(-1, keepdim=True) > OFF_BY) & ~few
        if n_rounds % every == 0 and not bool(going.any()):
            break
        swept = prices + torch.where(there, sums, 1.0).log()
        step = _newton_step(_answered(logs, asked, swept), there)
        tried = torch.stack([swept + share * step for share in SHARES])
        off = torch.stack([_off(_answered(logs, asked, p).sum(-2), there) for p in tried])
        best = off.sum(-1, keepdim=True).argmin(0, keepdim=True).expand_as(tried[:1])
        prices = torch.where(going & there, tried.gather(0, best)[0], prices)
    return torch.where(there & ~few, prices, 0.0)


def _answered(logs: Tensor, asked: Tensor, prices: Tensor) -> Tensor:
    """Probabilities (..., n, n_way), times what each row weighs."""
    return asked[..., None] * (logs - prices[..., None, :]).softmax(-1)


def _off(sums: Tensor, there: Tensor) -> Tensor:
    """By how much each class's sum (..., n_way) is off."""
    return torch.where(there, sums - 1, 0.0).abs()


def _newton_step(answered: Tensor, there: Tensor) -> Tensor:
    sums = answered.sum(-2)
    rows = answered.sum(-1, keepdim=True).clamp_min(torch.finfo(answered.dtype).tiny)
    bent = torch.diag_embed(torch.where(there, sums + SOFTENED, 1.0)) - answered.mT @ (
        answered / rows
    )
    # sums do not see what is added to all prices; absent classes have none
    bent = bent + (there[..., :, None] & there[..., None, :])
    step = torch.linalg.solve_ex(bent, torch.where(there, sums - 1, 0.0)[..., None])[0][..., 0]
    return torch.nan_to_num(step, 0.0, 0.0, 0.0).clamp(-FARTHEST, FARTHEST)


@with_shared_texts()
class TransductivePTMAPClassifier(TransductiveClassifier):
    """PT-MAP: class means and evenly shared out queries, each found from the other.

    **Transductive**: all rows of a call of `predict` are answered together, and the answer to
    one depends on the others. **It takes classes to be asked about equally often**: where they
    are not, pass ``balanced=False``. Features are raised to a power, which makes them more like
    a Gaussian's, brought to length one, centred (support rows on their own mean, queries on
    theirs) and brought to length one again. From the class means of the support rows on, in turn
    [1]_:

    1. the probabilities p_qk are those nearest to exp(-sharpness * d_qk^2) of which rows sum to
       one and classes all to the same (Sinkhorn's algorithm);
    2. each mean moves, by the share `update_rate`, to the mean of all rows, support and queries,
       weighted by their probabilities.

    Meta-training trains the encoder under a linear classifier of all past classes. Three things
    differ from the paper, whose features are never negative, where queries are many. A negative
    feature keeps its sign. The number added before the power is a millionth of the row's largest
    feature. And fewer queries than classes, which cannot be even, are centred on the support's
    mean and answered as by ``balanced=False``; with a single class nothing is centred.

    Parameters
    ----------
    {meta_init}
        One of `ProtoNetClassifier` or `NearestClassMeanClassifier` will do, too: its
        encoder is taken.
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    power : float or None, default=None
        Power of the features (beta). None takes the meta-init's, or 0.5.
    sharpness : float or None, default=None
        Of the probabilities (lambda). None takes the meta-init's, or 10.0.
    update_rate : float or None, default=None
        Share of the way that means move (alpha), below or at one. None takes the meta-init's, or
        0.2.
    balanced : bool or None, default=None
        Whether classes are equally frequent among the queries. If not, rows alone sum to one.
        None takes the meta-init's, or True.
    n_steps : int or None, default=None
        How often means move. None takes the meta-init's, or 20.
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
    TransductiveAssignmentClassifier : Shares out the rows among any classifier's classes.
    TransductiveTIMClassifier : Prefers even classes, but does not insist.

    References
    ----------
    .. [1] Y. Hu, V. Gripon and S. Pateux, "Leveraging the feature distribution in transfer-based
       few-shot learning", ICANN 2021.

    Examples
    --------
    >>> from fewshot_sklearn import TransductivePTMAPClassifier
    >>> clf = TransductivePTMAPClassifier().fit([[1, 0], [0, 1]], ["a", "b"])
    >>> clf.predict([[9, 1], [9, 2], [9, 5], [9, 6]])
    array(['a', 'a', 'b', 'b'], dtype='<U1')
    >>> clf.predict([[9, 5]])  # by itself
    array(['a'], dtype='<U1')
    """

    _learner_class = PTMAP
    _defaults = {
        "power": 0.5,
        "sharpness": 10.0,
        "update_rate": 0.2,
        "balanced": True,
        "n_steps": 20,
    }
    _constraints = {
        "power": Positive() | None,
        "sharpness": Positive() | None,
        "update_rate": Number(above=0, high=1) | None,
        "balanced": Flag() | None,
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
        power: float | None = None,
        sharpness: float | None = None,
        update_rate: float | None = None,
        balanced: bool | None = None,
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
        self.power = power
        self.sharpness = sharpness
        self.update_rate = update_rate
        self.balanced = balanced
        self.n_steps = n_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
