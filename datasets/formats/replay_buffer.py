"""Diffusion Policy's ReplayBuffer: `data/<key>` with time first and `meta/episode_ends`, as a Zarr folder, zip or npz.

The format came with 2303.04137 and is shared by UMI and others. It holds no rate, no names and no units.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from tqdm import tqdm
from zarr.storage import LocalStore, ZipStore

from ...spec import ActionDim, ActionSpec, ConfigError, DataError, IntArray, ObsKey, ObsSpec
from ..episodes import ACTION, EXTRAS, check_choice, episode_slice
from ..kinds import check_numbers, decide_key, explain_key, may_be_picture, read_key
from ..store import Store

Episode = dict[str, NDArray[Any]]
LayoutName = Literal["plain", "pusht"]
BATCH_BYTES = 1 << 25
PUSHT_FPS = 10.0
PUSHT_SHAPES = {"action": (2,), "state": (5,), "keypoint": (9, 2)}
_AGAIN = "download or copy it again"


@dataclass(frozen=True)
class ReplayBuffer:
    """A replay buffer that is read piece by piece: its images may not fit into memory."""

    path: Path
    arrays: Mapping[str, Any]  # numpy or Zarr arrays (N, ...)
    episode_ends: IntArray  # (E,)

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
        check_choice(key, self.arrays)
        try:
            return np.asarray(self.arrays[key][start:stop])
        except (RuntimeError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: {key!r} cannot be read from step {start} to {stop} ({error}); {_AGAIN}") from error

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
    """Open a `.zarr` folder, a `.zip` that holds one at its root or deeper, or an `.npz` with the same keys and `episode_ends`.

    Raises DataError when nothing is there, the file is damaged, or `episode_ends` is missing, does not increase or disagrees
    with the lengths.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; `hotstart data download pusht` fetches Push-T's")
    arrays = _npz_arrays(path) if path.suffix == ".npz" else _zarr_arrays(path)
    ends = np.asarray(arrays.pop("episode_ends"))
    _check_ends(path, ends)
    for key, array in arrays.items():
        if array.ndim == 0 or array.shape[0] != ends[-1]:
            raise DataError(f"{path}: {key!r} has shape {array.shape}, but the episodes end at step {ends[-1]}; {_AGAIN}")
    return ReplayBuffer(path, arrays, ends.astype(np.int64))


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

    `keys` maps our names to theirs, `action` included; without it all keys keep their names. Images are left out unless wanted
    by `images` or by name. `kinds` (our name -> state or image) settles what a shape leaves open, see `kinds.decide_key`; `say`
    is told what was decided. `layout="pusht"` makes `keypoints` (18,) [px], `agent_pos` (2,) [px] and `state` (6,): agent x, y,
    block x, y [px], sine and cosine of the block's angle; its fps is 10. Other layouts need an fps, the format holds none.
    Raises DataError for data that does not fit the layout or a target that exists, ConfigError for a choice that is missing.
    """
    target = Path(target)
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    buffer = source if isinstance(source, ReplayBuffer) else read_replay_buffer(source)
    chosen = pusht_layout(buffer, images) if layout == "pusht" else plain_layout(buffer, keys, images, kinds)
    for note in chosen.notes:
        say(note)
    rate = fps or (PUSHT_FPS if layout == "pusht" else None)
    if rate is None:
        raise ConfigError("this format does not say how many steps a second has; give it, for instance fps=10")
    making = target.with_name(target.name + ".converting")
    shutil.rmtree(making, ignore_errors=True)
    store = Store.create(
        making, fps=rate, action_spec=chosen.action_spec, obs_spec=chosen.obs_spec, task=task, source=buffer.path.name
    )
    for batch in _batches(buffer, chosen):
        store.extend(batch)
    making.rename(target)
    return Store.open(target)


def _batches(buffer: ReplayBuffer, layout: Layout) -> Iterator[list[Episode]]:
    """Translated episodes, as many at a time as fit into BATCH_BYTES, with a progress bar."""
    batch: list[Episode] = []
    for number in tqdm(range(len(buffer.episode_ends)), desc=f"converting {buffer.path.name}", unit="episode", disable=None):
        batch.append(layout.translate(buffer.episode(number, layout.reads)))
        if sum(array.nbytes for episode in batch for array in episode.values()) > BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def pusht_layout(buffer: ReplayBuffer, images: bool = False) -> Layout:
    """Push-T's human data as published with 2303.04137: pixels of a 512 x 512 window, targets of the agent as actions."""
    if not is_pusht(buffer):
        has = {key: buffer.shape(key) for key in buffer.keys}
        raise DataError(f"{buffer.path} is not Push-T's data: it needs {PUSHT_SHAPES}, it has {has}")
    keys = {"keypoints": ObsKey((18,)), "agent_pos": ObsKey((2,)), "state": ObsKey((6,))}
    if images:
        check_choice("img", buffer.arrays)
        keys["image"] = ObsKey(buffer.shape("img"), "uint8", "image")
    action = ActionSpec((ActionDim("target_x", "px"), ActionDim("target_y", "px")))
    return Layout((*PUSHT_SHAPES, *(["img"] if images else [])), action, ObsSpec(keys), _translate_pusht)


def is_pusht(buffer: ReplayBuffer) -> bool:
    """Whether the arrays have Push-T's names and shapes."""
    return all(key in buffer.arrays and buffer.shape(key) == shape for key, shape in PUSHT_SHAPES.items())


def plain_layout(
    buffer: ReplayBuffer,
    keys: Mapping[str, str] | None = None,
    images: bool = False,
    kinds: Mapping[str, str] | None = None,
) -> Layout:
    """Every key under its own name, or the chosen ones; pictures as images, all else as states in float32."""
    kinds = dict(kinds or {})
    left_out = [] if images or keys else [key for key in buffer.keys if key not in kinds and _is_picture(buffer, key)]
    named = dict(keys) if keys else {key: key for key in buffer.keys if key not in left_out}
    if odd := sorted(set(kinds) - set(named)):
        raise ConfigError(f"kinds names {odd[0]!r}, which is not taken; taken are {list(named)}")
    if ACTION not in named:
        raise ConfigError(f"which key holds the actions? give keys=action:NAME,..., NAME one of {list(buffer.keys)}")
    if len(buffer.shape(named[ACTION])) != 1:
        raise DataError(
            f"{buffer.path}: {named[ACTION]!r} has steps of shape {buffer.shape(named[ACTION])}; actions are (N, A)"
        )
    for name, key in named.items():
        check_numbers(name, buffer.dtype(key))
    seen = {name: key for name, key in named.items() if name != ACTION and name not in EXTRAS}
    obs = {name: decide_key(name, buffer.shape(key), buffer.dtype(key), kinds.get(name)) for name, key in seen.items()}
    if not obs:
        raise ConfigError(
            f"no observation is left; name at least one of {list(buffer.keys)}, or take the images with images=true"
        )

    def translate(episode: Episode) -> Episode:
        return {name: _as_stored(name, episode[key], obs.get(name)) for name, key in named.items()}

    told = [explain_key(name, buffer.shape(key), buffer.dtype(key), obs[name]) for name, key in seen.items()]
    if left_out:
        told.append(f"left out the pictures {', '.join(left_out)}: images=true takes them")
    width = buffer.shape(named[ACTION])[0]
    return Layout(tuple(named.values()), ActionSpec.plain(width), ObsSpec(obs), translate, tuple(note for note in told if note))


def _translate_pusht(episode: Episode) -> Episode:
    """One Push-T episode in our keys."""
    state, count = episode["state"], len(episode["state"])
    angle = state[:, 4].astype(np.float64)
    turned = np.concatenate([state[:, :4], np.sin(angle)[:, None], np.cos(angle)[:, None]], axis=1)  # (n, 6)
    ours = {
        ACTION: episode["action"],
        "agent_pos": state[:, :2],
        "keypoints": episode["keypoint"].reshape(count, 18),
        "state": turned,
    }
    if "img" in episode:
        pictures = episode["img"]
        ours["image"] = read_key("image", pictures, ObsKey(pictures.shape[1:], "uint8", "image"), scale=1)
    return ours


def _as_stored(name: str, array: NDArray[Any], spec: ObsKey | None) -> NDArray[Any]:
    """Pictures as bytes with channels last, one column of an extra (n, 1) as (n,), all else as it is."""
    if spec is None:
        return array[:, 0] if array.shape[1:] == (1,) and name != ACTION else array
    return read_key(name, array, spec)


def _is_picture(buffer: ReplayBuffer, key: str) -> bool:
    """Whether a key is left out unless images are wanted or it is named."""
    return len(buffer.shape(key)) >= 3 and may_be_picture(buffer.shape(key), buffer.dtype(key))


def _check_ends(path: Path, ends: NDArray[Any]) -> None:
    """Refuse ends that are not whole, increasing numbers above 0."""
    if ends.ndim != 1 or len(ends) == 0 or ends.dtype.kind not in "iu":
        raise DataError(
            f"{path}: episode_ends is {ends.dtype} of shape {ends.shape}; it must hold one whole number per episode"
        )
    wrong = np.flatnonzero(np.diff(ends.astype(np.int64), prepend=0) <= 0)
    if len(wrong):
        raise DataError(f"{path}: episode_ends[{wrong[0]}] is {ends[wrong[0]]}, not above the one before: ends must increase")


def _npz_arrays(path: Path) -> dict[str, Any]:
    """All arrays of an npz."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a whole npz of plain numbers ({error}); {_AGAIN}") from error
    if "episode_ends" not in arrays:
        raise DataError(f"{path} has no episode_ends, only {list(arrays)}; it must say where each episode ends")
    return arrays


def _zarr_arrays(path: Path) -> dict[str, Any]:
    """All arrays below `data/`, and `episode_ends`."""
    if importlib.util.find_spec("imagecodecs"):  # the codecs of compressed images, where they are installed
        importlib.import_module("imagecodecs.numcodecs").register_codecs()
    try:
        group = _zarr_group(path)
        if "meta/episode_ends" not in group or "data" not in group:
            raise DataError(f"{path} has no meta/episode_ends or no data/: it is not a replay buffer, or not a whole one")
        arrays: dict[str, Any] = dict(_subgroup(group, "data").arrays())
        _check_chunks(path, {**arrays, "episode_ends": group["meta/episode_ends"]})
        return {**arrays, "episode_ends": np.asarray(_subgroup(group, "meta")["episode_ends"][:])}  # type: ignore[index]
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is not a whole zip ({error}); {_AGAIN}") from error
    except (FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
        hint = "; for compressed images: pip install 'hotstart[images]'" if "codec" in str(error) else f"; {_AGAIN}"
        raise DataError(f"{path} cannot be read as a replay buffer ({error}){hint}") from error


def _subgroup(group: zarr.Group, name: str) -> zarr.Group:
    found = group[name]
    if not isinstance(found, zarr.Group):
        raise DataError(f"{name} is an array, not a group: this is not a replay buffer")
    return found


def _zarr_group(path: Path) -> zarr.Group:
    """The group that holds `data` and `meta`: at the root of the folder or zip, or in the one folder below that has them."""
    if path.is_dir():
        inner = [found.parent.parent for found in sorted(path.glob("**/meta/episode_ends"))]
        return zarr.open_group(LocalStore(inner[0] if inner else path, read_only=True), mode="r")
    with zipfile.ZipFile(path) as archive:
        prefix = zipped_prefix(archive.namelist())
    return zarr.open_group(ZipStore(path, mode="r"), mode="r", path=prefix.strip("/"))


def zipped_prefix(names: list[str]) -> str:
    """Where in a zip the replay buffer lies: "" or a folder that ends in "/"."""
    ends = "meta/episode_ends/"
    return next((name.split(ends)[0] for name in names if ends in name and "__MACOSX" not in name), "")


def _check_chunks(path: Path, arrays: Mapping[str, Any]) -> None:
    """Refuse lost chunks: Zarr reads them as zeros, and a policy would learn from those."""
    for key, array in arrays.items():
        if array.nchunks_initialized < array.nchunks:
            lost = array.nchunks - array.nchunks_initialized
            raise DataError(
                f"{path}: {lost} of {array.nchunks} chunks of {key!r} are missing and would be read as zeros; {_AGAIN}"
            )
