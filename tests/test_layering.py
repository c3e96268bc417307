"""Imports go one way: each room may import only from those before it, and by the room's name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
import rooms
from conftest import ROOT
from rooms import ORDER, PACKAGE, imported_modules, own_imports, room_of

#: The algorithms that may import another: the second file of a method, what goes around one, and
#: R2-D2, whose ridge regression is that of the ridge head.
SECOND_FILES = {"deep_kernel_classifier", "in_context", "r2d2", "transductive_assignment"}
FILES = rooms.files()
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]
every_file = pytest.mark.parametrize("path", FILES, ids=NAMES)


def test_import_reader_sees_every_form():
    source = "import a.b\nfrom .c import d\ndef f():\n    from .. import e\n    from g.h import i"
    found = set(imported_modules(ast.parse(source), "fewshot_sklearn.datasets"))
    assert found == {"a.b", "fewshot_sklearn.datasets.c.d", "fewshot_sklearn.e", "g.h.i"}


def test_the_order_names_every_room_and_nothing_lies_loose():
    assert {room_of(path) for path in FILES} == {*ORDER, "__init__"}
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]
    assert all((PACKAGE / room / "__init__.py").exists() for room in ORDER)


def test_tests_have_the_same_rooms():
    kinds = {"clients", "pretended_gpu", "scripts", "__pycache__"}
    assert {p.name for p in (ROOT / "tests").iterdir() if p.is_dir()} - kinds == set(ORDER)


@every_file
def test_imports_only_from_the_rooms_before(path):
    room = room_of(path)
    allowed = {*ORDER} if room == "__init__" else {*ORDER[: ORDER.index(room)], room}
    strangers = {parts[0] for parts in own_imports(path)} - allowed
    assert not strangers, f"{path.name} must not import {sorted(strangers)}"


@every_file
def test_imports_from_another_room_what_the_room_hands_on(path):
    room = room_of(path)
    past = [".".join(p) for p in own_imports(path) if p[0] not in (room, "datasets") and p[2:]]
    assert not past, f"{path.name} reaches into other rooms: {past}"


def handed_on(room):
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))
    return {n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.level == 1}


@pytest.mark.parametrize("room", ORDER)
def test_an_underscore_says_that_the_room_keeps_a_module_to_itself(room):
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert handed_on(room) == {name for name in modules if not name.startswith("_")}


@every_file
def test_an_algorithm_imports_no_other(path):
    if room_of(path) == "algorithms" and path.stem not in {*SECOND_FILES, "__init__"}:
        own = [parts[1] for parts in own_imports(path) if parts[0] == "algorithms"]
        assert not [name for name in own if not name.startswith("_")]


def test_the_rooms_are_drawn_as_they_are():
    for path, text in rooms.made().items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: python docs/rooms.py"


def test_a_room_that_changes_changes_its_picture():
    found = rooms.arrows()
    assert found["trust"] and all(rooms.sentence(room).endswith(".") for room in ORDER)
    assert rooms.picture(found) != rooms.picture(found | {"trust": set()})


@every_file
def test_only_meta_training_imports_skorch(path):
    names = imported_modules(ast.parse(path.read_text("utf-8")), "fewshot_sklearn")
    if any(name.split(".")[0] == "skorch" for name in names):
        assert room_of(path) == "meta_training"


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
    words = re.split(r"[/._]", path.relative_to(PACKAGE).as_posix())
    assert not vague & set(words)


def heavy_modules_after(statement):
    program = (
        f"import sys; {statement}; "
        "print(*{name.split('.')[0] for name in sys.modules} & {'skorch', 'matplotlib', 'pandas'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_import_brings_nothing_heavy_beside_torch_and_scikit_learn():
    unavoidable = heavy_modules_after("import torch, sklearn.base")
    assert heavy_modules_after("import fewshot_sklearn") <= unavoidable
    # the probe itself works, and the trainer's name loads skorch when asked for
    assert "skorch" in heavy_modules_after("from fewshot_sklearn import MetaTrainer")
