"""Learners that answer all queries of a task together, each in view of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from .memory import BYTES, is_undivided, numbers_at_once
from .outputs import Outputs, State, joined, present_classes
from .pretraining import PretrainedLearner
from .taking_in import KEPT_W, KEPT_Y, KeepsFeatures

#: Name of the features of the support rows in the state.
ROWS = "rows"
#: How quickly the centre follows the features while they are being trained.
FOLLOWING = 0.1


class TransductiveLearner(KeepsFeatures):
    """adapt keeps the features of the support; all else comes once the queries are there.

    A batch of tasks tells by `w_query`, ones and zeros, which queries are no padding: those
    alone are seen by the others.
    """

    transductive = True
    features_in = ROWS

    # ------------------------------------------------------------------ what a method says
    def answer_together(self, state: State, Z: Tensor, asked: Tensor) -> Tensor:
        """Logits (..., n, n_way) of all rows asked about.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt_features` returned.
        Z : Tensor of shape (..., n, n_features)
            Features of the rows.
        asked : Tensor of shape (..., n)
            One, or zero for padding.
        """
        raise NotImplementedError

    def numbers_to_answer(self, n_support: int, n_rows: int, n_way: int) -> int:
        """Numbers that answering so many rows of a task together holds at once."""
        return 8 * (n_support + n_rows) * (n_way + self.n_features)

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return {ROWS: Z, KEPT_Y: y, KEPT_W: w}

    def predict_features(self, state: State, Z: Tensor, asked: Tensor | None = None) -> Tensor:
        asked = Z.new_ones(Z.shape[:-1]) if asked is None else asked
        logits = self.answer_together(state, Z, asked)
        present = present_classes(state[KEPT_Y], state[KEPT_W])
        return logits.masked_fill(~present[..., None, :], -torch.inf)

    def predict_features_in_parts(
        self, state: State, Z: Tensor, asked: Tensor | None = None
    ) -> Outputs:
        """`predict_features`; of many tasks one after the other where memory is short.

        Raises
        ------
        ValueError
            When the rows of one task take more memory than they may: they are never divided.
        """
        n_support, n_way = state[KEPT_Y].shape[-2:]
        one, most = self.numbers_to_answer(n_support, Z.shape[-2], n_way), numbers_at_once()
        n_tasks = Z.shape[0] if Z.ndim > 2 else 1
        if self.training or is_undivided() or one * n_tasks <= most:
            return self.predict_features(state, Z, asked)
        if one > most:
            raise ValueError(
                f"{Z.shape[-2]} rows of {n_way} classes would take about "
                f"{one * BYTES / 1e9:.1f} GB of memory, more than the {most * BYTES / 1e9:.1f} GB "
                "that they may. Transductive methods answer all rows of a call together: parts "
                "would get other answers, so it is for you to ask about fewer rows at once, or to "
                f"allow more: sklearn.set_config(working_memory={-(-one * BYTES // 2**20)}), in "
                "MiB."
            )
        asked = Z.new_ones(Z.shape[:-1]) if asked is None else asked
        each = ({name: t[i] for name, t in state.items()} for i in range(len(Z)))
        tasks = zip(each, Z, asked, strict=True)
        return joined([self.predict_features(*task) for task in tasks], torch.stack)

    def predict_in_parts(self, state: State, X: Tensor) -> Outputs:
        return self.predict_features_in_parts(state, self.embed(X))

    def answering_features(self, state: State) -> None:  # type: ignore[override]
        raise NotImplementedError(
            "The answers of transductive methods depend on all rows of a call, and a graph answers "
            "each row by itself."
        )

    # ------------------------------------------------------------------ many tasks
    def forward(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, w_query: Tensor | None = None
    ) -> Outputs:
        n = X.shape[1]
        Z = self.embed_of_tasks(torch.cat([X, X_query], 1))
        return self.forward_features(Z[:, :n], y, w, Z[:, n:], w_query)

    def forward_features(
        self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor, w_query: Tensor | None = None
    ) -> Outputs:
        w_query = Z_query.new_ones(Z_query.shape[:2]) if w_query is None else w_query
        return self.over_tasks("episode_of_features", Z, y, w, Z_query, w_query)

    def episode_of_features(
        self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor, w_query: Tensor | None = None
    ) -> Outputs:
        return self.predict_features_in_parts(self.adapt_features(Z, y, w), Z_query, w_query)

    def training_loss(
        self,
        X: Tensor,
        y: Tensor,
        w: Tensor,
        X_query: Tensor,
        y_query: Tensor,
        w_query: Tensor | None = None,
    ) -> tuple[Tensor, Outputs]:
        outputs = self(X, y, w, X_query, w_query)
        return self.loss(outputs, y_query), outputs

    def backward_by_hand(
        self,
        X: Tensor,
        y: Tensor,
        w: Tensor,
        X_query: Tensor,
        y_query: Tensor,
        share: float,
        w_query: Tensor | None = None,
    ) -> None:
        return None


class PretrainedTransductiveLearner(TransductiveLearner, PretrainedLearner):
    """One whose encoder is trained by ordinary classification of the past classes.

    It keeps the mean feature of the past, for methods that subtract it.
    """

    centre: Tensor

    def __init__(self, *args: object, **kwargs: object):
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.register_buffer("centre", torch.zeros(self.n_features))

    def past_logits(self, Z: Tensor) -> Tensor:
        if self.training and self.waiting is not None:
            self.waiting.append(Z.detach())
        elif self.training:
            self.follow(Z)
        return super().past_logits(Z)

    @torch.no_grad()
    def follow(self, Z: Tensor) -> None:  # so that validation sees about what is learned in the end
        self.centre.lerp_(Z.mean(0), FOLLOWING)

    @torch.no_grad()
    def finish(self, X: Tensor) -> None:
        self.centre.copy_(self.embed(X).mean(0))

    def forward(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, w_query: Tensor | None = None
    ) -> Outputs:
        if X.shape[1]:
            return super().forward(X, y, w, X_query, w_query)
        return PretrainedLearner.forward(self, X, y, w, X_query)


def class_means(state: State, Z: Tensor) -> Tensor:
    """Weighted means (..., n_way, n_features) of the support rows; zero for an absent class.

    Parameters
    ----------
    state : dict of str to Tensor
        Of a `TransductiveLearner`: which class each row is of, and its weight.
    Z : Tensor of shape (..., n, n_features)
        What the means are of.
    """
    mass = state[KEPT_W][..., None] * state[KEPT_Y]
    total = mass.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
    return (mass.mT @ Z) / total[..., None]
