"""Training a prototypical network on Omniglot: conv4, 60-way 1-shot episodes, 5 queries a class."""

from __future__ import annotations

import peers
from timing import Contender, Row, compare, interleave

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier
from workloads.omniglot import Pool, as_rows, load, our_network, peers_encoder
from workloads.options import without_bf16

N_WAY, N_SHOT, N_QUERY = 60, 1, 5
#: Steps of one timed epoch.
STEPS = 10


def make_trainer(**options: object) -> MetaTrainer:
    """Ours, one episode a step."""
    return MetaTrainer(
        ProtoNetClassifier(encoder="conv4"),
        n_way=N_WAY,
        n_shot=N_SHOT,
        n_query=N_QUERY,
        n_episodes=STEPS,
        batch_size=1,
        max_epochs=1,
        validation_fraction=0,
        optimizer__fused=True,
        device="cpu",
        random_state=0,
        verbose=0,
        **options,
    )


def run(rounds: int) -> list[Row | str]:
    """Time a training step in float32 and bfloat16."""
    images, characters = load()
    pool = Pool(as_rows(images))

    def theirs(step: peers.Step) -> Contender:
        return Contender(lambda: step(*(t[0] for t in pool.draw(1, N_WAY, N_SHOT, N_QUERY))))

    def ours(trainer: MetaTrainer) -> Contender:
        return Contender(lambda: trainer.partial_fit(images, characters), STEPS)

    contenders = peers.beside(
        lambda: {
            "easyfsl": theirs(peers.easyfsl_protonet(peers_encoder())),
            "learn2learn": theirs(peers.learn2learn_protonet(peers_encoder())),
            "learn2learn, our network": theirs(peers.learn2learn_protonet(our_network(N_WAY)[0])),
        }
    )
    contenders["ours"] = ours(make_trainer())
    report: list[Row | str] = []
    no_bf16 = without_bf16()
    if no_bf16:
        report.append(no_bf16)
    else:
        contenders["ours, bf16"] = ours(make_trainer(precision="bf16"))
    times = interleave(contenders, rounds)
    for name in contenders:
        if name.startswith("ours"):
            report += compare("protonet-conv4", times, name)
    return report
