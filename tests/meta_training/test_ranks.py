"""Several processes train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import shared_trainings as trainings
import torch

import fewshot_sklearn
from fewshot_sklearn import MAMLPolicyTrainer, MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.meta_training._ranks import ALONE, Ranks, joined, own_gpu

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this build of torch has no gloo",
)


def in_two_processes(script, *arguments, timeout=300):
    """What `torchrun --standalone --nproc-per-node 2` gives."""
    paths = [str(Path(fewshot_sklearn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(script), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder, what was printed, and what each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("by one", "by two"):
        (folder / name).mkdir()
    trainings.goes_on(folder / "by one", 2, None)
    done = in_two_processes(trainings.__file__, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [torch.load(folder / f"found{i}.pt", weights_only=False) for i in range(2)]
    return folder, done.stdout, found


def assert_alike(one, other, rtol=1e-4):
    """The same losses and learned parameters, but for rounding."""
    assert one["best"] == other["best"] and len(one["history"]) == len(other["history"])
    for ours, theirs in zip(one["history"], other["history"], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            near = 0.04 if name == "valid_score" else rtol  # rounding decides where two classes tie
            assert value == pytest.approx(theirs[name], rel=rtol, abs=near, nan_ok=True), name
    for ours, theirs in zip(one["batches"], other["batches"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)
    assert one["state"].keys() == other["state"].keys()
    for name, value in one["state"].items():
        size = max(1.0, float(np.abs(value).max(initial=0.0)))
        np.testing.assert_allclose(value, other["state"][name], atol=rtol * size, err_msg=name)


# ------------------------------------------------------------------ equal to one process
@needs_gloo
@pytest.mark.parametrize("name", trainings.TRAININGS)
def test_two_processes_train_as_one(two, name):
    first, second = (found[name] for found in two[2])
    assert isinstance(first, dict), first
    assert first["digest"] == second["digest"] and first["history"] == second["history"]
    assert_alike(first, trainings.told(trainings.TRAININGS[name]))


@needs_gloo
def test_a_training_goes_on_in_more_processes(two):
    folder, _, (first, second) = two
    (folder / "straight").mkdir(exist_ok=True)
    straight = trainings.answer(trainings.goes_on(folder / "straight", 4, None))
    assert first["from one"]["digest"] == second["from one"]["digest"]
    assert_alike(first["from one"], straight)
    assert len(first["for one"]["history"]) == 2
    assert_alike(trainings.answer(trainings.goes_on(folder / "by two", 2, 4)), straight)


@needs_gloo
def test_the_numbers_that_are_drawn_depend_on_the_tasks_not_on_the_process(two):
    _, _, (first, _) = two
    learner, options = trainings.few(trainings.ReptileClassifier), {"chunk_size": 3}
    whole = trainings.trained(learner, trainings.classes(), **(trainings.CHUNKS | options))
    assert_alike(first["reptile in chunks"], trainings.answer(whole))


# ------------------------------------------------------------------ going together
@needs_gloo
def test_they_start_alike_and_end_alike(two):
    first, second = two[2]
    assert first["any seed"]["digest"] == second["any seed"]["digest"]
    assert first["any seed"]["history"] == second["any seed"]["history"]
    n_epochs = [len(found["time"]["history"]) for found in (first, second)]
    assert n_epochs[0] == n_epochs[1] < 10_000
    assert len(first["stopped by one"]["history"]) == len(second["stopped by one"]["history"]) == 2


@needs_gloo
def test_a_step_that_fails_in_one_counts_in_none(two):
    first, second = (found["unsolvable"] for found in two[2])
    assert first["digest"] == second["digest"]
    assert np.isnan(first["batches"][1][0]) and np.isfinite(first["batches"][1][1])
    assert np.isfinite(first["batches"][0]).all() and np.isnan(second["batches"][1][0])


@needs_gloo
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("other rows", "ValueError: The past tasks differ between the processes"),
        ("other settings", "ValueError: The settings of the training differ"),
        ("other methods", "ValueError: The settings of the training differ"),
        ("goes apart", "RuntimeError: Training goes apart between processes in ['log_scale']"),
        ("other steps", "ValueError: The optimizer's settings, such as its lr, differ"),
        ("other weights", "ValueError: The encoder begins with other weights in each process"),
        ("batch norm", "ValueError: The encoder has batch norm (encoder.1, 1 in all)"),
        ("policies", "ValueError: A trainer of policies trains in one process"),
        ("fall back in time", "ValueError: fall_back tries plain models"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_all(two, name, told):
    assert all(found[name].startswith(told) for found in two[2]), two[2][0][name]


@needs_gloo
def test_an_error_in_one_ends_all(two):
    first, second = (found["failed in one"] for found in two[2])
    assert first.startswith("RuntimeError") and second == "OSError: no room left"
    assert isinstance(two[2][0]["after all"], dict)


@needs_gloo
def test_nobody_else_is_asked_where_one_is_to_train_alone(two):
    alone = trainings.told(lambda: trainings.trained(
        trainings.NET(), trainings.classes(), **trainings.PLAIN
    ))  # fmt: skip
    assert two[2][0]["alone"]["digest"] == two[2][1]["alone"]["digest"] == alone["digest"]


@needs_gloo
def test_a_group_that_is_there_is_used_and_left(two):
    for found in two[2]:
        assert found["in a group"]["digest"] == found["after all"]["digest"]
        assert found["group is left"]


@needs_gloo
def test_the_first_one_writes_and_prints(two):
    folder, printed, (first, _) = two
    assert len(first["files"]["history"]) == 2
    assert (folder / "of process 0" / "params.pt").exists()
    assert not (folder / "of process 1" / "params.pt").exists()
    assert printed.count("train_loss") == 1 and printed.count('"ended"') == 2


# ------------------------------------------------------------------ who takes part, in what
def test_shares_are_all_of_a_batch_and_nearly_alike():
    for world in (1, 2, 3, 5):
        for n in range(1, 12):
            for unit in (1, 2, 3):
                parts = [Ranks(i, world).share(n, unit) for i in range(world)]
                assert [i for part in parts for i in range(*part)] == [*range(n)]
                sizes = [last - first for first, last in parts]
                if unit == 1:
                    assert max(sizes) - min(sizes) <= 1
                elif -(-n // unit) >= world:
                    assert all(first % unit == 0 or first == n for first, _ in parts)


def test_alone_unless_there_are_others(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for asked in ("auto", False):
        with joined(asked) as ranks:
            assert ranks is ALONE
    trainer = MetaTrainer(ProtoNetClassifier(), distributed=True, device="cpu")
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 2"):
        trainer.fit(*trainings.classes())
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined("auto") as ranks:
        assert ranks is ALONE


def test_a_thread_trains_alone(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []

    def look():
        with joined("auto") as ranks:
            found.append(ranks)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [ALONE]


def test_policies_are_refused_under_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="trains in one process"):
        MAMLPolicyTrainer(max_iter=1).fit([lambda policy, rng: torch.zeros(())])


@pytest.mark.parametrize(
    ("place", "asked", "given"),
    [("", "cuda", "cuda"), ("1", "cuda", "cuda:1"), ("5", "cuda", "cuda:1"),
     ("1", "cuda:0", "cuda:0"), ("1", "cpu", "cpu")],
)  # fmt: skip
def test_each_process_has_a_gpu(monkeypatch, place, asked, given):
    monkeypatch.setenv("LOCAL_RANK", place)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_gpu(torch.device(asked)) == given


def test_two_processes_of_a_machine_do_not_share_a_gpu(monkeypatch):
    ranks = Ranks(0, 2)
    monkeypatch.setattr(ranks, "gathered", lambda place: [place, place])
    ranks.check_devices(torch.device("cpu"))
    with pytest.raises(ValueError, match="on one GPU"):
        ranks.check_devices(torch.device("cuda:0"))


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        Ranks(0, 2).sum_gradients(table.parameters(), torch.tensor(0.0))


def test_what_one_raises_alone_is_raised():
    with pytest.raises(KeyError), ALONE.together(KeyError):
        raise KeyError
    with pytest.raises(OSError, match="here"):
        ALONE.on_first(lambda: (_ for _ in ()).throw(OSError("here")))


# ------------------------------------------------------------------ what hides a learner
def test_skorchs_mixin_is_refused():
    assert trainings.told(trainings.with_mixin).startswith("TypeError: skorch's AccelerateMixin")


def test_a_wrapped_learner_is_refused():
    with pytest.raises(TypeError, match="got a Sequential around it"):
        trainings.trained(trainings.NET(), trainings.classes(), kind=trainings.Wrapped)
