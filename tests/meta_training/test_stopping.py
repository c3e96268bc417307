"""Training goes on until validation stops improving, and keeps the best epoch; what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from skorch.callbacks import Callback, LRScheduler

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier, RidgeHeadRegressor
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.meta_training._pooled_scores import pooled_score
from fewshot_sklearn.meta_training._stopping import Enough, Stopping
from fewshot_sklearn.meta_training._threads import few_threads

X, Y = load_digits(return_X_y=True)
FEW = {"n_way": 3, "n_shot": 2, "n_query": 4, "n_episodes": 48, "n_valid_episodes": 20}
FEW |= {"validation_fraction": 0.3, "verbose": 0, "device": "cpu", "random_state": 0, "lr": 0.02}


class ByHand(Callback):
    """Says what the validation loss is, whatever it is, and keeps the weights of each epoch."""

    def __init__(self, losses):
        self.losses = losses

    def initialize(self):
        self.states_, self.rates_ = [], []
        return self

    def on_epoch_end(self, net, **kwargs):
        i = len(net.history) - 1
        net.history.record("valid_loss", self.losses[min(i, len(self.losses) - 1)])
        self.states_.append({k: t.clone() for k, t in net.module_.state_dict().items()})
        self.rates_.append(net.optimizer_.param_groups[0]["lr"])


def trained(losses=None, fit=True, **params):
    clf = ProtoNetClassifier(encoder="mlp", encoder__hidden=(8,))
    callbacks = [] if losses is None else [("by_hand", ByHand(losses))]
    trainer = MetaTrainer(clf, **FEW | {"callbacks": callbacks} | params)
    return trainer.fit(X, Y) if fit else trainer


def states(trainer):
    return dict(trainer.callbacks_)["by_hand"].states_


def assert_weights(trainer, epoch):
    for name, tensor in states(trainer)[epoch - 1].items():
        assert torch.equal(trainer.module_.state_dict()[name], tensor)
        np.testing.assert_array_equal(trainer.meta_init_.tensors[name], tensor.numpy())


# ------------------------------------------------------------------ the best epoch
def test_it_keeps_the_weights_of_the_best_epoch():
    trainer = trained([3.0, 1.0, 2.0, 1.0, 5.0], max_epochs=5)
    assert len(trainer.history) == 5 and trainer.best_epoch_ == 2
    assert_weights(trainer, 2)
    assert trainer.meta_init_.provenance["scores"]["valid_loss"] == 1.0


def test_it_keeps_the_last_where_it_is_asked_to():
    trainer = trained([3.0, 1.0, 2.0], max_epochs=3, keep_best=False)
    assert trainer.best_epoch_ is None
    assert_weights(trainer, 3)


def test_without_validation_it_trains_to_the_end():
    trainer = trained(max_epochs=13, validation_fraction=0, n_iter_no_change=1)
    assert len(trainer.history) == 13 and trainer.best_epoch_ is None


def test_a_training_that_goes_on_looks_at_its_own_epochs():
    trainer = trained([1.0, 3.0, 2.0, 4.0], max_epochs=2)
    assert trainer.best_epoch_ == 1
    trainer.partial_fit(X, Y)
    assert trainer.best_epoch_ == 3 and len(trainer.history) == 4
    assert_weights(trainer, 3)


# ------------------------------------------------------------------ the end
def test_it_ends_when_nothing_improves_any_more():
    trainer = trained([3.0, 1.0, *[2.0] * 50], n_iter_no_change=4, max_epochs=50)
    assert len(trainer.history) == 6
    rates = dict(trainer.callbacks_)["by_hand"].rates_
    np.testing.assert_allclose(rates, 0.02 * np.array([1, 1, 1, 1, 0.3, 0.3]))


def test_less_than_a_part_in_ten_thousand_is_no_progress():
    losses = [1 - 1e-6 * i for i in range(99)]
    trainer = trained(losses, n_iter_no_change=3, max_epochs=50)
    assert len(trainer.history) == 4 and trainer.best_epoch_ == 4


def test_a_loss_that_is_no_number_is_no_progress():
    trainer = trained([float("nan"), 1.0, *[float("nan")] * 9], n_iter_no_change=2, max_epochs=9)
    assert len(trainer.history) == 4 and trainer.best_epoch_ == 2


def test_a_schedule_of_the_users_own_is_left_alone():
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    trainer = trained(max_epochs=4, n_iter_no_change=1, callbacks=[schedule])
    assert len(trainer.history) == 4
    assert trainer.optimizer_.param_groups[0]["lr"] == pytest.approx(0.02 / 16)


@pytest.mark.parametrize(("budget", "epochs"), [(3.5, 3), (0.1, 1), (1e9, 6)])
def test_a_time_budget(budget, epochs, monkeypatch):
    stopping, history = Stopping(True, None, budget), []
    clock = iter(range(1, 100))
    monkeypatch.setattr(Stopping, "seconds", property(lambda _: next(clock)))
    with pytest.raises(Enough) if epochs < 6 else nullcontext():
        for _ in range(6):
            stopping.check(history)
            history.append({"dur": 1.0})
    assert len(history) == epochs


def test_a_budget_that_is_over_still_leaves_one_epoch():
    assert len(trained(time_budget=1e-6).history) == 1


def test_interrupted_it_keeps_the_best():
    class Interrupt(ByHand):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 4:
                raise KeyboardInterrupt

    losses = [("by_hand", Interrupt([2.0, 1.0, 3.0]))]
    trainer = trained(fit=False, max_epochs=9, callbacks=losses).fit(X, Y)
    assert trainer.best_epoch_ == 2
    assert_weights(trainer, 2)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_resumed_it_goes_the_same_way(tmp_path, n):
    params = {"n_iter_no_change": 3, "losses": [3.0, 1.0, 2.0, 2.0, 2.0, 2.0], "max_epochs": 9}
    whole = trained(**params)
    place = tmp_path / "state.pt"
    trained(**params | {"max_epochs": n, "checkpoint": place})
    resumed = trained(**params | {"checkpoint": place})
    assert len(resumed.history) == len(whole.history) == 5
    assert resumed.best_epoch_ == whole.best_epoch_ == 2
    assert resumed.meta_init_ == whole.meta_init_
    again = trained(**params | {"checkpoint": place})  # nothing is left to do
    assert len(again.history) == 5 and again.meta_init_ == whole.meta_init_


# ------------------------------------------------------------------ what it says
def test_it_says_what_it_is_at_and_what_there_is_to_beat(capsys):
    trained(max_epochs=2, verbose=1)
    head, beat, columns, _, *rows = capsys.readouterr().out.splitlines()
    assert head == (
        "ProtoNetClassifier (mlp, 521 parameters) on 7 classes, 3 more held out: at most 2 epochs "
        "of 48 episodes."
    )
    assert beat.startswith("valid_score without past tasks: ProtoNetClassifier 0.")
    assert "logistic regression 0." in beat
    assert {"epoch", "left", "valid_score"} <= set(columns.split())
    assert len(rows) == 2 and " 0s " in rows[1]


def test_it_says_so_of_regressions_and_of_generators(capsys):
    past = make_sinusoid_tasks(20, random_state=0)
    few = {"n_episodes": 8, "n_valid_episodes": 8, "max_epochs": 1, "device": "cpu"}
    reg = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(4,))
    MetaTrainer(reg, **few).fit(past.data, past.target, groups=past.groups)
    told = capsys.readouterr().out
    assert "on 18 groups, 2 more held out" in told and "ridge " in told

    def generate(rng):
        rows = rng.normal(size=(6, 2))
        return rows[:3], rows[:3, 0], rows[3:], rows[3:, 0]

    MetaTrainer(reg, **few).fit(generate)
    assert "on a generator's tasks: at most 1 epoch" in capsys.readouterr().out


def test_silent_it_tries_nothing(capsys):
    trained(max_epochs=1)
    assert not capsys.readouterr().out


def test_scores_of_validation_are_those_of_the_queries():
    trainer = trained(max_epochs=1, keep_best=False)
    clf, scores = trainer.estimator_, []
    # the same episodes, one by one
    plan_valid = _validation_of(trainer)
    for task in plan_valid:
        fitted = clf.fit(task.X, task.y)
        scores += (fitted.predict(task.X_query) == task.y_query).tolist()
    assert trainer.history[-1, "valid_score"] == pytest.approx(np.mean(scores))


def _validation_of(trainer):
    from fewshot_sklearn.meta_training._past_tasks import PastTasks

    valid = PastTasks(trainer, X, Y, None, afresh=True).valid
    return [valid[i] for i in range(trainer.n_valid_episodes)]


def test_pooled_scores():
    assert pooled_score(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), True) == 0.75
    truth = np.array([[1.0], [2.0], [3.0]])
    assert pooled_score(truth, truth, False) == 1
    assert pooled_score(truth, np.full((3, 1), 2.0), False) == 0
    assert np.isnan(pooled_score(np.ones((3, 1)), truth, False))


# ------------------------------------------------------------------ threads
@pytest.fixture
def nobody_said(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    monkeypatch.setattr("fewshot_sklearn.meta_training._threads._AT_FIRST", 3)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("nobody_said")
def test_small_work_takes_one_thread_and_leaves_the_others_as_they_were():
    with few_threads(convolves=False):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), few_threads(convolves=True):
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("nobody_said")
def test_trainings_that_overlap():
    inside, leave = threading.Event(), threading.Event()

    def first():
        with few_threads(convolves=False):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(60)
    assert torch.get_num_threads() == 3
    with few_threads(convolves=False):
        leave.set()
        thread.join()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("nobody_said")
def test_who_said_how_many_is_obeyed(monkeypatch):
    torch.set_num_threads(2)
    with few_threads(convolves=False):
        assert torch.get_num_threads() == 2
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with few_threads(convolves=False):
        assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("nobody_said")
def test_many_processors_make_convolutions_quicker(monkeypatch):
    monkeypatch.setattr("fewshot_sklearn.meta_training._threads._AT_FIRST", 8)
    torch.set_num_threads(8)
    with few_threads(convolves=True):
        assert torch.get_num_threads() == 8
    with few_threads(convolves=False):
        assert torch.get_num_threads() == 1


def test_training_does_so_by_itself():
    code = (
        "import torch; torch.get_num_threads = torch.get_num_threads\n"
        "from skorch.callbacks import Callback\n"
        "from fewshot_sklearn import *\n"
        "from sklearn.datasets import load_digits\n"
        "class Ask(Callback):\n"
        "    def on_batch_begin(self, net, **kwargs):\n"
        "        print(torch.get_num_threads())\n"
        "few = dict(n_way=2, n_shot=1, n_query=1, n_episodes=1, max_epochs=1, verbose=0)\n"
        "few |= dict(validation_fraction=0, device='cpu', callbacks=[Ask()])\n"
        "MetaTrainer(ProtoNetClassifier(encoder='mlp'), **few).fit(*load_digits(return_X_y=True))\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert told.stdout.split() == ["1"]
