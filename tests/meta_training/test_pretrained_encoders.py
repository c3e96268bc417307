"""`MetaTrainer(pretrain="labels")`: the encoder is trained before there are episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import CLASSIFIERS, every_estimator
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import (
    ESMetaTrainer,
    MAMLClassifier,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.tasks import RandomColorCrop

NET = {"encoder": "mlp", "encoder__hidden": (8,)}
SETTINGS = {
    "n_way": 3, "n_shot": 1, "n_query": 2, "n_episodes": 4, "max_epochs": 1, "batch_size": 2,
    "validation_fraction": 0, "random_state": 0, "verbose": 0, "device": "cpu",
    "pretrain": "labels", "pretrain_epochs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


@pytest.fixture(scope="module")
def waves():
    past = make_sinusoid_tasks(12, random_state=0)
    return past.data, past.target, past.groups


def encoder(init):
    return {k: v for k, v in init.tensors.items() if k.startswith("encoder.")}


def of_kind(name, digits, waves):
    return digits if name in CLASSIFIERS else waves


def differs(one, other):
    return any(not np.array_equal(v, encoder(other)[k]) for k, v in encoder(one).items())


# ---------------------------------------------------------------- every estimator
@every_estimator
def test_episodes_start_from_the_pretrained_encoder(name, digits, waves):
    data = of_kind(name, digits, waves)
    made = getattr(fewshot_sklearn, name)(**NET)
    still = {**SETTINGS, "max_epochs": 0}
    first = MetaTrainer(made, **still).fit(*data)
    again = MetaTrainer(made, **still).fit(*data)
    assert first.meta_init_.digest == again.meta_init_.digest
    assert differs(
        first.meta_init_, MetaTrainer(made, **{**still, "pretrain": None}).fit(*data).meta_init_
    )
    losses = first.pretrain_history_[:, "train_loss"]
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert len(first.history) == 0
    assert first.meta_init_.provenance["settings"]["pretrain"] == "labels"


@pytest.mark.parametrize("kind", [ProtoNetClassifier, MAMLClassifier, MAMLRegressor])
def test_equal_seeds_give_equal_digests(kind, digits, waves):
    data = of_kind(kind.__name__, digits, waves)

    def digest(**options):
        return MetaTrainer(kind(**NET), **(SETTINGS | options)).fit(*data).meta_init_.digest

    assert digest() == digest()
    others = [{"random_state": 1}, {"pretrain_epochs": 3}, {"pretrain": None}, {"lr": 0.01}]
    assert len({digest(), *(digest(**other) for other in others)}) == 5


def test_all_methods_of_classification_start_from_the_same_encoder(digits):
    still = {**SETTINGS, "max_epochs": 0}
    one, other = (
        MetaTrainer(kind(**NET), **still).fit(*digits).meta_init_
        for kind in (ProtoNetClassifier, MAMLClassifier)
    )
    assert not differs(one, other)


# ---------------------------------------------------------------- what it is good for
def classes(n, seed):
    """(X, y) of classes that differ in few of many columns, the same few for all."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n), 20)
    X = rng.normal(size=(len(y), 30))
    X[:, :3] += 2 * rng.normal(size=(n, 3))[y]
    return X, y


def test_new_classes_are_told_apart_better_than_with_random_weights(margin):
    past, new = classes(30, 0), classes(30, 1)
    few = {**SETTINGS, "max_epochs": 0, "n_way": 5, "pretrain_epochs": 10, "lr": 0.01}
    net = ProtoNetClassifier(encoder="mlp", encoder__hidden=(32,))
    scores = [
        few_shot_score(
            MetaTrainer(net, **{**few, "pretrain": how}).fit(*past).estimator_, *new,
            n_way=5, n_shot=1, n_query=10, n_episodes=60, random_state=0,
        ).mean
        for how in (None, "labels")
    ]  # fmt: skip
    margin.above(scores[1] - scores[0], 0.0)


def test_it_learns_to_tell_the_past_classes_apart(digits):
    options = {**SETTINGS, "max_epochs": 0, "pretrain_epochs": 8, "lr": 0.01}
    trainer = MetaTrainer(ProtoNetClassifier(**NET), **options).fit(*digits)
    losses = trainer.pretrain_history_[:, "train_loss"]
    assert losses[-1] < 0.5 * losses[0]
    rates = trainer.pretrain_history_[:, "event_lr"]
    assert rates[0] == 0.01 and np.diff(rates).max() < 0


# ---------------------------------------------------------------- which rows
class Seen:
    """Keeps the labels, in the first column, of rows that are altered."""

    def __init__(self):
        self.labels, self.sizes = set(), []

    def __call__(self, X, rng):
        self.labels |= set(X[:, 0].tolist())
        self.sizes.append(len(X))
        return X


def test_rows_are_altered_and_held_out_classes_are_not_seen():
    X, y = classes(10, 0)
    X[:, 0] = y
    seen = Seen()
    options = {**SETTINGS, "validation_fraction": 0.3, "n_valid_episodes": 2}
    trainer = MetaTrainer(ProtoNetClassifier(**NET), **options, augment=seen).fit(X, y)
    assert len(seen.labels) == 7
    assert seen.sizes[:4] == [64] * 4  # 140 rows
    assert not trainer.meta_init_.cite_tasks([c for c in np.unique(y) if c not in seen.labels])


def test_tables_and_recurring_labels_are_taken():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 16)
    X = pd.DataFrame({"size": rng.normal(size=192), "kind": rng.choice(list("abcdefghijkl"), 192)})
    y = np.where(X["size"] + rng.normal(0, 0.3, 192) > 0, "stayed", "churned")
    options = {**SETTINGS, "n_way": 2, "classes": "recur"}
    trainer = MetaTrainer(RidgeHeadClassifier(**NET), **options).fit(X, y, groups)
    assert np.isfinite(trainer.pretrain_history_[:, "train_loss"]).all()
    assert set(trainer.estimator_.fit(X[:4], y[:4]).predict(X)) <= {"churned", "stayed"}


def test_images_are_taken_in_any_layout():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 8)
    X = rng.integers(0, 256, (32, 3, 9, 9), dtype=np.uint8)
    made = ProtoNetClassifier(encoder="conv4", encoder__width=4, layout="NCHW")
    trainer = MetaTrainer(made, **SETTINGS).fit(X, y)
    last = trainer.estimator_.meta_init
    made = ProtoNetClassifier(encoder="conv4", encoder__width=4)
    other = MetaTrainer(made, **SETTINGS).fit(np.moveaxis(X, 1, -1), y).meta_init_
    for name, weights in encoder(last).items():
        np.testing.assert_allclose(weights, other.tensors[name], atol=1e-4)
    MetaTrainer(made, **SETTINGS, augment=RandomColorCrop()).fit(np.moveaxis(X, 1, -1), y)


def test_a_network_of_the_users_own_is_taken_and_never_changed(digits):
    net = nn.Sequential(nn.Linear(64, 8), nn.ReLU())
    before = [p.detach().clone() for p in net.parameters()]
    trainer = MetaTrainer(ProtoNetClassifier(encoder=net), **{**SETTINGS, "max_epochs": 0})
    init = trainer.fit(*digits).meta_init_
    assert not np.array_equal(init.tensors["encoder.0.weight"], before[0].numpy())
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_the_encoder_of_another_training_is_gone_on_from(digits):
    known = MetaTrainer(RidgeHeadClassifier(**NET), **{**SETTINGS, "random_state": 5})
    init = known.fit(*digits).meta_init_
    still = {**SETTINGS, "max_epochs": 0, "lr": 0.0, "encoder_from": init}
    kept = MetaTrainer(ProtoNetClassifier(**NET), **still).fit(*digits).meta_init_
    assert not differs(init, kept)


def test_where_no_encoder_is_asked_for_the_networks_that_are_tried_are_pretrained():
    X, y = classes(60, 0)
    options = {**SETTINGS, "validation_fraction": 0.2, "n_valid_episodes": 4}
    trainer = MetaTrainer(MAMLClassifier(), **options).fit(X, y)
    assert trainer.meta_init_.spec["encoder"]["name"] == "mlp"
    assert len(trainer.pretrain_history_) == 2


# ---------------------------------------------------------------- with the rest of a training
def test_training_further_does_not_pretrain_again(digits):
    trainer = MetaTrainer(ProtoNetClassifier(**NET), **SETTINGS).fit(*digits)
    before = trainer.pretrain_history_
    trainer.partial_fit(*digits)
    assert trainer.pretrain_history_ is before and len(trainer.history) == 2


def test_an_interrupted_pretraining_is_resumed(digits, tmp_path):
    kept = {**SETTINGS, "checkpoint": tmp_path / "state.ckpt", "pretrain_epochs": 4}
    whole = MetaTrainer(ProtoNetClassifier(**NET), **kept).fit(*digits)
    assert (tmp_path / "state.ckpt.pretraining").exists()
    again = MetaTrainer(ProtoNetClassifier(**NET), **kept).fit(*digits)
    assert again.meta_init_.digest == whole.meta_init_.digest
    assert again.pretrain_history_[:, "dur"] == whole.pretrain_history_[:, "dur"]
    for path in tmp_path.iterdir():
        path.unlink()

    class Interrupted(Exception):
        pass

    class Third:
        """Falls over in the third epoch of pretraining, of 5 batches each."""

        calls = 0

        def __call__(self, X, rng):
            Third.calls += 1
            if Third.calls == 12:
                raise Interrupted
            return X

        def __repr__(self):
            return "Third()"

    altered = {**kept, "augment": Third()}
    with pytest.raises(Interrupted):
        MetaTrainer(ProtoNetClassifier(**NET), **altered).fit(*digits)
    resumed = MetaTrainer(ProtoNetClassifier(**NET), **altered).fit(*digits)
    assert len(resumed.pretrain_history_) == 4
    plain = {name: v for name, v in whole.meta_init_.tensors.items()}
    for name, weights in resumed.meta_init_.tensors.items():
        assert_array_equal(weights, plain[name])


def test_callbacks_of_the_user_hear_of_episodes_alone(digits):
    class Heard:
        epochs = 0

        def __call__(self, net):
            Heard.epochs += 1
            return True

    from skorch.callbacks import EpochScoring

    heard = EpochScoring(lambda net, X, y=None: Heard()(net), name="heard", on_train=True)
    MetaTrainer(ProtoNetClassifier(**NET), **SETTINGS, callbacks=[heard]).fit(*digits)
    assert Heard.epochs == 1


def test_clones_carry_it_and_evolution_is_of_the_episodes(digits):
    trainer = ESMetaTrainer(ProtoNetClassifier(**NET), n_perturbations=2, **SETTINGS)
    assert clone(trainer).get_params()["pretrain"] == "labels"
    assert np.isfinite(trainer.fit(*digits).pretrain_history_[-1, "train_loss"])


def test_progress_says_which_is_which(digits, capsys):
    MetaTrainer(ProtoNetClassifier(**NET), **{**SETTINGS, "verbose": 1}).fit(*digits)
    told = capsys.readouterr().out
    assert "Pretraining: BaselinePlusPlusClassifier (mlp" in told
    assert "at most 2 epochs of 5 batches" in told and "1 epochs of 4 episodes" in told


# ---------------------------------------------------------------- errors
def test_nothing_to_train_is_an_error(digits, waves):
    for made in (
        ProtoNetClassifier(encoder="identity"),
        ProtoNetClassifier(),
        ProtoNetClassifier(**NET, freeze_encoder=True),
    ):
        with pytest.raises(
            ValueError, match=r"pretrain='labels' trains the encoder, but .* has no"
        ):
            MetaTrainer(made, **SETTINGS).fit(*digits)
    with pytest.raises(ValueError, match='encoder="mlp"'):
        MetaTrainer(RidgeHeadRegressor(encoder="spline"), **SETTINGS).fit(*waves)


def test_a_meta_init_is_not_pretrained(digits):
    made = MetaTrainer(ProtoNetClassifier(**NET), **SETTINGS).fit(*digits).estimator_
    with pytest.raises(ValueError, match="the estimator has a meta-init"):
        MetaTrainer(made, **SETTINGS).fit(*digits)


def test_classes_of_a_generator_are_refused_and_tasks_of_a_regression_are_not():
    def tasks(rng):
        X = rng.normal(size=(12, 3))
        y = np.arange(12) % 3
        return X[:6], y[:6], X[6:], y[6:]

    with pytest.raises(ValueError, match="needs them as arrays, not a generator"):
        MetaTrainer(ProtoNetClassifier(**NET), **SETTINGS).fit(tasks)

    def lines(rng):
        X = rng.normal(size=(12, 3))
        return X[:6], X[:6, 0], X[6:], X[6:, 0]

    trainer = MetaTrainer(MAMLRegressor(**NET), **SETTINGS).fit(lines)
    assert len(trainer.pretrain_history_) == 2


@pytest.mark.parametrize(
    "bad", [{"pretrain": "rotations"}, {"pretrain": True}, {"pretrain_epochs": 0}]
)
def test_bad_arguments_are_named(bad, digits):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        MetaTrainer(ProtoNetClassifier(**NET), **(SETTINGS | bad)).fit(*digits)
