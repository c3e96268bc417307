"""What the check of the built documentation finds on pages that are broken on purpose."""

from __future__ import annotations

from importlib.util import find_spec

import check_site  # docs/
import pytest

HEADER = """<header class="bd-header"><a class="navbar-brand" style="{style}">title</a>
<button class="search-button__button" style="position: absolute; left: 200px">search</button>
{more}</header>"""
BESIDE = "position: absolute; left: 20px"


@pytest.fixture
def site(tmp_path):
    """Writes pages and says where they are."""

    def write(**pages):
        for name, body in pages.items():
            (tmp_path / f"{name}.html").write_text(f"<!doctype html><body>{body}</body>", "utf-8")
        return tmp_path

    return write


@pytest.fixture(scope="module")
def window():
    if check_site.browser() is None or find_spec("playwright") is None:
        pytest.skip("no browser, or no playwright to drive it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=check_site.browser(), args=["--no-sandbox"]
        )
        yield chromium.new_page()
        chromium.close()


def test_links(site):
    folder = site(
        index='<h1 id="top">a</h1><a href="#top">b</a><a href="other.html#here">c</a>'
        '<a href="https://example.org/">d</a><a href="#gone">e</a><a href="gone.html">f</a>',
        other='<a name="here">a</a><a href="index.html#nowhere">b</a><img src="gone.png">',
    )
    assert list(check_site.broken_links(folder)) == [
        "index.html links to #gone",
        "index.html links to gone.html",
        "other.html links to index.html#nowhere",
        "other.html links to gone.png",
    ]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (HEADER.format(style=BESIDE, more=""), []),
        (
            HEADER.format(style="position: absolute; left: 180px", more=""),
            [f'index.html at {width} has "title" lie on "search"' for width in (1280, 390)],
        ),
        ('<p style="width: 500px">wide</p>', ["index.html at 390 is 508 wide"]),
        (
            HEADER.format(style=BESIDE, more='<ul><li class="nav-item dropdown">More</li></ul>'),
            [f"index.html at {width} hides a section" for width in (1280, 390)],
        ),
        (
            "<style>[data-theme=dark] p { background: rgb(34, 34, 34) }</style><p>dark</p>"
            '<p style="color: white">a</p>',
            [
                'index.html in the light theme has faint text, "a" (255,255,255 on 255,255,255)',
                'index.html in the dark theme has faint text, "dark" (0,0,0 on 34,34,34)',
            ],
        ),
        ('<p style="color: gray; font-size: 24px">large</p>', []),
        ('<p style="color: white; visibility: hidden">not seen</p>', []),
    ],
)
def test_looks(site, window, body, wrong):
    assert list(check_site.looks_wrong(site(index=body), window)) == wrong


def test_search(site, window, monkeypatch):
    monkeypatch.setattr(check_site, "PATIENCE", 500)
    found = '<div id="search-results"><ul><li><a href="index.html">it</a></li></ul></div>'
    assert list(check_site.finds_nothing(site(search=found), window)) == []
    (wrong,) = check_site.finds_nothing(site(search='<div id="search-results"></div>'), window)
    assert wrong.startswith("search.html finds no ProtoNetClassifier")


def test_without_pages_it_says_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match="make docs"):
        check_site.main([str(tmp_path)])
