"""`hotstart bench mutations`: what it says of a small package that is known through and through."""

import json
from dataclasses import replace

import pytest
from hotstart.benchmarks import mutations
from hotstart.benchmarks._mutants import MUTANTS, Mutant
from hotstart.cli import main
from hotstart.spec import ConfigError, HotstartError

CODE = """def double(x):
    return 2 * x


def half(x):
    return x / 2
"""
TEST = """from hotstart.code import double


def test_double():
    assert double(4) == 8
"""
NOTICED = Mutant("doubles_too_much", "code.py", "2 * x", "3 * x", ("test_code.py",))
SURVIVOR = Mutant("halves_too_much", "code.py", "x / 2", "x / 3", ("test_code.py",))


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "tests").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "code.py").write_text(CODE)
    (folder / "tests" / "test_code.py").write_text(TEST)
    return folder


def test_an_edit_that_no_test_notices_survives_and_needs_a_reason(
    tree, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(mutations, "ROOT", tree)
    monkeypatch.setattr(mutations, "MUTANTS", (NOTICED, SURVIVOR))
    with pytest.raises(HotstartError, match="no test notices halves_too_much: write one"):
        mutations.run(mutations.Options(out=str(tmp_path / "out.json")))
    written = json.loads((tmp_path / "out.json").read_text())
    assert [(edit["name"], edit["survived"]) for edit in written] == [
        ("doubles_too_much", False),
        ("halves_too_much", True),
    ]
    assert written[0]["noticed_by"] == "tests/test_code.py::test_double"
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("noticed ")
    assert said[2].startswith("SURVIVED")
    assert said[3] == "2 edits: 1 noticed, 1 survived"
    assert (tree / "code.py").read_text() == CODE  # the checkout itself is never edited


def test_tests_that_fail_or_hang_without_an_edit_say_nothing(tree, tmp_path):
    (tree / "tests" / "test_code.py").write_text(
        "import time\n\ndef test_wait():\n    time.sleep(60)\n"
    )
    with pytest.raises(HotstartError, match=r"fail without any edit[\s\S]*longer than 0.5 s"):
        mutations.try_all([NOTICED], tree, tmp_path / "copies", at_once=1, limit_s=0.5)


def test_an_edit_that_no_longer_fits_the_code_is_named(tree):
    stale = [
        replace(NOTICED, old="4 * x"),
        replace(SURVIVOR, name="both", old="return"),
        replace(SURVIVOR, file="gone.py"),
    ]
    with pytest.raises(
        ConfigError,
        match=r"doubles_too_much \(code.py, 0 times\); both \(code.py, 2 times\); .*gone.py, 0",
    ):
        mutations.check_texts([NOTICED, *stale], tree)


def test_edits_are_chosen_by_how_their_names_begin(capsys):
    assert mutations.choose_mutants(["halves"], [NOTICED, SURVIVOR]) == [SURVIVOR]
    assert mutations.choose_mutants([], [NOTICED, SURVIVOR]) == [NOTICED, SURVIVOR]
    assert main(["bench", "mutations", "only=nothing_like_it"]) == 2
    assert "there is no edit 'nothing_like_it'" in capsys.readouterr().err


def test_every_edit_has_a_name_of_its_own():
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names))
    assert all(mutant.old != mutant.new and mutant.tests for mutant in MUTANTS)


def test_a_check_runs_no_test_and_names_stale_edits(tree, monkeypatch, capsys):
    monkeypatch.setattr(mutations, "ROOT", tree)
    monkeypatch.setattr(mutations, "MUTANTS", (NOTICED, SURVIVOR))
    mutations.run(mutations.Options(check=True))
    assert capsys.readouterr().out == "2 edits: their texts and tests are there\n"
    one = replace(NOTICED, tests=("test_code.py::test_half",))
    other = replace(SURVIVOR, tests=("test_gone.py",))
    with pytest.raises(ConfigError) as caught:
        mutations.check_tests([NOTICED, one, other], tree)
    places = (
        "doubles_too_much (tests/test_code.py::test_half); halves_too_much (tests/test_gone.py)"
    )
    assert places in str(caught.value)
