"""What all estimators take means the same for all of them, and is written once."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import fewshot_sklearn
from fewshot_sklearn import ProtoNetClassifier
from fewshot_sklearn.estimators import FewShotEstimator, with_shared_texts
from fewshot_sklearn.estimators.shared_texts import SHARED_TEXTS

ClassDoc = pytest.importorskip("numpydoc.docscrape").ClassDoc
PUBLIC = [getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__]
ESTIMATORS = [c for c in PUBLIC if isinstance(c, type) and issubclass(c, FewShotEstimator)]
#: A line that names a text, with nothing else in it.
MARKER = re.compile(r"(?m)^ *\{\S+\} *$")

every_estimator = pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda c: c.__name__)


def words(text):
    return " ".join(text.split())


def described(cls):
    """Types and texts of the parameters and attributes that a class docstring has."""
    doc = ClassDoc(cls)
    entries = doc["Parameters"] + doc["Attributes"]
    return {entry.name: (entry.type, words(" ".join(entry.desc))) for entry in entries}


def parameters(cls):
    """Defaults by name; what takes any others is written with its stars."""
    found = inspect.signature(cls).parameters.values()
    return {f"**{p.name}" if p.kind is p.VAR_KEYWORD else p.name: p.default for p in found}


# ------------------------------------------------------------------ the estimators
@every_estimator
def test_what_all_take_is_described_alike(cls):
    found = described(cls)
    shared = SHARED_TEXTS.keys() & found.keys()
    assert shared >= {*parameters(FewShotEstimator), "meta_init_", "n_features_in_"}
    for name in shared:
        head, _, text = SHARED_TEXTS[name].partition("\n")
        kind, own = found[name]
        assert kind == head.removeprefix(name).removeprefix(" : ")
        assert own.startswith(words(text)), f"{name} has a text of its own"


@every_estimator
def test_what_all_take_is_not_written_out_again(cls):
    (tree,) = ast.parse(inspect.getsource(cls)).body
    written = ast.get_docstring(tree)
    assert MARKER.search(written)
    for name in SHARED_TEXTS:
        assert not re.search(rf"(?m)^{re.escape(name)}( : |$)", written), f"use {{{name}}}"


@every_estimator
def test_what_all_take_has_one_default(cls):
    usual, own = parameters(FewShotEstimator), parameters(cls)
    assert {name: own[name] for name in usual} == usual
    for name in {"n_augment", "augment"} & own.keys():
        assert own[name] == getattr(FewShotEstimator, name)


@every_estimator
def test_signature_and_docstring_name_the_same_parameters(cls):
    assert [p.name for p in ClassDoc(cls)["Parameters"]] == list(parameters(cls))


@every_estimator
def test_the_default_described_is_the_one_of_the_signature(cls):
    for name, (kind, _) in described(cls).items():
        if told := re.search(r"default=(.*)$", kind):
            assert ast.literal_eval(told[1]) == parameters(cls)[name], name


def test_no_docstring_of_the_package_names_a_text_that_it_did_not_get():
    found = pkgutil.walk_packages(fewshot_sklearn.__path__, "fewshot_sklearn.")
    modules = [importlib.import_module(module.name) for module in found]
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    own = {c for c in classes if c.__module__.startswith("fewshot_sklearn")}
    assert own >= {*ESTIMATORS}
    assert not [c for c in own if MARKER.search(c.__doc__ or "")]


# ------------------------------------------------------------------ the decorator
def test_a_name_in_braces_gives_way_to_its_text_and_more_may_follow():
    @with_shared_texts(size="\nn : int\n    How many.\nm : int\n    How many more.\n")
    class Described:
        """Parameters
        {dtype}
            In part.
          {size}
        {not} a name alone
        """

    assert Described.__doc__ == (
        "Parameters\n"
        '        dtype : {"float32", "float64"} or None, default=None\n'
        "            Precision. None is float32 with a meta-init, or an encoder that is a module "
        "with float32\n            weights, and float64 without.\n"
        "            In part.\n"
        "          n : int\n              How many.\n"
        "          m : int\n              How many more.\n"
        "        {not} a name alone\n        "
    )


def test_a_name_without_a_text_is_refused_and_told():
    with pytest.raises(ValueError, match=r"docstring of Wrong names \{detype\}.*dtype"):

        @with_shared_texts()
        class Wrong:
            """Wrong.

            {detype}
            """


def test_no_docstring_stays_none():
    @with_shared_texts()
    class Bare(ProtoNetClassifier):
        pass

    assert Bare.__doc__ is None
    assert inspect.getdoc(Bare) == inspect.getdoc(ProtoNetClassifier)


def test_docstrings_of_others_are_left_alone():
    class Mine(ProtoNetClassifier):
        """Mine.

        {dtype}
        {anything}
        """

    assert MARKER.findall(Mine.__doc__) == ["        {dtype}", "        {anything}"]


def test_python_without_docstrings():
    script = (
        "from fewshot_sklearn import MetaEmbedding, RidgeHeadClassifier as C; "
        "print(C.__doc__, MetaEmbedding.__doc__, *C().fit([[0.], [1.]], [0, 1]).predict([[2.]]))"
    )
    done = subprocess.run(
        [sys.executable, "-OO", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["None", "None", "1"]
