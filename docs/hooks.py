"""BENCHMARKS.md and the scripts of examples/ lie outside of docs/ and are pages of the site too."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FIGURES = re.compile(r"\]\(\.\./((?:\.\./)*BENCHMARKS\.md)")
EXAMPLE = re.compile(r"\]\(\.\./((?:\.\./)*)examples/(\w+)\.py\)")
"""Links from pages of docs/ to them, as they stand in the checkout."""


def on_files(files: Files, config: Any) -> Files:
    """Add both pages; links into docs/ become those of the site."""
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "BENCHMARKS.md", content=text))
    files.append(File.generated(config, "examples.md", content=write_examples()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to both pages, as they are on the site; search finds dated records last."""
    if page.file.src_uri.startswith("notebook/"):
        page.meta["search"] = {"boost": 0.3}
    markdown = FIGURES.sub(r"](\1", markdown)
    return EXAMPLE.sub(r"](\1examples.md#\2)", markdown)


def write_examples() -> str:
    """A page with every script of examples/, each a section with its first line as the lead."""
    parts = [
        "# Examples",
        "Whole scripts, each run by a test. They lie in the folder `examples` of the checkout.",
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        lead = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
        parts += [f"## {path.name} {{ #{path.stem} }}", lead, f"```python\n{text}```"]
    return "\n\n".join(parts) + "\n"
