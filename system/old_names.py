"""Old names in files of earlier versions: what the converters of those files share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TASK_OPTIONS = {"turns": "rotation"}
ROTATIONS = {"matrix": "rotation_6d"}


def rename_keys(values: Any, names: Mapping[str, str]) -> Any:
    """A copy of a mapping with its old keys renamed, in the same order.

    A key whose new name is taken keeps its old one; a value that is no mapping comes back as it is.
    """
    if not isinstance(values, Mapping):
        return values
    renamed = {}
    for key, value in values.items():
        new = names.get(key, key)
        if new in values:
            new = key
        renamed[new] = value
    return renamed


def convert_task_options(options: Any) -> Any:
    """Options of a task by their names of today: `turns=matrix` is `rotation=rotation_6d`."""
    if not isinstance(options, Mapping) or "turns" not in options:
        return options
    renamed = rename_keys(options, TASK_OPTIONS)
    form = renamed.get("rotation")
    if isinstance(form, str):
        renamed["rotation"] = ROTATIONS.get(form, form)
    return renamed
