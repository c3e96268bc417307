"""Builds the distributions, and looks at what is in them and whether they work alone.

    python tests/check_dist.py [FOLDER]

The source distribution must hold every file of the repository, and make the same wheel. The wheel
goes into an environment of its own, with what it requires and nothing else, where the ten lines of
the first page of the documentation run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]


def first_lines() -> str:
    """The first code of the landing page."""
    page = (ROOT / "docs" / "index.rst").read_text("utf-8")
    found = re.search(r"(?m)^.. code-block:: python\n\n((?:    .*\n|\n)+)", page)
    assert found
    return dedent(found[1])


def missing_of(sdist: Path) -> set[str]:
    """Files of the repository that a source distribution lacks."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()} - held


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def environment(folder: Path) -> Path:
    """The interpreter of a fresh environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def main(argv: list[str] | None = None) -> None:
    given = sys.argv[1:] if argv is None else argv
    made = Path(given[0] if given else tempfile.mkdtemp()).resolve()

    def do(*command: object) -> None:
        done = subprocess.run([str(c) for c in command], cwd=made, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")

    made.mkdir(parents=True, exist_ok=True)
    builder = environment(made / "builder")
    do(builder, "-m", "pip", "install", "-q", "build")
    do(builder, "-m", "build", "-o", made / "dist", ROOT)  # the wheel is made from the sdist
    (sdist,), (wheel,) = (made / "dist").glob("*.tar.gz"), (made / "dist").glob("*.whl")
    if missing := missing_of(sdist):
        sys.exit(f"{sdist.name} lacks {', '.join(sorted(missing))}")
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "fewshot_sklearn").rglob("*.*")}
    package = {name for name in package if "__pycache__" not in name}
    if missing := package - names_in(wheel):
        sys.exit(f"{wheel.name} lacks {', '.join(sorted(missing))}")
    alone = environment(made / "alone")
    do(alone, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    do(alone, "-m", "pip", "check")
    do(alone, "-c", first_lines())
    print(f"{sdist.name}, {wheel.name}: whole, and work with what they require alone")


if __name__ == "__main__":
    main()
