"""What the documentation says is what the package holds: names, options, pictures and tests."""

import re
from pathlib import Path

import hotstart

DOCS = Path(__file__).parents[1] / "docs"


def list_reference():
    """The last part of every name that the API reference shows."""
    found = set()
    for page in (DOCS / "api").glob("*.md"):
        found.update(re.findall(r"^::: hotstart\.(?:\w+\.)*(\w+)$", page.read_text(), re.M))
    return found


def test_every_public_name_is_in_the_reference():
    public = set(dir(hotstart)) - {"__version__"}
    made = {"make_env", "make_robot"}  # `make` of a module
    assert public - made - list_reference() == set()
