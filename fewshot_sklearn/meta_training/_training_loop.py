"""How a batch of tasks is run: skorch's loop over batches, precision, device, memory."""

from __future__ import annotations

import copyreg
import math
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, InputShapeSetter

from ..learners import Learner, divided_loss, draws, episode_loss, joined
from ..tasks import ArrayTasks, Episodes, TaskLoader, moved
from ._pooled_scores import answers_of, chosen, pooled_score
from ._ranks import ALONE, Ranks
from ._together import follow, of_all, without_reports

#: What happens at every batch.
_AT_BATCHES = ("on_batch_begin", "on_batch_end", "on_grad_computed")


class PlainLoss(torch.nn.Module):
    """A function as a module, whose empty state skorch's checkpoints and loggers save and load."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        """Call it."""
        return self.function(*args)


class EpisodicNet(NeuralNet):
    """A ``skorch.NeuralNet`` whose module is a `Learner` and whose batches are tasks.

    `MetaTrainer` says what its parameters mean.
    """

    callbacks_: list[tuple[str, Any]]
    chunk_size: Any
    precision: str
    max_epochs: int
    n_episodes: int
    n_divisions: int = 1
    encoder_lr: float | None = None
    #: The processes that train together.
    _ranks: Ranks = ALONE
    #: Whether what is trained depends on which tasks make a chunk.
    _by_chunks = False

    # ------------------------------------------------------------------ what to descend, and how
    def initialize_criterion(self) -> EpisodicNet:
        """Take a plain function as a module; build a module class as skorch does."""
        if isinstance(self.criterion, type):
            return super().initialize_criterion()
        given = isinstance(self.criterion, torch.nn.Module)
        self.criterion_ = self.criterion if given else PlainLoss(self.criterion)
        return self

    @property
    def _descends_episode_loss(self) -> bool:
        """Whether nobody has asked for another loss."""
        return getattr(self.criterion_, "function", None) is episode_loss

    def initialize_callbacks(self) -> EpisodicNet:
        """Skorch's, less the one that has nothing to set here."""
        super().initialize_callbacks()
        if any(isinstance(callback, InputShapeSetter) for _, callback in self.callbacks_):
            raise ValueError(
                "callbacks must not hold InputShapeSetter: a learner takes the shape of its rows "
                "from the data. Leave it out."
            )
        if not self._ranks.is_first:
            self.callbacks_ = without_reports(self.callbacks_)
        return self

    def save_params(self, *args: Any, **kwargs: Any) -> None:
        """Skorch's; of several processes the first one writes.

        Parameters
        ----------
        *args, **kwargs : see ``skorch.NeuralNet.save_params``
            Files.
        """
        if self._ranks.is_first:
            super().save_params(*args, **kwargs)

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Skorch's parameter groups, those of what the learner names as `faster`, the encoder's.

        What an encoder of the user's own keeps as it is is in none of them.
        """
        fixed: frozenset[str] = getattr(self.module_, "fixed", frozenset())
        every = list(named_parameters)
        # an optimizer wants something to train, even where there is nothing
        named = [(name, p) for name, p in every if name not in fixed] or every
        chosen = "optimizer__param_groups" in self.get_params(deep=False)
        if chosen and self.encoder_lr is not None:
            raise ValueError(
                f"encoder_lr={self.encoder_lr!r} and optimizer__param_groups both say how the "
                "encoder is trained. Leave one out."
            )
        faster = {} if chosen else self.module_.faster
        apart = self.encoder_lr is not None
        encoders = {name: p for name, p in named if apart and name.startswith("encoder.")}
        slow = [(name, p) for name, p in named if name not in faster and name not in encoders]
        args, options = super().get_params_for_optimizer(prefix, slow)
        lr = options.get("lr", self.lr)
        quick = [{"params": [p], "lr": lr * faster[name]} for name, p in named if name in faster]
        if encoders:
            quick.append({"params": list(encoders.values()), "lr": self.encoder_lr})
        groups = [group for group in [*args[0], *quick] if group["params"]]
        return (groups or args[0], *args[1:]), options

    # ------------------------------------------------------------------ copies
    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """What pickle, joblib and copies go by: the object's own state, as skorch tells it."""
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        """What skops goes by, from which skorch would hide a pickle of the network in its file."""
        raise TypeError(
            f"{type(self).__name__} can be pickled, which includes its network and optimizer, but "
            "not be saved with skops. Save trainer.estimator_, or trainer.meta_init_.save(path)."
        )

    # ------------------------------------------------------------------ how to compute
    def torch_compile(self, module: Any, name: str) -> Any:
        """Leave the module as it is: a learner knows itself what is worth compiling."""
        return module

    def _prepare(self, learner: Learner) -> None:
        """Tell a learner how to compute while training."""
        # what is compiled draws from torch's own generator
        pays = None if draws(learner) else learner.steps_that_pay()
        learner.compiled = self._compiles(pays)
        learner.bf16 = self._rounds()

    def _compiles(self, steps_that_pay: int | None) -> bool:
        if self.compile not in (True, False, "auto"):
            raise ValueError(f"compile must be True, False or 'auto', got {self.compile!r}.")
        if self.compile != "auto" or steps_that_pay is None:
            return self.compile is True and steps_that_pay is not None
        steps = self.max_epochs * -(-self.n_episodes // self.batch_size)
        compiler = os.environ.get("CXX", "c++")
        return steps >= steps_that_pay and shutil.which(compiler) is not None

    def _rounds(self) -> bool:
        if self.precision not in ("fp32", "tf32", "bf16"):
            raise ValueError(f"precision must be 'fp32', 'tf32' or 'bf16', got {self.precision!r}.")
        on_cpu = torch.device(self.device or "cpu").type == "cpu"
        if self.precision == "bf16" and on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            warnings.warn(
                "This processor has no instructions for bfloat16: training in float32, which is "
                "quicker here.",
                stacklevel=2,
            )
            return False
        return self.precision == "bf16"

    @contextmanager
    def _own_precision(self) -> Iterator[None]:
        if self.precision != "tf32" or torch.device(self.device or "cpu").type != "cuda":
            yield
            return
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        try:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]

    def _bring_rows_to_the_device(self, streams: dict[str, Episodes | None]) -> None:
        """On a GPU, where there is room, batches are put together from rows that lie there.

        Unless other processes put them together, or a loader of the user's own.
        """
        device = torch.device(self.device or "cpu")
        for name, episodes in streams.items():
            workers = self.get_params_for(name).get("num_workers", 0)
            own = getattr(self, name) is TaskLoader and not workers
            source = None if episodes is None else episodes.source
            if device.type != "cuda" or not own or not isinstance(source, ArrayTasks):
                continue
            if source.X.nbytes < torch.cuda.mem_get_info(device)[0] // 4:
                source.move(device)

    # ------------------------------------------------------------------ batches
    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Skorch's loop over the batches of one epoch, without what nobody listens to.

        Losses are read, which on a GPU means waiting for it, at the end of the
        epoch, or after each batch where a callback asks for batches.
        """
        if iterator is None:
            return
        self._listeners = {
            name: [cb for _, cb in self.callbacks_ if _overrides(cb, name)] for name in _AT_BATCHES
        }
        # whether nobody has put another loss, or more, in its place
        self._plain_loss = (
            self._descends_episode_loss
            and type(self).get_loss is EpisodicNet.get_loss
            and type(self).infer is EpisodicNet.infer
        )
        listened = self._ranks.any(bool(self._listeners["on_batch_end"]))
        super()._set_training(training)
        self._mode, self._bad_steps = training, torch.zeros((), dtype=torch.int64)
        start, losses, sizes = len(self.history[-1]["batches"]), [], []
        told: list[Any] = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            sizes.append(len(batch[1]))
            if not training and step["y_pred"] is not None:
                asked = self._of_this_process(batch[1])
                told.append((chosen(step["y_pred"], not asked.is_floating_point()), asked))
            if listened:
                step["y_pred"] = of_all(self._ranks, step["y_pred"])
                self.history.record_batch(f"{prefix}_loss", losses[-1].item())
                self.history.record_batch(f"{prefix}_batch_size", sizes[-1])
                self.notify("on_batch_end", batch=batch, training=training, **step)
        rows, found = self.history[-1]["batches"][start:], torch.stack(losses).tolist()
        for row, loss, size in zip(rows, found, sizes, strict=True):
            row[f"{prefix}_loss"], row[f"{prefix}_batch_size"] = loss, size
        mine = answers_of(*zip(*told, strict=True)) if told else None
        parts = [] if training else [p for p in self._ranks.gathered(mine) if p is not None]
        if parts:
            truth, answers = (np.concatenate(part) for part in zip(*parts, strict=True))
            self.history.record(
                "valid_score", pooled_score(truth, answers, truth.dtype.kind != "f")
            )
        self.history.record(f"{prefix}_batch_count", len(sizes))
        if (bad := int(self._bad_steps)) and self._ranks.is_first:
            warnings.warn(
                f"Adaptation diverged, so that gradients were not finite, in {bad} of "
                f"{len(sizes)} steps: they count for nothing. Smaller inner steps, or fewer, or a "
                "smaller lr, diverge less often.",
                stacklevel=2,
            )

    def _set_training(self, training: bool = True) -> None:
        if self._mode is not training:
            super()._set_training(training)
            self._mode = training

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Loss and gradients of one batch; gradients of zero where they are not finite."""
        try:
            step = self._differentiated(batch, **fit_params)
        except torch.linalg.LinAlgError:  # of weights that have gone too far
            step = {"loss": None}
        step["loss"], failed = self._ranks.sum_gradients(self.module_.parameters(), step["loss"])
        if failed:
            self._ranks.agree(dict(self.module_.named_buffers()))
            self._zero_grad_optimizer()
            self._bad_steps = self._bad_steps + 1
            return self._no_step(torch.nan)
        follow(self._ranks, self.module_, self._chunks)
        if (bad := _cleared_unless_finite(self.module_)) is not False:
            self._bad_steps = self._bad_steps + bad
        return step

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Skorch's; a batch that has no finite answer costs more than any other.

        Parameters
        ----------
        batch : tuple
            Of a loader: support sets and queries, and the queries' targets.
        **fit_params : dict
            Of the module's ``forward``.

        Returns
        -------
        dict
            Loss and outputs; outputs are None where there are none.
        """
        X, y = batch
        first, last = self._ranks.share(len(y))
        step, failed = self._no_step(), False
        try:
            if last - first == len(y):
                step = super().validation_step(batch, **fit_params)
            elif last > first:
                own = {name: t[first:last] for name, t in X.items()}, y[first:last]
                step = super().validation_step(own, **fit_params)
                step["loss"] = step["loss"] * ((last - first) / len(y))
        except torch.linalg.LinAlgError:
            failed = True
        if self._ranks.any(failed):
            return self._no_step(torch.inf)
        return step | {"loss": self._ranks.sum(step["loss"])}

    def _no_step(self, loss: float = 0.0) -> dict[str, Any]:
        """What a batch gives that has no answers, or none of which is this process's."""
        return {"loss": torch.full((), loss, device=self.device or "cpu"), "y_pred": None}

    def _of_this_process(self, y: Any) -> Any:
        """This process's part of the queries of a batch."""
        first, last = self._ranks.share(len(y))
        return y[first:last]

    def _differentiated(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Loss and gradients of one batch; what cannot be compiled is run as it is."""
        if not self.module_.compiled:
            return self._in_chunks(batch, **fit_params)
        try:
            return self._in_chunks(batch, **fit_params)
        except RuntimeError as error:
            if not _is_of_the_compiler(error):
                raise
            told = str(error).strip().partition("\n")[0]
            warnings.warn(f"Training goes on without compiling: {told}", stacklevel=2)
            self.module_.compiled = False
            self._zero_grad_optimizer()
            return self._in_chunks(batch, **fit_params)

    def _in_chunks(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Loss and gradients of one batch, a chunk of tasks at a time."""
        X, y = self._moved(batch[0]), moved(batch[1], self.device)
        size = len(y) if self.chunk_size is None else self.chunk_size
        if not isinstance(size, int):
            size = self.module_.tasks_at_once(X["X"], X["X_query"])
        self._set_training(True)
        if self.module_.waiting is not None:
            self.module_.waiting.clear()
        losses, outputs = [], []
        first, last = self._ranks.share(len(y), size if self._by_chunks else 1)
        self.module_.skip(first)
        at, self._chunks = first, []
        while at < last:
            end = min(at - at % size + size, last)
            self._chunks.append(at // size)
            part, asked = {name: t[at:end] for name, t in X.items()}, y[at:end]
            self._begin_chunk(at)
            loss, out = self._backward(part, asked, len(asked) / len(y), **fit_params)
            losses.append(loss)
            outputs.append(out)
            at = end
        self.module_.skip(len(y) - last)
        if not losses:
            return self._no_step()
        if len(losses) == 1:
            return {"loss": losses[0], "y_pred": outputs[0]}
        with torch.no_grad():
            return {"loss": torch.stack(losses).sum(), "y_pred": joined(outputs, torch.cat)}

    def _begin_chunk(self, first: int) -> None:
        """What there is to do before the tasks of a batch from this one on are run."""

    def _backward(self, X: Any, y: Any, share: float, **fit_params: Any) -> tuple[Any, Any]:
        """Loss and outputs of some tasks, whose gradients are added to the parameters'."""
        if self._plain_loss and self.n_divisions == 1:
            told = self.module_.backward_by_hand(**X, y_query=y, share=share)
            if told is not None:
                return told
        loss, outputs = self._loss_and_outputs(X, y, **fit_params)
        loss = loss * share
        if any(p.requires_grad for p in self.module_.parameters()):
            loss.backward()
        return loss.detach(), outputs

    def _loss_and_outputs(self, X: Any, y: Any, **fit_params: Any) -> tuple[Any, Any]:
        """What training descends for some tasks: the learner's own, or the user's criterion."""
        if self.n_divisions > 1:
            moved_there = self._moved(X), moved(y, self.device)
            return self._divided_loss(*moved_there, **fit_params)
        return self._undivided(X, y, **fit_params)

    def _divided_loss(self, X: Any, y: Any, **fit_params: Any) -> tuple[Any, Any]:
        """The same, each task's rows divided into support and queries in several ways."""
        name, why = type(self.module_).__name__, ""
        if self.module_.pretrains:
            why = f"{name} learns to tell all past classes apart, without support rows"
        elif not self.module_.looks_at_features:
            why = f"{name} adapts the encoder itself, or has features that depend on the task"
        if why:
            raise ValueError(
                f"n_divisions={self.n_divisions} divides the rows of an episode anew once they "
                f"are embedded, and {why}. Set n_divisions=1."
            )

        return divided_loss(
            self.module_, X, y, self.n_divisions, partial(self._undivided, **fit_params)
        )

    def _undivided(self, X: Any, y: Any, **fit_params: Any) -> tuple[Any, Any]:
        if self._plain_loss:
            return self.module_.training_loss(**X, y_query=y)
        outputs = self.infer(X, **fit_params)
        return self.get_loss(outputs, y, X=X, training=True), outputs

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """The learner's own loss, unless another criterion was asked for."""
        if self._descends_episode_loss:
            return self.module_.loss(y_pred, moved(y_true, self.device))
        return super().get_loss(y_pred, y_true, X=X, training=training)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Adapt to a batch of tasks and predict their queries."""
        return self.module_(**self._moved(x))

    def _moved(self, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: moved(t, self.device) for name, t in x.items()}

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Tell the callbacks; of batches only those that listen."""
        if method_name in _AT_BATCHES:
            getattr(self, method_name)(self, **kwargs)
            for callback in self._listeners[method_name]:
                getattr(callback, method_name)(self, **kwargs)
        else:
            super().notify(method_name, **kwargs)


def _is_of_the_compiler(error: RuntimeError) -> bool:
    """Whether an error says that something cannot be compiled, or not here."""
    from torch._dynamo.exc import TorchDynamoException

    raised = [frame.filename for frame in traceback.extract_tb(error.__traceback__)][-1]
    return isinstance(error, TorchDynamoException) or "/torch/_dynamo/" in Path(raised).as_posix()


@torch.no_grad()
def _cleared_unless_finite(module: torch.nn.Module) -> torch.Tensor | bool:
    """Make all gradients zero if one is not finite; whether that was so."""
    grads = [p.grad for p in module.parameters() if p.grad is not None and not p.grad.is_sparse]
    if not grads:
        return False
    size = torch.stack(torch._foreach_norm(grads)).sum()
    if size.device.type == "cpu" and math.isfinite(size.item()):
        return False
    bad = ~size.isfinite()
    for grad in grads:  # on a GPU without asking whether: that would mean waiting for it
        grad.masked_fill_(bad, 0.0)
    return bad


def _overrides(callback: Any, name: str) -> bool:
    return getattr(type(callback), name, None) is not getattr(Callback, name)
