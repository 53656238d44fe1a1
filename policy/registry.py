"""The one place where a configuration's `_target_` becomes an object, and only one of ours.

The way back is here too: `node` and `describe_part` write the configuration of a part.

A downloaded configuration is somebody else's text. A target that is registered neither here nor by
an installed package (entry-point group `hotstart.encoders`) is refused before any import.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeVar

from ..spec import ConfigError, cut, shorten
from ..system.plugins import added, fits, hints_of, words_of

PLAIN = (int, float, str, bool, type(None))
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_HERE = __name__.rsplit(".", 1)[0]  # hotstart.policy
TARGETS: dict[str, tuple[str, ...]] = {
    "encoder": (
        f"{_HERE}.encoders.state.StateEncoder",
        f"{_HERE}.encoders.image.ImageEncoder",
        f"{_HERE}.encoders.published.PublishedEncoder",
        f"{_HERE}.encoders.language.InstructionEncoder",
    ),
    "denoiser": (
        f"{_HERE}.denoisers.unet.ConditionalUnet",
        f"{_HERE}.denoisers.transformer.DiffusionTransformer",
        f"{_HERE}.denoisers.mode.ModeTransformer",
        f"{_HERE}.denoisers.mlp.DiffusionMLP",
        f"{_HERE}.denoisers.published_unet.PublishedUnet",
        f"{_HERE}.denoisers.split.SplitNetwork",
    ),
    "schedule": (
        f"{_HERE}.diffusion.schedule.VPCosine",
        f"{_HERE}.diffusion.schedule.Flow",
        f"{_HERE}.diffusion.schedule.LogLogistic",
        f"{_HERE}.diffusion.schedule.IndexTable",
    ),
    "solver": (
        f"{_HERE}.diffusion.solvers.DDIM",
        f"{_HERE}.diffusion.solvers.DPMSolverPP",
        f"{_HERE}.diffusion.solvers.PLMS",
    ),
    "actions": (f"{_HERE}.actions.Representation",),
    "runtime": (
        f"{_HERE}.runtime.eager.Eager",
        f"{_HERE}.runtime.compiled.Compiled",
        f"{_HERE}.runtime.openvino.OpenVino",
        f"{_HERE}.runtime.onnx.Onnx",
    ),
    "inference": (
        f"{_HERE}.samplers.fresh.Fresh",
        f"{_HERE}.samplers.warm_start.WarmStart",
        f"{_HERE}.samplers.streaming.Streaming",
        f"{_HERE}.samplers.real_time_chunking.RealTimeChunking",
        f"{_HERE}.samplers.bidirectional.BidirectionalDecoding",
        f"{_HERE}.samplers.best_of.BestOf",
        f"{_HERE}.samplers.stepwise.StepwiseSearch",
        f"{_HERE}.samplers.anchored.Anchored",
        f"{_HERE}.samplers.classifier_free.ClassifierFreeGuidance",
    ),
}
"""Axis of the configuration -> the classes that it may name. A new one is one line here."""
Axis = Literal["encoder", "denoiser", "schedule", "solver", "actions", "inference", "runtime"]
Class = TypeVar("Class", bound=type)
_OWN: dict[str, dict[str, type]] = {}
"""Axis -> dotted name -> class, of those that this program has registered."""


def register(axis: Axis) -> Callable[[Class], Class]:
    """A class decorator: from now on this program may build the class, from checkpoints too.

    Whoever loads the checkpoint must import the module that registers the class. A package names
    its encoders in the entry-point group `hotstart.encoders` instead, and every program finds them.

    Raises ConfigError for an axis that does not exist.

    Examples:
        >>> @hotstart.register("encoder")
        ... class MyEncoder(torch.nn.Module): ...
    """
    if axis not in TARGETS:
        raise ConfigError(f"unknown axis {shorten(axis)}; there are {', '.join(TARGETS)}")

    def add(own: Class) -> Class:
        _OWN.setdefault(axis, {})[f"{own.__module__}.{own.__qualname__}"] = own
        return own

    return add


def list_targets(axis: str) -> tuple[str, ...]:
    """Dotted names that the axis may hold, ours first, then those of installed packages."""
    if axis not in TARGETS:
        raise ConfigError(f"unknown axis {shorten(axis)}; there are {', '.join(TARGETS)}")
    found = [*TARGETS[axis], *_OWN.get(axis, {})]
    for entry in added(f"hotstart.{axis}s").values():
        found.append(entry.target.replace(":", "."))
    return tuple(found)


def build(axis: str, node: Mapping[str, Any], **given: Any) -> Any:
    """Make what `node` describes: its `_target_`, called with its other keys and `given`.

    Raises ConfigError for anything but keys, a missing or foreign target, and keys that its
    constructor does not know.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"the configuration's {axis} is {shorten(node)}; keys with a _target_ are wanted"
        )
    target = node.get("_target_")
    # Ours first: looking through the installed packages takes tens of milliseconds.
    if target not in TARGETS.get(axis, ()) and target not in list_targets(axis):
        raise ConfigError(
            f"the configuration's {axis} names the target {shorten(target)}, which is not one of "
            f"hotstart's: {', '.join(list_targets(axis))}. Nothing was imported; "
            f"a class of your own is added by hotstart.register({axis!r})"
        )
    factory = _find_class(axis, str(target))
    chosen = dict(node)
    del chosen["_target_"]
    _check_keys(axis, factory, {**chosen, **given})
    return factory(**chosen, **given)


def fill_defaults(axis: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """`node` with its constructor's plain defaults for keys that it leaves out.

    It comes back as it is where the target is foreign.
    """
    whole: dict[str, Any] = {}
    if node.get("_target_") in list_targets(axis):
        for parameter in inspect.signature(_find_class(axis, node["_target_"])).parameters.values():
            if isinstance(parameter.default, PLAIN):
                whole[parameter.name] = parameter.default
    return {**whole, **node}


def _find_class(axis: str, target: str) -> Any:
    """What a dotted name of a registered target means."""
    own = _OWN.get(axis, {})
    if target in own:
        return own[target]
    module, name = target.rsplit(".", 1)
    return getattr(import_module(module), name)


def _check_keys(axis: str, factory: Any, chosen: Mapping[str, Any]) -> None:
    known = inspect.signature(factory).parameters
    for key in chosen:
        if key not in known:
            raise ConfigError(
                f"{axis}.{cut(str(key), 60)} is unknown; "
                f"{factory.__name__} takes {', '.join(known)}"
            )
    hints = hints_of(factory)
    for key, value in chosen.items():
        if key in hints and not fits(value, hints[key]):
            raise ConfigError(
                f"{axis}.{key} is {shorten(value)}; it must be {words_of(hints[key])}"
            )


def node(part: Callable[..., Any] | Mapping[str, Any], /, **options: Any) -> dict[str, Any]:
    """The configuration of a part: its class, and the options that differ from the class's own.

    `part` is the class, `functools.partial(Class, option=value)`, or a configuration. Options that
    are parts themselves are described in the same way.
    """
    found: dict[str, Any] = {}
    if isinstance(part, Mapping):
        found |= part
    elif isinstance(part, partial):
        if part.args:
            raise ConfigError(f"give the options of {part.func.__name__} by name, in a partial too")
        found |= {"_target_": _name_target(part.func), **part.keywords}
    else:
        found["_target_"] = _name_target(part)
    for name, value in {**found, **options}.items():
        if callable(value):
            found[name] = node(value)
        else:
            found[name] = value
    return found


def describe_part(part: object) -> dict[str, Any]:
    """The configuration of an object, say of a sampler: its class and all of its options.

    Every option of the constructor must be an attribute of the same name; raises ConfigError where
    one is not.
    """
    factory = type(part)
    found: dict[str, Any] = {"_target_": _name_target(factory)}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in VARIABLE:
            continue
        if not hasattr(part, parameter.name):
            raise ConfigError(
                f"{factory.__name__} takes {parameter.name}, and has no attribute of that name: "
                f"set self.{parameter.name} in it, so that a result can say how it was made"
            )
        found[parameter.name] = _describe_value(getattr(part, parameter.name))
    return found


def _describe_value(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_describe_value(each) for each in value]
    if isinstance(value, (*PLAIN, dict)):
        return value
    return describe_part(value)


def _name_target(factory: Any) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"
