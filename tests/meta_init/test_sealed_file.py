"""A damaged file is refused, whatever it holds; what a killed process had begun is removed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from test_whole_file import SAVED

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.meta_init.sealed_file import (
    read_arrays,
    read_sealed,
    write_arrays,
    write_sealed,
)
from fewshot_sklearn.meta_init.whole_file import _writer, whole_file


@pytest.fixture(scope="module", params=SAVED)
def saved(request, trained, sinusoid_new, tmp_path_factory):
    """The bytes of a saved thing, and what loads a path."""
    make, save, load = SAVED[request.param]
    made = make(trained["RidgeHeadRegressor"], *sinusoid_new)
    path = tmp_path_factory.mktemp("saved") / "file"
    if save is None:
        save, load = type(made).save_tasks, made.load_tasks
    save(made, path)
    return path.read_bytes(), load


def with_one_bit_flipped(raw, rng):
    place = int(rng.integers(len(raw)))
    return raw[:place] + bytes([raw[place] ^ (1 << int(rng.integers(8)))]) + raw[place + 1 :]


def test_one_wrong_bit_is_noticed(saved, tmp_path):
    raw, load = saved
    path = tmp_path / "damaged"
    rng = np.random.default_rng(0)
    for _ in range(60):
        path.write_bytes(with_one_bit_flipped(raw, rng))
        with pytest.raises(ValueError, match=r"damaged|does not hold|cannot be read|is no|format"):
            load(path)
    path.write_bytes(raw)
    load(path)


def test_what_is_cut_short_or_something_else_is_noticed(saved, tmp_path):
    raw, load = saved
    path = tmp_path / "damaged"
    for content in (b"", raw[: len(raw) // 2], raw[:-1], raw + b"x", b"{}", os.urandom(300), b"[]"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged|does not hold|is no"):
            load(path)


def test_one_wrong_bit_in_a_checkpoint_is_noticed(tmp_path, sinusoid_new):
    path = tmp_path / "training.ckpt"

    def train(epochs):
        return MetaTrainer(
            RidgeHeadRegressor(encoder="mlp", encoder__hidden=(4,)), n_episodes=4,
            max_epochs=epochs, checkpoint=path, verbose=0, random_state=0, device="cpu",
        ).fit(*sinusoid_new)  # fmt: skip

    train(1)
    raw, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        path.write_bytes(with_one_bit_flipped(raw, rng))
        with pytest.raises(ValueError, match=r"training\.ckpt"):
            train(2)
    path.write_bytes(raw)
    assert len(train(2).history) == 2


def test_arrays_and_words_round_trip(tmp_path):
    arrays = {"a": np.arange(3), "none": np.zeros((0, 2), np.float32), "one": np.array(2.5)}
    write_arrays(tmp_path / "file", "things", 1, arrays, {"names": ["x"], "n": None})
    found, told = read_arrays(tmp_path / "file", "things", 1, "things")
    assert told == {"names": ["x"], "n": None} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="does not hold others"):
        read_arrays(tmp_path / "file", "others", 1, "others")
    with pytest.raises(ValueError, match="Upgrade"):
        read_arrays(tmp_path / "file", "things", 0, "things")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_arrays(tmp_path / "nowhere", "things", 1, "things")


def test_sealed_bytes_round_trip(tmp_path):
    for content in (b"", b"abc", b"\nsha256 \nsha256 x", os.urandom(1000)):
        write_sealed(tmp_path / "file", content)
        assert read_sealed(tmp_path / "file") == content


@pytest.mark.skipif(os.name != "posix", reason="asking whether a process lives may end it")
def test_what_a_killed_process_had_begun_is_removed(tmp_path):
    machine, _, own = _writer().rpartition("-")
    gone = 2**22 + 1  # above the largest number of a process
    begun = [f"file.{machine}-{gone}-0123abcd.part", f"file.{machine}-{own}-0123abcd.part"]
    others = ["file", f"file.elsewhere-{gone}-0123abcd.part", "file.part", "file.x-1.part"]
    for name in [*begun, *others]:
        (tmp_path / name).write_text("old")
    with whole_file(tmp_path / "file") as file:
        file.write(b"new")
    assert {p.name for p in tmp_path.iterdir()} == {*others, begun[1]}
    assert (tmp_path / "file").read_text() == "new"
