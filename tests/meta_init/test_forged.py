"""Forged files are refused by name or work; see `forger` for how they are made."""

from __future__ import annotations

import json
import math
import random

import forger
import numpy as np
import pytest
import torch

import fewshot_sklearn
from fewshot_sklearn import MetaInit, list_meta_inits, load_meta_init
from fewshot_sklearn.meta_init._content import MOST_STEPS

#: Files tried here; benchmarks/robustness.py tries 10,000.
N_FILES, FILES_A_TEST = 300, 50


@pytest.mark.parametrize("first", range(0, N_FILES, FILES_A_TEST))
def test_a_forged_file_is_refused_by_name_or_works(first):
    found = list(forger.fates(first, first + FILES_A_TEST))
    fell = [(seed, forged.what, fate) for seed, forged, fate in found if fate.fate == "fell"]
    assert not fell
    assert {fate.fate for _, _, fate in found} >= {"refused at load", "works"}


def test_the_forger_makes_files_that_load_if_nothing_is_done_to_them():
    for name in list_meta_inits():
        parts, rng = forger.Parts(name), random.Random(2)
        raw = parts.raw(rng)
        init = MetaInit(np.frombuffer(raw, np.uint8))
        assert init.spec == load_meta_init(name).spec
        for key, array in load_meta_init(name).tensors.items():
            np.testing.assert_array_equal(init.tensors[key], array)


def test_the_same_seed_forges_the_same_file():
    assert forger.forge(7) == forger.forge(7) != forger.forge(8)


# ---------------------------------------------------------------- one by one
def forged(name, change):
    """A shipped meta-init with one change, and the right checksum."""
    parts = forger.Parts(name)
    change(parts)
    return parts.raw(random.Random(2))


def fate_of(name, change, tmp_path):
    return forger.fate(forger.Forged(name, "", forged(name, change)), tmp_path / "forged")


SPECS = {
    "wide layers": ("encoder.params.hidden", [20_000, 20_000], "larger than what"),
    "wide layers, no wider than the file": ("encoder.params.hidden", [3000] * 3, "larger than"),
    "many layers": ("encoder.params.hidden", [1] * 100_000, "larger than what"),
    "a fraction of a layer": ("encoder.params.hidden", [1.5, 40], "cannot be rebuilt"),
    "no layers": ("encoder.params.hidden", None, "cannot be rebuilt"),
    "a square of its layers": ("encoder.params.hidden", [40, 20_000], "larger than what"),
    "many outputs": ("n_outputs", 1_000_000_000, "n_outputs="),
    "some outputs": ("n_outputs", 1_000_000, "was meta-trained on"),
    "steps without end": ("hyperparameters.n_steps", 10**9, "n_steps="),
    "steps in words": ("hyperparameters.n_steps", "5", "n_steps must be"),
    "a rate in words": ("hyperparameters.inner_lr", "x", "cannot be rebuilt"),
    "a rate of nothing": ("hyperparameters.inner_lr", math.nan, "finite"),
    "a large row": ("input_shape", [2**40], "input_shape="),
    "a row of booleans": ("input_shape", [True], "input_shape="),
    "hyperparameters in a list": ("hyperparameters", [1], "hyperparameters="),
    "an encoder by name alone": ("encoder", "mlp", "encoder="),
    "deep nesting": ("more", forger.nested(500), "nested"),
    "another algorithm": ("algorithm", "ProtoNet", "was meta-trained as"),
    "an algorithm that is no text": ("algorithm", ["MAMLRegression"], "algorithm="),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_spec_that_declares_what_cannot_be(case, tmp_path):
    where, value, words = SPECS[case]
    path = tuple(where.split("."))

    def change(parts):
        forger.holder(parts.spec, path)[path[-1]] = value

    name = "sinusoid-ridge" if case == "a square of its layers" else "sinusoid-maml"
    found = fate_of(name, change, tmp_path)
    assert found.fate.startswith("refused") and words in found.why, found


@pytest.mark.parametrize("key", ["algorithm", "hyperparameters", "encoder", "input_shape"])
def test_a_spec_that_lacks_something_is_refused_where_it_is_needed(key, tmp_path):
    found = fate_of("sinusoid-maml", lambda parts: parts.spec.pop(key), tmp_path)
    assert found.fate == "refused at fit" and f"its spec has no {key}" in found.why


VALUES = {
    "not a number": ("head.bias", math.nan, "not finite"),
    "infinite": ("encoder.layers.0.weight", -math.inf, "not finite"),
    "a scale of zero": ("x_scale", 0.0, "not positive"),
    "a scale below zero": ("y_scale", -1.0, "not positive"),
    "large": ("encoder.layers.0.weight", 3e38, ""),
    "large in the head": ("head.bias", -3e38, ""),
}


@pytest.mark.parametrize("case", VALUES)
def test_numbers_that_cannot_be(case, tmp_path):
    name, value, words = VALUES[case]

    def change(parts):
        parts.tensors[name] = np.full_like(parts.tensors[name], value)

    found = fate_of("sinusoid-maml", change, tmp_path)
    assert words in found.why and (found.fate == "refused at load" if words else True)
    assert found.fate != "fell"


def test_numbers_of_another_kind_are_refused(tmp_path):
    def change(parts):
        parts.tensors["x_mean"] = np.ones(1, bool)

    found = fate_of("sinusoid-maml", change, tmp_path)
    assert found.fate == "refused at fit" and "x_mean" in found.why


def test_tensors_that_share_bytes_or_leave_gaps_are_refused(tmp_path):
    def shared(header):
        header["x_mean"]["data_offsets"] = header["x_scale"]["data_offsets"]

    found = fate_of("sinusoid-maml", lambda parts: parts.late.append(shared), tmp_path)
    assert found.fate == "refused at load" and "one after another" in found.why


PROVENANCES = {
    "tasks": [[1], "x", {"kind": "groups"}, {"kind": "groups", "count": "2", "ids": []},
              {"kind": "groups", "count": 2, "ids": [1]}],
    "rows": [
        {}, {"rows": 1, "distinct": 1, "digests": "!"}, {"rows": 1, "distinct": 0, "digests": 5},
        {"rows": 9, "distinct": 9, "digests": "AAAA"}, {"rows": 9, "distinct": 9, "digests": ""},
    ],
    "tasks_seen": ["many", -1, [1]],
    "card": ["x", [["licence", "MIT"]]],
    "settings": ["x", 1],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in PROVENANCES.items() for value in values]
)
def test_a_provenance_that_cannot_be_told_is_refused(key, value, tmp_path):
    change = lambda parts: parts.provenance.update({key: value})  # noqa: E731
    found = fate_of("sinusoid-maml", change, tmp_path)
    assert found.fate == "refused at load" and f"{key}=" in found.why


# ---------------------------------------------------------------- made here
def test_what_could_not_be_loaded_is_not_made():
    whole = {"algorithm": "E", "hyperparameters": {}, "n_outputs": None}
    for state, spec in (
        ({"x": torch.tensor([1.0, math.nan])}, whole),
        ({"x_scale": torch.tensor([0.0])}, whole),
        ({}, whole | {"hyperparameters": {"n_steps": MOST_STEPS + 1}}),
        ({}, whole | {"hyperparameters": {"alpha": math.inf}}),
        ({}, whole | {"input_shape": [0]}),
        ({}, whole | {"input_shape": [2], "feature_names": ["a"]}),
    ):
        with pytest.raises(ValueError, match="what it would be made of"):
            MetaInit.from_state(state, spec)
    MetaInit.from_state({}, whole | {"hyperparameters": {"n_steps": MOST_STEPS}})


def test_an_encoder_of_the_users_own_may_hold_infinities():
    mask = {"encoder.mask": torch.tensor([0.0, -math.inf])}
    own = {"encoder": {"name": "mine.Transformer", "params": {}}}
    assert np.isinf(MetaInit.from_state(mask, own).tensors["encoder.mask"]).any()
    with pytest.raises(ValueError, match="not finite"):
        MetaInit.from_state(mask, {"encoder": {"name": "mlp", "params": {}}})


def test_every_shipped_meta_init_passes_and_says_all():
    for name in list_meta_inits():
        init = load_meta_init(name)
        assert not init.lacks and init.source.endswith(f"{name}.safetensors")
        assert json.loads(json.dumps(init.spec)) == init.spec
        assert hasattr(fewshot_sklearn, forger.READERS[init.spec["algorithm"]][0])
