"""Public names in the documentation's prose link to their page of the reference."""

from __future__ import annotations

import re

import pytest

import fewshot_sklearn

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")

from links import full_name, public_names  # docs/
from sphinx.application import Sphinx

REFERENCE = """\
Reference
=========

.. py:class:: fewshot_sklearn.MetaInit

   `MetaInit.load` links.

   .. py:method:: load

.. py:function:: fewshot_sklearn.datasets.load_omniglot
"""

PROSE = """\
# `MetaInit` in a heading does not

`MetaInit`, `MetaInit.load()` and `fewshot_sklearn.datasets.load_omniglot` do;
`MetaInit.nothing`, `fit` and [`MetaInit` in a link](reference.rst) do not, nor does `MetaTrainer`,
which has no page here.
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MetaInit", "fewshot_sklearn.MetaInit"),
        ("MetaInit()", "fewshot_sklearn.MetaInit"),
        ('MetaTrainer(fall_back="strong")', "fewshot_sklearn.MetaTrainer"),
        ("MetaTrainer(MetaEmbedding(), lr=(1, 2))", "fewshot_sklearn.MetaTrainer"),
        ("MetaInit.load", "fewshot_sklearn.MetaInit.load"),
        ("load_omniglot", "fewshot_sklearn.datasets.load_omniglot"),
        ("fewshot_sklearn.datasets.load_omniglot", "fewshot_sklearn.datasets.load_omniglot"),
        ("fewshot_sklearn.MetaInit.load", "fewshot_sklearn.MetaInit.load"),
        ("print(MetaInit)", None),
        ("fit", None),
        ("fewshot_sklearn", None),
        ("KNeighborsClassifier", None),
    ],
)
def test_full_name(text, name):
    assert full_name(text, public_names()) == name


def test_every_public_name_is_known():
    names = public_names()
    assert all(names[name] == f"fewshot_sklearn.{name}" for name in fewshot_sklearn.__all__)


def test_what_a_page_links_to(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text("")
    (source / "index.md").write_text(PROSE)
    (source / "reference.rst").write_text(REFERENCE)
    settings = {"extensions": ["links", "myst_parser"], "default_role": "code"}
    folders = (source, source, tmp_path / "html", tmp_path / "trees")
    Sphinx(*folders, "html", settings, status=None, warning=None).build()

    def links(page):
        html = (tmp_path / "html" / page).read_text("utf-8")
        found = re.findall(r'<a class="[a-z ]*reference internal" href="(\S+)"[^>]*><code', html)
        return [link.partition("#")[2] for link in found if "#fewshot" in link]

    meta_init = "fewshot_sklearn.MetaInit"
    omniglot = "fewshot_sklearn.datasets.load_omniglot"
    assert links("index.html") == [meta_init, f"{meta_init}.load", omniglot]
    assert links("reference.html") == [f"{meta_init}.load"]
