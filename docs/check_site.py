"""Opens every built page in a browser, and fails where one is broken.

    python docs/check_site.py [FOLDER]

It looks for links and anchors within the site that lead nowhere, pages wider than the window,
things in the header that lie on each other, sections that hide under "More", text that is hard to
read on its background, in the light theme or in the dark one, and a search that finds nothing. It
needs playwright and a Chromium (Debian's is enough); the links need neither.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BUILT = Path(__file__).parent / "_build" / "html"
WIDTHS = (1280, 390)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SEARCHED = "ProtoNetClassifier"
PATIENCE = 20_000  # milliseconds until a search has found something

#: What is wrong with a page as it stands, in words. Text is measured, not the box that it is in.
LOOK = """() => {
  const wrong = [], wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) wrong.push(`is ${wide} wide`);
  const parts = '.navbar-brand, .navbar-nav > li, .search-button__button, .theme-switch-container';
  const boxes = [...document.querySelectorAll('.bd-header :is(' + parts + ')')].map(part => {
    const text = document.createRange();
    text.selectNodeContents(part);
    const name = part.textContent.trim().split(/\\s+/)[0] || part.className;
    return [name, text.getBoundingClientRect()];
  }).filter(([name, box]) => box.width && box.height);
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const [across, down] = ['left right', 'top bottom'].map(sides => sides.split(' ')).map(
      ([low, high]) => a[low] < b[high] - 1 && b[low] < a[high] - 1);
    if (across && down) wrong.push(`has "${one}" lie on "${other}"`);
  }));
  if (document.querySelector('.bd-header .nav-item.dropdown')) wrong.push('hides a section');
  return wrong;
}"""

THEMES = ("light", "dark")
#: Text whose contrast with what is behind it is below that of WCAG 2.2's level AA.
FAINT = """theme => {
  document.documentElement.dataset.theme = theme;
  const numbers = color => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = color => {
    const [r, g, b] = color.map(part => part / 255).map(
      part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = part => {
    for (; part; part = part.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(part).backgroundColor);
      if (a > 0.5) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), part = walker.currentNode.parentElement;
    if (!text || !part.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const style = getComputedStyle(part), back = behind(part);
    const [r, g, b, a = 1] = numbers(style.color);
    const front = [r, g, b].map((own, i) => a * own + (1 - a) * back[i]);
    const [low, high] = [light(front), light(back)].sort((x, y) => x - y);
    const size = parseFloat(style.fontSize) * (style.fontWeight >= 700 ? 1.29 : 1);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast >= (size >= 24 ? 3 : 4.5)) continue;
    faint.set(`${front.map(Math.round)} on ${back}`, text.slice(0, 30));
  }
  return [...faint].map(([colors, text]) => `has faint text, "${text}" (${colors})`);
}"""


def pages_of(folder: Path) -> list[Path]:
    """All pages of the site; what lies in _static are the theme's own templates."""
    pages = sorted(folder.resolve().rglob("*.html"))
    return [path for path in pages if "_static" not in path.parts]


class Page(HTMLParser):
    """The anchors of a page and where its links lead."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif value and (name == "id" or (tag, name) == ("a", "name")):
                self.anchors.add(value)


def broken_links(folder: Path) -> Iterator[str]:
    """Links to files and anchors of the site that are not there."""
    pages = {path: Page(path) for path in pages_of(folder)}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchor = unquote(url.fragment)
            known = pages[target].anchors if target in pages else {anchor}
            if not target.is_file() or (anchor and anchor not in known):
                yield f"{path.relative_to(folder.resolve())} links to {link}"


def browser() -> str | None:
    """Where a Chromium is."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def looks_wrong(folder: Path, window: Any) -> Iterator[str]:
    """What a reader would see to be wrong, at each width."""
    for path in pages_of(folder):
        window.goto(path.as_uri(), wait_until="domcontentloaded")
        for width in WIDTHS:
            window.set_viewport_size({"width": width, "height": 900})
            for wrong in window.evaluate(LOOK):
                yield f"{path.relative_to(folder.resolve())} at {width} {wrong}"
        for theme in THEMES:
            for wrong in window.evaluate(FAINT, theme):
                yield f"{path.relative_to(folder.resolve())} in the {theme} theme {wrong}"


def finds_nothing(folder: Path, window: Any) -> Iterator[str]:
    """Whether the search does not know a public name."""
    window.goto(f"{(folder / 'search.html').resolve().as_uri()}?q={SEARCHED}")
    try:
        window.wait_for_selector("#search-results li a", timeout=PATIENCE)
    except Exception as error:
        yield f"search.html finds no {SEARCHED}: {str(error).splitlines()[0]}"


def seen(folder: Path) -> list[str]:
    """What is wrong in a browser that reaches no other site."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        try:
            window = chromium.new_page()
            window.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
            return [*looks_wrong(folder, window), *finds_nothing(folder, window)]
        finally:
            chromium.close()


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    folder = Path(given[0]) if given else BUILT
    if not (folder / "index.html").is_file():
        sys.exit(f"no pages in {folder}: make docs")
    if browser() is None:
        sys.exit("no Chromium is installed: apt-get install chromium")
    wrong = [*broken_links(folder), *seen(folder)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(pages_of(folder))} pages, {len(wrong)} faults")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
