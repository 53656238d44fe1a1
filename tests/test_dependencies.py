"""Every declared dependency is there, and can be imported beside the others."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = "core"
EXTENSIONS = {"ruckig": ["ruckig"], "ur-rtde": ["rtde_control", "rtde_io", "rtde_receive"]}
"""Modules of packages that are one compiled file each, which the metadata do not list as such."""
GROUPS: dict[str, list[str]] = {CORE: PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def declared() -> Iterator[tuple[str, Requirement]]:
    """Every dependency with the extra that it belongs to."""
    for group, texts in GROUPS.items():
        for text in texts:
            yield group, Requirement(text)


@cache
def owners_of_modules() -> Mapping[str, list[str]]:
    """Top module -> the packages that install it."""
    return packages_distributions()


def modules_of(name: str) -> list[str]:
    """The top modules that a package installs: `hydra` of hydra-core."""
    wanted = canonicalize_name(name)
    if wanted in EXTENSIONS:
        return EXTENSIONS[wanted]
    mine = [
        module
        for module, owners in owners_of_modules().items()
        if wanted in map(canonicalize_name, owners)
    ]
    return sorted(module for module in mine if module.isidentifier())


@pytest.mark.parametrize(
    ("group", "wanted"),
    [pytest.param(*pair, id=f"{pair[0]}-{pair[1].name}") for pair in declared()],
)
def test_a_declared_dependency_can_be_imported(group, wanted):
    try:
        have = version(wanted.name)
    except PackageNotFoundError:
        if group == CORE:
            raise
        pytest.skip(f"{wanted.name} of the extra {group!r} is not installed")
    assert wanted.specifier.contains(have), (
        f"{wanted.name} {have} is installed, {wanted} is declared"
    )
    names = modules_of(wanted.name)
    assert names
    for name in names:
        import_module(name)


def read_pins(name: str) -> list[Requirement]:
    """The exact versions in a file; its hashes and comments begin with a blank or with `#`."""
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]


def test_the_versions_tried_together_are_within_the_declared_bounds():
    tried = read_pins("requirements.txt") + read_pins("requirements-torch.txt")
    pins = {canonicalize_name(pin.name): pin for pin in tried}
    for group, wanted in declared():
        pin = pins.get(canonicalize_name(wanted.name))
        if pin is None:
            assert group != CORE, f"{wanted} is declared, and requirements.txt does not pin it"
            continue
        (exact,) = pin.specifier
        assert wanted.specifier.contains(exact.version), (
            f"requirements.txt pins {pin}, pyproject.toml wants {wanted}"
        )
