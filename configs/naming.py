"""What the command line calls a sampler that was made in Python."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from omegaconf import OmegaConf

from .compose import MODULE, list_files

SOLVER = "/solver@solver"
"""The entry of a sampler's file that names the file of its solver."""


def name_sampler(node: Mapping[str, Any]) -> str:
    """The choice of `inference=` that makes this sampler, as `ddim`.

    Where none has its solver, the first one of its class; for a class of the user's own its name.
    """
    kind = _name_class(node)
    named = ""
    for choice in sorted(list_files("inference")):
        file = _read_file("inference", choice)
        if f"schema_{kind}" not in file["defaults"]:
            continue
        if _has_solver(file, node.get("solver")):
            return choice
        named = named or choice
    return named or kind


def _has_solver(file: Mapping[str, Any], node: object) -> bool:
    """Whether the file of a sampler takes this solver."""
    if not isinstance(node, Mapping):
        return False
    for entry in file["defaults"]:
        if isinstance(entry, Mapping) and SOLVER in entry:
            solver = _read_file("solver", entry[SOLVER])
            own = {key: value for key, value in solver.items() if key != "defaults"}
            return (
                f"schema_{_name_class(node)}" in solver["defaults"] and own.items() <= node.items()
            )
    return False


def _read_file(axis: str, choice: str) -> Any:
    text = (resources.files(MODULE) / axis / f"{choice}.yaml").read_text()
    return OmegaConf.to_container(OmegaConf.create(text))


def _name_class(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]
