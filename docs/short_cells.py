"""Sphinx extension: what stands in a narrow cell of a table, such as ``1.96 ms``, is not broken."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

#: Characters up to which a cell stays on one line.
SHORT = 14
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


class KeepShortCells(SphinxTransform):
    default_priority = 705

    def apply(self, **kwargs: Any) -> None:
        for cell in self.document.findall(nodes.entry):
            if len(cell.astext()) <= SHORT:
                for text in list(cell.findall(nodes.Text)):
                    text.parent.replace(text, nodes.Text(text.replace(" ", NO_BREAK_SPACE)))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(KeepShortCells)
    return {"env_version": 1, "parallel_read_safe": True}
