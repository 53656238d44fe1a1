"""Links of the project's pages lead to a file and a heading that exist; BENCHMARKS.md is short."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["BENCHMARKS.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
LINK = re.compile(r"\]\(\s*<?([^\s)>]+)|\b(?:src|href)=\"([^\"]+)\"")
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)


def list_pages() -> list[Path]:
    """The pages at the root and every Markdown page of docs/."""
    return [*map(ROOT.joinpath, PAGES), *sorted((ROOT / "docs").rglob("*.md"))]


def strip_code(text: str) -> str:
    """The text without blocks and spans of code."""
    return re.sub(r"(`+)[^`].*?\1", "", FENCE.sub("", text))


def find_links(text: str) -> Iterator[str]:
    """The targets of links and pictures that lie in the project."""
    for match in LINK.finditer(strip_code(text)):
        target = match[1] or match[2]
        if not OUTSIDE.match(target):
            yield target


def find_anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them, and those given by hand."""
    anchors: set[str] = set()
    plain = FENCE.sub("", text)
    for title in re.findall(r"^#{1,6} +(.*?)(?: *\{[^}]*\})? *$", plain, re.MULTILINE):
        title = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title)
        words = re.sub(r"[^\w\- ]", "", title.lower())
        base = words.replace(" ", "-")
        anchor = base
        number = 0
        while anchor in anchors:
            number += 1
            anchor = f"{base}-{number}"
        anchors.add(anchor)
        anchors.add(re.sub(r"[-\s]+", "-", words).strip("-"))
    anchors.update(re.findall(r"^::: ([\w.]+)$", plain, re.MULTILINE))  # of the API reference
    anchors.update(re.findall(r"\{ *#([\w.-]+)", plain))
    anchors.update(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", plain))
    return anchors


def find_broken(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to a heading that its file does not have."""
    broken = []
    for target in find_links(page.read_text()):
        path, _, anchor = target.partition("#")
        file = page
        if path:
            file = page.parent / path
        found = file.exists()
        if found and anchor and file.suffix == ".md":
            found = anchor in find_anchors(file.read_text())
        if not found:
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", list_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert not find_broken(page)


def test_broken_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text(
        "# A [title](x.md), twice\n# A title, twice\n## By { #hand }\n::: a.B\n"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](#here) [b](other.md#a-title-twice-1) [c](other.md#hand) [d](other.md#a.B)\n"
        "[d](https://x.y)\n"
        '[e](#gone) [f](other.md#gone) ![g](gone.png) <a href="gone">h</a>\n'
        "`[code](no)`\n```\n[code](no)\n# no\n```\n[i](#no)\n"
    )
    assert find_broken(page) == ["#gone", "other.md#gone", "gone.png", "gone", "#no"]


def test_the_headline_figures_stay_short():
    assert len((ROOT / "BENCHMARKS.md").read_text().splitlines()) <= 150


def test_the_notebook_lists_its_pages():
    notebook = ROOT / "docs/notebook"
    listed = set(find_links((notebook / "index.md").read_text()))
    assert listed == {page.name for page in notebook.glob("*.md")} - {"index.md"}


def test_figures_of_the_samplers_pages_are_those_of_the_record():
    """Each, with its interval, stands in BENCHMARKS.md or in the notebook, which it is of."""
    record = (ROOT / "BENCHMARKS.md").read_text()
    for page in (ROOT / "docs" / "notebook").glob("*.md"):
        record += page.read_text()
    figures = []
    for page in (ROOT / "docs" / "samplers").glob("*.md"):
        figures += re.findall(r"[+-]?\d+\.\d+ \[[-+\d., ]+\]", page.read_text())
    assert len(figures) > 50
    assert [figure for figure in figures if figure not in record] == []
