"""One thought a line: packed lines are counted per folder, and the counts only fall."""

import ast
import json
from collections import Counter
from pathlib import Path

import hotstart
import pytest
from hotstart.benchmarks import _imports, density
from hotstart.benchmarks._source import (
    Source,
    find_any,
    find_copied,
    find_packed,
    find_participles,
    is_participle,
    read_tree,
)
from hotstart.spec import ConfigError

ROOT = Path(hotstart.__file__).parent
ALLOWED = Path(__file__).with_name("density_allowed.json")
COMMAND = "hotstart bench density allowed=true > tests/density_allowed.json"


def make_source(text, file="a.py"):
    return Source(Path(file), text.split("\n"), ast.parse(text))


def compare_counts(sources, allowed):
    """What is wrong, folder by folder, with every place of a folder that has too many."""
    found = density.count_packed(sources)
    wrong = []
    for folder in sorted({*found, *allowed}):
        now = found.get(folder, 0)
        limit = allowed.get(folder, 0)
        if now < limit:
            wrong.append(f"{folder}: {now} packed lines, {limit} allowed: lower the entry")
        if now > limit:
            wrong.append(f"{folder}: {now} packed lines, {limit} allowed: unpack the new ones of")
            for source in sources:
                if density.name_folder(source) == folder:
                    wrong += [f"  {place}" for place in find_packed(source)]
    return wrong


def test_packed_lines_only_become_fewer():
    sources = read_tree(ROOT)
    assert len(sources) > 100
    wrong = compare_counts(sources, json.loads(ALLOWED.read_text()))
    assert not wrong, "\n".join([f"to write the entries anew: {COMMAND}", *wrong])


def test_a_count_above_its_entry_shows_the_places_and_one_below_asks_to_lower_it():
    sources = [make_source("a, b, c = 1, 2, 3", "x/a.py"), make_source("a = b = 0", "y/b.py")]
    assert compare_counts(sources, {"x": 1, "y": 1}) == []
    above = compare_counts(sources, {"x": 1})
    assert above[0].startswith("y: 1 packed lines, 0 allowed")
    assert above[1] == "  y/b.py:1: a = b = 0  [chained assignment]"
    (below,) = compare_counts(sources, {"x": 2, "y": 1})
    assert below.startswith("x: 1 packed lines, 2 allowed: lower the entry")
    (gone,) = compare_counts(sources, {"x": 1, "y": 1, "z": 1})
    assert gone.startswith("z: 0 packed lines, 1 allowed")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a, b, c = f()", "assignment of three or more names"),
        ("a, (b, *c) = f()", "assignment of three or more names"),
        ("self.a, self.b, d[0] = f()", "assignment of three or more names"),
        ("a = b = 0", "chained assignment"),
        ("x = [[i for i in r] for r in m]", "comprehension in a comprehension"),
        ("x = [i for i in {j for j in m}]", "comprehension in a comprehension"),
        ("x = a if b else (c if d else e)", "conditional in a conditional or comprehension"),
        ("x = f(a if b else c) if d else e", "conditional in a conditional or comprehension"),
        ("x = [a if b else c for b in m]", "conditional in a conditional or comprehension"),
        ("x = [y := f(), y]", "walrus in a literal or comprehension"),
        ("x = {'a': (y := 1)}", "walrus in a literal or comprehension"),
        ("x = [y for i in m if (y := f(i))]", "walrus in a literal or comprehension"),
        ("a = 1; b = 2", "several statements on a line"),
        ("if a: b = 2", "several statements on a line"),
        ("class A: b = 2", "several statements on a line"),
    ],
)
def test_a_packed_line_is_found(text, kind):
    (place,) = find_packed(make_source("\n" + text))
    assert (place.line, place.kind, place.text) == (2, kind, text)


@pytest.mark.parametrize(
    "text",
    [
        "a, b = f()",
        "for a, b, c in m:\n    f(a)",
        "x = [i for i in m if i]",
        "x = [f(i, j) for i in m for j in i]",
        "x = f(a if b else c)",
        "if (n := f()):\n    g(n)\nelif a:\n    g(a)\nelse:\n    g(b)",
        "@g\ndef f(): ...",
        "x = 'ä'\ny = 1",
    ],
)
def test_a_plain_line_is_let_be(text):
    assert find_packed(make_source(text)) == []


def test_every_packed_line_counts_once():
    text = "x = [[[i for i in r] for r in m] for m in n]"
    kinds = Counter(place.kind for place in find_packed(make_source(text)))
    assert kinds == {"comprehension in a comprehension": 2}


def test_code_lines_leave_out_blanks_comments_and_docstrings():
    head = '"""Doc\n\nmore."""\nimport a\n\n# note\nX = 1  # one\n"""Of X."""\n\n'
    source = make_source(head + 'def f(\n    a,\n):\n    """Doc."""\n    # why\n    return a\n')
    assert source.code == {4, 7, 10, 11, 12, 15}
    assert [source.length(function) for function in source.functions] == [4]


def test_nodes_are_those_of_pythons_walk():
    assert len(make_source("a = 1").nodes) == 5  # Module, Assign, Name, Store, Constant


PARTICIPLES = ["shifted", "_going_on", "drawn_noise", "hidden", "begun", "denoising_loss"]
VERBS = ["shift", "open", "seed_all", "flatten", "__len__", "ping", "need", "ed", "listen"]


@pytest.mark.parametrize("name", PARTICIPLES)
def test_participles_are_told(name):
    assert is_participle(name)


@pytest.mark.parametrize("name", VERBS)
def test_verbs_and_nouns_are_no_participles(name):
    assert not is_participle(name)


def test_a_property_may_be_a_participle():
    text = "class A:\n    @property\n    def joined(self): ...\n    def shifted(self): ..."
    assert [place.line for place in find_participles(make_source(text))] == [4]


def test_any_counts_in_annotations_alone():
    head = "from typing import Any\nx: dict[str, Any] = {}\nY = Any\n"
    text = head + "def f(a: Any, *b: t.Any) -> list[Any]:\n    return Any"
    assert [place.line for place in find_any(make_source(text))] == [2, 4, 4, 4]


def test_copied_lines_are_found_whatever_their_indentation():
    block = [f"x{i} = {i}" for i in range(6)]
    one = make_source("import a\nimport b\n" + "\n".join(block), "one.py")
    two = make_source("def f():\n" + "\n".join(f"    {line}\n" for line in block), "two.py")
    copied = find_copied([one, two])
    assert {number for file, number in copied if file.name == "one.py"} == set(range(3, 9))
    assert len(copied) == 12
    assert find_copied([one, make_source("\n".join(block[:5]))]) == set()
    imports = "\n".join(f"import m{i}" for i in range(6))
    assert find_copied([make_source(imports, "one.py"), make_source(imports, "two.py")]) == set()


def test_the_graph_finds_circles_and_upward_imports():
    sources = [
        make_source("from .b import x", "envs/a.py"),
        make_source("def f():\n    from . import a", "envs/b.py"),
        make_source("from ..envs.b import x\nimport house.spec", "policy/c.py"),
        make_source("import os", "spec.py"),
        make_source("", "policy/__init__.py"),
        make_source("from ...spec import y", "policy/d/e.py"),
    ]
    arrows = _imports.find_arrows(sources, "house")
    assert (("policy", "c"), ("spec",)) in arrows
    assert (("policy", "d", "e"), ("spec",)) in arrows
    assert _imports.find_circles(arrows) == [["envs.a", "envs.b"]]
    floors = {"spec": 0, "envs": 3, "policy": 3}
    assert _imports.find_upward(arrows, floors) == ["policy.c -> envs.b"]
    assert _imports.find_rooms(sources, "policy") == ["c.py", "d"]


def test_the_floors_are_those_of_the_test():
    assert _imports.read_floors(ROOT)["spec"] == 0


def test_the_command_writes_the_figures(tmp_path, capsys):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("def shifted(x):\n    return [i for i in x]\n")
    (tmp_path / "inner" / "b.py").write_text("a, b, c = 1, 2, 3\n")
    out = tmp_path / "out.json"
    density.run(density.Options(tmp_path, places=True, out=str(out)))
    text = capsys.readouterr().out
    assert "inner/b.py:1: a, b, c = 1, 2, 3" in text
    folders = json.loads(out.read_text())["folders"]
    assert list(folders) == [".", "inner", "total"]
    total = folders["total"]
    assert (total["lines"], total["packed"], total["particip."], total["mean fn"]) == (3, 1, 1, 2)
    assert total["compr./100"] == pytest.approx(100 / 3)
    density.run(density.Options(tmp_path, allowed=True))
    assert json.loads(capsys.readouterr().out) == {"inner": 1}


def test_a_folder_without_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no Python files"):
        density.run(density.Options(tmp_path))
