"""In-context learning: a transformer that reads the support rows as its context.

S. Müller, N. Hollmann, S. Pineda Arango, J. Grabocka and F. Hutter.
Transformers can do Bayesian inference. ICLR 2022 (prior-data fitted networks).

N. Hollmann, S. Müller, K. Eggensperger and F. Hutter. TabPFN: a transformer
that solves small tabular classification problems in a second. ICLR 2023.

N. Mishra, M. Rohaninejad, X. Chen and P. Abbeel. A simple neural attentive
meta-learner. ICLR 2018 (the first to read a support set by attention).

What reads tables without a history is in `in_context_tables`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import LayerNorm, Shape
from ..estimators import FewShotClassifier, ProbabilisticRegressor, with_shared_texts
from ..learners import (
    Gaussian,
    KeepsFeatures,
    Outputs,
    SmoothingLearner,
    State,
    TransformerLayer,
    at_once,
    check_sizes,
    joined,
    predictive,
    present_classes,
)
from ..tasks import Whole
from ._any_table import StartsFromTables
from .in_context_tables import InContextTables
from .in_context_targets import InContextTargets

#: Queries that a prediction takes at once, which bounds its memory.
QUERIES_AT_ONCE = 256
#: Numbers that adapting holds for each number of a token, beside keys and values of each layer.
OF_TOKENS = 4


class InContextLearner(SmoothingLearner, KeepsFeatures):
    """adapt: the support rows' tokens through all layers. predict: the queries', which read them.

    There is one axis of labels, between those of tasks and of rows: each class,
    as membership in it, or each target is read by itself, by the same network.
    Support tokens read the support tokens, query tokens only those (Müller et
    al. 2022, section 3), so that queries know nothing of each other.
    """

    further_rows_told = (
        f"{KeepsFeatures.further_rows_told} So it does with those for tables of any width, too."
    )
    features_in = "Z"
    #: What the network puts out for a query and a label.
    n_answers: int
    #: Each a `TransformerLayer`.
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
        smooths: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs, smooths)
        check_sizes(n_hidden, n_heads, n_layers)
        self.row = nn.Linear(self.n_features, n_hidden)
        self.label = nn.Linear(1, n_hidden)
        self.unknown = nn.Parameter(torch.randn(n_hidden) * 0.1)
        self.layers = nn.ModuleList(TransformerLayer(n_hidden, n_heads) for _ in range(n_layers))
        self.answer = nn.Linear(n_hidden, self.n_answers)
        self.answer_norm = LayerNorm(n_hidden)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def labels(self, y: Tensor) -> Tensor:
        """Memberships or targets, as the network reads them."""
        return y

    def decide(self, state: State, Z: Tensor, answers: Tensor) -> Outputs:
        """Outputs of the learner.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt` returned.
        Z : Tensor of shape (..., n_query, n_features)
            Features of the queries.
        answers : Tensor of shape (..., n_labels, n_query, n_answers)
            What the network puts out.

        Returns
        -------
        Tensor or Gaussian
            As `Learner.predict` returns them.
        """
        raise NotImplementedError

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        y = self.labels(y)
        h = self.row(Z)[..., None, :, :] + self.label(y.mT[..., None])
        read = []
        for layer in self.layers:
            read.append(torch.stack(layer.read(h), -4))
            if layer is not self.layers[-1]:
                h = self._read_by_rows(layer, h, read[-1], w[..., None, :])
        # (..., n_layers, 2, n_labels, n, n_hidden), the two being keys and values
        return {"Z": Z, "y": y, "w": w, "read": torch.stack(read, -5)}

    def _read_by_rows(self, layer: TransformerLayer, h: Tensor, read: Tensor, w: Tensor) -> Tensor:
        """The next state of h, a table of all pairs of whose rows may be too large."""
        keys, values = read.unbind(-4)
        pairs = h.shape[:-2].numel() * layer.attention.n_heads * keys.shape[-2]
        return self.by_rows(lambda part: layer(part, keys, values, w), h, pairs)

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        tokens = (2 * len(self.layers) + OF_TOKENS) * self.row.out_features
        return super().numbers_to_adapt(n_rows, n_labels) + n_rows * n_labels * tokens

    def predict_features(self, state: State, Z: Tensor) -> Outputs:
        whole = self.training or at_once(Z.shape[-2], QUERIES_AT_ONCE)
        parts = [Z] if whole else Z.split(QUERIES_AT_ONCE, -2)
        return joined([self._answered(state, part) for part in parts], _beneath)

    def _answered(self, state: State, Z: Tensor) -> Outputs:
        h = (self.row(Z) + self.unknown)[..., None, :, :]
        for layer, read in zip(self.layers, state["read"].unbind(-5), strict=True):
            h = layer(h, *read.unbind(-4), state["w"][..., None, :])
        return self.decide(state, Z, self.answer(self.answer_norm(h)))


def _beneath(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -2)


class InContextClassification(InContextLearner):
    """Each class against the rest; a logit adds to the smoothed membership's logarithm."""

    n_answers = 1

    def decide(self, state: State, Z: Tensor, answers: Tensor) -> Tensor:
        present = present_classes(state["y"], state["w"])[..., None, :]
        # a class without rows is left out at the end; before, its logarithms would be all infinite
        member = torch.where(present, state["y"], 1.0).log().mT[..., None, :]
        smoothing = self.smoother(Z, state["Z"], state["w"])[..., None, :, :]
        smoothed = (smoothing + member).logsumexp(-1)
        logits = (smoothed + answers[..., 0]).mT
        return logits.masked_fill(~present, -torch.inf)


class InContextRegression(InContextLearner):
    """Each target by itself; without a past (`smooths`) the mean adds to the smoothed targets."""

    n_answers = 2

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        smooths: bool = False,
        **sizes: int,
    ):
        super().__init__(encoder, input_shape, n_outputs or 1, smooths=smooths, **sizes)

    def labels(self, y: Tensor) -> Tensor:
        return self.scaled_targets(y)

    def decide(self, state: State, Z: Tensor, answers: Tensor) -> Gaussian:
        mean, spread = (t.mT for t in answers.unbind(-1))
        if self.smooths:
            mean = mean + self.smoother(Z, state["Z"], state["w"]).exp() @ state["y"]
        return self.in_units(predictive(mean, spread))  # type: ignore[return-value]


#: What the parameters of both estimators mean.
SIZES = """
n_layers : int or None, default=None
    Layers. None takes the meta-init's, or 3.
n_hidden : int or None, default=None
    Size of a token. None takes the meta-init's, or 64.
n_heads : int or None, default=None
    Attention heads, which must divide `n_hidden`. None takes the meta-init's, or 4.
"""


#: What rows may hold where there is no past.
TABLES = """
Then `fit` learns from the support rows how the columns of a table become
numbers, too. Words and categories become columns of zeros and ones, one for each
category but the most frequent; of more than eight, one for each of the eight most
frequent, and the others are as likely any as in the support, as are those that
`fit` did not see. Dates become days; a number that is missing is the mean of those
that are not, and is marked as missing if any was at `fit`. Arrays may hold NaN.
"""
TABLE_FORMAT = """
table_format_ : TableFormat or None
    How columns become numbers, where `fit` learned it: None for plain numbers, and
    where a meta-init of past tasks knows it.
"""


class _InContextEstimator(StartsFromTables):
    """Parameters of both estimators."""

    _defaults = {"n_layers": 3, "n_hidden": 64, "n_heads": 4}
    _constraints = {
        "n_layers": Whole(1) | None,
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
        n_layers: int | None = None,
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
        self.n_layers = n_layers
        self.n_hidden = n_hidden
        self.n_heads = n_heads
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)


@with_shared_texts(sizes=SIZES, tables=TABLES, table_format_=TABLE_FORMAT)
class InContextClassifier(_InContextEstimator, FewShotClassifier):
    """In-context learning: a transformer reads the labelled rows and classifies others in passing.

    Each support row is a token, the sum of an embedding of its features and one
    of its label; a query is a token whose label is unknown. Support tokens
    attend to each other, query tokens to the support tokens (section 3 of [1]_;
    [2]_), through pre-norm layers without positions, so rows have no order.
    `fit` runs the network over the support rows and keeps their keys and
    values; nothing is trained. Meta-training minimises the cross-entropy of the
    queries (eq. 2 of [1]_).

    Without past tasks of your own, on flat rows of numbers, `fit` starts from
    ``"tabular-in-context"``, which comes with the package and was trained on
    artificial tables only, as in [2]_. It takes any number of features and of
    classes. It reads rows through their similarities in place of their
    features: kernel ridge regressions and class means on several similarities
    are weighed by how well each tells the support rows that are left out, and a
    transformer over (row, class) tokens corrects their sum. Features have no
    order, unit or offset for it.

    {tables}

    Where this departs from the papers: a label is read as membership in one
    class against the rest, with one logit for each class from the same network,
    where [2]_ has ten outputs, so that classes have no names and may be as many
    as they like. Trained on your own past tasks, the network adds to the
    logarithm of the class's share under a Gaussian kernel over the support
    rows, with learned bandwidth, and its last layer starts from zero: with
    ``encoder="identity"`` and no meta-init this is kernel smoothing of the
    labels on scaled features.

    Parameters
    ----------
    {meta_init}
        But for flat rows, if neither an encoder nor a size is given, None is
        ``"tabular-in-context"``; else the network on the encoder is untrained.
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {sizes}
    {device}
    {dtype}
    {random_state}
        Those of the network, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {table_format_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : Compares queries with class means.
    load_meta_init : The meta-inits that come with the package, and their cards.

    References
    ----------
    .. [1] S. Müller et al., "Transformers can do Bayesian inference", ICLR 2022.
    .. [2] N. Hollmann et al., "TabPFN: a transformer that solves small tabular
       classification problems in a second", ICLR 2023.
    .. [3] N. Mishra et al., "A simple neural attentive meta-learner", ICLR 2018.

    Examples
    --------
    A table without a history:

    >>> from sklearn.datasets import load_wine
    >>> from fewshot_sklearn import InContextClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> clf = InContextClassifier().fit(X[::15], y[::15])  # 12 rows of 13 features
    >>> clf.score(X, y) > 0.9
    True

    Without any past, artificial or other:

    >>> clf = InContextClassifier(encoder="identity")
    >>> clf.fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"]).predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = InContextClassification
    _for_any_table, _table_learner = "tabular-in-context", InContextTables


@with_shared_texts(sizes=SIZES, tables=TABLES, table_format_=TABLE_FORMAT)
class InContextRegressor(_InContextEstimator, ProbabilisticRegressor):
    """In-context learning for regression, with predictive uncertainty.

    Each support row is a token, the sum of an embedding of its features and one
    of its target; a query is a token whose target is unknown. Support tokens
    attend to each other, query tokens to the support tokens (section 3 of
    [1]_), through pre-norm layers without positions, so rows have no order.
    `fit` runs the network over the support rows and keeps their keys and
    values; nothing is trained. Each target is a task of its own for the same
    network. Meta-training minimises the negative log likelihood of the queries
    (eq. 2 of [1]_).

    Without past tasks of your own, on flat rows, `fit` starts from
    ``"tabular-in-context-regression"``, which comes with the package and was
    trained on artificial tables only, as in [3]_. It takes any number of
    features and of targets. It reads rows through their similarities in place
    of their features: kernel ridge regressions and smoothers on several
    similarities are weighed by how well each tells the support rows that are
    left out, and a transformer over tokens of rows corrects their mean and says
    how far off it may be. Features and targets have no unit or offset for it.
    Of a single row, or of rows whose targets are all the same, it knows nothing
    but that target: the standard deviation is then the target's size, over the
    root of the number of rows.

    {tables}

    Where this departs from the papers: predictions are Gaussians, not
    histograms, since the estimator promises a mean and a standard deviation.
    Trained on your own past tasks, the last layer starts from zero; with
    ``encoder="identity"`` and no meta-init, where only then the support targets
    smoothed by a Gaussian kernel are added, this is a Nadaraya-Watson regression
    on scaled features.

    Parameters
    ----------
    {meta_init}
        But for flat rows, if neither an encoder nor a size is given, None is
        ``"tabular-in-context-regression"``; else the network on the encoder is
        untrained.
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {sizes}
    {device}
    {dtype}
    {random_state}
        Those of the network, too.
    {**encoder__params}

    Attributes
    ----------
    {meta_init_}
    {table_format_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    NeuralProcessRegressor : Reads the rows by one attention, not a stack of layers.
    load_meta_init : The meta-inits that come with the package, and their cards.

    References
    ----------
    .. [1] S. Müller et al., "Transformers can do Bayesian inference", ICLR 2022.
    .. [2] N. Mishra et al., "A simple neural attentive meta-learner", ICLR 2018.
    .. [3] N. Hollmann et al., "TabPFN: a transformer that solves small tabular
       classification problems in a second", ICLR 2023.

    Examples
    --------
    A table without a history:

    >>> from sklearn.datasets import load_diabetes
    >>> from fewshot_sklearn import InContextRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = InContextRegressor().fit(X[::10], y[::10])  # 45 rows of 10 features
    >>> reg.score(X, y) > 0.3
    True
    >>> mean, std = reg.predict(X[:5], return_std=True)
    >>> std.shape
    (5,)

    Without any past, artificial or other:

    >>> reg = InContextRegressor(encoder="identity").fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.], [1.5]]).round(2)
    array([3., 4.])
    """

    _learner_class = InContextRegression
    _for_any_table, _table_learner = "tabular-in-context-regression", InContextTargets

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        # with a past to learn from, the kernel is in the way: sinusoids took longer to learn
        return super()._learner_params(trained) | ({"smooths": True} if trained is None else {})
