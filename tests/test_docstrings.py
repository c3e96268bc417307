"""Public docstrings follow numpydoc, and what the README shows runs."""

from __future__ import annotations

import inspect
import pkgutil
import re

import pytest
from conftest import ROOT

import fewshot_sklearn
from fewshot_sklearn import datasets, inspection, tasks
from fewshot_sklearn.tasks import augmentation, color_augmentation

validate = pytest.importorskip("numpydoc.validate").validate
README = ROOT / "README.md"

#: What numpydoc checks here: a docstring, its sections in order, all of them known; a summary of
#: one sentence; every parameter described, with its type, and no other; every result described.
CHECKS = {
    "GL05", "GL06", "GL07", "GL08", "GL10",
    "SS01", "SS03", "SS04", "SS06",
    "PR01", "PR02", "PR03", "PR04", "PR05", "PR07", "PR08", "PR09", "PR10",
    "RT01", "RT03", "RT04", "RT05", "YD01",
    "SA02", "SA03", "SA04",
}  # fmt: skip
#: Steps of skorch's training loop, which skorch documents.
SKORCH_STEPS = {
    "fit_loop", "get_iterator", "get_loss", "get_params_for_optimizer",
    "get_split_datasets", "infer", "initialize_callbacks", "initialize_criterion",
    "initialize_module",
    "notify", "on_epoch_begin", "run_single_epoch", "torch_compile",
    "train_step_single",
}  # fmt: skip
EXCEPTIONS = {
    ("fewshot_sklearn.MetaInit", "PR01"),  # its constructor is not for users, as it says
    ("fewshot_sklearn.MetaInit.state_dict", "RT01"),  # the summary says it all
    ("fewshot_sklearn.MetaTrainer.predict", "PR01"),  # there to raise an error
    ("fewshot_sklearn.MetaTrainer.predict_proba", "PR01"),
    ("fewshot_sklearn.ESMetaTrainer.predict", "PR01"),
    ("fewshot_sklearn.ESMetaTrainer.predict_proba", "PR01"),
}


def public_names():
    """Dotted names of the public classes and functions."""
    own = [
        name
        for module in (augmentation, color_augmentation)
        for name, value in vars(module).items()
        if name in tasks.__all__ and getattr(value, "__module__", "") == module.__name__
    ]
    return [
        *(f"fewshot_sklearn.{name}" for name in fewshot_sklearn.__all__),
        *(f"fewshot_sklearn.datasets.{name}" for name in datasets.__all__),
        *(f"fewshot_sklearn.tasks.{name}" for name in own),
        *(f"fewshot_sklearn.inspection.{name}" for name in inspection.__all__),
    ]


def method_names(dotted):
    """Dotted names of the public methods that this package defines, bases included."""
    public = pkgutil.resolve_name(dotted)
    for name in dir(public) if inspect.isclass(public) else ():
        method = inspect.getattr_static(public, name)
        method = getattr(method, "__func__", method)  # of a class method
        if (
            inspect.isfunction(method)
            and method.__module__.startswith("fewshot_sklearn")
            and not name.startswith("_")
            and name not in SKORCH_STEPS
        ):
            yield f"{dotted}.{name}"


PUBLIC = public_names()
METHODS = [method for name in PUBLIC for method in method_names(name)]


@pytest.mark.parametrize("name", PUBLIC + METHODS)
def test_docstring_follows_numpydoc(name):
    checks = CHECKS | {"EX01"} if name in PUBLIC else CHECKS  # classes and functions show examples
    errors = [
        f"{code}: {message}"
        for code, message in validate(name)["errors"]
        if code in checks and (name, code) not in EXCEPTIONS
    ]
    assert not errors, "\n".join(errors)


def test_every_public_name_is_in_the_api_reference():
    listed = (README.parent / "docs" / "api.rst").read_text("utf-8").split()
    assert {name.rsplit(".", 1)[1] for name in PUBLIC} <= set(listed)


def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", README.read_text("utf-8"))
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["clf"].score(names["X"], names["y"]) > 0.6
    assert names["std"].shape == names["mean"].shape
