"""The peers' side of the workloads, written as each library's own examples have it.

Every function that trains returns ``step(X, y, X_query, y_query)``, which takes one
outer step on a batch of tasks. All use the same optimizer, torch's fused Adam.

A library that is not installed is missed where it is first used: `beside` leaves it out.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:
    # PyPI's torchvision is built for CUDA. Beside a CPU build of torch its operators are
    # missing, and it can be imported only once their signatures are known.
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}(Tensor dets, Tensor scores, float threshold) -> Tensor")

#: Names under which the libraries are installed.
PACKAGES = ("learn2learn", "higher", "torchopt", "parallel-metalearn", "easyfsl")

Step = Callable[[Tensor, Tensor, Tensor, Tensor], None]
Loss = Callable[[Tensor, Tensor], Tensor]
Made = TypeVar("Made")


class Missing(ImportError):
    """A library is asked for that is not installed."""


def library(name: str) -> Any:
    """A peer's module; `Missing` says how to install it where it is absent."""
    try:
        # learn2learn's gym says that it is unmaintained
        with contextlib.redirect_stderr(io.StringIO()):
            return import_module(name)
    except ModuleNotFoundError as error:
        raise Missing(f"{error.name} is not installed: sh benchmarks/install_peers.sh") from error


def beside(make: Callable[[], Mapping[str, Made]]) -> dict[str, Made]:
    """What is to be compared with; nothing, and a word on stderr, where its library is missing."""
    try:
        return dict(make())
    except Missing as error:
        print(f"  left out: {error}", file=sys.stderr, flush=True)
        return {}


def adam(*modules: nn.Module) -> torch.optim.Optimizer:
    """The outer optimizer of all contenders."""
    return torch.optim.Adam([p for m in modules for p in m.parameters()], lr=1e-3, fused=True)


# ---------------------------------------------------------------- MAML, training
def learn2learn_maml(
    network: nn.Module, loss: Loss, n_steps: int, inner_lr: float, first_order: bool = False
) -> Step:
    """As learn2learn's examples/vision/maml_omniglot.py.

    Its examples/maml_sine.py calls backward once on the sum of the tasks, in the same time.
    """
    l2l = library("learn2learn")
    maml = l2l.algorithms.MAML(network, lr=inner_lr, first_order=first_order)
    optimizer = adam(maml)

    def step(*batch: Tensor) -> None:
        optimizer.zero_grad()
        for X, y, X_query, y_query in zip(*batch, strict=True):
            learner = maml.clone()
            for _ in range(n_steps):
                learner.adapt(loss(learner(X), y))
            (loss(learner(X_query), y_query) / len(batch[0])).backward()
        optimizer.step()

    return step


def learn2learn_anil(
    features: nn.Module, head: nn.Module, loss: Loss, n_steps: int, inner_lr: float
) -> Step:
    """As learn2learn's examples/vision/anil_fc100.py: support and query are embedded together."""
    maml = library("learn2learn").algorithms.MAML(head, lr=inner_lr)
    optimizer = adam(features, maml)

    def step(*batch: Tensor) -> None:
        optimizer.zero_grad()
        for X, y, X_query, y_query in zip(*batch, strict=True):
            Z, Z_query = features(torch.cat([X, X_query])).split([len(X), len(X_query)])
            learner = maml.clone()
            for _ in range(n_steps):
                learner.adapt(loss(learner(Z), y))
            (loss(learner(Z_query), y_query) / len(batch[0])).backward()
        optimizer.step()

    return step


def higher_maml(network: nn.Module, loss: Loss, n_steps: int, inner_lr: float) -> Step:
    """As higher's examples/maml-omniglot.py."""
    higher = library("higher")
    optimizer = adam(network)
    inner = torch.optim.SGD(network.parameters(), lr=inner_lr)

    def step(*batch: Tensor) -> None:
        optimizer.zero_grad()
        for X, y, X_query, y_query in zip(*batch, strict=True):
            with higher.innerloop_ctx(network, inner, copy_initial_weights=False) as (fast, inner_):
                for _ in range(n_steps):
                    inner_.step(loss(fast(X), y))
                (loss(fast(X_query), y_query) / len(batch[0])).backward()
        optimizer.step()

    return step


def torchopt_maml(network: nn.Module, loss: Loss, n_steps: int, inner_lr: float) -> Step:
    """As TorchOpt's examples/few-shot/maml_omniglot.py, with MetaSGD."""
    torchopt = library("torchopt")
    optimizer = adam(network)
    inner = torchopt.MetaSGD(network, lr=inner_lr)

    def step(*batch: Tensor) -> None:
        optimizer.zero_grad()
        start = torchopt.extract_state_dict(network, by="reference", detach_buffers=True)
        inner_start = torchopt.extract_state_dict(inner, by="reference")
        losses = []
        for X, y, X_query, y_query in zip(*batch, strict=True):
            for _ in range(n_steps):
                inner.step(loss(network(X), y))
            losses.append(loss(network(X_query), y_query))
            torchopt.recover_state_dict(network, start)
            torchopt.recover_state_dict(inner, inner_start)
        torch.stack(losses).mean().backward()
        optimizer.step()

    return step


class _TakesOptions(nn.Module):
    """A layer as parallel-metalearn's model calls it: with options."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return self.layer(x)


def parallel_metalearn_maml(network: nn.Module, loss: Loss, n_steps: int, inner_lr: float) -> Step:
    """As parallel-metalearn's README: all tasks of a batch vmapped together."""
    algorithms, inner_optimizers, base, wrappers = (
        library(f"metalearn.{name}")
        for name in ("algorithms", "inner_optimizers", "loss.base", "model_wrappers")
    )

    class ParallelLoss(base.BaseLoss):
        def forward(
            self, out_dict: Any, targets: Tensor, model_states: Any = None, **options: Any
        ) -> tuple[Tensor, Tensor]:
            value = loss(out_dict["logits"], targets)
            return value, value.detach()

    layers = list(network.children())
    model = wrappers.MAML_Model(
        _TakesOptions(nn.Sequential(*layers[:-1])), _TakesOptions(layers[-1])
    )
    algorithm = algorithms.MAML(
        model=model,
        optimizer=adam(model),
        inner_optimizer=inner_optimizers.InnerSGD(
            model.get_fast_weights(), inner_lr=inner_lr, max_inner_steps=n_steps, learn_lr=False
        ),
        support_loss_fn=ParallelLoss(),
        inner_steps=n_steps,
        device=torch.device("cpu"),
    )
    return lambda *batch: algorithm.step(iter([batch]))


# ---------------------------------------------------------------- MAML, one task
def learn2learn_adapted(maml: Any, X: Tensor, y: Tensor, X_query: Tensor, n_steps: int) -> Tensor:
    """Class codes of the queries; a first-order `maml` adapts the same in less time."""
    learner = maml.clone()
    for _ in range(n_steps):
        learner.adapt(F.cross_entropy(learner(X), y))
    with torch.no_grad():
        return learner(X_query).argmax(1)


# ---------------------------------------------------------------- prototypical networks
def easyfsl_model(backbone: nn.Module) -> nn.Module:
    """A prototypical network, not yet fitted."""
    return library("easyfsl.methods").PrototypicalNetworks(backbone)


def easyfsl_protonet(backbone: nn.Module) -> Step:
    """As easyfsl's notebooks/episodic_training.ipynb."""
    model = easyfsl_model(backbone).train()
    optimizer = adam(model)

    def step(X: Tensor, y: Tensor, X_query: Tensor, y_query: Tensor) -> None:
        optimizer.zero_grad()
        model.process_support_set(X, y)
        F.cross_entropy(model(X_query), y_query).backward()
        optimizer.step()

    return step


def learn2learn_protonet(backbone: nn.Module) -> Step:
    """As learn2learn's examples/vision/protonet_miniimagenet.py: one forward for all rows."""
    l2l, optimizer = library("learn2learn"), adam(backbone)

    def step(X: Tensor, y: Tensor, X_query: Tensor, y_query: Tensor) -> None:
        optimizer.zero_grad()
        Z, Z_query = backbone(torch.cat([X, X_query])).split([len(X), len(X_query)])
        classifier = l2l.nn.PrototypicalClassifier(Z, y)
        F.cross_entropy(classifier(Z_query), y_query).backward()
        optimizer.step()

    return step


def easyfsl_predicted(model: Any, X: Tensor, y: Tensor, X_query: Tensor) -> Tensor:
    """Class codes of the queries of one task."""
    with torch.no_grad():
        model.process_support_set(X, y)
        return model(X_query).argmax(1)


def easyfsl_accuracy(model: Any, batch: tuple[Tensor, ...]) -> float:
    """Mean accuracy over tasks."""
    evaluate = library("easyfsl.utils").evaluate_on_one_task
    with torch.no_grad():
        counts = [evaluate(model, *task) for task in zip(*batch, strict=True)]
    return sum(right for right, _ in counts) / sum(asked for _, asked in counts)


def learn2learn_accuracy(backbone: nn.Module, batch: tuple[Tensor, ...]) -> float:
    """Mean accuracy over tasks."""
    l2l, right = library("learn2learn"), []
    with torch.no_grad():
        for X, y, X_query, y_query in zip(*batch, strict=True):
            classifier = l2l.nn.PrototypicalClassifier(backbone(X), y)
            right.append((classifier(backbone(X_query)).argmax(1) == y_query).float().mean())
    return float(torch.stack(right).mean())


def easyfsl_embedded(backbone: nn.Module, X: Tensor, y: Tensor) -> Tensor:
    """Embed a pool once, as easyfsl's notebooks/inference_with_extracted_embeddings.ipynb.

    Its TaskSampler, which would then draw the episodes, does not work with torch 2.13.
    """
    loader = DataLoader(TensorDataset(X, y), batch_size=80)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be turned off
        frame = library("easyfsl.utils").predict_embeddings(loader, backbone)
    return library("easyfsl.datasets").FeaturesDataset.from_dataframe(frame).embeddings
