"""Training steps on a GPU: time, and the share of what the device can do.

    python benchmarks/gpu.py              # needs a GPU and the installed package, nothing else
    python benchmarks/gpu.py --device cpu # the same measurements where there is none

Prints a markdown table, what matters most first, and begins nothing after seven minutes. Where
learn2learn and easyfsl are installed, their steps on the same episodes are measured beside. A
ceiling is the best rate of a large matrix product in the same precision, and of a copy, measured
first; a step's rate counts the floating point operations that torch's own counter finds in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import peers
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from workloads.omniglot import Pool, as_rows, load, our_network, peers_encoder, peers_network

from fewshot_sklearn import MAMLClassifier, MAMLRegressor, MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.datasets import make_sinusoid_tasks

STEPS = 30
#: Tasks a step of the small network.
TASKS = (25, 1000)
#: Timed epochs, of which the quickest counts.
ROUNDS = 3
#: Side of the matrices whose product is the ceiling.
SIDE = {"cuda": 8192, "cpu": 1024}
#: Numbers that are copied.
COPIED = {"cuda": 2**28, "cpu": 2**22}
#: Seconds after which nothing more is begun.
SECONDS = 420
#: Episodes of the convolutional networks: tasks of a step, and what one is.
MAML_EPISODE = {"n_way": 5, "n_shot": 1, "n_query": 15}
PROTONET_EPISODE = {"n_way": 60, "n_shot": 1, "n_query": 5}
MAML_TASKS, PROTONET_TASKS = 32, 4


class Part(NamedTuple):
    """What is measured: a call that makes some steps."""

    name: str
    precision: str
    call: Callable[[], Any]
    steps: int
    compiled: bool = False


def seconds(work: Callable[[], Any], device: str, rounds: int = 5) -> float:
    """Least wall-clock time of a call, the device's work included."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(rounds + 1):  # the first warms up
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def ceilings(device: str) -> dict[str, float]:
    """FLOP/s of a large matrix product by precision."""
    side, rates = SIDE[device], {}
    for precision in ("fp32", "tf32", "bf16") if device == "cuda" else ("fp32",):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        a = torch.randn(side, side, device=device, dtype=dtype)
        rates[precision] = 2 * side**3 / seconds(lambda a=a: a @ a, device)
    torch.set_float32_matmul_precision("highest")
    return rates


def bandwidth(device: str) -> float:
    """Bytes that a copy reads and writes in a second."""
    numbers = torch.zeros(COPIED[device], device=device)
    return 2 * numbers.nbytes / seconds(numbers.clone, device)


def trainer(estimator: Any, device: str, precision: str, n_tasks: int, **options: Any) -> Any:
    """A trainer of one epoch of `STEPS` steps."""
    fixed = {
        "device": device, "precision": precision, "validation_fraction": 0, "max_epochs": 1,
        "random_state": 0, "verbose": 0, "optimizer__fused": True,
    }  # fmt: skip
    return MetaTrainer(
        estimator, batch_size=n_tasks, n_episodes=n_tasks * STEPS, **fixed, **options
    )


def ours(name: str, net: Any, past: tuple[Any, ...]) -> Part:
    """A part of this package."""
    net.fit(*past)
    return Part(
        name, net.precision, lambda: net.partial_fit(*past), STEPS, bool(net.module_.compiled)
    )


def parts(device: str, precisions: Sequence[str]) -> Iterator[Callable[[], dict[str, Part]]]:
    """What is measured, what matters most first; each is made when its turn comes."""
    images, characters = load()
    past, pool = (images, characters), Pool(as_rows(images))
    sinusoids = (make_sinusoid_tasks(n_shot=10, n_query=10),)
    few = {"n_shot": 10, "n_query": 10}

    def maml(precision: str, first_order: bool) -> Callable[[], dict[str, Part]]:
        kind = "first order" if first_order else "second order"
        name = f"MAML, conv4, {MAML_TASKS} tasks, {kind}"
        estimator = MAMLClassifier(encoder="conv4", n_steps=1, first_order=first_order)

        def made() -> dict[str, Part]:
            net = trainer(estimator, device, precision, MAML_TASKS, **MAML_EPISODE)
            return {"ours": ours(name, net, past)}

        return made

    def protonet(precision: str) -> Callable[[], dict[str, Part]]:
        def made() -> dict[str, Part]:
            estimator = ProtoNetClassifier(encoder="conv4")
            net = trainer(estimator, device, precision, PROTONET_TASKS, **PROTONET_EPISODE)
            return {"ours": ours(f"ProtoNet, conv4, {PROTONET_TASKS} tasks of 60 ways", net, past)}

        return made

    def small(n_tasks: int, compiled: bool) -> Callable[[], dict[str, Part]]:
        def made() -> dict[str, Part]:
            estimator = MAMLRegressor(encoder="mlp", encoder__hidden=(40, 40), n_steps=1)
            net = trainer(estimator, device, "fp32", n_tasks, compile=compiled, **few)
            name = f"MAML, mlp, {n_tasks} tasks{', compiled' * compiled}"
            return {"ours": ours(name, net, sinusoids)}

        return made

    def theirs() -> dict[str, Part]:
        """Steps of the others, on the device."""

        def of(step: peers.Step, n_tasks: int, one: bool, **episode: int) -> Callable[[], Any]:
            def call() -> None:
                batch = [t.to(device) for t in pool.draw(n_tasks, *episode.values())]
                if not one:
                    step(*batch)
                    return
                for i in range(n_tasks):
                    step(*(t[i] for t in batch))

            return call

        def learn2learn(network: Any) -> Callable[[], Any]:
            step = peers.learn2learn_maml(network.to(device), F.cross_entropy, 1, 0.4)
            return of(step, MAML_TASKS, False, **MAML_EPISODE)

        n_way, many = MAML_EPISODE["n_way"], PROTONET_EPISODE
        made = {
            "learn2learn, MAML": lambda: learn2learn(peers_network(n_way)),
            "learn2learn, MAML, our network": lambda: learn2learn(our_network(n_way)),
            "learn2learn, ProtoNet": lambda: of(
                peers.learn2learn_protonet(peers_encoder().to(device)), PROTONET_TASKS, True, **many
            ),
            "easyfsl, ProtoNet": lambda: of(
                peers.easyfsl_protonet(peers_encoder().to(device)), PROTONET_TASKS, True, **many
            ),
        }
        return {
            name: Part(name, "fp32", call, 1)
            for name, make in made.items()
            for call in peers.beside(lambda make=make: {"": make()}).values()  # type: ignore[misc]
        }

    for precision in precisions:
        yield maml(precision, False)
        yield protonet(precision)
    yield theirs
    for n_tasks in TASKS:
        yield small(n_tasks, False)
    for precision in precisions:
        yield maml(precision, True)
    for n_tasks in TASKS:
        yield small(n_tasks, True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--only", default="", help="run what has this in its name")
    arguments = parser.parse_args(argv)
    device, begun = arguments.device, time.perf_counter()
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu measures the processor")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {name}\n")
    peak = ceilings(device)
    for precision, rate in peak.items():
        print(f"- ceiling, {precision}: {rate / 1e12:.2f} TFLOP/s")
    print(f"- ceiling, copies: {bandwidth(device) / 1e9:,.0f} GB/s")
    print("\n| training step | precision | ms | TFLOP/s | of the ceiling |")
    print("|---|---|---|---|---|")
    for make in parts(device, list(peak)):
        if time.perf_counter() - begun > SECONDS:
            print(f"\nNothing was begun after {SECONDS} seconds.")
            break
        for part in make().values():
            if arguments.only in part.name:
                print(row(part, device, peak[part.precision]), flush=True)


def row(part: Part, device: str, ceiling: float) -> str:
    """A line of the table."""
    with nullcontext() if part.compiled else FlopCounterMode(display=False) as counter:
        part.call()
    took = seconds(part.call, device, ROUNDS) / part.steps
    told = f"| {part.name} | {part.precision} | {1e3 * took:.2f} |"
    if counter is None:
        return f"{told} | |"
    rate = counter.get_total_flops() / part.steps / took
    return f"{told} {rate / 1e12:.3f} | {rate / ceiling:.1%} |"


if __name__ == "__main__":
    main()
