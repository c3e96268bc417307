"""CAML: in-context learning above a frozen encoder, with labels as equally distant codes.

C. Fifty, D. Duan, R. G. Junkins, E. Amid, J. Leskovec, C. Re and S. Thrun. Context-aware
meta-learning. ICLR 2024.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import LayerNorm, Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import (
    KeepsFeatures,
    Outputs,
    SmoothingLearner,
    State,
    TransformerLayer,
    check_sizes,
    present_classes,
)
from ..tasks import Whole
from ._simplex_codes import drawn_places, places_of_classes, simplex

#: Numbers held at once for each number of a token, and for each pair of tokens and head.
OF_TOKENS, OF_PAIRS = 8, 4


class CAML(SmoothingLearner, KeepsFeatures):
    """adapt: gives each class a code. predict: a sequence for each query, of it and the support.

    All tokens of a sequence read each other (section 3). The query's is compared with the
    codes in the end, and its likeness adds to the logarithm of the smoothed labels.
    """

    further_rows_told = (
        "`partial_fit` adds the features of further rows, new classes among them, to those that "
        "the estimator knows, and `forget` takes some out. Without a meta-init, where features are "
        "scaled by the rows at hand, it adapts anew to all rows, which the estimator keeps."
    )
    features_in = "Z"
    learned_only = ("row", "label", "layers", "norm", "answer")
    row: nn.Linear | None
    label: Any
    layers: Any

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_layers: int = 3,
        n_hidden: int = 64,
        n_heads: int = 4,
        n_codes: int = 64,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        check_sizes(n_hidden, n_heads, n_layers)
        if not (isinstance(n_codes, int | np.integer) and n_codes >= 2):
            raise ValueError(f"n_codes must be an int, at least 2, got {n_codes!r}.")
        self.n_heads, self.n_codes = int(n_heads), int(n_codes)
        self.row = None
        if not past:
            return
        self.row, self.label = nn.Linear(self.n_features, n_hidden), nn.Linear(n_codes, n_hidden)
        self.layers = nn.ModuleList(TransformerLayer(n_hidden, n_heads) for _ in range(n_layers))
        self.norm, self.answer = LayerNorm(n_hidden), nn.Linear(n_hidden, n_codes)
        # what a query is told in place of a label; there, so that it is left out with the rest
        self.label.register_parameter("unknown", nn.Parameter(0.1 * torch.randn(n_hidden)))
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def codes(self, place: Tensor) -> Tensor:
        """Vectors of length one at equal angles, as wide as there can be (section 4).

        Parameters
        ----------
        place : Tensor of int of shape (..., n_way)
            Which vector is wanted; beyond `n_codes` they begin anew.

        Returns
        -------
        Tensor of shape (..., n_way, n_codes)
            Corners of a regular simplex.
        """
        return simplex(place, self.n_codes, self.x_mean.dtype)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.row is None:
            return {"Z": Z, "y": y, "w": w}
        return {"Z": Z, "y": y, "w": w, "codes": self.codes(places_of_classes(Z, y, w))}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        # one sequence at least is to fit
        pairs = 0 if self.row is None else OF_PAIRS * self.n_heads * (n_rows + 1) ** 2
        return super().numbers_to_adapt(n_rows, n_labels) + pairs

    def numbers_a_row(self, state: State) -> int:
        usual = super().numbers_a_row(state)
        if self.row is None:
            return usual
        tasks, n = state["w"].shape[:-1].numel(), state["w"].shape[-1] + 1
        tokens = OF_TOKENS * n * self.row.out_features
        return usual + tasks * (tokens + OF_PAIRS * self.n_heads * n**2)

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        present = present_classes(state["y"], state["w"])[..., None, :]
        # a class without rows is left out at the end; before, its logarithms would be all infinite
        member = torch.where(present, state["y"], 1.0).log().mT[..., None, :]
        smoothing = self.smoother(Z, state["Z"], state["w"])[..., None, :, :]
        logits = (smoothing + member).logsumexp(-1).mT
        if self.row is not None:
            logits = logits + self._read(state, Z) @ state["codes"].mT
        return logits.masked_fill(~present, -torch.inf)

    def _read(self, state: State, Z: Tensor) -> Tensor:
        """What the network says (..., n_query, n_codes) of each query in its sequence."""
        assert self.row is not None
        rows = self.row(state["Z"]) + self.label(state["y"] @ state["codes"])
        asked = (self.row(Z) + self.label.unknown)[..., :, None, :]
        # (..., n_query, 1 + n, n_hidden), the query first; it weighs as one row
        h = torch.cat(
            [asked, rows[..., None, :, :].expand(*asked.shape[:-2], *rows.shape[-2:])], -2
        )
        w = torch.cat([torch.ones_like(state["w"][..., :1]), state["w"]], -1)[..., None, :]
        for layer in self.layers:
            keys, values = layer.read(h)
            if layer is self.layers[-1]:  # of which nobody reads what the rows become
                h = h[..., :1, :]
            h = layer(h, keys, values, w)
        return self.answer(self.norm(h[..., 0, :]))

    # ------------------------------------------------------------------ what is trained
    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """The loss of the queries, with codes drawn at random, so that all are learned."""
        if self.row is None:
            return super().training_loss(X, y, w, X_query, y_query)
        n = X.shape[1]
        Z = self.embed_of_tasks(torch.cat([X, X_query], 1))
        place = drawn_places(self.random_numbers, self.n_codes, y)
        state = self.adapt_features(Z[:, :n], y, w) | {"codes": self.codes(place)}
        outputs = self.predict_features(state, Z[:, n:])
        return self.loss(outputs, y_query), outputs


@with_shared_texts()
class CAMLClassifier(FewShotClassifier):
    """CAML: a transformer that reads a query with all support rows, above an encoder.

    A query and the support rows are one sequence of tokens: features, and beside them a
    code of the class, which the query is without. Codes are corners of a regular simplex,
    so that no two classes are nearer than others (section 4 of [1]_). All tokens read each
    other. What becomes of the query is compared with the codes. Each query has a sequence of
    its own, and knows nothing of the others. Nothing is trained at `fit`.

    In the paper the encoder is a large one that stays as it is: pass such a module with
    ``freeze_encoder=True``, so that each row is embedded once and the transformer alone is
    trained. Without, the two are trained together. Without a meta-init labels are smoothed
    over the features, in units of their standard deviation.

    Three things differ from the paper. Logits add to the logarithm of smoothed labels, so
    that training starts from a classifier. A class's logit is the product with its code, in
    place of an output for each of a fixed number of classes. And which class has which code
    is drawn in training, but follows from the rows at `fit`: else answers would hang on what
    classes are called.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_layers : int or None, default=None
        Layers. None takes the meta-init's, or 3.
    n_hidden : int or None, default=None
        Size of a token. None takes the meta-init's, or 64.
    n_heads : int or None, default=None
        Attention heads, which must divide `n_hidden`. None takes the meta-init's, or 4.
    n_codes : int or None, default=None
        Codes that are learned, at least 2. Of more classes some share one, and smoothed
        labels alone tell those apart. None takes the meta-init's, or 64.
    {device}
    {dtype}
    {random_state}
        Those of the transformer, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    InContextClassifier : Each class against the rest, with support rows that are read once.
    FEATClassifier : Class means, not rows, read each other.

    References
    ----------
    .. [1] C. Fifty, D. Duan, R. G. Junkins, E. Amid, J. Leskovec, C. Re and S. Thrun,
       "Context-aware meta-learning", ICLR 2024.

    Examples
    --------
    >>> from fewshot_sklearn import CAMLClassifier
    >>> clf = CAMLClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = CAML
    _defaults = {"n_layers": 3, "n_hidden": 64, "n_heads": 4, "n_codes": 64}
    _constraints = {
        "n_layers": Whole(1) | None,
        "n_hidden": Whole(1) | None,
        "n_heads": Whole(1) | None,
        "n_codes": Whole(2) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_layers: int | None = None,
        n_hidden: int | None = None,
        n_heads: int | None = None,
        n_codes: int | None = None,
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
        self.n_layers = n_layers
        self.n_hidden = n_hidden
        self.n_heads = n_heads
        self.n_codes = n_codes
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}
