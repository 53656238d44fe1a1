"""BENCHMARKS.md lies at the root of the checkout and is a page of the documentation too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ABOVE = re.compile(r"\]\(\.\./((?:\.\./)*BENCHMARKS\.md)")
"""A link from a page of docs/ to it, as it stands in the checkout."""


def on_files(files: Files, config: Any) -> Files:
    """Add the page, its links into docs/ as they are on the site."""
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "BENCHMARKS.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to it, as they are on the site."""
    return ABOVE.sub(r"](\1", markdown)
