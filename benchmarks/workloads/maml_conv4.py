"""MAML on Omniglot: 5-way 1-shot, 15 queries a class, conv4, 32 tasks a step, one inner step.

learn2learn is measured with its own conv4 (batch norm before the pooling) and with ours
(group norm after it, which is cheaper), so that the network's share of the ratio shows.
"""

from __future__ import annotations

import peers
from timing import Contender, Row, compare, interleave
from torch.nn import functional as F

from fewshot_sklearn import MAMLClassifier, MetaTrainer
from workloads.omniglot import Pool, as_rows, load, our_network, peers_network
from workloads.options import without, without_bf16

N_TASKS, N_WAY, N_SHOT, N_QUERY, N_STEPS, INNER_LR = 32, 5, 1, 15, 1, 0.4
#: Steps of one timed epoch.
STEPS = 3


def make_trainer(
    n_steps: int = N_STEPS,
    steps: int = STEPS,
    maml: dict[str, object] | None = None,
    **options: object,
) -> MetaTrainer:
    """Ours, with `steps` meta-steps an epoch."""
    return MetaTrainer(
        MAMLClassifier(encoder="conv4", n_steps=n_steps, inner_lr=INNER_LR, **(maml or {})),
        n_way=N_WAY,
        n_shot=N_SHOT,
        n_query=N_QUERY,
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


def run(rounds: int) -> list[Row | str]:
    """Time second order, first order and adapting the head only, each in float32 and bfloat16."""
    images, characters = load()
    pool = Pool(as_rows(images))

    def theirs(step: peers.Step) -> Contender:
        return Contender(lambda: step(*pool.draw(N_TASKS, N_WAY, N_SHOT, N_QUERY)))

    def ours(trainer: MetaTrainer) -> Contender:
        return Contender(lambda: trainer.partial_fit(images, characters), STEPS)

    def learn2learn(network, first_order: bool = False) -> Contender:
        return theirs(
            peers.learn2learn_maml(network, F.cross_entropy, N_STEPS, INNER_LR, first_order)
        )

    def learn2learn_anil() -> dict[str, Contender]:
        network = peers_network(N_WAY)
        parts = network.features, network.classifier
        step = peers.learn2learn_anil(*parts, F.cross_entropy, N_STEPS, INNER_LR)
        return {"learn2learn": theirs(step)}

    kinds = {
        "second order": (
            {},
            lambda: {
                "learn2learn": learn2learn(peers_network(N_WAY)),
                "learn2learn, our network": learn2learn(our_network(N_WAY)),
            },
        ),
        "first order": (
            {"first_order": True},
            lambda: {"learn2learn": learn2learn(peers_network(N_WAY), first_order=True)},
        ),
        "head only": ({"head_only": True}, learn2learn_anil),
    }
    report: list[Row | str] = []
    no_bf16 = without_bf16()
    no_head_only = without(MAMLClassifier, "head_only")
    report += [line for line in (no_bf16, no_head_only) if line]
    for kind, (maml, peer) in kinds.items():
        if kind == "head only" and no_head_only:
            continue
        contenders = peers.beside(peer)
        contenders["ours"] = ours(make_trainer(maml=maml))
        if not no_bf16:
            contenders["ours, bf16"] = ours(make_trainer(maml=maml, precision="bf16"))
        times = interleave(contenders, rounds)
        for name in contenders:
            if name.startswith("ours"):
                report += compare(f"maml-conv4, {kind}", times, name)
    return report
