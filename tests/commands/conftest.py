"""Pages that hotstart writes, as a reader sees them."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

EMPTY = {"br", "hr", "img", "input", "link", "meta", "wbr"}
"""Tags that have no end."""
BLOCKS = {"code", "figcaption", "h1", "h2", "h3", "li", "p"}
"""Tags whose text is kept, one entry each."""


class Page(HTMLParser):
    """A page in parts; fails where a tag is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.blocks: dict[str, list[str]] = {tag: [] for tag in BLOCKS}
        self.tables: list[list[list[str]]] = []
        self.facts: dict[str, str] = {}
        self.words: list[str] = []
        self._open: list[str] = []
        self._name = ""
        self.feed(text)
        self.close()
        assert self._open == []

    @property
    def commands(self) -> list[str]:
        """The blocks of code, in order."""
        return self.blocks["code"]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag in EMPTY:
            return
        self._open.append(tag)
        if tag in BLOCKS:
            self.blocks[tag].append("")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag == "dt":
            self._name = ""

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or "style" in self._open:
            return
        self.words.append(data)
        for tag in BLOCKS & set(self._open):
            self.blocks[tag][-1] += data
        if {"th", "td"} & set(self._open):
            self.tables[-1][-1][-1] += data
        if "dt" in self._open:
            self._name += data
        if "dd" in self._open:
            self.facts[self._name] = self.facts.get(self._name, "") + data


def read_page(path: Path | str) -> Page:
    return Page(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(name="read_page", scope="session")
def give_read_page():
    """A page's text by tag, its tables by cell, its commands, attributes and facts."""
    return read_page
