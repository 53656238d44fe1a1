"""The formats of data sets that hotstart reads and writes, by name; each is imported when used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ...spec import ConfigError, DataError, unknown
from ..foreign import refuse_foreign
from .foreign_data import ForeignData, ReadOptions, Writer
from .recognition import (
    holds_hdf5,
    holds_lerobot_v2,
    holds_lerobot_v3,
    holds_mcap,
    holds_replay_buffer,
    holds_rlds,
    holds_rosbag2,
    holds_shards,
)
from .remote import find_url

Recognise = Callable[[Path], bool]
"""Whether a path holds the format: cheap, raises nothing, executes nothing."""


@dataclass(frozen=True)
class Format:
    """One format: how it is told from others, and which functions read and write it."""

    title: str
    recognise: Recognise
    open: str
    """module:function in this folder; (path, ReadOptions) -> ForeignData."""
    write: str = ""
    """module:function in this folder, a `Writer`; empty where the format is only read."""
    direct: bool = False
    """Whether a policy may be trained on it as it is: rows are read fast enough at random."""


FORMATS: dict[str, Format] = {
    "shards": Format(
        title="hotstart's shards, in a folder or on object storage (s3://bucket/folder)",
        recognise=holds_shards,
        open="shards:open_shards",
        write="shards_writer:write_shards",
        direct=True,
    ),
    "dp-zarr": Format(
        title="Diffusion Policy's replay buffer (.zarr, .zarr.zip, .npz)",
        recognise=holds_replay_buffer,
        open="diffusion_policy:open_replay_buffer",
        write="diffusion_policy_writer:write_replay_buffer",
        direct=True,
    ),
    "robomimic": Format(
        title="robomimic's HDF5",
        recognise=holds_hdf5("robomimic"),
        open="robomimic:open_robomimic",
        write="robomimic_writer:write_robomimic",
        direct=True,
    ),
    "libero": Format(
        title="LIBERO's HDF5, one file or a folder of them",
        recognise=holds_hdf5("libero"),
        open="libero:open_libero",
        direct=True,
    ),
    "aloha": Format(
        title="ALOHA's and ACT's HDF5, a folder of episode_N.hdf5",
        recognise=holds_hdf5("aloha"),
        open="aloha:open_aloha",
    ),
    "minari": Format(
        title="Minari's HDF5 (main_data.hdf5 and metadata.json)",
        recognise=holds_hdf5("minari"),
        open="minari:open_minari",
    ),
    "robosuite-raw": Format(
        title="robosuite's raw collections (made whole by hotstart data recompute)",
        recognise=holds_hdf5("robosuite-raw"),
        open="hdf5_kinds:refuse_raw",
    ),
    "hdf5": Format(
        title="other HDF5, its arrays chosen by keys",
        recognise=holds_hdf5("hdf5"),
        open="plain_hdf5:open_plain_hdf5",
    ),
    "lerobot-v2.1": Format(
        title="LeRobot's data sets up to version 2.1 (a folder with meta/info.json)",
        recognise=holds_lerobot_v2,
        open="lerobot:open_lerobot",
        write="lerobot_writer:write_lerobot_v2",
        direct=True,
    ),
    "lerobot-v3": Format(
        title="LeRobot's data sets of version 3.0 (a folder with meta/info.json)",
        recognise=holds_lerobot_v3,
        open="lerobot:open_lerobot",
        write="lerobot_writer:write_lerobot_v3",
        direct=True,
    ),
    "mcap": Format(
        title="MCAP recordings of ROS messages (.mcap, or a folder of them)",
        recognise=holds_mcap,
        open="bag_data:open_mcap",
    ),
    "rosbag2": Format(
        title="rosbag2 (a folder with metadata.yaml, a .db3, or a folder of such)",
        recognise=holds_rosbag2,
        open="bag_data:open_rosbag2",
    ),
    "rlds": Format(
        title="RLDS (TFRecords of TensorFlow Datasets with features.json)",
        recognise=holds_rlds,
        open="rlds:open_rlds",
    ),
}
"""In the order in which they are tried; no two recognise the same path."""


def recognise(path: Path) -> str | None:
    """The name of the format that a path holds; None for none of them."""
    for name, found in FORMATS.items():
        if found.recognise(path):
            return name
    return None


def open_foreign(path: Path, options: ReadOptions | None = None, format: str = "") -> ForeignData:
    """Open a foreign data set, in the format that it is recognised as, or the one given.

    Raises DataError where nothing is there, where no format knows it, and where it is damaged, and
    ConfigError where an option is missing or there is no such format.
    """
    if find_url(path) is None and not path.exists():
        raise DataError(f"{path} does not exist; `hotstart data download pusht` fetches Push-T's")
    name = format or recognise(path)
    if name is None:
        refuse_foreign(path)
        titles = "; ".join(f"{name}: {found.title}" for name, found in FORMATS.items())
        raise DataError(f"{path} is in no format that hotstart reads ({titles})")
    options = options or ReadOptions()
    opener = _load(_find(name).open)
    if not options.resample:
        return opener(path, options)
    from .resampled_data import ResampledData  # scipy is slow to import

    return ResampledData(opener(path, replace(options, fps=None)), options.fps)


def find_writer(name: str) -> Writer:
    """The function that writes a format; ConfigError where it is unknown or only read."""
    found = _find(name)
    if not found.write:
        raise ConfigError(f"{name} is only read; written are {', '.join(list_written())}")
    return _load(found.write)


def list_written() -> list[str]:
    """The names of the formats that can be written."""
    return [name for name, found in FORMATS.items() if found.write]


def _find(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(unknown("format", name, sorted(FORMATS)))
    return FORMATS[name]


def _load(target: str) -> Callable[..., Any]:
    module, function = target.split(":")
    return getattr(import_module(f".{module}", __package__), function)
