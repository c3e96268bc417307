"""What a release says of itself is the same everywhere, and it holds what it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

from conftest import ROOT

import fewshot_sklearn

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXAMPLES = PROJECT["optional-dependencies"]["examples"]


def pins(name):
    """Of a file of constraints, exact versions by name."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def lower_bounds(requirements):
    return dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", told).groups() for told in requirements)


def test_one_version():
    version = fewshot_sklearn.__version__
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    released = re.findall(
        r"(?m)^## \[(\d\S+)\] - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text("utf-8")
    )
    told = [re.search(rf"(?m)^{key}: (\S+)$", cited)[1] for key in ("version", "date-released")]
    assert told == list(released[0])
    assert version == told[0] or re.fullmatch(r"\d+\.\d+\.\d+\.dev\d+", version)


def test_the_lower_bounds_are_what_the_oldest_environment_has():
    bounds, oldest = lower_bounds(PROJECT["dependencies"]), pins("constraints-oldest.txt")
    bounds |= lower_bounds(PROJECT["optional-dependencies"]["plot"])
    assert set(oldest) == set(bounds)
    for name, version in oldest.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name


def test_whatever_is_asked_for_has_an_exact_version_that_is_tested():
    asked = {*lower_bounds(PROJECT["dependencies"])}
    for extra in PROJECT["optional-dependencies"].values():
        asked |= {*lower_bounds(extra)}
    assert asked <= {*pins("constraints.txt")}


def test_the_extra_brings_what_any_example_imports():
    asked = {*lower_bounds([*PROJECT["dependencies"], *EXAMPLES])}
    asked |= {"fewshot_sklearn"} | {path.stem for path in (ROOT / "examples").glob("*.py")}
    named = {"PIL": "pillow", "sklearn": "scikit-learn"}
    for path in (ROOT / "examples").glob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        found = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
        found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        tops = {name.partition(".")[0] for name in found} - {*sys.stdlib_module_names}
        assert {named.get(name, name) for name in tops} <= asked, path.name
