"""MetaTrainer: skorch's whole training loop over episodes, and scikit-learn's conventions."""

from __future__ import annotations

import pickle
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LoadInitState,
    LRScheduler,
    ProgressBar,
    TensorBoard,
)

from fewshot_sklearn import (
    MAMLClassifier,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks

ESTIMATORS = {
    "ProtoNetClassifier": ProtoNetClassifier(encoder="mlp", encoder__hidden=(8,)),
    "RidgeHeadClassifier": RidgeHeadClassifier(encoder="mlp", encoder__hidden=(8,)),
    "MAMLClassifier": MAMLClassifier(encoder="mlp", encoder__hidden=(8,), n_steps=2),
    "RidgeHeadRegressor": RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,)),
    "MAMLRegressor": MAMLRegressor(encoder="mlp", encoder__hidden=(8,), n_steps=2),
}
REGRESSORS = ("RidgeHeadRegressor", "MAMLRegressor")


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return clone(ESTIMATORS[request.param])


@pytest.fixture
def digits():
    """(X, y): 12 rows of each of the ten digits."""
    X, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == digit)[:12] for digit in range(10)])
    return X[rows], y[rows]


@pytest.fixture
def waves():
    """(X, y, groups) of 20 sinusoids of 12 rows each."""
    past = make_sinusoid_tasks(20, n_shot=6, n_query=6, random_state=0)
    return past.data, past.target, past.groups


@pytest.fixture
def past(estimator, digits, waves):
    """Past tasks for that estimator."""
    return waves if type(estimator).__name__ in REGRESSORS else (*digits, None)


def small(estimator=None, **options):
    """A trainer that takes an instant."""
    if estimator is None:
        estimator = ProtoNetClassifier(encoder="mlp", encoder__hidden=(8,))
    options = {
        "n_way": 2, "n_shot": 2, "n_query": 4, "n_episodes": 32, "n_valid_episodes": 8,
        "max_epochs": 2, "validation_fraction": 0.2, "random_state": 0, "verbose": 0,
        "device": "cpu",
    } | options  # fmt: skip
    return MetaTrainer(estimator, **options)


def wave_trainer(**options):
    return small(RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,)), **options)


# ---------------------------------------------------------------- what it learns from
def test_what_comes_out_is_the_estimator_with_a_meta_init(estimator, past):
    trainer = small(estimator).fit(*past)
    made = trainer.estimator_
    assert type(made) is type(estimator)
    assert made.meta_init is trainer.meta_init_
    assert {k: v for k, v in made.get_params().items() if k != "meta_init"} == {
        k: v for k, v in estimator.get_params().items() if k != "meta_init"
    }
    X, y = past[0][:12], past[1][:12]
    assert np.isfinite(made.fit(X, y).predict(X)).all()
    assert np.isfinite(trainer.history[:, ("train_loss", "valid_loss")]).all()
    assert len(trainer.history) == 2


def test_meta_training_moves_every_parameter(estimator, past):
    start = small(estimator, max_epochs=0).fit(*past).meta_init_.tensors
    end = small(estimator).fit(*past).meta_init_.tensors
    assert set(start) == set(end)
    scales = {f"{of}_{what}" for of in "xy" for what in ("mean", "rest", "scale")}
    for name in start:
        assert np.isfinite(end[name]).all()
        moved = not np.array_equal(start[name], end[name])
        assert moved == (name not in scales), name


def test_the_passed_estimator_is_not_changed(estimator, past):
    before = estimator.get_params()
    small(estimator).fit(*past)
    assert estimator.get_params() == before
    assert not [name for name in vars(estimator) if name.endswith("_")]


def test_classes_of_a_pool(digits):
    trainer = small(validation_fraction=0).fit(*digits)
    tasks = trainer.meta_init_.provenance["tasks"]
    assert (tasks["kind"], tasks["count"]) == ("classes", 10)
    assert trainer.meta_init_.cite_tasks(range(12)) == 10


def test_groups_of_rows(waves):
    X, y, groups = waves
    names = np.char.add("sensor", groups.astype(str))
    init = wave_trainer(validation_fraction=0).fit(X, y, groups=names).meta_init_
    assert init.provenance["tasks"]["kind"] == "groups"
    assert init.cite_tasks(["sensor0", "sensor19", "sensor20"]) == 2


@pytest.mark.parametrize("labels", ["abcdefghij", [f"{i}" for i in range(10)], range(100, 110)])
def test_class_labels_may_be_anything(digits, labels):
    X, y = digits
    init = small().fit(X, np.array(list(labels))[y]).meta_init_
    assert np.array_equal(init.tensors["x_mean"].shape, (64,))


def test_a_generator_of_tasks(estimator):
    def generator(rng):
        X = rng.normal(size=(10, 3))
        y = np.arange(10.0) % 2
        return X[:6] + y[:6, None], y[:6], X[6:] + y[6:, None], y[6:]

    trainer = small(estimator).fit(generator)
    assert trainer.meta_init_.spec["input_shape"] == [3]
    assert trainer.meta_init_.provenance["tasks"] is None
    assert trainer.meta_init_.provenance["tasks_seen"] == 64
    assert len(trainer.history[:, "valid_loss"]) == 2
    again = small(estimator).fit(generator)
    assert again.meta_init_ == trainer.meta_init_


def test_a_generator_of_sinusoids(margin):
    generator = make_sinusoid_tasks(n_shot=(3, 7), n_query=5)
    trainer = wave_trainer().fit(generator)
    tensors = trainer.meta_init_.tensors
    margin.below(abs(tensors["x_scale"].item() / (100**0.5 / 12**0.5) - 1), 0.1, "x")
    margin.below(abs(tensors["y_scale"].item() / 2.06 - 1), 0.2, "y")  # E[A^2]/2 of A in [0.1, 5]


def test_column_names_are_kept_and_held_to(waves):
    X, y, groups = waves
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 0] ** 2})
    reg = wave_trainer().fit(frame, pd.Series(y), pd.Series(groups)).estimator_
    assert reg.meta_init.spec["feature_names"] == ["a", "b"]
    reg.fit(frame[:6], y[:6])
    assert reg.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="columns"):
        reg.fit(frame[["b", "a"]][:6], y[:6])


def test_frames_and_arrays_teach_the_same(waves):
    X, y, groups = waves
    one = wave_trainer().fit(X, y, groups).meta_init_
    other = wave_trainer().fit(pd.DataFrame(X), pd.Series(y), pd.Series(groups)).meta_init_
    assert one == other


def test_several_outputs(waves):
    X, y, groups = waves
    reg = wave_trainer().fit(X, np.stack([y, -y], 1), groups).estimator_
    assert reg.fit(X[:6], np.stack([y, -y], 1)[:6]).predict(X).shape == (len(X), 2)


@pytest.mark.parametrize("shape", [(4, 4), (8, 8, 3)])
def test_images(shape):
    y = np.repeat(np.arange(6), 6)
    X = np.random.default_rng(0).integers(0, 255, (36, *shape), dtype=np.uint8)
    trainer = small(ProtoNetClassifier(encoder="conv4", encoder__width=16), max_epochs=1)
    clf = trainer.fit(X, y).estimator_
    assert clf.fit(X[:12], y[:12]).predict(X).shape == (36,)


# ---------------------------------------------------------------- whether it learns
def noisy_classes(n_classes, seed):
    """Classes that differ along 3 of 20 directions, the same for all; the rest is noise."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), 20)
    X = 3 * rng.normal(size=(len(y), 20))
    X[:, :3] = rng.normal(0, 3, (n_classes, 3))[y] + 0.5 * rng.normal(size=(len(y), 3))
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))
    return X @ turn, y


def test_the_loss_on_held_out_tasks_goes_down(estimator, margin):
    past = noisy_classes(40, seed=1)
    if type(estimator).__name__ in REGRESSORS:
        waves = make_sinusoid_tasks(200, n_shot=6, n_query=6, random_state=0)
        past = waves.data, waves.target, waves.groups
    many = {"n_episodes": 64, "n_valid_episodes": 200, "validation_fraction": 0.3}
    history = small(estimator, max_epochs=14, lr=0.01, **many).fit(*past).history
    margin.below(history[-1, "valid_loss"] / history[0, "valid_loss"], 1)


def test_ridge_on_sinusoids_beats_scratch(trained, sinusoid_new, margin):
    X, y, groups = sinusoid_new
    options = {"n_way": None, "n_shot": 10, "n_query": 15, "n_episodes": 40}
    learned = few_shot_score(trained["RidgeHeadRegressor"], X, y, groups + 1000, **options)
    scratch = trained["RidgeHeadRegressor"].set_params(meta_init=None, random_state=0)
    for other in (scratch, RidgeHeadRegressor()):
        score = few_shot_score(other, X, y, groups, **options)
        margin.above(learned.mean - score.mean, 0.1, repr(other.get_params()["encoder"]))


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - set(REGRESSORS)))
def test_classifiers_learn_what_tells_classes_apart(name, margin):
    fresh = clone(ESTIMATORS[name]).set_params(encoder__hidden=(32,), random_state=0)
    options = {"n_way": 5, "n_shot": 3, "n_query": 10}
    trainer = small(fresh, n_episodes=160, max_epochs=10, lr=5e-3, validation_fraction=0, **options)
    learned = trainer.fit(*noisy_classes(60, seed=1)).estimator_
    X, y = noisy_classes(20, seed=2)
    y += 1000
    scores = {
        what: few_shot_score(estimator, X, y, n_episodes=50, **options).mean
        for what, estimator in (
            ("learned", learned), ("scratch", fresh), ("no encoder", type(fresh)())
        )
    }  # fmt: skip
    for other in ("scratch", "no encoder"):
        margin.above(scores["learned"] - scores[other], 0.1, other)


def test_score_is_of_the_episodes_it_was_trained_for(waves):
    trainer = wave_trainer().fit(*waves)
    new = make_sinusoid_tasks(10, n_shot=6, n_query=6, random_state=1)
    groups = new.groups + 1000
    score = trainer.score(new.data, new.target, groups)
    expected = few_shot_score(
        trainer.estimator_, new.data, new.target, groups,
        n_way=None, n_shot=2, n_query=4, random_state=trainer.seed_,
    )  # fmt: skip
    assert score == expected.mean


# ---------------------------------------------------------------- held-out tasks
class Spy(Callback):
    """Remembers which tasks the episodes of training and validation come from."""

    def __init__(self):
        self.train, self.valid = set(), set()

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        start = len(net.history) - 1  # skorch has begun a new line of the history
        for i in range(start * len(dataset_train), (start + 1) * len(dataset_train)):
            self.train |= ids(dataset_train[i])
        for i in range(len(dataset_valid)):
            self.valid |= ids(dataset_valid[i])


def ids(task):
    """The first column says which class or group a row is of."""
    return set(np.concatenate([task.X, task.X_query])[:, 0].astype(int).tolist())


@pytest.mark.parametrize("grouped", [True, False])
def test_validation_episodes_come_from_tasks_of_their_own(grouped):
    task = np.repeat(np.arange(20), 8)
    y = np.tile([0, 1], 80) if grouped else task
    X = np.stack([task, np.random.default_rng(0).normal(size=160)], 1)
    spy = Spy()
    trainer = small(
        validation_fraction=0.25, callbacks=[spy], n_valid_episodes=60, n_episodes=100
    ).fit(X, y, task if grouped else None)
    assert len(spy.valid) == 5
    assert len(spy.train) == 15
    assert not spy.train & spy.valid
    assert trainer.meta_init_.cite_tasks(sorted(spy.valid)) == 0
    assert trainer.meta_init_.cite_tasks(sorted(spy.train)) == 15


def test_the_scale_is_learned_from_training_tasks_only():
    groups = np.repeat(np.arange(10), 6)
    X = np.stack([groups, np.random.default_rng(0).normal(size=60)], 1)
    spy = Spy()
    trainer = wave_trainer(callbacks=[spy], max_epochs=1, n_episodes=100).fit(X, X[:, 1], groups)
    expected = X[np.isin(groups, sorted(spy.train))].mean(0)
    np.testing.assert_allclose(trainer.meta_init_.tensors["x_mean"], expected, rtol=1e-5)


def test_without_validation_there_is_no_valid_loss(digits):
    history = small(validation_fraction=0).fit(*digits).history
    assert "valid_loss" not in history[-1]
    assert "train_loss" in history[-1]


# ---------------------------------------------------------------- skorch's callbacks
def test_early_stopping_on_valid_loss_loads_the_best(digits):
    stop = EarlyStopping(patience=2, load_best=True, sink=lambda text: None)
    trainer = small(max_epochs=50, lr=0.3, callbacks=[("stop", stop)]).fit(*digits)
    losses = trainer.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 50
    shorter = small(max_epochs=best + 1, lr=0.3).fit(*digits)
    for name, tensor in shorter.meta_init_.state_dict().items():
        assert torch.equal(trainer.meta_init_.state_dict()[name], tensor), name


def test_checkpoint_and_load_init_state_go_on_as_one_run(digits, tmp_path):
    def checkpoint():
        return Checkpoint(dirname=str(tmp_path), monitor=None, f_criterion=None)

    small(callbacks=[("cp", checkpoint())]).fit(*digits)
    resumed = small(callbacks=[("load", LoadInitState(checkpoint()))]).fit(*digits)
    whole = small(max_epochs=4).fit(*digits)
    assert resumed.history[:, "train_loss"] == whole.history[:, "train_loss"]
    assert resumed.meta_init_ == whole.meta_init_


@pytest.mark.parametrize("policy", ["StepLR", "ReduceLROnPlateau", "CosineAnnealingLR"])
def test_lr_scheduler(digits, policy):
    arguments = {
        "StepLR": {"step_size": 1, "gamma": 0.5},
        "ReduceLROnPlateau": {
            "patience": 0,
            "factor": 0.5,
            "threshold": 1e3,
            "monitor": "valid_loss",
        },
        "CosineAnnealingLR": {"T_max": 4},
    }[policy]
    scheduler = LRScheduler(policy=policy, **arguments)
    trainer = small(max_epochs=4, lr=0.01, callbacks=[("lr", scheduler)]).fit(*digits)
    assert trainer.optimizer_.param_groups[0]["lr"] < 0.01


def test_lr_scheduler_by_batch(digits):
    scheduler = LRScheduler(policy="StepLR", step_size=1, gamma=0.5, step_every="batch")
    trainer = small(max_epochs=2, lr=0.01, callbacks=[("lr", scheduler)]).fit(*digits)
    steps = 2 * 2  # 32 episodes are two batches
    assert trainer.optimizer_.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**steps)


def test_progress_bar(digits, capsys):
    pytest.importorskip("tqdm")
    bar = ProgressBar()
    small(callbacks=[bar]).fit(*digits)
    # batches of 16 tasks: two to train on, one to validate
    assert "/3 [" in capsys.readouterr().err
    assert bar.pbar_.n == bar.pbar_.total == 3


def test_tensorboard(digits, tmp_path):
    SummaryWriter = pytest.importorskip("torch.utils.tensorboard").SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    small(callbacks=[TensorBoard(writer)]).fit(*digits)
    assert list(tmp_path.iterdir())


class NewTasks(Callback):
    """Records the accuracy on other tasks after each epoch, as EpochScoring would."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def on_epoch_end(self, net, **kwargs):
        clf = clone(net.estimator).set_params(meta_init=net._make_meta_init())
        score = few_shot_score(clf, self.X, self.y, n_way=2, n_shot=2, n_episodes=60)
        net.history.record("new_tasks", score.mean)


def test_a_callback_may_score_as_training_goes(digits, digits_new, margin):
    callback = ("new", NewTasks(*digits_new))
    trainer = small(callbacks=[callback]).fit(digits[0], digits[1] + 100)
    assert max(trainer.history[:, "new_tasks"]) <= 1
    margin.above(min(trainer.history[:, "new_tasks"]), 0.52)  # half is chance
    assert trainer.meta_init_ == small().fit(digits[0], digits[1] + 100).meta_init_


def test_epoch_scoring_with_a_callable(digits):
    def size(net, dataset, y=None):
        return float(len(dataset))

    scoring = EpochScoring(size, name="size", use_caching=False)
    assert small(callbacks=[scoring]).fit(*digits).history[:, "size"] == [8.0, 8.0]


def test_the_progress_table_is_skorchs(digits):
    lines = []
    small(verbose=1, callbacks__print_log__sink=lines.append).fit(*digits)
    assert "train_loss" in lines[2]
    assert "valid_loss" in lines[2]
    assert len(lines) == 6


class Interrupt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_training_leaves_a_usable_estimator(estimator, past, epoch):
    trainer = small(estimator, max_epochs=5, callbacks=[Interrupt(epoch)]).fit(*past)
    assert len(trainer.history) == epoch
    X, y = past[0][:12], past[1][:12]
    assert np.isfinite(trainer.estimator_.fit(X, y).predict(X)).all()


# ---------------------------------------------------------------- scikit-learn's conventions
def test_parameters_can_be_read_and_set_at_every_depth(digits):
    trainer = small(callbacks=[("stop", EarlyStopping(patience=3))], optimizer__weight_decay=0.1)
    params = trainer.get_params()
    assert params["estimator__encoder__hidden"] == (8,)
    assert params["optimizer__weight_decay"] == 0.1
    trainer.set_params(
        estimator__encoder__hidden=(4,), callbacks__stop__patience=7, optimizer__weight_decay=0.2,
        n_way=3, lr=0.5,
    )  # fmt: skip
    params = trainer.fit(*digits).get_params()
    assert trainer.meta_init_.tensors["encoder.layers.0.weight"].shape == (4, 64)
    assert params["callbacks__stop__patience"] == 7  # skorch lists callbacks once initialized
    assert (params["optimizer__weight_decay"], params["n_way"], params["lr"]) == (0.2, 3, 0.5)


def test_what_has_no_meaning_here_is_no_parameter():
    names = set(small().get_params())
    assert not names & {"module", "train_split", "dataset", "predict_nonlinearity"}
    with pytest.raises((ValueError, TypeError), match="nonsense"):
        small(nonsense=3).fit(np.zeros((4, 2)), [0, 0, 1, 1])


def test_a_clone_is_unfitted_equal_and_apart(digits):
    trainer = small(callbacks=[("stop", EarlyStopping())], optimizer__weight_decay=0.1)
    trainer.fit(*digits)
    copied = clone(trainer)
    assert not hasattr(copied, "estimator_")
    assert copied.estimator is not trainer.estimator
    assert copied.fit(*digits).meta_init_ == trainer.meta_init_
    assert clone(small(lr=0.5)).lr == 0.5


def test_the_optimizer_takes_its_arguments(digits):
    trainer = small(optimizer=torch.optim.SGD, optimizer__weight_decay=0.1).fit(*digits)
    assert isinstance(trainer.optimizer_, torch.optim.SGD)
    assert trainer.optimizer_.param_groups[0]["weight_decay"] == 0.1
    assert trainer.meta_init_ != small(optimizer=torch.optim.SGD).fit(*digits).meta_init_


def test_a_criterion_of_ones_own(digits):
    class Loss(torch.nn.Module):
        def forward(self, outputs, y_query):
            return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), y_query.flatten())

    for criterion in (Loss, lambda outputs, y: Loss()(outputs, y)):
        assert np.isfinite(small(criterion=criterion).fit(*digits).history[-1, "train_loss"])


def test_group_k_fold_is_meta_cross_validation(waves):
    X, y, groups = waves
    with sklearn.config_context(enable_metadata_routing=True):
        done = cross_validate(
            wave_trainer(), X, y, cv=GroupKFold(2), params={"groups": groups},
            return_estimator=True, return_indices=True, error_score="raise",
        )  # fmt: skip
    assert np.isfinite(done["test_score"]).all()
    for trainer, train, test in zip(done["estimator"], *done["indices"].values(), strict=True):
        assert trainer.meta_init_.cite_tasks(groups[test]) == 0
        assert trainer.meta_init_.cite_tasks(groups[train]) == 8  # two more validated


def test_grid_search_over_the_encoder(waves):
    X, y, groups = waves
    search = GridSearchCV(
        wave_trainer(), {"estimator__encoder__hidden": [(2,), (12,)]}, cv=GroupKFold(2),
        error_score="raise",
    )  # fmt: skip
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(X, y, groups=groups)
    best = search.best_estimator_
    width = search.best_params_["estimator__encoder__hidden"][0]
    assert best.meta_init_.tensors["encoder.layers.0.weight"].shape == (width, 1)
    assert best.estimator_.fit(X[:6], y[:6]).predict(X).shape == y.shape


def test_a_trainer_pickles(digits):
    trainer = small().fit(*digits)
    back = pickle.loads(pickle.dumps(trainer))
    assert back.meta_init_ == trainer.meta_init_
    assert back.history == trainer.history
    assert back.partial_fit(*digits).meta_init_ == trainer.partial_fit(*digits).meta_init_
    unfitted = pickle.loads(pickle.dumps(small()))
    assert unfitted.fit(*digits).meta_init_ == small().fit(*digits).meta_init_


# ---------------------------------------------------------------- reproducible
def test_the_same_random_state_gives_the_same_meta_init(estimator, past):
    one, same, other = (
        small(estimator, random_state=seed).fit(*past).meta_init_ for seed in (0, 0, 1)
    )
    assert one == same
    assert not all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_fitting_again_is_fitting_afresh(digits):
    trainer = small()
    first = trainer.fit(*digits).meta_init_
    assert trainer.fit(*digits).meta_init_ == first


def test_worker_processes_change_nothing(digits):
    dropout = ProtoNetClassifier(encoder="mlp", encoder__dropout=0.3)
    one, other = (small(dropout, iterator_train__num_workers=n).fit(*digits) for n in (0, 2))
    assert other.history[:, "train_loss"] == one.history[:, "train_loss"]
    assert other.meta_init_ == one.meta_init_


def test_global_random_states_are_left_alone(estimator, past):
    def states():
        return torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002

    before = states()
    trainer = small(estimator).fit(*past)
    trainer.partial_fit(*past)
    assert states() == before


def test_global_random_states_have_no_influence(digits):
    dropout = ProtoNetClassifier(encoder="mlp", encoder__dropout=0.3)
    inits = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        inits.append(small(dropout).fit(*digits).meta_init_)
    assert inits[0] == inits[1]


# ---------------------------------------------------------------- going on
def test_partial_fit_goes_on_as_one_longer_run(estimator, past):
    trainer = small(estimator, keep_best=False).fit(*past)
    short = trainer.meta_init_
    trainer.partial_fit(*past)
    assert trainer.meta_init_ != short
    assert trainer.estimator_.meta_init is trainer.meta_init_
    assert (
        trainer.meta_init_ == small(estimator, max_epochs=4, keep_best=False).fit(*past).meta_init_
    )


def test_partial_fit_starts_where_there_is_nothing_to_go_on_from(digits):
    assert small().partial_fit(*digits).meta_init_ == small().fit(*digits).meta_init_


def test_warm_start_goes_on(digits):
    trainer = small(warm_start=True, keep_best=False).fit(*digits)
    assert len(trainer.fit(*digits).history) == 4
    assert trainer.meta_init_ == small(max_epochs=4, keep_best=False).fit(*digits).meta_init_


def test_an_estimator_with_a_meta_init_starts_from_it(estimator, past):
    first = small(estimator).fit(*past).estimator_
    second = small(first, max_epochs=0).fit(*past).meta_init_
    for name, tensor in first.meta_init.tensors.items():
        np.testing.assert_array_equal(second.tensors[name], tensor)
    third = small(first).fit(*past)
    assert third.estimator is first
    assert third.meta_init_ != first.meta_init
    assert third.estimator_.fit(past[0][:12], past[1][:12]).meta_init_ == third.meta_init_


def test_a_meta_init_is_enough_to_start_from(estimator, past, tmp_path):
    first = small(estimator).fit(*past).estimator_
    first.meta_init.save(tmp_path / "init.safetensors")
    for start in (first.meta_init, str(tmp_path / "init.safetensors")):
        second = small(type(estimator)(start), max_epochs=0).fit(*past)
        for name in ("algorithm", "encoder", "hyperparameters"):
            assert second.meta_init_.spec[name] == first.meta_init.spec[name]
        for name, tensor in first.meta_init.tensors.items():
            np.testing.assert_array_equal(second.meta_init_.tensors[name], tensor)
        X, y = past[0][:12], past[1][:12]
        np.testing.assert_array_equal(
            second.estimator_.fit(X, y).predict(past[0]), first.fit(X, y).predict(past[0])
        )


@pytest.mark.parametrize("how", ["partial_fit", "warm"])
def test_tasks_of_an_earlier_training_stay_known(digits, how):
    X, y = digits
    old = y < 5
    trainer = small(validation_fraction=0).fit(X[old], y[old])
    if how == "partial_fit":
        trainer.partial_fit(X[~old], y[~old])
    else:
        trainer = small(trainer.estimator_, validation_fraction=0).fit(X[~old], y[~old])
    assert trainer.meta_init_.cite_tasks(range(10)) == 10


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize("name", REGRESSORS)
def test_regression_without_groups_is_an_error(waves, name):
    X, y, _ = waves
    with pytest.raises(ValueError, match="groups is needed"):
        small(clone(ESTIMATORS[name])).fit(X, y)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"y": None}, "y is needed"),
        ({"y": np.zeros(3)}, "y has 3 rows, but X has 240"),
        ({"groups": np.zeros(3)}, "groups has 3 rows"),
        ({"X": np.full((240, 1), np.nan)}, "NaN"),
        ({"X": np.zeros(240)}, "2D"),
        ({"X": lambda rng: None}, "y and groups must be None"),
    ],
)
def test_data_that_do_not_fit_are_named(waves, given, told):
    data = dict(zip(("X", "y", "groups"), waves, strict=True)) | given
    with pytest.raises(ValueError, match=told):
        wave_trainer().fit(**data)


@pytest.mark.parametrize("which", ["y", "groups"])
def test_a_column_of_shape_n_by_1_is_the_column_or_a_clear_error(digits, which):
    X, y = digits
    columns = {"y": y, "groups": y % 2}
    columns[which] = columns[which][:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, that a column was passed
        try:
            made = small().fit(X, **columns).meta_init_
        except ValueError as error:
            made = str(error)
    if isinstance(made, str):
        assert re.search(rf"{which}.*(1d|shape|column)", made), made
    else:
        assert made == small().fit(X, y, y % 2).meta_init_


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_way": 1}, "n_way"), ({"n_shot": 0}, "n_shot"), ({"n_query": "all"}, "n_query"),
        ({"n_shot": (3, 2)}, "n_shot"), ({"device": "warp"}, "device"),
        ({"estimator__encoder": "vgg"}, "encoder must be"),
        ({"estimator__metric": "manhattan"}, "metric"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(digits, options, told):
    with pytest.raises((ValueError, RuntimeError), match=told):
        small().set_params(**options).fit(*digits)


def test_only_our_estimators_can_be_meta_trained(digits):
    with pytest.raises(ValueError, match="estimator must be a few-shot estimator"):
        small(SimpleNamespace(get_params=dict)).fit(*digits)


def test_a_meta_init_of_other_rows_is_no_start(digits):
    first = small().fit(*digits).estimator_
    X, y = digits
    with pytest.raises(ValueError, match="shape"):
        small(first).fit(X[:, :9], y)


def test_a_trainer_does_not_predict(digits):
    trainer = small().fit(*digits)
    for method in (trainer.predict, trainer.predict_proba):
        with pytest.raises(AttributeError, match="Adapt what it learned"):
            method(digits[0])


def test_shapes_are_unknown_before_fit():
    with pytest.raises(ValueError, match="call fit"):
        small().initialize()


def test_a_failed_fit_can_be_followed_by_another(digits):
    trainer = small()
    with pytest.raises(ValueError, match="No episode"):
        trainer.fit(digits[0], np.arange(len(digits[1])))
    assert trainer.fit(*digits).meta_init_ == small().fit(*digits).meta_init_


def test_a_device_of_nobody_is_the_cpu(digits):
    trainer = MetaTrainer(
        ProtoNetClassifier(), device=None, n_way=3, n_episodes=4, max_epochs=1, verbose=0
    )
    assert trainer.fit(*digits).meta_init_ is not None
