"""What the documentation says is what the package holds: names, options, pictures and tests."""

import re
from pathlib import Path

import hotstart
import pytest
from hotstart.benchmarks import _house, site
from hotstart.configs.compose import list_choices
from hotstart.configs.schema import VERBS
from hotstart.spec import ConfigError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
"""A test that a page names: its file, and its function."""


def read_pages():
    return {page: page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")}


def find_missing_tests(text, root):
    """The tests that a page names and nobody has written."""
    missing = []
    for file, function in TEST.findall(text):
        path = root / file
        if not path.exists() or (function and f"def {function}(" not in path.read_text()):
            missing.append(f"{file}::{function}")
    return missing


def test_every_public_name_is_in_the_reference():
    found = set()
    for page in (DOCS / "api").glob("*.md"):
        found.update(re.findall(r"^::: hotstart\.(\w+)$", page.read_text(), re.M))
    assert found == set(dir(hotstart)) - {"__version__"}


def test_options_and_pictures_are_those_of_the_code():
    old = []
    for path, text in site.list_outputs(ROOT).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(path.name)
    assert old == [], "call `hotstart bench site`"


def test_every_sampler_has_a_page_with_its_options():
    pages = "\n".join((DOCS / "samplers" / page).read_text() for page in list_sampler_pages())
    fresh = {"ddpm", "dpmpp", "plms", "euler"}  # the page of ddim
    for choice in set(list_choices("inference")) - fresh:
        assert f"options inference={choice} -->" in pages


def test_every_verb_and_action_is_among_the_commands():
    text = (DOCS / "commands.md").read_text()
    for name, verb in VERBS.items():
        for action in verb.actions:
            assert f"## {name} {action}\n" in text
        if not verb.actions:
            assert f"## {name}\n" in text


def list_sampler_pages():
    return [page.name for page in (DOCS / "samplers").glob("*.md")]


def test_every_test_that_a_page_names_is_there():
    missing = {}
    for page, text in read_pages().items():
        if page.parent.name != "notebook":  # records keep the names of their day
            found = find_missing_tests(text, ROOT)
            if found:
                missing[page.name] = found
    assert missing == {}


def test_a_test_that_is_not_there_is_found(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_b(): ...")
    assert find_missing_tests("`tests/test_a.py` `tests/test_a.py::test_b`", tmp_path) == []
    text = "`tests/test_a.py::test_c`, `tests/test_d.py`"
    assert find_missing_tests(text, tmp_path) == ["tests/test_a.py::test_c", "tests/test_d.py::"]


def test_a_block_that_nobody_can_make_is_refused():
    with pytest.raises(ConfigError, match="a page asks for 'weather today'"):
        site.make_block("weather today")


def test_arrows_that_follow_from_others_are_left_out():
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert _house.leave_out_implied(edges) == edges - {("a", "c")}


def test_a_room_without_a_place_is_named():
    with pytest.raises(ConfigError, match="attic has no place in the picture"):
        _house.place_rooms({"attic", "spec"}, {"attic": 1, "spec": 0})
