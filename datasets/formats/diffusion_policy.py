"""Diffusion Policy's replay buffer as a data set: which keys are taken, and what they become."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import ActionDim, ActionSpec, ConfigError, DataError, IntArray, ObsKey, ObsSpec
from ..episodes import (
    ACTION,
    EXTRAS,
    check_choice,
    content_hash,
    count_steps,
    is_image,
    list_extras,
)
from ..kinds import check_numbers, decide_key, explain_key, may_be_picture, read_key
from .foreign_data import ReadOptions
from .replay_buffer import ReplayBuffer, read_replay_buffer
from .replay_description import Description, read_description
from .replay_meaning import Meaning, Translate
from .umi import POSE, UMI_FPS, is_umi, make_umi_meaning
from .zarr_reader import ZarrArray

PUSHT_FPS = 10.0
PUSHT_SHAPES = {"action": (2,), "state": (5,), "keypoint": (9, 2)}
LAYOUTS = ("auto", "plain", "pusht", "umi")


class ReplayData:
    """A replay buffer as a data set: rows are read from disk, and translated, when asked for."""

    format = "dp-zarr"

    def __init__(self, buffer: ReplayBuffer, meaning: Meaning, fps: float, task: str) -> None:
        """`fps` is the steps per second, which the format does not hold [Hz]."""
        self.path = buffer.path
        self.fps, self.task = fps, task
        self.action_spec, self.obs_spec = meaning.action_spec, meaning.obs_spec
        self.episode_ends: IntArray = buffer.episode_ends
        extras = list_extras(meaning.names)
        self.keys = (*meaning.obs_spec.keys, ACTION, *extras)
        self.notes = (*buffer.notes, *meaning.notes)
        self._buffer, self._meaning = buffer, meaning

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where it is unknown or damaged."""
        check_choice(key, self.keys)
        stop = min(stop, count_steps(self))
        values = self._meaning.read(self._buffer, key, start, stop)
        if key in self.obs_spec.keys:
            return values.astype(self.obs_spec.keys[key].dtype, copy=False)
        if key == ACTION:
            return values.astype(np.float32, copy=False)
        return values

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends; of pictures as they are packed."""
        digest = hashlib.sha256(content_hash(self, images=False).encode())
        for key, theirs in self._meaning.named.items():
            array = self._buffer.arrays[theirs]
            if is_image(self, key) and isinstance(array, ZarrArray):
                array.hash_chunks(digest)
            elif is_image(self, key):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing stays open."""


def open_replay_buffer(path: Path, options: ReadOptions) -> ReplayData:
    """Open a replay buffer with the meaning that the options give it.

    The layout `pusht` makes `keypoints` (18,) [px], `agent_pos` (2,) [px] and `state` (6,): agent
    x, y, block x, y [px], sine and cosine of the block's angle; its fps is 10. The layout `umi`
    joins actions of poses, see umi.py. Other layouts need an fps, unless hotstart wrote the file:
    the format holds none. Raises DataError for data that does not fit the layout, and
    ConfigError for a choice that is missing.
    """
    return open_buffer(read_replay_buffer(path), options)


def open_buffer(buffer: ReplayBuffer, options: ReadOptions) -> ReplayData:
    """`open_replay_buffer` of a buffer that is open already."""
    if options.layout not in LAYOUTS:
        raise ConfigError(f"layout is {options.layout!r}; a replay buffer's is one of {LAYOUTS}")
    described = read_description(buffer.attributes, str(buffer.path))
    meaning, fps = _choose_meaning(buffer, options, described)
    buffer.check_readable(meaning.reads)
    fps = options.fps or fps
    if not fps:
        raise ConfigError(
            "this format does not say how many steps a second has; give it, for instance fps=10"
        )
    return ReplayData(buffer, meaning, fps, options.task or described.task)


def _choose_meaning(
    buffer: ReplayBuffer, options: ReadOptions, described: Description
) -> tuple[Meaning, float | None]:
    """The meaning in the layout that is asked for or recognised, and its rate, if known [Hz]."""
    layout = options.layout
    if layout == "auto" and options.keys is None and described.fps is None:
        if is_pusht(buffer):
            layout = "pusht"
        elif is_umi(buffer):
            layout = "umi"
    if layout == "pusht":
        return make_pusht_meaning(buffer, options.images), PUSHT_FPS
    if layout == "umi":
        if not is_umi(buffer):
            raise DataError(
                f"{buffer.path} is not UMI's data: it needs {POSE} of robot0 and no action, "
                f"it has {list(buffer.keys)}"
            )
        return make_umi_meaning(buffer, options.images), UMI_FPS
    meaning = make_plain_meaning(buffer, options.keys, options.images, options.kinds, described)
    return meaning, described.fps


def make_pusht_meaning(buffer: ReplayBuffer, images: bool = True) -> Meaning:
    """Push-T's human data as published with 2303.04137.

    Positions are pixels of a 512 x 512 window, actions the agent's targets. Raises DataError for
    data of another form.
    """
    if not is_pusht(buffer):
        has = {key: buffer.shape(key) for key in buffer.keys}
        raise DataError(
            f"{buffer.path} is not Push-T's data: it needs {PUSHT_SHAPES}, it has {has}"
        )
    named = {ACTION: "action", "agent_pos": "state", "keypoints": "keypoint", "state": "state"}
    translate: dict[str, Translate] = {
        "agent_pos": _take_agent,
        "keypoints": _join_keypoints,
        "state": _split_angle,
    }
    keys = {"keypoints": ObsKey((18,)), "agent_pos": ObsKey((2,)), "state": ObsKey((6,))}
    if images and "img" in buffer.keys:
        named["image"] = "img"
        keys["image"] = ObsKey(buffer.shape("img"), "uint8", "image")
        translate["image"] = partial(read_key, "image", key=keys["image"], scale=1)
    action = ActionSpec((ActionDim("target_x", "px"), ActionDim("target_y", "px")))
    return Meaning(named, translate, action, ObsSpec(keys))


def is_pusht(buffer: ReplayBuffer) -> bool:
    """Whether the arrays have Push-T's names and shapes."""
    for key, shape in PUSHT_SHAPES.items():
        if key not in buffer.arrays or buffer.shape(key) != shape:
            return False
    return True


def make_plain_meaning(
    buffer: ReplayBuffer,
    keys: Mapping[str, str] | None = None,
    images: bool = True,
    kinds: Mapping[str, str] | None = None,
    described: Description | None = None,
) -> Meaning:
    """Every key under its own name, or the chosen ones; the arguments are those of ReadOptions.

    What the file itself says about a key or the actions (`described`) goes before its shape.
    Pictures become images, all else states in float32. Raises ConfigError for wrong choices and
    DataError for keys that cannot be stored.
    """
    kinds = dict(kinds or {})
    described = described or Description()
    if keys:
        named = dict(keys)
    else:
        _refuse_unread(buffer)
        named = _choose_keys(buffer, images, kinds)
    buffer.check_readable(named.values())
    for name in sorted(kinds):
        if name not in named:
            raise ConfigError(f"kinds names {name!r}, which is not taken; taken are {list(named)}")
    action_spec = _make_action_spec(buffer, named, described)
    specs: dict[str, ObsKey] = {}
    notes: list[str] = []
    for name, key in named.items():
        check_numbers(name, buffer.dtype(key))
        if name == ACTION or name in EXTRAS:
            continue
        shape, dtype = buffer.shape(key), buffer.dtype(key)
        told = described.obs.get(key)
        if told is not None and told.shape == shape and told.dtype == dtype and name not in kinds:
            specs[name] = told
            continue
        specs[name] = decide_key(name, shape, dtype, kinds.get(name))
        notes.append(explain_key(name, shape, dtype, specs[name]))
    if not specs:
        raise ConfigError(
            f"no observation is left; name at least one of {list(buffer.keys)}, "
            "or take the images with images=true"
        )
    if not keys and len(named) < len(buffer.keys):
        left_out = [key for key in buffer.keys if key not in named]
        notes.append(f"left out the pictures {', '.join(left_out)}: images=true takes them")
    translate: dict[str, Translate] = {}
    for name, key in named.items():
        if name in specs:
            translate[name] = partial(read_key, name, key=specs[name])
        elif name != ACTION and buffer.shape(key) == (1,):
            translate[name] = _take_column
    return Meaning(named, translate, action_spec, ObsSpec(specs), tuple(filter(None, notes)))


def _refuse_unread(buffer: ReplayBuffer) -> None:
    """Raise DataError where a key cannot be read and nobody said that it is not wanted."""
    for error in buffer.unread.values():
        raise DataError(f"{error}; or take other keys only: keys=action:NAME,state:NAME")


def _choose_keys(buffer: ReplayBuffer, images: bool, kinds: Mapping[str, str]) -> dict[str, str]:
    """Every key under its own name; pictures only where wanted by `images` or in `kinds`."""
    named: dict[str, str] = {}
    for key in buffer.keys:
        if images or key in kinds or not _is_picture(buffer, key):
            named[key] = key
    return named


def _is_picture(buffer: ReplayBuffer, key: str) -> bool:
    """Whether a key is left out unless images are wanted or it is named."""
    return len(buffer.shape(key)) >= 3 and may_be_picture(buffer.shape(key), buffer.dtype(key))


def _make_action_spec(
    buffer: ReplayBuffer, named: Mapping[str, str], described: Description
) -> ActionSpec:
    """What the file says of the actions' numbers, or plain names for them."""
    if ACTION not in named:
        raise ConfigError(
            "which key holds the actions? give keys=action:NAME,..., "
            f"NAME one of {list(buffer.keys)}"
        )
    key = named[ACTION]
    shape = buffer.shape(key)
    if len(shape) != 1:
        raise DataError(f"{buffer.path}: {key!r} has steps of shape {shape}; actions are (N, A)")
    told = described.action_spec
    if told is not None and key == ACTION and told.width == shape[0]:
        return told
    return ActionSpec.plain(shape[0])


def _take_column(values: NDArray[Any]) -> NDArray[Any]:
    """One number a step, (n, 1) as (n,)."""
    return values[:, 0]


def _take_agent(state: NDArray[Any]) -> NDArray[Any]:
    """Push-T's agent (n, 2) [px]."""
    return state[:, :2]


def _join_keypoints(keypoints: NDArray[Any]) -> NDArray[Any]:
    """Push-T's keypoints (n, 9, 2) as (n, 18) [px]."""
    return keypoints.reshape(len(keypoints), 18)


def _split_angle(state: NDArray[Any]) -> NDArray[Any]:
    """Push-T's state (n, 5) with the block's angle as its sine and cosine, (n, 6)."""
    angle = state[:, 4:].astype(np.float64)  # (n, 1)
    return np.concatenate([state[:, :4], np.sin(angle), np.cos(angle)], axis=1)
