"""MetaInit: one immutable buffer, one file; whatever is damaged is refused by name."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
import struct
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from rooms import imported_modules
from safetensors.torch import load_file, save_file
from sklearn.base import clone

import fewshot_sklearn
from fewshot_sklearn import MetaInit, MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.meta_init import artifact as meta_init


def make(seed=0, **spec):
    rng = np.random.default_rng(seed)
    state = {
        "weight": torch.as_tensor(rng.normal(size=(3, 4)), dtype=torch.float32),
        "mean": torch.as_tensor(rng.normal(size=5)),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }
    provenance = {
        "tasks": {"kind": "groups", "count": 2, "ids": meta_init.task_digests(["a", "b"])}
    }
    return MetaInit.from_state(state, {"algorithm": "Example", **spec}, provenance)


@pytest.fixture
def path(tmp_path):
    """A saved meta-init."""
    path = tmp_path / "init.safetensors"
    make().save(path)
    return path


# ---------------------------------------------------------------- content
def test_tensors_come_back_as_they_were():
    state = {
        str(dtype): torch.arange(6).reshape(2, 3).to(dtype)
        for dtype in (
            torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8,
            torch.bool,
        )
    }  # fmt: skip
    state |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "strided": torch.eye(3).T}
    init = MetaInit.from_state(state, {"algorithm": "Example"})
    assert set(init.tensors) == set(init.state_dict()) == set(state)
    for name, tensor in state.items():
        assert init.tensors[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(init.tensors[name], tensor.numpy())
        assert torch.equal(init.state_dict()[name], tensor)


def test_a_half_precision_of_the_brain_kind_survives():
    init = MetaInit.from_state({"x": torch.ones(3, dtype=torch.bfloat16)}, {"algorithm": "E"})
    assert torch.equal(init.state_dict()["x"], torch.ones(3, dtype=torch.bfloat16))


def test_a_meta_init_is_a_copy_of_the_state_it_was_made_from():
    weight = torch.ones(3, requires_grad=True)
    init = MetaInit.from_state({"weight": weight}, {"algorithm": "Example"})
    with torch.no_grad():
        weight += 1
    assert init.tensors["weight"].tolist() == [1, 1, 1]


def test_spec_and_provenance_come_back_and_writing_to_them_changes_nothing():
    init = make(encoder={"name": "mlp", "params": {"hidden": [3]}}, names=["é", '"', "\n"])
    before = copy.deepcopy(init.spec)
    assert before["names"] == ["é", '"', "\n"]
    init.spec["encoder"]["params"]["hidden"].append(4)
    init.provenance["tasks"]["ids"].clear()
    assert init.spec == before
    assert init.cite_tasks(["a"]) == 1


def test_arrays_are_read_only(path):
    for init in (make(), MetaInit.load(path), pickle.loads(pickle.dumps(make()))):
        for array in init.tensors.values():
            assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            init.tensors["weight"][:] = 0


def test_repr_tells_what_it_is():
    init = make(encoder={"name": "mlp", "params": {}})
    expected = f"MetaInit(Example, mlp, 18 parameters, 2 groups, {init.digest[:8]})"
    assert repr(init) == expected
    assert repr(MetaInit.from_state({"x": torch.ones(2)}, {})).startswith("MetaInit(?, 2 param")


def test_task_ids_are_cited_by_name():
    init = make()
    assert init.cite_tasks(["a", "b", "c", "a"]) == 2
    assert init.cite_tasks(np.array(["c", "d"], dtype=object)) == 0
    assert MetaInit.from_state({"x": torch.ones(2)}, {}).cite_tasks(["a"]) == 0


@pytest.mark.parametrize("ids", [[3, 1, 2, 1], np.array([1.0, 2.0]), ["é", ""], [True, False]])
def test_task_digests_are_one_each_and_hide_the_names(ids):
    digests = meta_init.task_digests(ids)
    assert len(digests) == len(set(digests)) == len(np.unique(ids))
    assert all(len(d) == 12 for d in digests)
    assert meta_init.task_digests(list(reversed(list(ids)))) == digests


# ---------------------------------------------------------------- identity
def test_equality_and_hash_go_by_content():
    one, same = make(), make()
    assert one is not same
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same}) == 1
    assert one.digest == same.digest
    assert len(one.digest) == 64


@pytest.mark.parametrize("other", [make(seed=1), make(more=1), "text", None, 3])
def test_any_difference_is_a_difference(other):
    assert make() != other


def test_the_digest_covers_tensors_spec_and_provenance():
    state = {"x": torch.ones(3), "y": torch.zeros(3)}
    digests = {
        MetaInit.from_state(*arguments).digest
        for arguments in (
            (state, {"a": 1}), (state, {"a": 2}), (state, {"a": 1}, {"b": 1}),
            ({"x": torch.ones(3), "z": torch.zeros(3)}, {"a": 1}),
            ({"x": torch.zeros(3), "y": torch.ones(3)}, {"a": 1}),
            ({"x": torch.ones(3, 1), "y": torch.zeros(3)}, {"a": 1}),
        )
    }  # fmt: skip
    assert len(digests) == 6


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, clone])
def test_a_copy_is_the_thing_itself(copied):
    init = make()
    assert copied(init) is init
    assert copied([init])[0] is init


def test_a_clone_of_an_estimator_shares_its_meta_init(trained):
    estimator = trained["RidgeHeadRegressor"]
    assert clone(estimator).meta_init is estimator.meta_init
    assert copy.deepcopy(estimator).meta_init is estimator.meta_init


def test_a_process_that_unpickles_the_same_meta_init_again_builds_nothing_anew():
    init = make()
    pickled = pickle.dumps(init)
    first = pickle.loads(pickled)
    first.built.keep("key", "a learner")
    again = pickle.loads(pickled)
    assert again is first and again.built.get("key") == "a learner"
    for scale in range(meta_init.KEPT):
        pickle.loads(pickle.dumps(MetaInit.from_state({"x": torch.full((2,), scale)}, {})))
    fresh = pickle.loads(pickled)
    assert fresh == first and fresh is not first and not fresh.built


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_round_trip(protocol, path):
    for init in (make(), MetaInit.load(path)):
        back = pickle.loads(pickle.dumps(init, protocol))
        assert back == init
        assert back.spec == init.spec
        np.testing.assert_array_equal(back.tensors["weight"], init.tensors["weight"])


def test_worker_processes_of_joblib_map_the_buffer(tmp_path):
    init = MetaInit.from_state({"x": torch.ones(500_000)}, {"algorithm": "Example"})

    def is_mapped(init):
        return isinstance(init._buffer, np.memmap), float(init.tensors["x"].sum())

    with joblib.parallel_config("loky", n_jobs=2, temp_folder=str(tmp_path)):
        told = joblib.Parallel()(joblib.delayed(is_mapped)(init) for _ in range(2))
    assert told == [(True, 500_000.0)] * 2


# ---------------------------------------------------------------- file
def test_save_and_load(path):
    loaded = MetaInit.load(path)
    assert loaded == make()
    assert (loaded.spec, loaded.provenance) == (make().spec, make().provenance)
    for name, array in make().tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)
    assert loaded.nbytes == path.stat().st_size
    assert MetaInit.load(str(path)) == loaded


def test_a_loaded_meta_init_is_read_once_into_one_aligned_buffer(path):
    init = MetaInit.load(path)
    assert not isinstance(init._buffer, np.memmap)  # see test_files_that_change
    assert not init._buffer.flags.writeable and init._buffer.ctypes.data % 64 == 0
    assert init.source == str(path) and str(path) in init.told
    for array in init.tensors.values():
        assert not array.size or np.shares_memory(array, init._buffer)


def test_saving_what_was_loaded_gives_the_same_bytes(path, tmp_path):
    MetaInit.load(path).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    MetaInit.load(path).save(path)  # onto itself
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_file_is_an_ordinary_safetensors_file(path):
    tensors = load_file(path)
    assert set(tensors) == set(make().tensors)
    assert torch.equal(tensors["weight"], make().state_dict()["weight"])


def test_saving_replaces_a_file_and_leaves_nothing_beside_it(path):
    make(seed=1).save(path)
    assert MetaInit.load(path) == make(seed=1)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_has_the_permissions_of_any_new_file(path, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("broken", ["replace", "fsync", "open"])
def test_a_failure_while_writing_leaves_the_old_file(path, monkeypatch, broken):
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        make(seed=1).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_no_such_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        MetaInit.load(tmp_path / "nowhere")


# ---------------------------------------------------------------- damage
def refused(path, raw):
    """Write `raw` and return the one error that loading it gives."""
    path.write_bytes(raw)
    with pytest.raises(ValueError) as caught:
        MetaInit.load(path)
    message = str(caught.value)
    assert str(path) in message, message
    return message


def test_a_truncated_file_is_refused_at_every_length(path):
    raw = path.read_bytes()
    for length in [*range(0, 40), *range(40, len(raw), 7), *range(len(raw) - 20, len(raw))]:
        refused(path, raw[:length])


@pytest.mark.parametrize("tail", [b"\0", b" " * 8, b"more"])
def test_a_file_with_something_after_it_is_refused(path, tail):
    assert "truncated or damaged" in refused(path, path.read_bytes() + tail)


@pytest.mark.parametrize("bit", range(8))
def test_every_single_bit_counts(path, bit):
    raw = path.read_bytes()
    for offset in range(len(raw)):
        damaged = bytearray(raw)
        damaged[offset] ^= 1 << bit
        try:
            message = refused(path, bytes(damaged))
        except BaseException as error:
            raise AssertionError(f"bit {bit} of byte {offset}") from error
        assert "\n" not in message


def test_bytes_swapped_between_tensors_are_noticed(path):
    raw = path.read_bytes()
    assert "checksum" in refused(path, raw[:-24] + raw[-8:] + raw[-16:-8] + raw[-24:-16])


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"1234567", b"12345678", b"an ordinary text file, longer than eight bytes",
        pickle.dumps({"a": 1}), pickle.dumps(np.arange(100)), bytes(100), b"\xff" * 100,
        b"PK\x03\x04" + bytes(60), b"\x93NUMPY" + bytes(60),
    ],
)  # fmt: skip
def test_another_kind_of_file_is_refused(path, raw):
    assert "is not a meta-init" in refused(path, raw)


def test_a_pickle_of_a_meta_init_is_no_meta_init_file(path):
    assert "is not a meta-init" in refused(path, pickle.dumps(make()))


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"spec": "{}", "format": "1"}])
def test_a_safetensors_file_of_something_else_is_refused(path, metadata):
    save_file({"x": torch.ones(3)}, path, metadata)
    assert "safetensors" in refused(path, path.read_bytes())


@pytest.mark.parametrize("size", [0, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_impossible_length_is_refused_without_reading_it(path, size):
    raw = path.read_bytes()
    assert str(size) in refused(path, struct.pack("<Q", size) + raw[8:])


def with_header(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def header_of(raw):
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


@pytest.mark.parametrize(
    "header",
    [
        [], 5, "text", None, {}, {"__metadata__": None}, {"__metadata__": "format"},
        {"__metadata__": []}, b"[" * 100_000, b"{" * 50, b"\xff\xfe", b'{"a": NaN}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)  # fmt: skip
def test_a_header_that_is_no_header_is_refused(path, header):
    refused(path, with_header(header, bytes(64)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "2"), ("format", "x"), ("format", ""), ("format", None), ("format", [1]),
        ("format", "0"), ("format", "-1"), ("format", "1.5"), ("format", "9" * 5000),
        ("spec", "{"), ("spec", 5), ("spec", None), ("spec", ""), ("spec", "[" * 100_000),
        ("provenance", "{"), ("provenance", []), ("checksum", ""), ("checksum", "0" * 64),
        ("checksum", None), ("checksum", 7),
    ],
)  # fmt: skip
def test_metadata_that_is_not_ours_is_refused(path, key, value):
    header, body = header_of(path.read_bytes())
    header["__metadata__"][key] = value
    refused(path, with_header(header, body))


@pytest.mark.parametrize(
    "entry",
    [
        None, 5, [], {}, {"dtype": "F32"},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 47]},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": [48, 0]},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": [-48, 0]},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": [0]},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": ["0", "48"]},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 1e400]},
        {"dtype": "F32", "shape": [3, 4], "data_offsets": [2**70, 2**70 + 48]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": ["3"], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [[1], [1, 2]], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": 12, "data_offsets": [0, 48]},
        {"dtype": "F31", "shape": [3, 4], "data_offsets": [0, 48]},
        {"dtype": ["F32"], "shape": [3, 4], "data_offsets": [0, 48]},
    ],
)  # fmt: skip
def test_a_tensor_entry_that_makes_no_sense_is_refused(path, entry):
    header, body = header_of(path.read_bytes())
    header["weight"] = entry
    refused(path, with_header(header, body))


@pytest.mark.parametrize("number", ["3", "10", "999"])
def test_a_newer_format_says_to_upgrade(path, number):
    header, body = header_of(path.read_bytes())
    header["__metadata__"]["format"] = number
    message = refused(path, with_header(header, body))
    assert f"format {number}" in message
    assert "Upgrade" in message


def test_the_format_that_is_written_is_the_format_that_is_read(path):
    header, _ = header_of(path.read_bytes())
    assert header["__metadata__"]["format"] == str(meta_init.PLAIN_FORMAT)


# ---------------------------------------------------------------- no pickle
def test_an_estimator_loads_a_file_without_unpickling(path, tmp_path, monkeypatch):
    past = make_sinusoid_tasks(5, random_state=0)
    trainer = MetaTrainer(
        RidgeHeadRegressor(), max_epochs=1, n_episodes=4, n_valid_episodes=4, verbose=0
    )
    trainer.fit(past.data, past.target, past.groups).meta_init_.save(path)

    def forbidden(*args, **kwargs):
        raise AssertionError("unpickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, forbidden)
    reg = RidgeHeadRegressor(str(path)).fit(past.data[:5], past.target[:5])
    assert np.isfinite(reg.predict(past.data)).all()


def modules_imported(file):
    """Modules that a source file imports: others' names, and the package's own files."""
    package = Path(fewshot_sklearn.__file__).parent
    dotted = ".".join(["fewshot_sklearn", *file.relative_to(package).parts[:-1]])
    others, own = set(), set()
    for name in imported_modules(ast.parse(file.read_text()), dotted):
        first, *parts = name.split(".")
        if first != "fewshot_sklearn":
            others.add(first)
            continue
        while parts and not (found := package.joinpath(*parts).with_suffix(".py")).exists():
            found = package.joinpath(*parts, "__init__.py")
            if found.exists():
                break
            parts.pop()
        if parts:
            own.add(found)
    return others, own


def test_nothing_that_reads_or_rebuilds_a_meta_init_can_unpickle():
    package = Path(fewshot_sklearn.__file__).parent
    waiting, seen = (
        {package / "meta_init" / "artifact.py", package / "estimators" / "base.py"},
        set(),
    )
    while waiting:
        seen.add(file := waiting.pop())
        others, own = modules_imported(file)
        assert not {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"} & others, file
        calls = [
            ast.unparse(n.func)
            for n in ast.walk(ast.parse(file.read_text()))
            if isinstance(n, ast.Call)
        ]
        assert not {"torch.load", "np.load", "eval", "exec"} & set(calls), file
        waiting |= own - seen
    assert package / "learners" / "learner.py" in seen


def test_times_are_no_numbers():
    days = np.array(["2024-01-03", "2024-02-05"], dtype="M8[ns]")
    assert not set(meta_init.task_digests(days)) & set(meta_init.task_digests(days.astype(int)))


def test_the_same_content_is_the_same_file(tmp_path):
    inits = [MetaInit.from_state({"weight": torch.ones(2)}, {"algorithm": "x"}) for _ in range(8)]
    files = {bytes(init._plain) for init in inits}
    assert len(files) == 1 and len({init.digest for init in inits}) == 1
