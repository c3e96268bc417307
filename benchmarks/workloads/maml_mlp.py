"""Second-order MAML on sinusoids (Finn et al. 2017): a 40-40 ReLU network, 25 tasks a step.

Ours is one epoch of `MetaTrainer`, with everything it does; the peers' loops have no
history, callbacks or table. All draw new tasks for every step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import peers
import torch
from timing import Contender, Row, compare, interleave
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_sklearn import MAMLRegressor, MetaTrainer
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.learners import episode_loss
from workloads.options import given, without

N_TASKS, N_ROWS, INNER_LR = 25, 10, 0.01
#: Steps of one timed epoch.
STEPS = 300
#: Agreement of meta-gradients that `check` asks for, relative to the largest entry.
TOLERANCE = 1e-8

PEERS = {
    "learn2learn": peers.learn2learn_maml,
    "higher": peers.higher_maml,
    "torchopt": peers.torchopt_maml,
    "parallel-metalearn": peers.parallel_metalearn_maml,
}

#: Those that `check` compares with: their meta-gradients are found where `step` leaves them.
REFERENCES = ("learn2learn", "higher")


def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw the tasks of one step: X, y, X_query, y_query of shape (25, 10, 1)."""
    amplitude = rng.uniform(0.1, 5.0, (N_TASKS, 1, 1))
    phase = rng.uniform(0.0, np.pi, (N_TASKS, 1, 1))
    x = rng.uniform(-5.0, 5.0, (N_TASKS, 2 * N_ROWS, 1))
    y = amplitude * np.sin(x + phase)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return x[:, :N_ROWS], y[:, :N_ROWS], x[:, N_ROWS:], y[:, N_ROWS:]


def network() -> nn.Sequential:
    """The peers' network."""
    return nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    )


def make_trainer(n_steps: int, steps: int = STEPS, **options: object) -> MetaTrainer:
    """Ours, with `steps` meta-steps an epoch."""
    return MetaTrainer(
        MAMLRegressor(encoder="mlp", encoder__hidden=(40, 40), n_steps=n_steps, inner_lr=INNER_LR),
        n_shot=N_ROWS,
        n_query=N_ROWS,
        n_episodes=N_TASKS * steps,
        batch_size=N_TASKS,
        max_epochs=1,
        validation_fraction=0,
        optimizer__fused=True,
        device="cpu",
        random_state=0,
        verbose=0,
        **options,
    )


def bare_loop(trainer: MetaTrainer) -> Contender:
    """The trained learner in the shortest training loop there is, on batches made beforehand."""
    learner = copy.deepcopy(trainer.module_).train()
    optimizer = peers.adam(learner)
    rng = np.random.default_rng(0)
    batches = [draw(rng) for _ in range(STEPS)]
    ones = torch.ones(N_TASKS, N_ROWS)

    def epoch() -> None:
        for X, y, X_query, y_query in batches:
            optimizer.zero_grad()
            episode_loss(learner(X=X, y=y, w=ones, X_query=X_query), y_query).backward()
            optimizer.step()

    return Contender(epoch, STEPS)


def run(rounds: int) -> list[Row | str]:
    """Time 1 and 5 inner steps."""
    no_compile = without(MetaTrainer, "compile")
    return [
        *([no_compile] if no_compile else []),
        *(entry for n_steps in (1, 5) for entry in measured(n_steps, rounds, not no_compile)),
    ]


def measured(n_steps: int, rounds: int, compiles: bool) -> list[Row | str]:
    """Rows of all contenders with one number of inner steps, and what the trainer adds."""
    rng = np.random.default_rng(0)
    generator = make_sinusoid_tasks(n_shot=N_ROWS, n_query=N_ROWS)

    def theirs(make: Callable[..., peers.Step]) -> Contender:
        step = make(network(), F.mse_loss, n_steps, INNER_LR)
        return Contender(lambda: step(*draw(rng)))

    def ours(trainer: MetaTrainer) -> Contender:
        return Contender(lambda: trainer.partial_fit(generator), STEPS)

    contenders: dict[str, Contender] = {}
    for name, make in PEERS.items():
        contenders |= peers.beside(lambda name=name, make=make: {name: theirs(make)})
    trainer = make_trainer(n_steps, **given(MetaTrainer, compile=False))
    contenders["ours"] = ours(trainer)
    contenders["ours, bare loop"] = bare_loop(trainer.partial_fit(generator))
    if compiles:
        contenders["ours, compiled"] = ours(make_trainer(n_steps, compile=True))
    times = interleave(contenders, rounds)
    work = f"maml-mlp, {n_steps} inner step{'s' if n_steps > 1 else ''}"
    report: list[Row | str] = [*compare(work, times, "ours")]
    if compiles:
        report += compare(work, times, "ours, compiled")
    whole, bare = times["ours"], times["ours, bare loop"]
    report.append(
        f"{work}: MetaTrainer takes {np.median(whole):.3g} ms a step, a bare loop over the same "
        f"learner {np.median(bare):.3g} ms: it adds {100 * np.median(whole / bare - 1):.0f}%."
    )
    return report


def check() -> list[str]:
    """Compare our meta-gradient with theirs, in float64, on the same weights and tasks."""
    lines = []
    generator = make_sinusoid_tasks(n_shot=N_ROWS, n_query=N_ROWS)
    X, y, X_query, y_query = (t.double() for t in draw(np.random.default_rng(0)))
    for n_steps in (1, 5):
        trainer = make_trainer(n_steps, steps=20).fit(generator)
        learner = trainer.module_.double().train()
        for scale, value in (
            ("mean", 0.0),
            ("rest", 0.0),
            ("scale", 1.0),
        ):  # the peers have no scales
            getattr(learner, f"x_{scale}").fill_(value)
            getattr(learner, f"y_{scale}").fill_(value)
        learner.zero_grad()
        outputs = learner(X=X, y=y, w=X.new_ones(N_TASKS, N_ROWS), X_query=X_query)
        episode_loss(outputs, y_query).backward()
        ours = gradient(learner)
        for name in REFERENCES:
            theirs = network().double()
            with torch.no_grad():
                for p, q in zip(theirs.parameters(), learner.parameters(), strict=True):
                    p.copy_(q)
            how = theirs, F.mse_loss, n_steps, INNER_LR
            made = peers.beside(lambda name=name, how=how: {name: PEERS[name](*how)})
            if not made:
                continue
            made[name](X, y, X_query, y_query)
            reference = gradient(theirs)
            difference = float((ours - reference).abs().max() / reference.abs().max())
            lines.append(
                f"meta-gradient, {n_steps} inner step(s), {name}: differs by {difference:.1e}"
            )
            if difference > TOLERANCE:
                raise SystemExit(f"{lines[-1]}, more than {TOLERANCE:g}.")
    if not lines:
        raise SystemExit(f"None of {', '.join(REFERENCES)} is installed to compare with.")
    return lines


def gradient(module: nn.Module) -> Tensor:
    """The gradient of all parameters, as one vector."""
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
