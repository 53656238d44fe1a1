"""Reads ALOHA's and ACT's HDF5: a folder of `episode_N.hdf5`, one episode a file.

A file holds `action`, `observations/qpos`, `qvel`, `effort` and `observations/images/CAMERA`; the
attribute `sim` says whether it was simulated. Cameras are uint8 (height, width, 3), or one JPEG a
row, filled up with zeros to one length.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...spec import ConfigError, DataError, cut, shorten
from ..episodes import ACTION
from .foreign_data import ReadOptions
from .hdf5_data import (
    Episode,
    Hdf5Data,
    Jpegs,
    choose_names,
    join_episodes,
    make_column,
    take_columns,
)
from .hdf5_files import FilePool, Hdf5Array, Hdf5File, Hdf5Group, choose_files

FPS = 50.0
"""ACT's constants.py, DT = 0.02 s; the files do not say it."""
LAYOUTS = ("auto", "rgb")
STATES = "observations"
CAMERAS = "observations/images"


def open_aloha(path: Path, options: ReadOptions) -> Hdf5Data:
    """Open a folder of episodes, or one of them.

    Keys are `qpos`, `qvel`, `effort`, every camera, and `action`. ACT wrote JPEGs with OpenCV,
    which takes RGB for BGR, and so it reads them; the channels come out as they were recorded.
    With `layout=rgb` they come out as the JPEGs say. The rate is ACT's 50 Hz unless the options
    name another. Raises DataError for damage and for episodes that differ.
    """
    with FilePool() as pool:
        return _open(path, options, pool)


def _open(path: Path, options: ReadOptions, pool: FilePool) -> Hdf5Data:
    if options.layout not in LAYOUTS:
        raise ConfigError(f"layout is {shorten(options.layout)}; ALOHA's is one of {LAYOUTS}")
    files = choose_files(path)
    episodes: list[Episode] = []
    for file in files:
        root = Hdf5File(file, pool).root()
        episodes.append(_read_episode(root, options))
    taken = take_columns(path, episodes[0], options)
    notes = _describe(Hdf5File(files[0], pool).root(), episodes[0], options)
    fps = options.fps or FPS
    return join_episodes(path, "aloha", episodes, taken, fps, options.task, notes, pool)


def _read_episode(root: Hdf5Group, options: ReadOptions) -> Episode:
    """The columns of one file."""
    named = choose_names(options, partial(_name_arrays, root))
    swap = options.layout == "auto"
    episode: Episode = {}
    for ours, theirs in named.items():
        episode[ours] = make_column(_find_array(root, theirs), swap=swap)
    return episode


def _name_arrays(root: Hdf5Group) -> dict[str, str]:
    """Our names to theirs: everything that is observed, and the action."""
    named = {ACTION: "action"}
    for name in root.group(STATES).names():
        if name != "images":
            named[name] = f"{STATES}/{name}"
    images = root.find(CAMERAS)
    if isinstance(images, Hdf5Group):
        for name in images.names():
            named[name] = f"{CAMERAS}/{name}"
    return named


def _find_array(root: Hdf5Group, name: str) -> Hdf5Array:
    """An array of a file, an observation's also by its short name."""
    for place in (name, f"{STATES}/{name}", f"{CAMERAS}/{name}"):
        found = root.find(place)
        if isinstance(found, Hdf5Array):
            return found
    raise DataError(
        f"{root.file.path} has no array {shorten(name)}; it has "
        f"{cut(str([*root.names(), *_name_arrays(root).values()]))}"
    )


def _describe(root: Hdf5Group, episode: Episode, options: ReadOptions) -> list[str]:
    """What was decided, and what the files say beside the arrays."""
    notes: list[str] = []
    if not options.fps:
        notes.append(f"the files hold no rate: {FPS:g} steps a second, as ACT's; fps= says another")
    if options.layout == "auto" and any(isinstance(each, Jpegs) for each in episode.values()):
        notes.append(
            "JPEGs are read as ACT reads them, channels as recorded; "
            "layout=rgb reads them as JPEG says"
        )
    if root.find("base_action") is not None and options.keys is None:
        notes.append("left out base_action: keys= takes it")
    simulated = root.attribute("sim")
    if simulated is not None:
        notes.append(f"sim is {shorten(bool(simulated))}")
    return notes
