"""The one place where a configuration's `_target_` becomes an object, and only one of ours.

A downloaded configuration is somebody else's text: a target that is not registered here, or by an installed package through
the entry-point group `hotstart.encoders`, is refused before anything is imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..spec import ConfigError, cut, shorten
from ..system.plugins import added, fits, hints_of, words_of

PLAIN = (int, float, str, bool, type(None))
_HERE = __name__.rsplit(".", 1)[0]  # hotstart.policy
TARGETS: dict[str, tuple[str, ...]] = {
    "encoder": tuple(
        f"{_HERE}.encoders.{name}"
        for name in (
            "state.StateEncoder",
            "image.ImageEncoder",
            "published.PublishedEncoder",
            "language.InstructionEncoder",
        )
    ),
    "denoiser": tuple(
        f"{_HERE}.denoisers.{name}"
        for name in (
            "unet.ConditionalUnet",
            "transformer.DiffusionTransformer",
            "mode.ModeTransformer",
            "published_unet.PublishedUnet",
        )
    ),
    "schedule": tuple(
        f"{_HERE}.diffusion.schedule.{name}"
        for name in ("VPCosine", "Flow", "LogLogistic", "IndexTable")
    ),
    "solver": tuple(
        f"{_HERE}.diffusion.solvers.{name}" for name in ("DDIM", "DPMSolverPP", "PLMS")
    ),
    "actions": (f"{_HERE}.actions.Representation",),
    "inference": (
        f"{_HERE}.samplers.fresh.Fresh",
        f"{_HERE}.samplers.warm_start.WarmStart",
        f"{_HERE}.samplers.streaming.Streaming",
        f"{_HERE}.samplers.real_time_chunking.RealTimeChunking",
        f"{_HERE}.samplers.bidirectional.BidirectionalDecoding",
        f"{_HERE}.samplers.anchored.Anchored",
        f"{_HERE}.samplers.classifier_free.ClassifierFreeGuidance",
    ),
}


def targets(axis: str) -> tuple[str, ...]:
    """Dotted names that the axis may hold, ours first, then those of installed packages."""
    if axis not in TARGETS:
        raise ConfigError(f"unknown axis {shorten(axis)}; there are {', '.join(TARGETS)}")
    return TARGETS[axis] + tuple(
        entry.target.replace(":", ".") for entry in added(f"hotstart.{axis}s").values()
    )


def build(axis: str, node: Mapping[str, Any], **given: Any) -> Any:
    """Make the object that `node` describes: its `_target_`, called with its other keys and with `given`.

    Raises ConfigError for anything but keys, a missing or foreign target, and keys its constructor does not know.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"the configuration's {axis} is {shorten(node)}; keys with a _target_ are wanted"
        )
    target = node.get("_target_")
    # Ours first: looking through the installed packages takes tens of milliseconds.
    if target not in TARGETS.get(axis, ()) and target not in targets(axis):
        raise ConfigError(
            f"the configuration's {axis} names the target {shorten(target)}, which is not one of hotstart's: "
            f"{', '.join(targets(axis))}. Nothing was imported."
        )
    module, _, name = str(target).rpartition(".")
    factory = getattr(import_module(module), name)
    chosen = {}
    for key, value in node.items():
        if key != "_target_":
            chosen[key] = value
    _check_keys(axis, factory, {**chosen, **given})
    return factory(**chosen, **given)


def with_defaults(axis: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """`node` with the values that its constructor gives to keys that it leaves out; as it is where the target is foreign."""
    if node.get("_target_") not in targets(axis):
        return dict(node)
    module, _, name = str(node["_target_"]).rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    given = {}
    for p in parameters:
        if p.default is not inspect.Parameter.empty:
            given[p.name] = p.default
    return {**{key: value for key, value in given.items() if isinstance(value, PLAIN)}, **node}


def _check_keys(axis: str, factory: Any, chosen: Mapping[str, Any]) -> None:
    known = inspect.signature(factory).parameters
    unknown = [key for key in chosen if key not in known]
    if unknown:
        raise ConfigError(
            f"{axis}.{cut(str(unknown[0]), 60)} is unknown; {factory.__name__} takes {', '.join(known)}"
        )
    hints = hints_of(factory)
    for key, value in chosen.items():
        if key in hints and not fits(value, hints[key]):
            raise ConfigError(
                f"{axis}.{key} is {shorten(value)}; it must be {words_of(hints[key])}"
            )
