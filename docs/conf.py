"""Sphinx settings. The build needs no network and does not run the examples."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import fewshot_sklearn

here = Path(__file__).parent
sys.path.append(str(here))  # where our own extensions are
import gallery  # noqa: E402

project = "fewshot_sklearn"
author = "the fewshot_sklearn developers"
copyright = f"2026, {author}"
version = release = fewshot_sklearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "links",
    "gallery",
    "short_cells",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "rooms.rst"]
templates_path = ["_templates"]
default_role = "code"
myst_enable_extensions = ["deflist"]

autosummary_generate = True
toc_object_entries_show_parents = "hide"  # beside the page there is no room for them
autodoc_typehints = "none"
autodoc_default_options = {"member-order": "bysource"}
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = project  # with the version and "documentation" it would not fit beside the search
html_theme_options = {
    "logo": {"text": project},
    "header_links_before_dropdown": 5,  # the five sections of index.rst
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
html_sidebars = {  # pages of no section have nothing to show there
    "index": [],
    "search": [],
    "genindex": [],
    "_modules/**": [],
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

staged = here / "_build" / "examples"
gallery.stage(staged)
sphinx_gallery_conf = {
    "examples_dirs": str(staged),
    "gallery_dirs": "auto_examples",
    "plot_gallery": False,  # meta-training takes minutes; gallery.py shows what was recorded
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}


def skip_inherited_from_others(app, what, name, obj, skip, options):
    """Leave out the methods that scikit-learn, skorch and torch document."""
    function = getattr(obj, "fget", obj)  # a property's getter
    function = getattr(function, "__func__", function)  # a class method's function
    module = getattr(function, "__module__", None) or ""
    if what == "class" and not module.startswith("fewshot_sklearn"):
        return True
    return None


def quote_fitted_attributes(app, what, name, obj, options, lines):
    """Quote names in shapes such as (n_features_in_,): reStructuredText takes them for links."""
    lines[:] = [re.sub(r"\((\w+_),\)", r"(``\1``,)", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", quote_fitted_attributes, priority=100)
    app.connect("autodoc-skip-member", skip_inherited_from_others)
