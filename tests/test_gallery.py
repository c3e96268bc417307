"""What an example printed and drew is kept, and shown below the code that did it."""

from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("sphinx_gallery")

import gallery  # docs/

SCRIPT = '''"""
Title
=====
"""

# %%
# First
# -----

import matplotlib.pyplot as plt

print("one")

# %%
# Second
# ------

figure, (left, right) = plt.subplots(1, 2)
left.plot([1, 2])
plt.show()
'''
PAGE = """
.. GENERATED FROM PYTHON SOURCE LINES 6-12

.. code-block:: Python

    print("one")

.. GENERATED FROM PYTHON SOURCE LINES 12-17

.. code-block:: Python

    left.plot([1, 2])

.. _sphx_glr_download_plot_it.py:
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "RECORDS", tmp_path / "recorded")
    monkeypatch.setattr(gallery, "EXAMPLES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gallery.py"])
    path = tmp_path / "plot_it.py"
    path.write_text(SCRIPT, "utf-8")
    return path


def test_it_is_recorded_until_it_changes(script, capsys):
    assert not gallery.is_current(script)
    gallery.main(["plot_it"])
    assert "one" in capsys.readouterr().out
    first, second = gallery.record_of(script)["cells"]
    assert (first["printed"], first["pictures"]) == ("one\n", [])
    assert (second["printed"], second["pictures"]) == ("", ["plot_it-1.png"])
    assert (gallery.RECORDS / "plot_it-1.png").read_bytes().startswith(b"\x89PNG")
    assert gallery.is_current(script)
    script.write_text(SCRIPT.replace("one", "two"), "utf-8")
    assert not gallery.is_current(script)


def test_a_figure_is_below_the_last_cell_that_draws_in_it(script):
    later = "\n# %%\n# Third\n# -----\n\nright.plot([2, 1])\n"
    script.write_text(
        SCRIPT + later + later.replace("Third", "Last").replace("right", "plt"), "utf-8"
    )
    gallery.main(["plot_it"])
    assert [cell["pictures"] for cell in gallery.record_of(script)["cells"]] == [
        [], [], [], ["plot_it-1.png"]
    ]  # fmt: skip


def test_it_is_shown_below_its_code(script):
    gallery.main(["plot_it"])
    record, cells = gallery.record_of(script), gallery.cells_of(script)
    page = gallery.with_record(PAGE, record, cells)
    order = [
        'print("one")',
        "\n    one\n",
        "LINES 12",
        "left.plot",
        "plot_it-1.png",
        "_sphx_glr_down",
    ]
    places = [page.index(told) for told in order]
    assert places == sorted(places)
    assert f"It ran on {record['date']}, with scikit-learn" in page
    assert gallery.with_record(PAGE, {"cells": []}, cells) == PAGE
    changed = [cells[0].replace("one", "two"), cells[1]]
    page = gallery.with_record(PAGE, record, changed)
    assert "\n    one\n" not in page and "/recorded/plot_it-1.png" in page


def test_thumbnails(script, tmp_path):
    gallery.main(["plot_it"])
    (gallery.RECORDS / "plot_new.json").write_text(json.dumps({"cells": []}), "utf-8")
    (script.parent / "plot_new.py").write_text(SCRIPT, "utf-8")
    gallery.stage(tmp_path / "staged")
    staged = (tmp_path / "staged" / "plot_it.py").read_text("utf-8")
    assert staged.startswith(SCRIPT) and "thumbnail_path = 'recorded/plot_it-1.png'" in staged
    assert (tmp_path / "staged" / "plot_new.py").read_text("utf-8") == SCRIPT
    assert (tmp_path / "staged" / "GALLERY_HEADER.rst").is_file()


def test_every_example_has_a_record():
    for script in gallery.examples():
        assert gallery.record_of(script)["cells"], f"python docs/gallery.py {script.stem}"
