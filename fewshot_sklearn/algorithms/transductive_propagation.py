"""TPN: labels that spread on a learned graph of the support rows and all queries.

Y. Liu, J. Lee, M. Park, S. Kim, E. Yang, S. J. Hwang and Y. Yang. Learning to propagate labels:
transductive propagation network for few-shot learning. ICLR 2019.

D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schoelkopf. Learning with local and global
consistency. NeurIPS 2003.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import with_shared_texts
from ..learners import KEPT_W, KEPT_Y, ROWS, Outputs, State, TransductiveLearner, solve
from ..tasks import IGNORED_CODE, Positive, Whole, memberships, shares
from ._neighbours import nearest, squared_distances
from ._transductive import TransductiveClassifier

#: Tables of all pairs of rows that are held at once.
OF_PAIRS = 10
#: Unit of lengths, in units of the root of the rows' mean variance.
UNIT = 0.25
#: What reaches a row at least, so that there is a logarithm.
LEAST = 1e-30
#: Logarithms of lengths are no farther from zero than this.
FARTHEST = 20.0


class TransductivePropagation(TransductiveLearner):
    """predict: log (I - alpha S)^-1 Y on the normalised graph S of all rows (eq. 4).

    An edge weighs exp(-d^2 / 2), d^2 the mean squared difference of features over the length
    of each row (eq. 2). Without a past all lengths are a quarter of the root of the rows' mean
    variance, in units of which they are learned.
    """

    learned_only = ("lengths",)
    lengths: nn.Module | None

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_neighbors: int = 20,
        alpha: float = 0.99,
        n_hidden: int = 64,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        self.n_neighbors, self.alpha, self.lengths = n_neighbors, alpha, None
        if past:
            last = nn.Linear(n_hidden, 1)
            nn.init.zeros_(last.weight)  # at first all lengths are one
            nn.init.zeros_(last.bias)
            self.lengths = nn.Sequential(nn.Linear(self.n_features, n_hidden), nn.ReLU(), last)

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        # what no query could be asked of is refused before
        return super().numbers_to_adapt(n_rows, n_labels) + OF_PAIRS * n_rows**2

    def numbers_to_answer(self, n_support: int, n_rows: int, n_way: int) -> int:
        pairs = OF_PAIRS * (n_support + n_rows) ** 2
        return super().numbers_to_answer(n_support, n_rows, n_way) + pairs

    # ------------------------------------------------------------------ what is trained
    def training_loss(
        self,
        X: Tensor,
        y: Tensor,
        w: Tensor,
        X_query: Tensor,
        y_query: Tensor,
        w_query: Tensor | None = None,
    ) -> tuple[Tensor, Outputs]:
        """Cross-entropy of all rows' answers, those of the support among them (eq. 6)."""
        n = X.shape[1]
        Z = self.embed_of_tasks(torch.cat([X, X_query], 1))
        state = self.adapt_features(Z[:, :n], y, w)
        asked = Z.new_ones(X_query.shape[:2]) if w_query is None else w_query
        spread = self._spread(state, Z[:, n:], asked)
        spread = spread.masked_fill(~self._present(state)[..., None, :], -torch.inf)
        wanted = torch.cat([y, memberships(y_query, y.shape[-1], y.dtype)], 1)
        weight = torch.cat([w, asked * (y_query != IGNORED_CODE)], 1) * (wanted.sum(-1) > 0)
        logs = spread.log_softmax(-1)
        costs = -torch.where(wanted > 0, wanted * logs, 0.0).sum(-1)
        costs = torch.where((weight > 0) & costs.isfinite(), costs, 0.0)
        return (shares(weight) * costs).sum(-1).mean(), spread[:, n:]

    @staticmethod
    def _present(state: State) -> Tensor:
        return (state[KEPT_W][..., None] * state[KEPT_Y]).sum(-2) > 0

    # ------------------------------------------------------------------ the graph
    def answer_together(self, state: State, Z: Tensor, asked: Tensor) -> Tensor:
        return self._spread(state, Z, asked)[..., state[ROWS].shape[-2] :, :]

    def _spread(self, state: State, Z: Tensor, asked: Tensor) -> Tensor:
        """Logarithms (..., n_support + n, n_way) of how much reaches all rows of each class."""
        rows = torch.cat([state[ROWS], Z], -2)
        mass = torch.cat([state[KEPT_W], asked], -1)
        y = torch.cat([state[KEPT_Y], Z.new_zeros((*Z.shape[:-1], state[KEPT_Y].shape[-1]))], -2)
        y = y * (mass > 0)[..., None]
        graph = self._normalized(self._edges(rows, mass), mass).double()
        unit = torch.eye(graph.shape[-1], dtype=graph.dtype, device=graph.device)
        found = solve(unit - self.alpha * graph, y.double()).clamp_min(LEAST)
        return found.log().to(Z.dtype)

    def _edges(self, rows: Tensor, mass: Tensor) -> Tensor:
        """Weights (..., n, n) of the edges, zero but between near rows (eq. 2)."""
        distances = squared_distances(*[self._in_lengths(rows, mass)] * 2) / rows.shape[-1]
        # the row itself is none of its neighbours, but all its copies are
        others = (1 - torch.eye(rows.shape[-2], dtype=mass.dtype, device=mass.device)) * (
            mass[..., None, :]
        ) + torch.diag_embed((mass - 1).clamp_min(0.0))
        near = nearest(distances, others, self.n_neighbors)
        near = near | near.mT
        return torch.where(near, (-0.5 * distances).exp(), 0.0)

    def _in_lengths(self, rows: Tensor, mass: Tensor) -> Tensor:
        """Rows over their lengths: exp(what the network tells), in units of the task's spread."""
        share = shares(mass)[..., None, :]
        lengths: Tensor | float = 1.0
        if self.lengths is not None:
            lengths = self.lengths(rows).clamp(-FARTHEST, FARTHEST).exp()
        rows = rows - share @ rows
        size = rows.abs().amax((-1, -2), keepdim=True)
        rows = rows / torch.where(size > 0, size, 1.0)  # so that no square is too large
        variance = (share @ rows.square()).mean(-1, keepdim=True)
        return rows / (UNIT * torch.where(variance > 0, variance, 1.0).sqrt() * lengths)

    @staticmethod
    def _normalized(edges: Tensor, mass: Tensor) -> Tensor:
        """D^-1/2 W D^-1/2 (..., n, n), in which a row of weight two is two rows."""
        unit = torch.eye(edges.shape[-1], dtype=edges.dtype, device=edges.device)
        towards = edges * ((1 - unit) * mass[..., None, :])
        towards = towards + edges * torch.diag_embed((mass - 1).clamp_min(0.0))
        degree = towards.sum(-1)
        root = torch.where(degree > 0, degree, 1.0).rsqrt()
        return root[..., :, None] * towards * root[..., None, :]


@with_shared_texts()
class TransductivePropagationClassifier(TransductiveClassifier):
    """TPN: labels that spread on a learned graph of the support rows and all queries.

    **Transductive**: all rows of a call of `predict` are answered together, and the answer to
    one depends on the others. All rows, support and queries, are the nodes of a graph. Its edges
    weigh W_ij = exp(-d_ij^2 / 2), where d_ij^2 is the mean squared difference of f(x_i) / l_i
    and f(x_j) / l_j (eq. 2 of [1]_), between rows of which one is among the `n_neighbors`
    nearest of the other. A small network tells the length l of each row. With S = D^-1/2 W D^-1/2
    and the support's labels Y, probabilities are F = (I - alpha S)^-1 Y (eq. 4), each row over its
    sum. Meta-training
    differentiates through the solve, and learns encoder and lengths from the cross-entropy of all
    rows of an episode (eq. 6).

    Features are centred on the task's mean, and lengths are in units of a quarter of the root of
    their mean variance, so that a task in other units has the same answers. Without a meta-init
    of its own, all are one such unit, and this is label spreading [2]_ with a kernel of that
    width. As there, no row is its own neighbour, and F is divided by its sum: the paper's
    softmax of F gets surer the more rows there are. Lengths are exponentials of what the network
    tells, and the network is a perceptron on features, not convolutions on maps of them, because
    encoders here return features. Rows as far as the farthest neighbour all are neighbours, so
    that answers do not depend on the order of rows. The graph takes memory that is quadratic in
    the rows.

    Parameters
    ----------
    {meta_init}
        One of `ProtoNetClassifier` or `NearestClassMeanClassifier` will do, too: its
        encoder is taken.
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_neighbors : int or None, default=None
        Nearest rows of each that it has edges to. None takes the meta-init's, or 20.
    alpha : float or None, default=None
        How far labels spread, below one. None takes the meta-init's, or 0.99.
    n_hidden : int or None, default=None
        Hidden units of the network that tells lengths. None takes the meta-init's, or 64.
    {device}
    {dtype}
        The solve itself is always float64.
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
    TransductiveLaplacianShotClassifier : Neighbours alike, beside class means.
    MatchingNetClassifier : Each row by itself, by its similarity to the support rows.

    References
    ----------
    .. [1] Y. Liu, J. Lee, M. Park, S. Kim, E. Yang, S. J. Hwang and Y. Yang, "Learning to
       propagate labels: transductive propagation network for few-shot learning", ICLR 2019.
    .. [2] D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schoelkopf, "Learning with local and
       global consistency", NeurIPS 2003.

    Examples
    --------
    >>> from fewshot_sklearn import TransductivePropagationClassifier
    >>> clf = TransductivePropagationClassifier(n_neighbors=1).fit([[0.], [10.]], ["a", "b"])
    >>> clf.predict([[2.], [4.], [6.]])  # a chain from the first
    array(['a', 'a', 'a'], dtype='<U1')
    >>> clf.predict([[6.]])  # by itself
    array(['b'], dtype='<U1')
    """

    _learner_class = TransductivePropagation
    _defaults = {"n_neighbors": 20, "alpha": 0.99, "n_hidden": 64}
    _constraints = {
        "n_neighbors": Whole(1) | None,
        "alpha": Positive(below=1) | None,
        "n_hidden": Whole(1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_neighbors: int | None = None,
        alpha: float | None = None,
        n_hidden: int | None = None,
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
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.n_hidden = n_hidden
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        # a meta-init of prototypes knows nothing of lengths
        own = trained is not None and self._defaults.keys() <= trained.keys()
        return super()._learner_params(trained) | {"past": own}
