"""FRN: how well the places of a row can be put together from those of each class.

D. Wertheimer, L. Tang and B. Hariharan. Few-shot classification with feature map
reconstruction networks. CVPR 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import OF_PAIRS, KeepsFeatures, State, present_classes, solve
from ._places import PLACES, OfPlaces
from ._spanned import along_and_across, basis_of, raised


class FRN(OfPlaces, KeepsFeatures):
    """adapt: what takes places to their ridge regression on those of each class (eq. 4-8).

    predict: minus the squared distance of a row's places to that. Always in float64, and of
    fewer places than features along the directions that they span.
    """

    scales_inputs_without_past = True
    features_in = "rows"

    def __init__(self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None):
        super().__init__(encoder, input_shape, n_outputs)
        # a row of one place without the one has nothing but its direction to be put together from
        self.n_widened = self.n_descriptors + (self.n_places == 1)
        self.alpha = nn.Parameter(torch.tensor(0.0))
        self.beta = nn.Parameter(torch.tensor(0.0))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def _few(self, n_rows: int) -> bool:
        """Whether places span less than all directions; a basis of them has no sure derivative."""
        return not self.training and n_rows * self.n_places < self.n_widened

    def descriptors(self, Z: Tensor) -> Tensor:
        """Those of all rows (..., n * n_places, n_widened), in float64."""
        Z = self.places(Z.double()).flatten(-3, -2)
        return Z if self.n_places > 1 else torch.cat([Z, torch.ones_like(Z[..., :1])], -1)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        S = self.descriptors(Z)
        mass = (w[..., None] * y).mT.double()
        each = mass.repeat_interleave(self.n_places, -1)
        state: State = {}
        if self._few(Z.shape[-2]):
            basis = basis_of(S, each.sum(-2))
            S, state = S @ basis, {"basis": basis}
        # an empty class has nothing that could be regressed on
        count = torch.where(mass.sum(-1) > 0, each.sum(-1), 1.0)
        # eq. 7, of descriptors in units of the root of their number of features
        ridge = count * self.alpha.double().exp()
        grams = [(each[..., k, :, None] * S).mT @ S for k in range(y.shape[-1])]
        gram = torch.stack(grams, -3)
        unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        hats = solve(raised(gram + ridge[..., None, None] * unit), gram)
        rest = unit - self.beta.double().exp() * hats
        return {**state, "rest": rest, "present": present_classes(y, w)}

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return super().statistics(Z, y, w) | {"rows": Z}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        n = min(n_rows * self.n_places, self.n_widened)
        return super().numbers_to_adapt(n_rows, n_labels) + OF_PAIRS * n_labels * n**2

    def numbers_a_row(self, state: State) -> int:
        wide = state["rest"][..., 0].numel()
        return 2 * self.n_places * wide + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        Q, across = self.descriptors(Z), None
        if "basis" in state:  # what lies across it no class can reach
            Q, across = along_and_across(Q, state["basis"])
        apart = (Q[..., None, :, :] @ state["rest"]).square().sum(-1)
        if across is not None:
            apart = apart + across[..., None, :]
        # (..., n, n_way): the mean over places
        distance = apart.unflatten(-1, (-1, self.n_places)).mean(-1).mT
        logits = -self.log_scale.double().exp() * distance / self.n_widened
        return logits.to(Z.dtype).masked_fill(~state["present"][..., None, :], -torch.inf)


@with_shared_texts(places=PLACES)
class FRNClassifier(FewShotClassifier):
    """FRN: the class from whose places those of a row can best be put together.

    The features of a row are a map: one descriptor for each place of a picture. For each
    class a row's places Q are regressed on the pooled places S_k of the class's rows, by
    ridge regression in closed form, Q_k = exp(beta) Q (S_k'S_k + lambda I)^-1 S_k'S_k.
    Lambda is exp(alpha) times the number of these places by that of channels (eq. 4-8 of
    [1]_). Class probabilities are the softmax of minus the mean squared distance of places
    to their regression, times a scale (eq. 9). Alpha, beta, scale and encoder were learned
    on past tasks. Nothing is trained at `fit`.

    Three things differ from the paper. Where a row is one place, a one stands beside its
    features, without which only its direction would count. Descriptors always count in units
    of the root of the number of channels, as the paper's code has it for large encoders.
    And the auxiliary loss that keeps the classes' places apart is left out.

    Parameters
    ----------
    {meta_init}
    {encoder}
        {places}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {device}
    {dtype}
        Regressions are always computed in float64.
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
    DN4Classifier : The nearest places alone count.
    DeepEMDClassifier : Places are matched one by one.

    References
    ----------
    .. [1] D. Wertheimer, L. Tang and B. Hariharan, "Few-shot classification with feature map
       reconstruction networks", CVPR 2021.

    Examples
    --------
    >>> from fewshot_sklearn import FRNClassifier
    >>> clf = FRNClassifier().fit([[0., 1.], [1., 3.], [4., 1.]], ["a", "a", "b"])
    >>> clf.predict([[1., 5.], [3., 1.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = FRN
