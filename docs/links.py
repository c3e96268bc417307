"""Sphinx extension: a public name in the prose links to its page of the API reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

#: Where public names are, as the reference lists them; of two of one name the first counts.
MODULES = (
    "fewshot_sklearn",
    "fewshot_sklearn.datasets",
    "fewshot_sklearn.inspection",
    "fewshot_sklearn.tasks",
    "fewshot_sklearn.encoders",
    "fewshot_sklearn.learners",
    "fewshot_sklearn.estimators",
)


def public_names() -> dict[str, str]:
    """Short names of what is public, and the full name of each."""
    found: dict[str, str] = {}
    for module in MODULES:
        for name in import_module(module).__all__:
            found.setdefault(name, f"{module}.{name}")
    return found


def full_name(text: str, names: Mapping[str, str]) -> str | None:
    """What is named by ``X``, ``X(...)``, ``X.method`` or ``fewshot_sklearn.X``; None otherwise."""
    text = re.sub(r"\(.*\)$", "", text)
    first, dot, rest = text.partition(".")
    if first in names:
        return names[first] + dot + rest
    whole = set(names.values())
    return text if text in whole or text.rpartition(".")[0] in whole else None


class LinkNames(SphinxTransform):
    """Turns literals that are a public name into references; what has no page stays a literal."""

    default_priority = 700

    def apply(self, **kwargs: Any) -> None:
        names = public_names()
        for literal in list(self.document.findall(nodes.literal)):
            name = full_name(literal.astext(), names)
            if name and not self.is_left_alone(literal, name):
                link = pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=name, refwarn=False
                )
                literal.replace_self(link)
                link += literal

    def is_left_alone(self, literal: nodes.literal, name: str) -> bool:
        """Within a link or a heading, and on the name's own page."""
        if self.env.docname == f"generated/{name}":
            return True
        parent = literal.parent
        while parent is not None:
            if isinstance(parent, nodes.reference | nodes.title | pending_xref):
                return True
            parent = parent.parent
        return False


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(LinkNames)
    # pages that were read by another version are read again
    return {"env_version": 2, "parallel_read_safe": True}
