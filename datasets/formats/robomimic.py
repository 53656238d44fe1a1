"""Reads robomimic's HDF5: `data/demo_N` with `actions`, `obs/KEY`, `rewards`, `dones`, `states`.

The layout is that of robomimic's documentation (datasets/overview). `data` says with `env_args` how
the environment was made; `mask/NAME` lists the demos of a part, such as train and valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...spec import ActionSpec, ConfigError, DataError, HotstartError, ObsSpec, cut, shorten
from ...system.untrusted import parse_json
from ..checks.finding import Finding, compare_count
from ..episodes import ACTION, is_extra
from .foreign_data import ReadOptions
from .hdf5_data import (
    Column,
    Hdf5Data,
    Numbers,
    Taken,
    choose_names,
    join_episodes,
    require_fps,
    take_columns,
)
from .hdf5_files import FilePool, Hdf5Array, Hdf5File, Hdf5Group, list_hdf5

OURS = "hotstart"
"""The attribute of `data` in which hotstart keeps what the format has no place for."""
MASK = "mask:"
NAMES = {ACTION: "actions", "reward": "rewards"}
"""Our names to theirs."""


@dataclass(frozen=True)
class Demos:
    """The demos of a file that are read."""

    data: Hdf5Group
    names: Sequence[str]
    masks: Mapping[str, Sequence[int]]
    notes: tuple[str, ...]


def open_robomimic(path: Path, options: ReadOptions) -> Hdf5Data:
    """Open a robomimic file; `layout=mask:train` reads only the demos of that mask.

    `keys` names arrays of a demo: `actions`, `obs/KEY` or KEY, `states`. Without it the actions,
    the rewards and every observation are taken. The rate is env_args' control_freq. Raises
    DataError for damage and for demos that differ, ConfigError for options that do not fit.
    """
    with FilePool() as pool:
        return _open(path, options, pool)


def _open(path: Path, options: ReadOptions, pool: FilePool) -> Hdf5Data:
    demos = find_demos(Hdf5File(choose_file(path), pool), options.layout)
    env_args = demos.data.text("env_args")
    ours = read_ours(demos.data)
    first = demos.data.group(demos.names[0])
    named = choose_names(options, lambda: dict(ours.named or name_arrays(first)))
    episodes = [read_demo(demos.data.group(name), named) for name in demos.names]
    if options.keys is None and ours.specs is not None:
        options = replace(options, kinds=_note_states(ours.specs[1]) | (options.kinds or {}))
    taken = take_columns(path, episodes[0], options)
    if options.keys is None and ours.specs is not None:
        taken = _take_ours(taken, ours.specs)
    fps = require_fps(options.fps or ours.fps or find_rate(env_args))
    notes = (*demos.notes, *_describe_env(env_args))
    task = options.task or ours.task
    data = join_episodes(path, "robomimic", episodes, taken, fps, task, notes, pool)
    data.env_args = env_args
    data.masks = demos.masks
    if options.layout == "auto":
        data.faults = check_total(demos.data, int(data.episode_ends[-1]))
    return data


def check_total(data: Hdf5Group, steps: int) -> list[Finding]:
    """Whether the steps of all demos are as many as the file says."""
    declared = data.attribute("total")
    return list(compare_count(f"{data.file.path}", "data's attribute total", declared, steps))


def choose_file(path: Path) -> Path:
    """The file, or the only one of a folder."""
    if path.is_file():
        return path
    found = list_hdf5(path)
    if len(found) != 1:
        names = [file.name for file in found]
        raise DataError(f"{path} holds {len(found)} files {shorten(names)}: name one of them")
    return found[0]


def find_demos(file: Hdf5File, layout: str) -> Demos:
    """The demos in the order of their numbers; of one mask only where the layout says so."""
    data = file.root().group("data")
    names = data.names()
    if not names:
        raise DataError(f"{file.path} holds no demos")
    masks = _read_masks(file.root(), names)
    if layout == "auto":
        notes = ()
        if masks:
            parts = ", ".join(f"{name} {len(numbers)}" for name, numbers in masks.items())
            notes = (f"masks: {cut(parts)} of {len(names)} demos; layout=mask:NAME reads one",)
        return Demos(data, names, masks, notes)
    mask = layout.removeprefix(MASK)
    if not layout.startswith(MASK) or mask not in masks:
        raise ConfigError(
            f"layout is {shorten(layout)}; it is auto, or mask:NAME with one of {list(masks)}"
        )
    chosen = [names[number] for number in masks[mask]]
    if not chosen:
        raise DataError(f"{file.path}: the mask {mask!r} names no demo")
    return Demos(data, chosen, {}, ())


def _read_masks(root: Hdf5Group, names: Sequence[str]) -> dict[str, list[int]]:
    """Name of a mask -> numbers of its demos; DataError where it names one that is not there."""
    found = root.find("mask")
    masks: dict[str, list[int]] = {}
    if not isinstance(found, Hdf5Group):
        return masks
    numbers = {name: number for number, name in enumerate(names)}
    for name in found.names():
        texts = found.array(name).texts()
        lost = sorted(set(texts) - set(numbers))
        if lost:
            raise DataError(f"{root.file.path}: the mask {name!r} names {shorten(lost)}, no demos")
        masks[name] = sorted({numbers[text] for text in texts})
    return masks


def name_arrays(demo: Hdf5Group) -> dict[str, str]:
    """What is taken of a demo unless somebody chooses: actions, rewards, and all observations."""
    held = demo.names()
    named = {ours: theirs for ours, theirs in NAMES.items() if theirs in held}
    for key in demo.group("obs").names():
        named[key] = f"obs/{key}"
    return named


def read_demo(demo: Hdf5Group, named: Mapping[str, str]) -> dict[str, Column]:
    """The columns of one demo; DataError where one is missing or the demo is not whole."""
    episode: dict[str, Column] = {}
    for ours, theirs in named.items():
        array = find_array(demo, theirs)
        episode[ours] = Numbers(array, len(array))
    wanted = demo.attribute("num_samples")
    if wanted is not None and (np.ndim(wanted) or wanted != len(episode[ACTION])):
        raise DataError(
            f"{demo.file.path}: {demo.name} says that it has {shorten(wanted)} steps, its actions "
            f"have {len(episode[ACTION])}"
        )
    return episode


def find_array(demo: Hdf5Group, name: str) -> Hdf5Array:
    """An array of numbers of a demo, an observation's also by its short name."""
    found = demo.find(name)
    if not isinstance(found, Hdf5Array):
        found = demo.find(f"obs/{name}")
    if not isinstance(found, Hdf5Array):
        inside = [*demo.names(), *(f"obs/{key}" for key in _list_obs(demo))]
        raise DataError(
            f"{demo.file.path}: {demo.name} has no array {shorten(name)}; it has {cut(str(inside))}"
        )
    if found.holds != "numbers" or not found.shape:
        raise DataError(f"{demo.file.path}/{found.name} is no array of numbers, time first")
    return found


def _list_obs(demo: Hdf5Group) -> list[str]:
    found = demo.find("obs")
    if isinstance(found, Hdf5Group):
        return found.names()
    return []


def find_rate(env_args: str) -> float | None:
    """env_args' control_freq [Hz]; None where it does not say it."""
    found = _parse(env_args)
    kwargs = found.get("env_kwargs")
    if isinstance(kwargs, dict):
        rate = kwargs.get("control_freq")
        if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0:
            return float(rate)
    return None


def _parse(text: str) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = parse_json(text or "{}", "env_args", DataError)
    except DataError:
        return {}
    if isinstance(found, dict):
        return found
    return {}


def _describe_env(env_args: str) -> list[str]:
    """The environment in words, for the notes."""
    found = _parse(env_args)
    if not found:
        return []
    version = found.get("env_version", "unknown version")
    return [f"recorded in {shorten(found.get('env_name'))}, {shorten(version)} (env_args)"]


@dataclass(frozen=True)
class Ours:
    """What hotstart's writer noted; empty in files of others."""

    named: Mapping[str, str] | None = None
    specs: tuple[ActionSpec, ObsSpec] | None = None
    fps: float | None = None
    task: str = ""


def read_ours(data: Hdf5Group) -> Ours:
    """The attribute that hotstart's writer adds; DataError where it is damaged."""
    text = data.text(OURS)
    if not text:
        return Ours()
    where = f"{data.file.path}, attribute {OURS!r}"
    found = parse_json(text, where, DataError)
    try:
        action_spec = ActionSpec.from_json(found["action_spec"])
        obs_spec = ObsSpec.from_json(found["obs_spec"])
        named = {ACTION: NAMES[ACTION], **{key: f"obs/{key}" for key in obs_spec.keys}}
        for name in found["extras"]:
            if not is_extra(name):
                raise DataError(f"{where}: {shorten(name)} is no extra")
            named[name] = str(NAMES.get(name, name))
        return Ours(named, (action_spec, obs_spec), float(found["fps"]), str(found["task"]))
    except (HotstartError, LookupError, TypeError, ValueError) as problem:
        raise DataError(f"{where} is damaged ({cut(str(problem), 200)})") from problem


def _note_states(obs_spec: ObsSpec) -> dict[str, str]:
    """The keys that are states, whatever their shape looks like."""
    return {name: "state" for name, key in obs_spec.keys.items() if key.kind == "state"}


def _take_ours(taken: Taken, specs: tuple[ActionSpec, ObsSpec]) -> Taken:
    """The specification that hotstart's writer noted, of the keys that are taken.

    Raises DataError where it does not fit the arrays.
    """
    action_spec, obs_spec = specs
    keys = dict(taken.obs_spec.keys)
    for name, key in keys.items():
        noted = obs_spec.keys[name]
        if tuple(noted.shape) != tuple(key.shape):
            raise DataError(f"{name!r} is noted with shape {noted.shape}, and has {key.shape}")
        keys[name] = noted
    if action_spec.width != taken.action_spec.width:
        raise DataError(
            f"{action_spec.width} numbers of an action are noted, there are "
            f"{taken.action_spec.width}"
        )
    return replace(taken, obs_spec=ObsSpec(keys), action_spec=action_spec)
