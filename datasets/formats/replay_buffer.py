"""Diffusion Policy's ReplayBuffer: `data/<key>` with time first and `meta/episode_ends`, as a Zarr
folder, zip or npz.

The format came with 2303.04137 and is shared by UMI and others. It holds no rate, no names and no
units.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...spec import (
    ActionDim,
    ActionSpec,
    ConfigError,
    DataError,
    IntArray,
    ObsKey,
    ObsSpec,
    cut,
    shorten,
)
from ..episodes import ACTION, EXTRAS, check_choice, check_keys, episode_slice
from ..foreign import refuse_foreign
from ..kinds import check_numbers, decide_key, explain_key, may_be_picture, read_key
from ..locks import hold
from ..store import Store, refuse_full_disk
from .files import AGAIN, Files, FolderFiles, ZipFiles, check_inflation
from .npz_reader import read_npz
from .zarr_reader import ChunkCache, ZarrArray, is_array, open_array

Episode = dict[str, NDArray[Any]]
LayoutName = Literal["plain", "pusht"]
BATCH_BYTES = 1 << 25
PUSHT_FPS = 10.0
PUSHT_SHAPES = {"action": (2,), "state": (5,), "keypoint": (9, 2)}


@dataclass(frozen=True)
class ReplayBuffer:
    """A replay buffer that is read piece by piece: its images may not fit into memory."""

    path: Path
    arrays: Mapping[str, NDArray[Any] | ZarrArray]  # (N, ...)
    episode_ends: IntArray  # (E,)
    unread: Mapping[str, DataError] = field(
        default_factory=dict
    )  # keys that cannot be read, and why
    notes: Sequence[str] = ()  # what the user should be told about the reading

    @property
    def keys(self) -> tuple[str, ...]:
        """Names below `data/`."""
        return tuple(self.arrays)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of one step of a key."""
        check_choice(key, self.arrays)
        return tuple(self.arrays[key].shape[1:])

    def dtype(self, key: str) -> np.dtype[Any]:
        """Type of a key's numbers."""
        check_choice(key, self.arrays)
        return np.dtype(self.arrays[key].dtype)

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where the file is damaged."""
        self.check_readable([key])
        return np.asarray(self.arrays[key][start:stop])

    def check_readable(self, keys: Iterable[str]) -> None:
        """Raise DataError for a key that is not there, or packed in a way that is not read; no
        chunk is opened.
        """
        for key in keys:
            if key in self.unread:
                raise self.unread[key]
            check_choice(key, self.arrays)
            array = self.arrays[key]
            if isinstance(array, ZarrArray):
                array.check_readable()

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, int(self.episode_ends[-1]))

    def episode(self, number: int, keys: tuple[str, ...]) -> Episode:
        """Some keys of one episode, each (n, ...)."""
        steps = episode_slice(self.episode_ends, number)
        return {key: self.rows(key, steps.start, steps.stop) for key in keys}


@dataclass(frozen=True)
class Layout:
    """How episodes of a replay buffer become episodes of a store."""

    reads: tuple[str, ...]
    action_spec: ActionSpec
    obs_spec: ObsSpec
    translate: Callable[[Episode], Episode]
    notes: tuple[str, ...] = ()
    """What was decided about the keys, for people to read."""


def read_replay_buffer(path: str | Path) -> ReplayBuffer:
    """Open a `.zarr` folder, a `.zip` that holds one at its root or deeper, or an `.npz` with the
    same keys and `episode_ends`.

    Raises DataError when nothing is there, the file is damaged, or `episode_ends` is missing, does
    not increase or disagrees with the lengths.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; `hotstart data download pusht` fetches Push-T's")
    refuse_foreign(path)
    if path.suffix == ".npz":
        arrays, unread, notes = _read_npz(path)
    else:
        arrays, unread, notes = _read_zarr(path)
    check_keys([*arrays, *unread])
    ends = np.asarray(arrays.pop("episode_ends"))
    _check_ends(path, ends)
    for key, array in arrays.items():
        if array.ndim == 0 or array.shape[0] != ends[-1]:
            raise DataError(
                f"{path}: {cut(key)!r} has shape {array.shape}, but the episodes end at step "
                f"{ends[-1]}; {AGAIN}"
            )
    return ReplayBuffer(path, arrays, ends.astype(np.int64), unread, notes)


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
    fps, the format holds none. Raises DataError for data that does not fit the layout or a target
    that exists, ConfigError for a choice that is missing.
    """
    target = Path(target)
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    if isinstance(source, ReplayBuffer):
        buffer = source
    else:
        buffer = read_replay_buffer(source)
    if layout == "pusht":
        chosen = pusht_layout(buffer, images)
    else:
        chosen = plain_layout(buffer, keys, images, kinds)
    buffer.check_readable(chosen.reads)
    for note in (*buffer.notes, *chosen.notes):
        say(note)
    rate = fps or (PUSHT_FPS if layout == "pusht" else None)
    if rate is None:
        raise ConfigError(
            "this format does not say how many steps a second has; give it, for instance fps=10"
        )
    making = target.with_name(target.name + ".converting")
    with hold(target):
        shutil.rmtree(making, ignore_errors=True)
        store = Store.create(
            making,
            fps=rate,
            action_spec=chosen.action_spec,
            obs_spec=chosen.obs_spec,
            task=task,
            source=buffer.path.name,
        )
        for batch in _batches(buffer, chosen):
            store.extend(batch)
        store.release()
        with refuse_full_disk(f"{target} cannot be made"):
            making.rename(target)
    return Store.open(target)


def _batches(buffer: ReplayBuffer, layout: Layout) -> Iterator[list[Episode]]:
    """Translated episodes, as many at a time as fit into BATCH_BYTES, with a progress bar."""
    batch: list[Episode] = []
    for number in tqdm(
        range(len(buffer.episode_ends)),
        desc=f"converting {buffer.path.name}",
        unit="episode",
        disable=None,
    ):
        batch.append(layout.translate(buffer.episode(number, layout.reads)))
        if sum(array.nbytes for episode in batch for array in episode.values()) > BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def pusht_layout(buffer: ReplayBuffer, images: bool = False) -> Layout:
    """Push-T's human data as published with 2303.04137: pixels of a 512 x 512 window, targets
    of the agent as actions.
    """
    if not is_pusht(buffer):
        has = {key: buffer.shape(key) for key in buffer.keys}
        raise DataError(
            f"{buffer.path} is not Push-T's data: it needs {PUSHT_SHAPES}, it has {has}"
        )
    keys = {"keypoints": ObsKey((18,)), "agent_pos": ObsKey((2,)), "state": ObsKey((6,))}
    if images:
        check_choice("img", buffer.arrays)
        keys["image"] = ObsKey(buffer.shape("img"), "uint8", "image")
    action = ActionSpec((ActionDim("target_x", "px"), ActionDim("target_y", "px")))
    return Layout(
        (*PUSHT_SHAPES, *(["img"] if images else [])), action, ObsSpec(keys), _translate_pusht
    )


def is_pusht(buffer: ReplayBuffer) -> bool:
    """Whether the arrays have Push-T's names and shapes."""
    return all(
        key in buffer.arrays and buffer.shape(key) == shape for key, shape in PUSHT_SHAPES.items()
    )


def plain_layout(
    buffer: ReplayBuffer,
    keys: Mapping[str, str] | None = None,
    images: bool = False,
    kinds: Mapping[str, str] | None = None,
) -> Layout:
    """Every key under its own name, or the chosen ones; pictures as images, all else as states
    in float32.
    """
    kinds = dict(kinds or {})
    if not keys:
        _refuse_unread(buffer)
    if images or keys:
        left_out = []
    else:
        left_out = [key for key in buffer.keys if key not in kinds and _is_picture(buffer, key)]
    if keys:
        named = dict(keys)
    else:
        named = {key: key for key in buffer.keys if key not in left_out}
    buffer.check_readable(named.values())
    if odd := sorted(set(kinds) - set(named)):
        raise ConfigError(f"kinds names {odd[0]!r}, which is not taken; taken are {list(named)}")
    if ACTION not in named:
        raise ConfigError(
            f"which key holds the actions? give keys=action:NAME,..., NAME one of "
            f"{list(buffer.keys)}"
        )
    if len(buffer.shape(named[ACTION])) != 1:
        raise DataError(
            f"{buffer.path}: {named[ACTION]!r} has steps of shape {buffer.shape(named[ACTION])}; "
            f"actions are (N, A)"
        )
    for name, key in named.items():
        check_numbers(name, buffer.dtype(key))
    seen = {name: key for name, key in named.items() if name != ACTION and name not in EXTRAS}
    obs = {
        name: decide_key(name, buffer.shape(key), buffer.dtype(key), kinds.get(name))
        for name, key in seen.items()
    }
    if not obs:
        raise ConfigError(
            f"no observation is left; name at least one of {list(buffer.keys)}, or take the images "
            f"with images=true"
        )

    def translate(episode: Episode) -> Episode:
        return {name: _as_stored(name, episode[key], obs.get(name)) for name, key in named.items()}

    told = [
        explain_key(name, buffer.shape(key), buffer.dtype(key), obs[name])
        for name, key in seen.items()
    ]
    if left_out:
        told.append(f"left out the pictures {', '.join(left_out)}: images=true takes them")
    width = buffer.shape(named[ACTION])[0]
    return Layout(
        tuple(named.values()),
        ActionSpec.plain(width),
        ObsSpec(obs),
        translate,
        tuple(note for note in told if note),
    )


def _refuse_unread(buffer: ReplayBuffer) -> None:
    """Raise DataError where a key cannot be read and nobody said that it is not wanted."""
    for error in buffer.unread.values():
        raise DataError(f"{error}; or take other keys only: keys=action:NAME,state:NAME")


def _translate_pusht(episode: Episode) -> Episode:
    """One Push-T episode in our keys."""
    state, count = episode["state"], len(episode["state"])
    angle = state[:, 4].astype(np.float64)
    turned = np.concatenate(
        [state[:, :4], np.sin(angle)[:, None], np.cos(angle)[:, None]], axis=1
    )  # (n, 6)
    ours = {
        ACTION: episode["action"],
        "agent_pos": state[:, :2],
        "keypoints": episode["keypoint"].reshape(count, 18),
        "state": turned,
    }
    if "img" in episode:
        pictures = episode["img"]
        ours["image"] = read_key(
            "image", pictures, ObsKey(pictures.shape[1:], "uint8", "image"), scale=1
        )
    return ours


def _as_stored(name: str, array: NDArray[Any], spec: ObsKey | None) -> NDArray[Any]:
    """Pictures as bytes with channels last, one column of an extra (n, 1) as (n,), all else as
    it is.
    """
    if spec is None:
        if array.shape[1:] == (1,) and name != ACTION:
            return array[:, 0]
        return array
    return read_key(name, array, spec)


def _is_picture(buffer: ReplayBuffer, key: str) -> bool:
    """Whether a key is left out unless images are wanted or it is named."""
    return len(buffer.shape(key)) >= 3 and may_be_picture(buffer.shape(key), buffer.dtype(key))


def _check_ends(path: Path, ends: NDArray[Any]) -> None:
    """Refuse ends that are not whole, increasing numbers above 0."""
    if ends.ndim != 1 or len(ends) == 0 or ends.dtype.kind not in "iu":
        raise DataError(
            f"{path}: episode_ends is {ends.dtype} of shape {ends.shape}; it must hold one whole "
            f"number per episode"
        )
    wrong = np.flatnonzero(np.diff(ends.astype(np.int64), prepend=0) <= 0)
    if len(wrong):
        raise DataError(
            f"{path}: episode_ends[{wrong[0]}] is {ends[wrong[0]]}, not above the one before: ends "
            f"must increase"
        )


def _read_npz(path: Path) -> tuple[dict[str, Any], dict[str, DataError], list[str]]:
    """The arrays of an npz, why others cannot be read, and nothing to tell."""
    arrays, unread = read_npz(path)
    if "episode_ends" not in arrays:
        raise unread.get("episode_ends") or DataError(
            f"{path} has no episode_ends, only {shorten(list(arrays))}; it must say where each "
            f"episode ends"
        )
    return dict(arrays), unread, []


def _read_zarr(path: Path) -> tuple[dict[str, Any], dict[str, DataError], list[str]]:
    """The arrays below `data/` and `episode_ends`, why others cannot be read, and what the user
    should be told.
    """
    files = _find_buffer(path)
    if not is_array(files, "meta/episode_ends") or not files.folders("data"):
        raise DataError(
            f"{path} has no meta/episode_ends or no data/: it is not a replay buffer, or not a "
            f"whole one"
        )
    cache = ChunkCache()
    ends = open_array(files, "meta/episode_ends", cache, fills=False)
    arrays: dict[str, ZarrArray] = {}
    unread: dict[str, DataError] = {}
    notes: list[str] = []
    for name in files.folders("data"):
        try:
            if is_array(files, f"data/{name}"):
                arrays[name] = open_array(files, f"data/{name}", cache)
            else:
                notes.append(f"data/{cut(name)} is a group, not an array: it is left out")
        except DataError as error:
            unread[name] = error
    every = [ends, *arrays.values()]
    check_inflation(
        str(path),
        sum(array.nbytes for array in every),
        sum(sum(array.sizes.values()) for array in every),
    )
    notes += [_describe_unstored(name, array) for name, array in arrays.items() if array.unstored]
    ends.check_readable()
    return {**arrays, "episode_ends": ends[:]}, unread, notes


def _describe_unstored(name: str, array: ZarrArray) -> str:
    count = math.prod(array.layout.grid)
    return (
        f"{array.unstored} of {count} chunks of {cut(name)!r} are not stored: they are read as the "
        f"fill value "
        f"{array.layout.fill}, as Zarr's specification says; if the copy may not be whole, copy it "
        f"again"
    )


def _find_buffer(path: Path) -> Files:
    """Where `data` and `meta` lie: at the root of the folder or zip, or in a folder below that
    has them.
    """
    if path.is_dir():
        for pattern in ("meta/episode_ends", "*/meta/episode_ends", "*/*/meta/episode_ends"):
            for found in sorted(path.glob(pattern)):
                return FolderFiles(found.parent.parent)
        return FolderFiles(path)
    packed = ZipFiles(path)
    packed.prefix = zipped_prefix(packed.names())
    return packed


def zipped_prefix(names: list[str]) -> str:
    """Where in a zip the replay buffer lies: "" or a folder that ends in "/"."""
    ends = "meta/episode_ends/"
    return next(
        (name.split(ends)[0] for name in names if ends in name and "__MACOSX" not in name), ""
    )
