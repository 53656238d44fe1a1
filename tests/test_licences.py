"""What docs/licences.md says of each declared dependency, and what the licence fields say."""

import tomllib
from pathlib import Path

import pytest
from hotstart.benchmarks import licences
from hotstart.spec import ConfigError
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "pyproject.toml"


def test_every_declared_dependency_has_a_line_with_its_versions():
    page = (ROOT / "docs/licences.md").read_text()
    for group, requirements in licences.read_groups(PROJECT).items():
        for requirement in requirements:
            versions = licences.describe_range(requirement)
            line = f"| {group} | {requirement.name} | {versions} | "
            assert line in page, f"run `hotstart bench licences`, and put into the page: {line}"


def test_copyleft_is_found_behind_what_is_declared():
    chains = {chain[-1]: chain for chain in licences.walk([Requirement("robosuite")])}
    assert chains["quadprog"] == ["robosuite", "qpsolvers", "quadprog"]
    for name in ("quadprog", "qpsolvers", "pynput", "python-xlib", "tqdm"):
        assert licences.COPYLEFT.search(licences.find_licence(name))
    for name in ("numpy", "torch", "robosuite", "safetensors", "h5py"):
        assert not licences.COPYLEFT.search(licences.find_licence(name))


def test_a_walk_reaches_each_package_once_although_packages_need_each_other(tmp_path, monkeypatch):
    needs = {"one": ["two[x]", "three"], "two": ["one", "four; extra == 'x'", "five; extra == 'y'"]}
    for name, texts in needs.items():
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        lines = [f"Requires-Dist: {text}\n" for text in texts]
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1\n{''.join(lines)}")
    monkeypatch.syspath_prepend(tmp_path)
    chains = list(licences.walk([Requirement("one")]))
    assert chains == [["one"], ["one", "two"], ["one", "three"], ["one", "two", "four"]]
    assert licences.find_licence("one") == "not stated"
    assert licences.find_licence("three") == licences.NOT_INSTALLED


@pytest.mark.parametrize("text", ["[project]\n", "no toml"])
def test_a_file_without_dependencies_is_refused(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match="declares no dependencies"):
        licences.read_groups(tmp_path / "pyproject.toml")


def test_the_project_is_under_apache_2():
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {project['version']}\n" in citation
    assert "license: Apache-2.0\n" in citation
