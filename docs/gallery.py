"""What the examples print and draw, recorded by hand since they take minutes, is on their pages.

    python docs/gallery.py [--data FOLDER] [NAME ...]

runs the named examples, or those that were changed since they last ran, cell by cell. What they
print and draw goes to docs/recorded/, from where this Sphinx extension puts it below the code. A
cell that was changed since has nothing below it. Examples whose data may not be passed on read it
from the folder, or are left as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from sphinx.application import Sphinx
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

HERE = Path(__file__).parent
EXAMPLES, RECORDS = HERE.parent / "examples", HERE / "recorded"
INCHES, DOTS = 6.4, 100  # a figure is at most as wide as a page's text
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
MADE_WITH = ("scikit-learn", "torch")


def examples() -> list[Path]:
    """The scripts, in order of their names."""
    return sorted(EXAMPLES.glob("plot_*.py"))


def cells_of(script: Path) -> list[str]:
    """The code between the texts of a script."""
    return [code for kind, code, _ in split_code_and_text_blocks(str(script))[1] if kind == "code"]


def digest(code: str) -> str:
    return hashlib.sha256(code.strip().encode()).hexdigest()[:16]


def record_of(script: Path) -> dict[str, Any]:
    """What was recorded of a script; nothing, if it never was."""
    path = RECORDS / f"{script.stem}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"cells": []}


def is_current(script: Path) -> bool:
    recorded = [cell["code"] for cell in record_of(script)["cells"]]
    return recorded == [digest(code) for code in cells_of(script)]


# ------------------------------------------------------------------ running
class _Both(io.StringIO):
    """Keeps what is written, and shows it at once."""

    def __init__(self, shown: TextIO):
        super().__init__()
        self.shown = shown

    def write(self, text: str) -> int:
        self.shown.write(text)
        self.shown.flush()
        return super().write(text)


def run(script: Path, data: Path | None = None) -> None:
    """Run a script on a folder of data and record what its cells print and draw."""
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    plt.close("all")
    sys.argv = [str(script), *([str(data)] if data else [])]
    names = {"__name__": "__main__", "__file__": str(script)}
    cells, figures, began = [], {}, time.process_time()
    for code in cells_of(script):
        printed = _Both(sys.stdout)
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(code, str(script), "exec"), names)
        for number, picture in _pictures():
            if number not in figures or figures[number][1] != picture:
                figures[number] = (len(cells), picture)  # below the last cell that drew in it
        text = COLOURS.sub("", printed.getvalue())
        cells.append({"code": digest(code), "printed": text, "pictures": []})
    for old in RECORDS.glob(f"{script.stem}-*.png"):
        old.unlink()
    for k, (cell, picture) in enumerate(sorted(figures.values()), 1):
        (RECORDS / f"{script.stem}-{k}.png").write_bytes(picture)
        cells[cell]["pictures"].append(f"{script.stem}-{k}.png")
    told = {
        "date": date.today().isoformat(),
        "cpu_seconds": round(time.process_time() - began),
        "versions": {name: version(name) for name in MADE_WITH},
        "cells": cells,
    }
    (RECORDS / f"{script.stem}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def _pictures() -> Iterator[tuple[int, bytes]]:
    """The numbers of all figures, and what they look like."""
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        figure, drawn = plt.figure(number), io.BytesIO()
        dots = min(DOTS, DOTS * 1.5 * INCHES / figure.get_size_inches()[0])
        options = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
        figure.savefig(drawn, dpi=dots, **options)
        yield number, drawn.getvalue()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args(argv)
    RECORDS.mkdir(exist_ok=True)
    if len(asked.names) == 1:
        run(EXAMPLES / f"{asked.names[0]}.py", asked.data)
        return
    data = ["--data", str(asked.data)] if asked.data else []
    for script in examples():
        if script.stem in asked.names or (not asked.names and not is_current(script)):
            print(f"== {script.stem}", flush=True)
            subprocess.run([sys.executable, __file__, *data, script.stem], check=True)


# ------------------------------------------------------------------ showing
def shown(cell: dict[str, Any]) -> str:
    """What stands below the code of a cell."""
    lines = [f".. image:: /recorded/{name}\n    :alt: What the code above draws\n"
             for name in cell["pictures"]]  # fmt: skip
    if cell["printed"].strip():
        printed = "".join(f"    {line}\n" for line in cell["printed"].rstrip().split("\n"))
        lines.append(f".. rst-class:: sphx-glr-script-out\n\n.. code-block:: none\n\n{printed}")
    return "\n".join(["", *lines, ""])


#: Where the body of a page ends.
FOOT = "\n.. _sphx_glr_download"


def with_record(page: str, record: dict[str, Any], cells: list[str]) -> str:
    """The page that sphinx-gallery wrote, with the record below the code of each cell."""
    if not record["cells"]:
        return page
    known = {cell["code"]: cell for cell in record["cells"]}
    blocks = re.split(r"(?m)^(?=\.\. GENERATED FROM PYTHON SOURCE LINES)", page)
    codes, done = iter(cells), []
    for block in blocks:
        if ".. code-block:: Python" in block:
            cell = known.get(digest(next(codes)))
            if cell:
                block, foot, rest = block.partition(FOOT)
                block = block.rstrip() + "\n\n" + shown(cell) + "\n" + foot + rest
        done.append(block)
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    how = f"It ran on {record['date']}, with {versions}, in {record['cpu_seconds']} CPU-seconds."
    body, foot, rest = "".join(done).partition(FOOT)
    return f"{body}\n\n*{how}*\n{foot}{rest}"


def stage(folder: Path) -> None:
    """Copy the scripts to where sphinx-gallery reads them, with their heading and thumbnails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(HERE / "gallery_heading.txt", folder / "GALLERY_HEADER.rst")
    for script in examples():
        pictures = [name for cell in record_of(script)["cells"] for name in cell["pictures"]]
        text = script.read_text("utf-8")
        if pictures:
            text += f"\n# sphinx_gallery_thumbnail_path = 'recorded/{pictures[-1]}'\n"
        (folder / script.name).write_text(text, "utf-8")


def put_records(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the record of an example on its page, which has just been read."""
    script = EXAMPLES / f"{docname.removeprefix('auto_examples/')}.py"
    if docname.startswith("auto_examples/") and script.is_file():
        source[0] = with_record(source[0], record_of(script), cells_of(script))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", put_records)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    main()
