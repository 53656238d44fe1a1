"""Help of the verbs that have parts: every axis with its choices, and every option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from ..system.options import Option, read_options
from .compose import (
    compose_parts,
    default_choices,
    describe_group,
    find_target,
    flatten_options,
)
from .help import describe_choices, describe_head, describe_options
from .schema import AXES, VERBS

PARTS = ("encoder", "denoiser", "schedule", "actions", "inference", "runtime", "method", "robot")
"""Axes whose choices become objects with options of their own."""
EXAMPLES = {"denoiser", "inference"}


def describe_composed(verb: str, arguments: Sequence[str] = ()) -> str:
    """Axes, options, defaults and meanings of a verb.

    Arguments that choose a part ask for its options.
    """
    cls = VERBS[verb].options
    assert cls is not None
    options = flatten_options(cls)
    axes = default_choices(verb)
    lines = describe_head(f"hotstart {verb}", cls, options)
    for axis, default in axes.items():
        lines += describe_choices(axis, _mean(axis, options), default, describe_group(axis))
    if "inference" in axes:
        axis = "solver@inference.solver"
        lines += describe_choices(
            axis, _mean(axis, options), "the sampler's", describe_group("solver")
        )
    for listed in _group_options(options, axes):
        lines += ["", *describe_options(listed)]
    lines += ["", f"`hotstart {verb} --help task=lift` lists the options of a task's environment."]
    for part in EXAMPLES & axes.keys():
        lines.append(f"`hotstart {verb} --help {part}={axes[part]}` lists the options of a part.")
    return "\n".join([*lines, *_describe_parts(verb, arguments)])


def _describe_parts(verb: str, arguments: Sequence[str]) -> list[str]:
    """The options of the parts that the arguments choose; the task's are its environment's."""
    chosen = {}
    for argument in arguments:
        axis = argument.partition("=")[0]
        if axis in PARTS and axis in default_choices(verb):
            chosen[axis] = argument.removeprefix(f"{axis}=")
    lines = []
    for part, node in compose_parts(verb, list(chosen), arguments).items():
        lines += ["", f"The options of {part}={chosen[part]}:", ""]
        lines += describe_options(list_part(part, node))
    return lines


def list_part(name: str, node: Mapping[str, Any]) -> list[Option]:
    """The options of a composed part and of the parts inside it, with their values as defaults."""
    declared = read_options(find_target(node["_target_"]))
    found = []
    for key, value in node.items():
        if isinstance(value, Mapping) and "_target_" in value:
            found += list_part(f"{name}.{key}", value)
        elif key != "_target_":
            found.append(replace(declared[key], name=f"{name}.{key}", default=value))
    return found


def _mean(axis: str, options: Mapping[str, Option]) -> str:
    """What an axis is for."""
    if axis in AXES:
        return AXES[axis]
    return options[axis].meaning


def _group_options(
    options: Mapping[str, Option], axes: Mapping[str, str]
) -> Iterator[list[Option]]:
    """The verb's own options, then those of each dataclass inside it.

    Axes and dataclasses themselves are left out.
    """
    groups: dict[str, list[Option]] = {"": []}
    for name, option in options.items():
        if name in axes or is_dataclass(option.hint):
            continue
        shown = replace(option, name=name)
        if name.startswith("task."):
            shown = replace(shown, hint=Any, default="the task's own")
        groups.setdefault(name.rpartition(".")[0], []).append(shown)
    yield from groups.values()
