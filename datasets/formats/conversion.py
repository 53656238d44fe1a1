"""Makes a store of a replay buffer: which keys are taken, what they become, and the writing."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...spec import ActionDim, ActionSpec, ConfigError, DataError, ObsKey, ObsSpec
from ..episodes import ACTION, EXTRAS, check_choice
from ..kinds import check_numbers, decide_key, explain_key, may_be_picture, read_key
from ..locks import hold
from ..store import Store, refuse_full_disk
from .replay_buffer import Episode, ReplayBuffer, read_replay_buffer

LayoutName = Literal["plain", "pusht"]
BATCH_BYTES = 1 << 25
PUSHT_FPS = 10.0
PUSHT_SHAPES = {"action": (2,), "state": (5,), "keypoint": (9, 2)}


@dataclass(frozen=True)
class Conversion:
    """How episodes of a replay buffer become episodes of a store."""

    reads: tuple[str, ...]
    action_spec: ActionSpec
    obs_spec: ObsSpec
    translate: Callable[[Episode], Episode]
    notes: tuple[str, ...] = ()
    """What was decided about the keys, for people to read."""


def convert(
    source: str | Path | ReplayBuffer,
    target: str | Path,
    *,
    keys: Mapping[str, str] | None = None,
    layout: LayoutName = "plain",
    fps: float | None = None,
    task: str = "",
    images: bool = False,
    kinds: Mapping[str, str] | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> Store:
    """Make a store at `target`; it appears there only when all episodes are converted.

    `keys` maps our names to theirs, `action` included; without it all keys keep their names. Images
    are left out unless wanted by `images` or by name. `kinds` (our name -> state or image) settles
    what a shape leaves open, see `kinds.decide_key`; `say` is told what was decided.

    `layout="pusht"` makes `keypoints` (18,) [px], `agent_pos` (2,) [px] and `state` (6,): agent x,
    y, block x, y [px], sine and cosine of the block's angle; its fps is 10. Other layouts need an
    fps (steps per second), the format holds none. Raises DataError for data that does not fit the
    layout or a target that exists, ConfigError for a choice that is missing.
    """
    target = Path(target)
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    if isinstance(source, ReplayBuffer):
        buffer = source
    else:
        buffer = read_replay_buffer(source)
    if layout == "pusht":
        conversion = make_pusht_conversion(buffer, images)
        fps = fps or PUSHT_FPS
    else:
        conversion = make_plain_conversion(buffer, keys, images, kinds)
    buffer.check_readable(conversion.reads)
    for note in (*buffer.notes, *conversion.notes):
        say(note)
    if not fps:
        raise ConfigError(
            "this format does not say how many steps a second has; give it, for instance fps=10"
        )
    with hold(target):
        _write_store(buffer, conversion, target, fps, task)
    return Store.open(target)


def make_pusht_conversion(buffer: ReplayBuffer, images: bool = False) -> Conversion:
    """Push-T's human data as published with 2303.04137.

    Positions are pixels of a 512 x 512 window, actions the agent's targets. Raises DataError for
    data of another form.
    """
    if not is_pusht(buffer):
        has = {key: buffer.shape(key) for key in buffer.keys}
        raise DataError(
            f"{buffer.path} is not Push-T's data: it needs {PUSHT_SHAPES}, it has {has}"
        )
    reads = [*PUSHT_SHAPES]
    keys = {"keypoints": ObsKey((18,)), "agent_pos": ObsKey((2,)), "state": ObsKey((6,))}
    if images:
        check_choice("img", buffer.arrays)
        reads.append("img")
        keys["image"] = ObsKey(buffer.shape("img"), "uint8", "image")
    action = ActionSpec((ActionDim("target_x", "px"), ActionDim("target_y", "px")))
    return Conversion(tuple(reads), action, ObsSpec(keys), _translate_pusht)


def is_pusht(buffer: ReplayBuffer) -> bool:
    """Whether the arrays have Push-T's names and shapes."""
    for key, shape in PUSHT_SHAPES.items():
        if key not in buffer.arrays or buffer.shape(key) != shape:
            return False
    return True


def make_plain_conversion(
    buffer: ReplayBuffer,
    keys: Mapping[str, str] | None = None,
    images: bool = False,
    kinds: Mapping[str, str] | None = None,
) -> Conversion:
    """Every key under its own name, or the chosen ones, with the arguments of `convert`.

    Pictures become images, all else states in float32. Raises ConfigError for wrong choices and
    DataError for keys that cannot be stored.
    """
    kinds = dict(kinds or {})
    if keys:
        named = dict(keys)
    else:
        _refuse_unread(buffer)
        named = _choose_keys(buffer, images, kinds)
    buffer.check_readable(named.values())
    for name in sorted(kinds):
        if name not in named:
            raise ConfigError(f"kinds names {name!r}, which is not taken; taken are {list(named)}")
    action_spec = _make_action_spec(buffer, named)
    specs: dict[str, ObsKey] = {}
    notes: list[str] = []
    for name, key in named.items():
        check_numbers(name, buffer.dtype(key))
        if name == ACTION or name in EXTRAS:
            continue
        shape, dtype = buffer.shape(key), buffer.dtype(key)
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
    return Conversion(
        reads=tuple(named.values()),
        action_spec=action_spec,
        obs_spec=ObsSpec(specs),
        translate=partial(_translate_plain, named, specs),
        notes=tuple(filter(None, notes)),
    )


def _write_store(
    buffer: ReplayBuffer, conversion: Conversion, target: Path, fps: float, task: str
) -> None:
    """Write every episode into a store beside the target, which is then renamed."""
    making = target.with_name(target.name + ".converting")
    shutil.rmtree(making, ignore_errors=True)
    store = Store.create(
        making,
        fps=fps,
        action_spec=conversion.action_spec,
        obs_spec=conversion.obs_spec,
        task=task,
        source=buffer.path.name,
    )
    for batch in _make_batches(buffer, conversion):
        store.extend(batch)
    store.release()
    with refuse_full_disk(f"{target} cannot be made"):
        making.rename(target)


def _make_batches(buffer: ReplayBuffer, conversion: Conversion) -> Iterator[list[Episode]]:
    """Translated episodes, as many at a time as fit into BATCH_BYTES, with a progress bar."""
    numbers = range(len(buffer.episode_ends))
    name = f"converting {buffer.path.name}"
    batch: list[Episode] = []
    batch_bytes = 0
    for number in tqdm(numbers, desc=name, unit="episode", disable=None):
        episode = conversion.translate(buffer.episode(number, conversion.reads))
        batch.append(episode)
        batch_bytes += sum(array.nbytes for array in episode.values())
        if batch_bytes > BATCH_BYTES:
            yield batch
            batch = []
            batch_bytes = 0
    if batch:
        yield batch


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


def _make_action_spec(buffer: ReplayBuffer, named: Mapping[str, str]) -> ActionSpec:
    """Plain names for the actions' numbers."""
    if ACTION not in named:
        raise ConfigError(
            "which key holds the actions? give keys=action:NAME,..., "
            f"NAME one of {list(buffer.keys)}"
        )
    key = named[ACTION]
    shape = buffer.shape(key)
    if len(shape) != 1:
        raise DataError(f"{buffer.path}: {key!r} has steps of shape {shape}; actions are (N, A)")
    return ActionSpec.plain(shape[0])


def _translate_plain(
    named: Mapping[str, str], specs: Mapping[str, ObsKey], episode: Episode
) -> Episode:
    """One episode in our keys, as `named` (our name -> theirs) and `specs` say."""
    ours: Episode = {}
    for name, key in named.items():
        array = episode[key]
        if name in specs:
            ours[name] = read_key(name, array, specs[name])
        elif name != ACTION and array.shape[1:] == (1,):
            ours[name] = array[:, 0]  # one column of an extra (n, 1) as (n,)
        else:
            ours[name] = array
    return ours


def _translate_pusht(episode: Episode) -> Episode:
    """One Push-T episode in our keys."""
    state, count = episode["state"], len(episode["state"])
    angle = state[:, 4:].astype(np.float64)  # (n, 1)
    ours: dict[str, NDArray[Any]] = {
        ACTION: episode["action"],
        "agent_pos": state[:, :2],
        "keypoints": episode["keypoint"].reshape(count, 18),
        "state": np.concatenate([state[:, :4], np.sin(angle), np.cos(angle)], axis=1),  # (n, 6)
    }
    if "img" in episode:
        pictures = episode["img"]
        key = ObsKey(pictures.shape[1:], "uint8", "image")
        ours["image"] = read_key("image", pictures, key, scale=1)
    return ours
