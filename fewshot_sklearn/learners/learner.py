"""What an algorithm is: two pure functions of one task, and how to run many tasks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap

from ..encoders import (
    Shape,
    channels_apart,
    channels_last,
    n_features_out,
    safe_under_vmap,
    takes_padding,
    takes_whole_numbers,
    written_out,
)
from ..tasks import Support
from ._fixed_parts import fixed_names, hold_still
from ._further_rows import FurtherRows
from ._in_parts import InParts
from ._scale import mean_and_scale, of_channels, scaled
from .memory import at_once, is_undivided
from .outputs import Gaussian, Outputs, State, episode_loss, joined
from .random_numbers import OwnRandomNumbers

#: Tasks a vmapped call takes at once on a CPU: what stays in its cache.
TASKS_PER_CHUNK = 25
#: Rows a convolutional encoder takes at once on a CPU: what malloc keeps hold of between calls.
ROWS_PER_CHUNK = 160
#: Numbers in the first maps of the rows that are embedded at once where nothing is learned, and
#: the fewest such rows: what stays in the cache.
NUMBERS_IN_CACHE, FEWEST_ROWS = 32 * 64 * 28 * 28, 16


class Learner(InParts, FurtherRows):
    """Base class of the algorithms: ``adapt(support) -> state``, ``predict(state, X) -> outputs``.

    The learned parameters are this module's own. Both functions are pure, so
    the same code meta-trains (many tasks, vmapped or in a loop) and serves one
    user's `fit`.

    Parameters
    ----------
    encoder : nn.Module
        Maps (n, \\*input_shape) to (n, n_features).
    input_shape : tuple of int
        Shape of one row.
    n_outputs : int or None, default=None
        Number of regression targets; None for classification, where the number
        of classes comes with each task.

    Attributes
    ----------
    x_mean, x_scale : Tensor
        Feature scale, learned from past tasks (`fit_scale`). One number a
        feature for flat rows; one number in all for images; one a channel for series.
    y_mean, y_scale : Tensor of shape (n_outputs,)
        Target scale; regression only.
    x_rest, y_rest : Tensor
        What the means are beyond what they hold in their precision, for data far
        from zero.
    """

    x_mean: Tensor
    x_rest: Tensor
    x_scale: Tensor
    y_mean: Tensor
    y_rest: Tensor
    y_scale: Tensor

    #: Whether `adapt` needs a feature scale even without past tasks to learn it from.
    scales_inputs_without_past = False
    #: Whether it needs rows about zero, but in their own scale.
    centres_inputs_without_past = False
    #: Whether many threads may compute with it at once, so that nothing may write to it any more.
    shared = False
    #: Whether rows are brought to a scale before the encoder gets them.
    scales_inputs = True
    #: Whether what comes as rows are their features already, while a frozen encoder trains a head.
    given_features = False
    #: Where training draws from, beside what the encoder draws; None is torch's own generator.
    random_numbers: OwnRandomNumbers | None = None
    #: Features of rows that `follow` is yet to see, once those of other processes are there too.
    waiting: list[Tensor] | None = None
    #: Whether training runs compiled kernels, where the learner has any.
    compiled = False
    #: Whether training may round to bfloat16 where that is safe.
    bf16 = False
    #: Whether rows and targets may come in float64, to be rounded once `scaled` has centred them.
    rounds_itself = False
    #: Whether `adapt` and `predict` take tensors with a leading axis of tasks as they are.
    takes_batches = False
    #: Whether meta-training tells rows of all past classes apart, rather than those of episodes.
    pretrains = False
    #: Whether an encoder of flat rows serves it: not where it has a network of its own.
    wants_encoder = True
    #: Whether it learns what each class is like, of classes that recur in all past tasks: it then
    #: takes `n_known`, their number, and memberships are of these, in their order.
    knows_classes = False
    #: Whether it adapts the encoder itself to a task.
    adapts_encoder = False
    #: Whether a row counts by its features alone, whatever is support and whatever is asked for.
    looks_at_features = False
    #: Whether it answers all queries of a task together: it then takes `w_query`, which tells
    #: those that are no padding (`TransductiveLearner`).
    transductive = False
    #: Whether what it learns at once begins from what descent has found: it is then learned after
    #: descent alone, and of tasks that a generator draws as well.
    learns_last = False
    #: How many times the learning rate a parameter is trained with, by name, where not once.
    faster: dict[str, float] = {}
    #: Names of the submodules that only meta-training needs; a meta-init leaves them out.
    training_only: tuple[str, ...] = ()
    #: Names of submodules that are None where there is no past: untrained they add nothing.
    learned_only: tuple[str, ...] = ()

    def __init__(self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None):
        super().__init__()
        #: Whether the encoder is never trained, and so gives its features as in prediction.
        trained = [p.requires_grad for p in encoder.parameters()]
        self.frozen = bool(trained) and not any(trained)
        if not self.frozen:  # whose features are to be its own, bit by bit
            channels_last(encoder)
        self.encoder = encoder
        self.input_shape = tuple(input_shape)
        self.n_outputs = n_outputs
        self.n_features = n_features_out(encoder, self.input_shape)
        self.convolves = takes_padding(encoder) or any(
            isinstance(m, nn.modules.conv._ConvNd) for m in encoder.modules()
        )
        #: Whether rows are whole numbers, such as ids of tokens.
        self.integers = takes_whole_numbers(encoder)
        #: Names in the state of what training leaves as it is.
        self.fixed = frozenset(
            f"encoder.{name}"
            for name in ([] if all(trained) else fixed_names(encoder, self.frozen))
        )
        self.vmaps = safe_under_vmap(encoder)
        self.n_channels = channels_apart(encoder)
        shape = () if self.convolves or len(self.input_shape) > 1 else self.input_shape
        if self.n_channels > 1:
            shape = self.input_shape[-1:]
        self._register_scale("x", shape)
        if n_outputs is not None:
            self._register_scale("y", (n_outputs,))
        if self.fixed:
            hold_still(encoder, self.frozen)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and prediction; what is not trained stays in prediction."""
        super().train(mode)
        if mode and self.fixed:
            hold_still(self.encoder, self.frozen)
        return self

    def _register_scale(self, of: str, shape: Shape) -> None:
        self.register_buffer(f"{of}_mean", torch.zeros(shape))
        self.register_buffer(f"{of}_rest", torch.zeros(shape))
        self.register_buffer(f"{of}_scale", torch.ones(shape))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take what was saved when means had no rest, and what a learner without past saves."""
        for of in ("x", "y"):
            if (mean := state_dict.get(f"{prefix}{of}_mean")) is not None:
                state_dict.setdefault(f"{prefix}{of}_rest", torch.zeros_like(mean))
        learned = tuple(f"{prefix}{name}." for name in self.learned_only)
        told = [name for name in state_dict if name.startswith(learned)]
        if learned and not told:
            own = self.state_dict(prefix=prefix)
            state_dict |= {name: t for name, t in own.items() if name.startswith(learned)}
        elif learned and getattr(self, self.learned_only[0]) is None:
            for name in told:
                del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args)

    # ------------------------------------------------------------------ the two functions
    def adapt(self, support: Support) -> State:
        """Adapt to one task.

        Parameters
        ----------
        support : Support
            The labelled rows.

        Returns
        -------
        dict of str to Tensor
            All that `predict` needs to know of the task.
        """
        raise NotImplementedError

    def predict(self, state: State, X: Tensor) -> Outputs:
        """Predict rows of the task that was adapted to.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt` returned.
        X : Tensor of shape (n, \\*input_shape)
            Rows.

        Returns
        -------
        Tensor or Gaussian
            Logits (n, n_way), minus infinity for a class without support; or
            means (n, n_outputs), with variances where the method has them.
        """
        raise NotImplementedError

    def predict_in_parts(self, state: State, X: Tensor) -> Outputs:
        """`predict`, of no more rows at once than memory allows."""
        return self._in_parts(self.predict, state, X, 0)

    def answering(self, state: State) -> Callable[[Tensor], Outputs]:
        """`predict` of one task, with what no row changes computed once and for all.

        A graph that is served has this in place of `predict`: what is left to it are products
        and elementary functions. Equal to `predict` but for rounding.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt` returned, of one task.

        Returns
        -------
        callable
            Rows (n, \\*input_shape) to what `predict` returns.
        """
        return partial(self.predict, state)

    # ------------------------------------------------------------------ what is trained
    def loss(self, outputs: Outputs, y_query: Tensor) -> Tensor:
        """What an episode's predictions cost; `episode_loss`, unless the method's paper differs.

        Targets of a regression count in units of their scale, whatever their own are.
        """
        return episode_loss(*self.in_scale(outputs, y_query))

    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """What meta-training descends, and the outputs for the queries.

        A method that learns from more than its predictions overrides this.
        """
        outputs = self(X, y, w, X_query)
        return self.loss(outputs, y_query), outputs

    def learn_at_once(self, X: Tensor, y: Tensor, tasks: np.ndarray) -> bool:
        """Learn, from the rows of all past tasks at once, what has a closed form; whether it did.

        Parameters
        ----------
        X : Tensor of shape (n, \\*input_shape)
            Rows.
        y : Tensor of shape (n, n_outputs)
            Targets.
        tasks : ndarray of int of shape (n,)
            Whose they are.
        """
        return False

    def evidence(self, X: Tensor, y: Tensor, tasks: np.ndarray) -> float | None:
        """How well its features suit past tasks, where there is a closed form of that.

        Parameters
        ----------
        X, y, tasks : see `learn_at_once`
            All rows of some past tasks.

        Returns
        -------
        float or None
            Akaike's information criterion, the lower the better; None where there is none.
        """
        return None

    def learn_from_episodes(
        self, episodes: Iterable[tuple[dict[str, Tensor], Tensor]], n_classes: int
    ) -> bool:
        """The same of classification, from many episodes; whether it did.

        Parameters
        ----------
        episodes : iterable of (dict, Tensor)
            Batches, as `fewshot_sklearn.tasks.pad_tasks` makes them.
        n_classes : int
            Past classes that they are drawn from.
        """
        return False

    def learned_at_once(self) -> list[nn.Parameter]:
        """The parameters that are learned so, so that descent need not."""
        return []

    def learn_known_classes(
        self,
        X: Tensor,
        codes: Tensor,
        tasks: np.ndarray,
        episodes: Iterable[tuple[dict[str, Tensor], Tensor]],
    ) -> bool:
        """Learn, from the rows of all past tasks at once, what known classes are like.

        Parameters
        ----------
        X : Tensor of shape (n, \\*input_shape)
            Rows.
        codes : Tensor of int of shape (n,)
            Their classes.
        tasks : ndarray of int of shape (n,)
            Whose they are.
        episodes : iterable of (dict, Tensor)
            Batches of episodes, as `fewshot_sklearn.tasks.pad_tasks` makes them.

        Returns
        -------
        bool
            Whether it did.
        """
        return False

    def begin_known_classes(self, X: Tensor, codes: Tensor) -> None:
        """Begin, where the encoder is yet to be trained, from how often known classes occur.

        Parameters
        ----------
        X : Tensor of shape (n, \\*input_shape)
            Rows of past tasks.
        codes : Tensor of int of shape (n,)
            Their classes.
        """

    def learned_of_known(self) -> list[nn.Parameter]:
        """The parameters that are learned so."""
        return []

    def begin(self, n_classes: int | None) -> None:
        """Make the submodules named in `training_only`, for that many past classes."""

    def follow(self, Z: Tensor) -> None:
        """Keep track of features of rows that are trained on, beside what is descended."""

    def skip(self, n_tasks: int) -> None:
        """Count tasks of a batch that another process trains on."""

    def finish(self, X: Tensor) -> None:
        """Learn from rows of past tasks what is to be learned once training is over."""

    def lasting_state(self) -> dict[str, Tensor]:
        """The ``state_dict`` without what only training needs."""
        dropped = tuple(f"{name}." for name in self.training_only)
        return {k: t for k, t in self.state_dict().items() if not k.startswith(dropped)}

    def changing_state(self) -> dict[str, Tensor]:
        """The ``state_dict`` without what training leaves as it is."""
        return {k: t for k, t in self.state_dict().items() if k not in self.fixed}

    def load_changing(self, state: dict[str, Tensor]) -> None:
        """Take what `changing_state` gave, or a whole state.

        Raises
        ------
        RuntimeError
            When it is of another network, as ``load_state_dict`` does.
        """
        own = {k: t for k, t in self.state_dict().items() if k in self.fixed} if self.fixed else {}
        self.load_state_dict(own | state)

    # ------------------------------------------------------------------ many tasks
    def forward(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Outputs:
        """Run a batch of episodes: adapt to each support set, predict its queries.

        Parameters
        ----------
        X, y, w : Tensor of shape (T, n, ...)
            Support sets, as `fewshot_sklearn.tasks.pad_tasks` makes them.
        X_query : Tensor of shape (T, n_query, \\*input_shape)
            Query rows.

        Returns
        -------
        Tensor or Gaussian
            Outputs with a leading axis of tasks.
        """
        return self.over_tasks("episode", X, y, w, X_query)

    def episode(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Outputs:
        """Adapt to one task and predict its queries."""
        return self.predict_in_parts(self.adapt(Support(X, y, w)), X_query)

    def tasks_at_once(self, X: Tensor, X_query: Tensor) -> int:
        """How many tasks of a batch to take between two backward passes.

        Bounds the memory of a training step, and on a CPU keeps what
        convolutions work on in the cache.
        """
        if self.given_features or not self.convolves or X.device.type != "cpu":
            return len(X)
        return max(1, ROWS_PER_CHUNK // (X.shape[1] + X_query.shape[1]))

    def rounded(self, X: Tensor, allowed: bool = True) -> AbstractContextManager[Any]:
        """Context in which products are computed in bfloat16, if training may and it is on."""
        if is_undivided():  # what is drawn has no contexts
            return nullcontext()
        on = self.bf16 and self.training and allowed
        return torch.autocast(X.device.type, torch.bfloat16, enabled=on)

    def backward_by_hand(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Outputs] | None:
        """Add the gradients of `share` times `episode_loss` to the parameters', without autograd.

        Returns
        -------
        (loss, outputs) or None
            None where a learner cannot, which is the usual case.
        """
        return None

    def steps_that_pay(self) -> int | None:
        """Training steps from which on compiling saves more time than it takes, if it ever does."""
        vmapped = self.vmaps and not self.takes_batches and not self.convolves
        return 10_000 if vmapped else None

    def over_tasks(self, method: str, *batch: Tensor) -> Any:
        """Map a method, a function of one task, over a batch of tasks.

        Learners whose functions take batches are called on them. Encoders whose
        second derivatives vmap would get wrong go one task after the other, and
        so do convolutions on a CPU, where weights of their own for each task
        make them slower batched. All else is vmapped, and in a long training
        compiled. In chunks that fit the CPU's cache.
        """
        one_task = getattr(self, method)
        on_cpu = batch[0].device.type == "cpu"
        chunk = TASKS_PER_CHUNK if on_cpu else len(batch[0])
        if self.takes_batches:
            if len(batch[0]) <= chunk:
                return one_task(*batch)
            parts = [one_task(*part) for part in zip(*(t.split(chunk) for t in batch), strict=True)]
            return joined(parts, torch.cat)
        if self.loops(batch[0]):
            return joined([one_task(*task) for task in zip(*batch, strict=True)], torch.stack)
        if self.compiled and self.training:
            return _compiled_map()(self, method, chunk, *batch)
        return over_axis(one_task, *batch, chunk=chunk)

    def loops(self, X: Tensor) -> bool:
        """Whether tasks that lie where these rows do are taken one after the other."""
        return not self.vmaps or (self.convolves and X.device.type == "cpu")

    # ------------------------------------------------------------------ scale
    @torch.no_grad()
    def fit_scale(self, X: Tensor | None, y: Tensor | None, w: Tensor | None = None) -> None:
        """Learn the scale of features and targets from rows of past tasks.

        Parameters
        ----------
        X : Tensor of shape (n, \\*input_shape) or None
            Rows; None leaves the feature scale alone.
        y : Tensor of shape (n, n_outputs) or None
            Targets; None leaves the target scale alone.
        w : Tensor of shape (n,) or None, default=None
            Weights.
        """
        if X is not None and self.scales_inputs and not self.given_features:
            if self.n_channels > 1:
                told = of_channels(X, w, self.x_mean, self.n_channels)
            else:
                told = mean_and_scale(X, w, self.x_mean)
            self.x_mean, self.x_rest, self.x_scale = told
            if n := getattr(self.encoder, "n_codes", 0):  # codes stay what they are
                self.x_mean[-n:], self.x_rest[-n:], self.x_scale[-n:] = 0.0, 0.0, 1.0
        if y is not None and self.n_outputs is not None:
            self.y_mean, self.y_rest, self.y_scale = mean_and_scale(y, w, self.y_mean)

    def scaled(self, X: Tensor) -> Tensor:
        """Bring rows to the scale the encoder was trained on.

        The mean is taken off before anything is rounded: rows far from zero come in float64.
        Whole numbers stay what they are, as do features.
        """
        if self.integers or self.given_features:
            return X if X.dtype == torch.long else X.to(self.x_mean.dtype)
        return scaled(X, self.x_mean, self.x_rest, self.x_scale)

    def scaled_targets(self, y: Tensor) -> Tensor:
        """Bring targets to the scale that adaptation works in, as `scaled` does with rows."""
        return scaled(y, self.y_mean, self.y_rest, self.y_scale)

    def in_units(self, outputs: Outputs) -> Outputs:
        """Scaled means, and variances, in the units of the targets, in float64."""
        mean, scale = self.y_mean.double() + self.y_rest, self.y_scale.double()
        if isinstance(outputs, Gaussian):
            return Gaussian(outputs.mean * scale + mean, outputs.variance * scale.square())
        return outputs * scale + mean

    def in_scale(self, outputs: Outputs, y_query: Tensor) -> tuple[Outputs, Tensor]:
        """Outputs and targets of a regression, scaled; of classification as they are."""
        if self.n_outputs is None:
            return outputs, y_query
        y_query = self.scaled_targets(y_query)
        if isinstance(outputs, Gaussian):
            variance = (outputs.variance / self.y_scale.square()).to(y_query.dtype)
            return Gaussian(self.scaled_targets(outputs.mean), variance), y_query
        return self.scaled_targets(outputs), y_query

    def embed(self, X: Tensor) -> Tensor:
        """Features (n, n_features) of rows (n, \\*input_shape), as meta-training left them."""
        X = self.scaled(X)
        if self.given_features:
            return X
        still = torch.no_grad() if self.frozen and not X.requires_grad else nullcontext()
        with self.rounded(X, not self.frozen), still:
            if (self.convolves or self.frozen) and X.device.type == "cpu":
                step = self._rows_per_chunk()
                few = at_once(X.shape[0], step)  # of `len` a graph makes a constant
                parts = (X,) if few else X.split(step)
            else:
                parts = self.parts_of(X, self._width(), 0)
            Z = [self.encoder(part) for part in parts]
        dtype = X.dtype if X.is_floating_point() else self.x_mean.dtype
        return (Z[0] if len(Z) == 1 else torch.cat(Z)).to(dtype)

    def _rows_per_chunk(self) -> int:
        if torch.is_grad_enabled() or not self.convolves:
            return ROWS_PER_CHUNK
        return min(ROWS_PER_CHUNK, max(FEWEST_ROWS, NUMBERS_IN_CACHE // self._width()))

    def embed_of_tasks(self, X: Tensor) -> Tensor:
        """`embed` of the rows (T, n, \\*input_shape) of a batch of tasks."""
        return self.embed(X.flatten(0, 1)).unflatten(0, X.shape[:2])


def over_axis(function: Callable[..., Any], *batch: Any, chunk: int) -> Any:
    """A function of one task, vmapped over the first axis of what it takes, so many at a time."""
    with written_out():
        # vmap cannot return a Gaussian made inside it unless as a tuple, which a NamedTuple is
        return vmap(function, randomness="different", chunk_size=chunk)(*batch)


def _vmapped(learner: Learner, method: str, chunk: int, *batch: Tensor) -> Any:
    """What is compiled: networks without norms of this package, which no context has to alter."""
    return vmap(getattr(learner, method), randomness="different", chunk_size=chunk)(*batch)


@cache
def _compiled_map() -> Callable[..., Any]:
    return torch.compile(_vmapped)


class FeatureLearner(Learner):
    """An algorithm that only ever looks at a row through its features.

    Its two functions on features must accept leading axes of tasks.

    Its two functions are written on features (`adapt_features`,
    `predict_features`), so a batch of tasks goes through the encoder as one
    pile of rows, and rows that occur in many episodes need encoding only once.
    """

    takes_batches = True
    rounds_itself = True
    looks_at_features = True

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """`adapt`, given the features Z (n, n_features) of the support rows."""
        raise NotImplementedError

    def predict_features(self, state: State, Z: Tensor) -> Outputs:
        """`predict`, given the features Z (n, n_features) of the rows asked for."""
        raise NotImplementedError

    def predict_features_in_parts(self, state: State, Z: Tensor) -> Outputs:
        """`predict_features`, of no more rows at once than memory allows."""
        return self._in_parts(self.predict_features, state, Z, -2)

    def answering_features(self, state: State) -> Callable[[Tensor], Outputs]:
        """`answering`, given features."""
        return partial(self.predict_features, state)

    def adapt(self, support: Support) -> State:
        return self.adapt_features(self.embed(support.X), support.y, support.w)

    def predict(self, state: State, X: Tensor) -> Outputs:
        return self.predict_features(state, self.embed(X))

    def answering(self, state: State) -> Callable[[Tensor], Outputs]:
        answer = self.answering_features(state)
        return lambda X: answer(self.embed(X))

    def forward(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Outputs:
        n_tasks, n = X.shape[:2]
        rows = torch.cat([X, X_query], 1)
        Z = self.embed(rows.flatten(0, 1)).unflatten(0, (n_tasks, rows.shape[1]))
        return self.forward_features(Z[:, :n], y, w, Z[:, n:])

    def forward_features(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor) -> Outputs:
        """`forward`, given the features of the support and query rows."""
        return self.over_tasks("episode_of_features", Z, y, w, Z_query)

    def episode_of_features(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor) -> Outputs:
        """`episode`, given the features of the support and query rows of one task."""
        return self.predict_features_in_parts(self.adapt_features(Z, y, w), Z_query)
