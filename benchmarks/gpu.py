"""Training steps on a GPU: time, and the share of what the device can do.

    python benchmarks/gpu.py              # needs a GPU and the installed package, nothing else
    python benchmarks/gpu.py --device cpu # the same measurements where there is none

Prints a markdown table. A ceiling is the best rate of a large matrix product in the same
precision, measured first; a step's rate counts the floating point operations that torch's
own counter finds in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fewshot_sklearn import MAMLClassifier, MAMLRegressor, MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks

STEPS = 30
#: Tasks a step of the small network.
TASKS = (25, 1000)
#: Timed epochs, of which the quickest counts.
ROUNDS = 3
#: Side of the matrices whose product is the ceiling.
SIDE = {"cuda": 8192, "cpu": 1024}


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


def steps(device: str, precision: str) -> dict[str, tuple[MetaTrainer, tuple[Any, ...]]]:
    """Trainers and their data, by what they do."""
    images, characters, _ = load_omniglot(return_X_y_groups=True)
    fixed = {
        "device": device, "precision": precision, "validation_fraction": 0, "max_epochs": 1,
        "random_state": 0, "verbose": 0, "optimizer__fused": True,
    }  # fmt: skip
    sinusoids = make_sinusoid_tasks(n_shot=10, n_query=10)
    mlp = MAMLRegressor(encoder="mlp", encoder__hidden=(40, 40), n_steps=1)
    works: dict[str, tuple[MetaTrainer, tuple[Any, ...]]] = {}
    for tasks in TASKS:
        options = {"n_shot": 10, "n_query": 10, "batch_size": tasks, "n_episodes": tasks * STEPS}
        works[f"MAML, mlp, {tasks} tasks"] = MetaTrainer(mlp, **options, **fixed), (sinusoids,)
        works[f"MAML, mlp, {tasks} tasks, compiled"] = (
            MetaTrainer(mlp, compile=True, **options, **fixed),
            (sinusoids,),
        )
    conv = {"n_way": 5, "n_shot": 1, "n_query": 15, "batch_size": 32, "n_episodes": 32 * STEPS}
    past = images, characters
    for first_order in (False, True):
        kind = "first order" if first_order else "second order"
        maml = MAMLClassifier(encoder="conv4", n_steps=1, first_order=first_order)
        works[f"MAML, conv4, 32 tasks, {kind}"] = MetaTrainer(maml, **conv, **fixed), past
    protonet = {"n_way": 60, "n_shot": 1, "n_query": 5, "batch_size": 4, "n_episodes": 4 * STEPS}
    works["ProtoNet, conv4, 4 tasks of 60 ways"] = (
        MetaTrainer(ProtoNetClassifier(encoder="conv4"), **protonet, **fixed),
        past,
    )
    return works


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--only", default="", help="run what has this in its name")
    arguments = parser.parse_args(argv)
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu measures the processor")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {name}\n")
    peak = ceilings(device)
    for precision, rate in peak.items():
        print(f"- ceiling, {precision}: {rate / 1e12:.2f} TFLOP/s")
    print("\n| training step | precision | ms | TFLOP/s | of the ceiling |")
    print("|---|---|---|---|---|")
    for precision in peak:
        for work, (trainer, past) in steps(device, precision).items():
            if arguments.only not in work:
                continue
            trainer.fit(*past)
            compiled = trainer.module_.compiled
            with nullcontext() if compiled else FlopCounterMode(display=False) as counter:
                trainer.partial_fit(*past)
            took = seconds(lambda t=trainer, p=past: t.partial_fit(*p), device, ROUNDS) / STEPS
            if counter is None:
                print(f"| {work} | {precision} | {1e3 * took:.2f} | | |", flush=True)
                continue
            rate = counter.get_total_flops() / STEPS / took
            share = f"{rate / 1e12:.3f} | {rate / peak[precision]:.1%}"
            print(f"| {work} | {precision} | {1e3 * took:.2f} | {share} |", flush=True)


if __name__ == "__main__":
    main()
