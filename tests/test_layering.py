"""Imports go one way: each module may import only from those before it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fewshot_sklearn

ROOT = Path(fewshot_sklearn.__file__).parent
BEFORE_ALGORITHMS = [
    "rows", "tasks", "sampling", "episodes", "image_encoders", "residual", "encoders",
    "augmentation",
    "sequences", "descent", "kernels", "learner", "attention", "inner_loop", "pretraining",
    "refinement", "explanation", "card", "row_sketch", "meta_init", "pretrained", "base",
    "classifier", "regressor",
]  # fmt: skip
AFTER_ALGORITHMS = [
    "embedding", "scores", "model_selection", "task_splits", "task_memory",
    "taskwise", "posterior", "query_strategy", "experience", "strategies", "strategy_choice",
    "strategy_selection", "calibration", "conformal", "task_calibration", "novelty",
    "episode_outputs", "trusted_fit", "trust", "evidence", "trust_learning", "reliability",
    "past_ridge", "pooled", "paired_scores", "comparison_table", "comparison",
    "learning_curves", "inspection", "resume", "past_tasks", "training_loop",
    "meta_training", "evolution",
]  # fmt: skip
ORDER = [*BEFORE_ALGORITHMS, "algorithms", *AFTER_ALGORITHMS]

ALLOWED = {room: set(ORDER[:place]) for place, room in enumerate(ORDER)}
#: The algorithms that may import another: the second file of a method.
SECOND_FILES = {"deep_kernel_classifier", "in_context", "in_context_tables"}
ALLOWED["taskwise"] |= {"taskwise"}
ALLOWED["inspection"] |= {"inspection"}
ALLOWED |= {"datasets": {"datasets"}}
ALLOWED["__init__"] = {*ORDER, "datasets"}

FILES = sorted(ROOT.rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]
every_file = pytest.mark.parametrize("path", FILES, ids=NAMES)


def room_of(path):
    """The first part of a file's place in the package: `datasets` for datasets/_omniglot.py."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_modules(tree, package):
    """Absolute dotted names of all that a module of this package imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = parents if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            # "from . import x" may name a module or a thing in __init__
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    package = ".".join(["fewshot_sklearn", *path.relative_to(ROOT).parts[:-1]])
    for name in imported_modules(ast.parse(path.read_text("utf-8")), package):
        parts = name.split(".")
        if parts[0] == "fewshot_sklearn" and parts[1:] != ["__version__"]:
            yield parts[1] if len(parts) > 1 else "__init__"


def test_import_reader_sees_every_form():
    source = "import a.b\nfrom .c import d\ndef f():\n    from .. import e\n    from g.h import i"
    found = set(imported_modules(ast.parse(source), "fewshot_sklearn.datasets"))
    assert found == {"a.b", "fewshot_sklearn.datasets.c.d", "fewshot_sklearn.e", "g.h.i"}


def test_the_order_names_every_module_and_no_other():
    assert {room_of(path) for path in FILES} == set(ALLOWED)


@every_file
def test_imports_only_from_the_rooms_before(path):
    rooms = set(rooms_imported(path))
    if room_of(path) == "algorithms" and path.stem in SECOND_FILES:
        rooms -= {"algorithms"}
    strangers = rooms - ALLOWED[room_of(path)]
    assert not strangers, f"{path.name} must not import {sorted(strangers)}"


@every_file
def test_only_meta_training_and_its_loop_import_skorch(path):
    names = imported_modules(ast.parse(path.read_text("utf-8")), "fewshot_sklearn")
    if any(name.split(".")[0] == "skorch" for name in names):
        assert room_of(path) in ("meta_training", "training_loop")


@every_file
def test_matplotlib_is_imported_inside_functions_only(path):
    tree = ast.parse(path.read_text("utf-8"))

    class OutsideFunctions(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    names = imported_modules(OutsideFunctions().visit(tree), "fewshot_sklearn")
    assert not [name for name in names if name.split(".")[0] in ("matplotlib", "seaborn", "PIL")]


@every_file
def test_no_room_for_odds_and_ends(path):
    vague = {"utils", "util", "helpers", "common", "manager", "factory", "registry", "core", "misc"}
    words = re.split(r"[/._]", path.relative_to(ROOT).as_posix())
    assert not vague & set(words)


def heavy_modules_after(statement):
    program = (
        f"import sys; {statement}; "
        "print(*{name.split('.')[0] for name in sys.modules} & {'skorch', 'matplotlib', 'pandas'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return set(done.stdout.split())


def test_import_brings_nothing_heavy_beside_torch_and_scikit_learn():
    unavoidable = heavy_modules_after("import torch, sklearn.base")
    assert heavy_modules_after("import fewshot_sklearn") <= unavoidable
    # the probe itself works, and the trainer's name loads skorch when asked for
    assert "skorch" in heavy_modules_after("from fewshot_sklearn import MetaTrainer")
