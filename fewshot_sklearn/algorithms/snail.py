"""SNAIL: temporal convolutions and attention over the support rows and a query.

N. Mishra, M. Rohaninejad, X. Chen and P. Abbeel. A simple neural attentive meta-learner.
ICLR 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import Outputs, SmoothingLearner, State, in_order, present_classes
from ..tasks import Whole
from ._simplex_codes import drawn_places, places_of_classes, simplex

#: Numbers held at once for each pair of rows, and for each number of a row.
OF_PAIRS, OF_ROWS = 4, 8


class _Dense(nn.Module):
    """A convolution of two rows, so many apart, whose gated outputs join its inputs."""

    def __init__(self, width: int, n_filters: int, dilation: int):
        super().__init__()
        self.dilation, self.width = dilation, width + n_filters
        self.now = nn.Linear(width, 2 * n_filters)
        self.before = nn.Linear(width, 2 * n_filters, bias=False)

    def forward(self, h: Tensor, before: Tensor) -> Tensor:
        values, gates = (self.now(h) + self.before(before)).chunk(2, -1)
        return torch.cat([h, values.tanh() * gates.sigmoid()], -1)


class _Attention(nn.Module):
    """One head of attention to the rows so far, whose reading joins its inputs."""

    def __init__(self, width: int, n_key: int, n_value: int):
        super().__init__()
        self.width, self.scale = width + n_value, n_key**-0.5
        self.query, self.key = nn.Linear(width, n_key), nn.Linear(width, n_key)
        self.value = nn.Linear(width, n_value)


class SNAIL(SmoothingLearner):
    """adapt: reads the support rows in order. predict: one more row at the end for each query.

    No row looks at what comes after it, so the support is read once, and a query needs of
    it the keys and values, and the row of so many places before.
    """

    learned_only = ("blocks", "answer")
    blocks: Any
    answer: Any

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_filters: int = 32,
        n_dilations: int = 5,
        n_codes: int = 64,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        least = {"n_filters": (n_filters, 4), "n_dilations": (n_dilations, 1)}
        for name, (value, low) in (least | {"n_codes": (n_codes, 2)}).items():
            if not (isinstance(value, int | np.integer) and value >= low):
                raise ValueError(f"{name} must be an int, at least {low}, got {value!r}.")
        self.n_codes = int(n_codes)
        self.blocks = self.answer = None
        if not past:
            return
        blocks, width = [], self.n_features + self.n_codes
        # the paper's proportions: 64 and 32, 256 and 128, 512 and 256 of 128 filters
        for i, (keys, values) in enumerate([(0.5, 0.25), (2, 1), (4, 2)]):
            blocks.append(_Attention(width, int(keys * n_filters), int(values * n_filters)))
            width = blocks[-1].width
            for j in range(n_dilations if i < 2 else 0):
                dense = _Dense(width, n_filters, 2 ** (j + 1))
                blocks.append(dense)  # type: ignore[arg-type]
                width = dense.width
        self.blocks, self.answer = nn.ModuleList(blocks), nn.Linear(width, n_codes)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.blocks is None:
            return {"Z": Z, "y": y, "w": w}
        return self._read(Z, y, w, places_of_classes(Z, y, w))

    def _read(self, Z: Tensor, y: Tensor, w: Tensor, place: Tensor) -> State:
        """The support rows, with codes for the classes, read in an order that they say."""
        Z, y, w = in_order(Z, y, w)
        # rows that do not count come first, where a sequence has nothing
        order = (w > 0).long().argsort(dim=-1, stable=True)
        Z, y = (t.take_along_dim(order[..., None], -2) for t in (Z, y))
        w = w.gather(-1, order)
        codes = simplex(place, self.n_codes, Z.dtype)
        state = {"Z": Z, "y": y, "w": w, "codes": codes}
        real, n = (w > 0).to(Z.dtype)[..., None], Z.shape[-2]
        h = torch.cat([Z, y @ codes], -1) * real
        for i, block in enumerate(self.blocks):
            if isinstance(block, _Dense):
                before = F.pad(h, (0, 0, block.dilation, 0))
                state[f"before{i}"] = before[..., n, :]
                h = block(h, before[..., :n, :]) * real
                continue
            state[f"key{i}"], state[f"value{i}"] = block.key(h), block.value(h)
            if block is not self.blocks[-1]:  # after which nobody reads the rows
                h = torch.cat([h, self._attended(block, i, h, state)], -1) * real
        return state

    def _attended(self, block: _Attention, i: int, h: Tensor, state: State) -> Tensor:
        """What each support row reads of those up to itself."""
        keys, values, w = state[f"key{i}"], state[f"value{i}"], state["w"]
        place = torch.arange(h.shape[-2], device=h.device)
        least = torch.finfo(h.dtype).min / 4
        log_w = w.log().clamp_min(least)[..., None, :]
        found, first = [], 0
        numbers = OF_PAIRS * w.numel()
        for part in self.parts_of(block.query(h), numbers):
            last = first + part.shape[-2]
            scores = block.scale * part @ keys.mT + log_w
            scores = scores.masked_fill(place > place[first:last, None], least)
            found.append(scores.softmax(-1) @ values)
            first = last
        return found[0] if len(found) == 1 else torch.cat(found, -2)

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        present = present_classes(state["y"], state["w"])[..., None, :]
        # a class without rows is left out at the end; before, its logarithms would be all infinite
        member = torch.where(present, state["y"], 1.0).log().mT[..., None, :]
        smoothing = self.smoother(Z, state["Z"], state["w"])[..., None, :, :]
        logits = (smoothing + member).logsumexp(-1).mT
        if self.blocks is not None:
            logits = logits + self._asked(state, Z) @ state["codes"].mT
        return logits.masked_fill(~present, -torch.inf)

    def _asked(self, state: State, Z: Tensor) -> Tensor:
        """What the network says (..., n_query, n_codes) of each query, at the end of the rows."""
        h = torch.cat([Z, Z.new_zeros((*Z.shape[:-1], self.n_codes))], -1)
        log_w = state["w"].log().clamp_min(torch.finfo(Z.dtype).min / 4)[..., None, :]
        for i, block in enumerate(self.blocks):
            if isinstance(block, _Dense):
                h = block(h, state[f"before{i}"][..., None, :])
                continue
            query, own = block.query(h), block.value(h)
            itself = (query * block.key(h)).sum(-1, keepdim=True)
            scores = torch.cat([query @ state[f"key{i}"].mT, itself], -1) * block.scale
            share = (scores + F.pad(log_w, (0, 1))).softmax(-1)
            h = torch.cat([h, share[..., :-1] @ state[f"value{i}"] + share[..., -1:] * own], -1)
        return self.answer(h)

    # ------------------------------------------------------------------ memory
    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        of_rows = 0 if self.blocks is None else OF_ROWS * n_rows * self.answer.in_features
        return super().numbers_to_adapt(n_rows, n_labels) + of_rows

    # ------------------------------------------------------------------ what is trained
    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """The loss of the queries, with codes drawn at random, so that all are learned."""
        if self.blocks is None:
            return super().training_loss(X, y, w, X_query, y_query)
        n = X.shape[1]
        Z = self.embed_of_tasks(torch.cat([X, X_query], 1))
        place = drawn_places(self.random_numbers, self.n_codes, y)
        outputs = self.predict_features(self._read(Z[:, :n], y, w, place), Z[:, n:])
        return self.loss(outputs, y_query), outputs


@with_shared_texts()
class SNAILClassifier(FewShotClassifier):
    """SNAIL: temporal convolutions and attention read the support rows, then a query.

    The support rows, features and beside them a code of the class, are a sequence, and the
    query its last row, without a code. Dilated convolutions, which gather what was before,
    and attention, which picks some of it, take turns (section 3 of [1]_); each adds to what
    it was given. No row sees what comes after it: the support is read once, at `fit`,
    and queries know nothing of each other. Nothing is trained at `fit`.

    What a convolution makes of rows hangs on their order. They are read in one that they say
    themselves, along a fixed direction in the space of features; rows that are the same are
    read once, with their weight. So the order in which rows are given changes nothing.

    Without a meta-init labels are smoothed over the features, in units of their standard
    deviation.

    Some things differ from the paper. Codes are corners of a regular simplex, in place of one
    output for each of a fixed number of classes; which class has which is drawn in training,
    and follows from the rows at `fit`. Logits add to the logarithm of smoothed labels, so that
    training starts from a classifier. And the number of dilations is set, where the paper has
    as many as the length of its sequences asks for: attention reaches the rows beyond.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_filters : int or None, default=None
        Outputs of each convolution, at least 4; attention is as wide in proportion as in the
        paper, which has 128. None takes the meta-init's, or 32.
    n_dilations : int or None, default=None
        Convolutions in each of two blocks: the first looks 2 rows back, each other one twice
        as far as the one before. None takes the meta-init's, or 5, for 32 rows.
    n_codes : int or None, default=None
        Codes that are learned, at least 2. Of more classes some share one, and smoothed
        labels alone tell those apart. None takes the meta-init's, or 64.
    {device}
    {dtype}
    {random_state}
        Those of the network, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    CAMLClassifier : A transformer, for which rows have no order.
    MANNClassifier : Writes rows to an external memory.

    References
    ----------
    .. [1] N. Mishra, M. Rohaninejad, X. Chen and P. Abbeel, "A simple neural attentive
       meta-learner", ICLR 2018.

    Examples
    --------
    >>> from fewshot_sklearn import SNAILClassifier
    >>> clf = SNAILClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = SNAIL
    _defaults = {"n_filters": 32, "n_dilations": 5, "n_codes": 64}
    _constraints = {
        "n_filters": Whole(4) | None,
        "n_dilations": Whole(1) | None,
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
        n_filters: int | None = None,
        n_dilations: int | None = None,
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
        self.n_filters = n_filters
        self.n_dilations = n_dilations
        self.n_codes = n_codes
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}
