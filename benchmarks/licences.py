"""Licences of the declared dependencies, and every copyleft package that they install."""

from __future__ import annotations

import re
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..spec import ConfigError, option

CORE = "core"
NOT_INSTALLED = "not installed here"
COPYLEFT = re.compile(r"GPL|GNU|MPL|Mozilla|EPL|EUPL|CDDL", re.IGNORECASE)


@dataclass
class Options:
    """Print the tables of docs/licences.md, from the metadata of what is installed."""

    project: Path = option(
        Path(__file__).parents[1] / "pyproject.toml", "the pyproject.toml that declares them"
    )


def run(options: Options) -> None:
    """Print one row per declared dependency, then one per copyleft package."""
    groups = read_groups(options.project)
    print("| part | package | versions | licence |\n|---|---|---|---|")
    for group, requirements in groups.items():
        for requirement in requirements:
            licence = find_licence(requirement.name)
            print(f"| {group} | {requirement.name} | {describe_range(requirement)} | {licence} |")
    print("\n| part | copyleft package | licence | installed by |\n|---|---|---|---|")
    seen: set[str] = set()
    for group, requirements in groups.items():
        for chain in walk(requirements):
            licence = find_licence(chain[-1])
            if chain[-1] in seen or not COPYLEFT.search(licence):
                continue
            seen.add(chain[-1])
            print(f"| {group} | {chain[-1]} | {licence} | {' > '.join(chain[:-1]) or 'declared'} |")


def read_groups(project: Path) -> dict[str, list[Requirement]]:
    """The declared requirements: those of the core, then those of each extra.

    Raises ConfigError where the file cannot be read or declares no dependencies.
    """
    try:
        table = tomllib.loads(project.read_text())["project"]
        declared = {CORE: table["dependencies"], **table["optional-dependencies"]}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"project={project} declares no dependencies ({error!r}); give a pyproject.toml"
        ) from error
    groups: dict[str, list[Requirement]] = {}
    for group, texts in declared.items():
        groups[group] = [Requirement(text) for text in texts]
    return groups


def describe_range(requirement: Requirement) -> str:
    """The bounds in the order of the versions, as `>=3.3.0,<3.10`."""
    bounds = sorted(str(requirement.specifier).split(","), reverse=True)
    return ",".join(bounds) or "any"


def walk(requirements: Sequence[Requirement]) -> Iterator[list[str]]:
    """Every package that the requirements install, as the chain of names that leads to it."""
    queue = deque(([], requirement) for requirement in requirements)
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        before, requirement = queue.popleft()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        chain = [*before, name]
        yield chain
        for needed in list_needs(requirement):
            queue.append((chain, needed))


def list_needs(requirement: Requirement) -> list[Requirement]:
    """What an installed package needs on this machine, with the extras that are asked for."""
    try:
        texts = metadata.requires(requirement.name) or []
    except metadata.PackageNotFoundError:
        return []
    needed = []
    for text in texts:
        need = Requirement(text)
        extras = requirement.extras or {""}
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            needed.append(need)
    return needed


def find_licence(name: str) -> str:
    """A package's licence: its expression, its classifiers, its text's first line, its field."""
    try:
        fields = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
    if "License-Expression" in fields:
        return fields["License-Expression"]
    found = []
    for classifier in fields.get_all("Classifier", []):
        if classifier.startswith("License :: OSI Approved :: "):
            found.append(classifier.removeprefix("License :: OSI Approved :: "))
    if found:
        return ", ".join(found)
    if "License" in fields and fields["License"].strip() not in ("", "UNKNOWN"):
        return fields["License"].strip().splitlines()[0]
    return read_first_line(name)


def read_first_line(name: str) -> str:
    """The first line of a package's licence file, such as `MIT License`."""
    for path in metadata.files(name) or []:
        if path.name.upper().startswith("LICEN"):
            return path.read_text().strip().splitlines()[0]
    return "not stated"
