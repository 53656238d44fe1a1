"""What the steps of an RLDS data set hold, as its features.json says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...spec import ActionDim, ActionSpec, ConfigError, DataError, shorten
from ...system.untrusted import read_json
from ..episodes import ACTION, is_extra
from .foreign_data import ReadOptions

STEPS = "steps/"
OBSERVATION = "observation/"
REWARD = "reward"
FLAGS = ("is_first", "is_last", "is_terminal", "discount")
"""Of every step; they say where episodes are, which the records say too."""
INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "instruction")
DEEPEST = 20
NUMBER_TYPES = ("bool", "float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class StepFeature:
    """One feature of a step; its kind is number, image or text, and empty where it is not read."""

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Choice:
    """What is taken of the steps."""

    observation: dict[str, StepFeature]
    action: tuple[StepFeature, ...]
    instruction: StepFeature | None
    reward: StepFeature | None
    notes: tuple[str, ...]


def read_features(folder: Path) -> dict[str, StepFeature]:
    """Every feature of a step by its path below `steps`; DataError where there are no steps."""
    place = folder / "features.json"
    plain = read_json(place, DataError)
    try:
        steps = plain["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    except (KeyError, TypeError) as problem:
        raise DataError(f"{place} describes no steps; this is no RLDS data set") from problem
    found: dict[str, StepFeature] = {}
    for feature in _list_features(steps, "", 0):
        found[feature.name] = feature
    return found


def _list_features(plain: Any, path: str, depth: int) -> Iterator[StepFeature]:
    """The leaves below a part of features.json."""
    if not isinstance(plain, dict) or depth > DEEPEST:
        raise DataError(f"features.json: {shorten(path)} is {shorten(plain)}")
    inner = plain.get("featuresDict")
    if isinstance(inner, dict) and isinstance(inner.get("features"), dict):
        for name, feature in inner["features"].items():
            yield from _list_features(feature, f"{path}/{name}".strip("/"), depth + 1)
    else:
        yield _read_leaf(plain, path)


def _read_leaf(plain: dict[str, Any], path: str) -> StepFeature:
    if "text" in plain:
        return StepFeature(path, "text")
    if isinstance(plain.get("image"), dict):
        image = plain["image"]
        if image.get("dtype", "uint8") != "uint8":
            return StepFeature(path, "", problem=f"pictures of {image.get('dtype')}")
        return StepFeature(path, "image", _read_shape(image) or ())
    tensor = plain.get("tensor")
    if not isinstance(tensor, dict):
        return StepFeature(path, "", problem=str(plain.get("pythonClassName", "")).split(".")[-1])
    dtype, shape = str(tensor.get("dtype")), _read_shape(tensor)
    if dtype in ("string", "object") and shape == ():
        return StepFeature(path, "text")
    if tensor.get("encoding", "none") not in ("none", "") or shape is None:
        return StepFeature(path, "", problem="packed or of changing shape")
    if dtype not in NUMBER_TYPES and not dtype.startswith(("int", "uint")):
        return StepFeature(path, "", problem=dtype)
    return StepFeature(path, "number", shape, dtype)


def _read_shape(plain: dict[str, Any]) -> tuple[int, ...] | None:
    """The shape; None where a size is open or odd."""
    shape = plain.get("shape", {})
    dimensions = shape.get("dimensions", []) if isinstance(shape, dict) else None
    if not isinstance(dimensions, list) or len(dimensions) > 8:
        return None
    sizes: list[int] = []
    for size in dimensions:
        if not str(size).isdecimal() or not 1 <= int(size) <= 1 << 24:
            return None
        sizes.append(int(size))
    return tuple(sizes)


def choose_features(features: dict[str, StepFeature], options: ReadOptions) -> Choice:
    """What becomes of the features: observations, action, instruction and reward.

    Raises ConfigError where no action or no observation is left, and for keys that are not there.
    """
    notes: list[str] = []
    action = _list_action(features, options)
    if options.keys is None:
        observation = _list_observations(features, options.images, notes)
    else:
        observation = _pick_observations(features, options)
    if not observation:
        raise ConfigError(f"no observation is left of {sorted(features)}")
    instruction = None
    for name, feature in features.items():
        if feature.kind == "text" and name.split("/")[-1] in INSTRUCTIONS:
            instruction = feature
    reward = features.get(REWARD)
    if reward is not None and (reward.kind != "number" or reward.shape not in ((), (1,))):
        reward = None
    taken = {feature.name for feature in (*observation.values(), *action)}
    left_out = [name for name in features if name not in taken and name not in (REWARD, *FLAGS)]
    left_out = [name for name in left_out if instruction is None or name != instruction.name]
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")
    return Choice(observation, action, instruction, reward, tuple(notes))


def _list_action(features: dict[str, StepFeature], options: ReadOptions) -> tuple[StepFeature, ...]:
    """The parts of the action, in the order of their names."""
    name = (options.keys or {}).get(ACTION, ACTION)
    found: list[StepFeature] = []
    for path, feature in features.items():
        if path == name or path.startswith(f"{name}/"):
            if feature.kind != "number" or len(feature.shape) > 1:
                raise ConfigError(f"{path} is no vector of numbers: choose keys=action:NAME,...")
            found.append(feature)
    if not found:
        raise ConfigError(f"the steps have no {name!r}; they have {sorted(features)}")
    return tuple(found)


def _list_observations(
    features: dict[str, StepFeature], images: bool, notes: list[str]
) -> dict[str, StepFeature]:
    """Every picture and number below `observation`, by its own name."""
    found: dict[str, StepFeature] = {}
    for path, feature in features.items():
        if not path.startswith(OBSERVATION):
            continue
        name = path.removeprefix(OBSERVATION).replace("/", "_")
        if is_extra(name) or name == ACTION:
            name = f"observation_{name}"
        if feature.problem:
            notes.append(f"{path} is not read ({feature.problem})")
        elif feature.kind == "number" or (feature.kind == "image" and images):
            found[name] = feature
    return found


def _pick_observations(
    features: dict[str, StepFeature], options: ReadOptions
) -> dict[str, StepFeature]:
    """The chosen ones, by their path or by its last part."""
    found: dict[str, StepFeature] = {}
    for ours, theirs in (options.keys or {}).items():
        if ours == ACTION:
            continue
        feature = features.get(theirs) or features.get(f"{OBSERVATION}{theirs}")
        if feature is None or feature.kind not in ("number", "image"):
            raise ConfigError(f"the steps have no {theirs!r} to read; they have {sorted(features)}")
        found[ours] = feature
    return found


def make_action_spec(parts: tuple[StepFeature, ...]) -> ActionSpec:
    """Names of the action's numbers, from its parts; whole numbers are discrete."""
    dims: list[ActionDim] = []
    for part in parts:
        name = part.name.replace("/", "_").removeprefix(f"{ACTION}_")
        kind = "continuous"
        if not part.dtype.startswith(("float", "bfloat")):
            kind = "discrete"
        if part.shape == ():
            dims.append(ActionDim(name, kind=kind))
        else:
            for number in range(part.shape[0]):
                dims.append(ActionDim(f"{name}_{number}", kind=kind))
    return ActionSpec(tuple(dims))
