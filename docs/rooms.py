"""Draw the package's rooms from its code: which there are, what each is for, which imports which.

``python docs/rooms.py`` writes ``docs/_static/rooms.svg``, ``docs/rooms.rst`` and the table in
``CONTRIBUTING.md`` anew; ``tests/test_layering.py`` fails where they are not what the code says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fewshot_sklearn"
#: Each room may import only from those before it.
ORDER = [
    "tasks", "encoders", "meta_init", "pretrained", "learners", "estimators", "raw",
    "datasets", "algorithms", "text", "model_selection", "labelling", "taskwise", "strategies",
    "trust", "meta_training", "serving", "inspection",
]  # fmt: skip

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 132, 34, 26, 46, 12
STYLE = (
    "text{font:13px sans-serif;fill:#1d2b3a;text-anchor:middle;dominant-baseline:central}"
    "rect{fill:#eef3f8;stroke:#4a6b8a}path{fill:none;stroke:#7a93ab}marker path{fill:#7a93ab}"
    "rect.page{fill:#fff;stroke:none}"
)


# ------------------------------------------------------------------ reading
def room_of(path: Path) -> str:
    """The folder of the package that a file lies in; `__init__` for the package's own."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute dotted names of all that a module of this package imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = parents if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            # "from . import x" may name a module or a thing in __init__
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[list[str]]:
    """What a file imports from this package, as parts: room, module or name, ..."""
    package = ".".join(["fewshot_sklearn", *path.relative_to(PACKAGE).parts[:-1]])
    for name in imported_modules(ast.parse(path.read_text("utf-8")), package):
        parts = name.split(".")
        if parts[0] == "fewshot_sklearn" and parts[1:] != ["__version__"]:
            yield parts[1:] or ["__init__"]


def files() -> list[Path]:
    """All Python files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def arrows() -> dict[str, set[str]]:
    """Rooms that each room imports from."""
    found: dict[str, set[str]] = {room: set() for room in ORDER}
    for path in files():
        if room_of(path) != "__init__":
            found[room_of(path)] |= {parts[0] for parts in own_imports(path)} - {room_of(path)}
    return found


def sentence(room: str) -> str:
    """What the room is for: the first paragraph of its `__init__`."""
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def n_lines(room: str) -> int:
    """Lines of a room's files."""
    return sum(path.read_text("utf-8").count("\n") for path in files() if room_of(path) == room)


# ------------------------------------------------------------------ drawing
def without_shortcuts(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""
    reached: dict[str, set[str]] = {}
    for room in ORDER:
        reached[room] = found[room].union(*(reached[near] for near in found[room]))
    return {
        room: {n for n in near if not any(n in reached[other] for other in near)}
        for room, near in found.items()
    }


def floors(found: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by the longest way down to a room that imports no other."""
    height: dict[str, int] = {}
    for room in ORDER:
        height[room] = 1 + max((height[near] for near in found[room]), default=-1)
    return [[r for r in ORDER if height[r] == h] for h in range(max(height.values()) + 1)]


def picture(found: dict[str, set[str]]) -> str:
    """The rooms as SVG: those that others build upon at the bottom."""
    stacked = floors(found)
    width = max(map(len, stacked)) * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    height = len(stacked) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    place: dict[str, tuple[float, float]] = {}
    for h, rooms in enumerate(reversed(stacked)):
        start = (width - len(rooms) * (WIDTH + GAP_X) + GAP_X) / 2
        for i, room in enumerate(rooms):
            place[room] = start + i * (WIDTH + GAP_X), MARGIN + h * (HEIGHT + GAP_Y)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">',
        f"<style>{STYLE}</style>",
        '<marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0L8 4L0 8z"/></marker>',
        f'<rect class="page" width="{width}" height="{height}"/>',
    ]
    for room, near in without_shortcuts(found).items():
        for other in sorted(near, key=ORDER.index):
            (x, y), (to_x, to_y) = place[room], place[other]
            x, to_x, y = x + WIDTH / 2, to_x + WIDTH / 2, y + HEIGHT
            bend = (to_y - y) / 2
            lines.append(
                f'<path d="M{x:g} {y:g}C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} '
                f'{to_x:g} {to_y:g}" marker-end="url(#to)"/>'
            )
    for room, (x, y) in place.items():
        lines.append(f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>')
        lines.append(f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2:g}">{room}</text>')
    return "\n".join([*lines, "</svg>", ""])


def page() -> str:
    """The picture and the table for the documentation, as reStructuredText."""
    rows = [f"   * - ``{room}``\n     - {sentence(room)}" for room in ORDER]
    return "\n".join(
        [
            ".. made by rooms.py from the code",
            "",
            ".. image:: /_static/rooms.svg",
            "   :alt: The rooms of the package and which imports which",
            "",
            ".. list-table::",
            "   :widths: 20 80",
            "",
            *rows,
            "",
        ]
    )


def with_table(text: str) -> str:
    """The text of CONTRIBUTING.md with its table of rooms made anew."""
    rows = "\n".join(f"| `{room}` | {sentence(room)} |" for room in ORDER)
    table = f"| room | what it is for |\n|---|---|\n{rows}\n"
    return re.sub(r"(?s)(<!-- rooms: .*? -->\n).*?(<!-- end -->)", rf"\g<1>{table}\g<2>", text)


def made() -> dict[Path, str]:
    """All that this script writes: contents by file."""
    contributing = ROOT / "CONTRIBUTING.md"
    return {
        ROOT / "docs" / "_static" / "rooms.svg": picture(arrows()),
        ROOT / "docs" / "rooms.rst": page(),
        contributing: with_table(contributing.read_text("utf-8")),
    }


def main() -> None:
    for path, text in made().items():
        path.write_text(text, "utf-8")
    found = arrows()
    print(f"{len(ORDER)} rooms, {sum(map(len, found.values()))} arrows")
    for room in ORDER:
        print(f"{room:16}{n_lines(room):6,} lines, imports {', '.join(sorted(found[room])) or '-'}")


if __name__ == "__main__":
    main()
