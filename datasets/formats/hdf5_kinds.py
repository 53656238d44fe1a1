"""Tells which program wrote an HDF5 file, or a folder of them, by the names inside."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from ...spec import DataError
from .foreign_data import ReadOptions
from .hdf5_files import FilePool, Hdf5File, Hdf5Group, is_hdf5, list_hdf5, sort_naturally

MINARI_FILE = "main_data.hdf5"
OTHER = "hdf5"


def find_kind(path: Path) -> str | None:
    """The format's name in the registry; `hdf5` for files of nobody known, None for no HDF5."""
    try:
        file = find_first(path)
    except OSError:
        return None
    if file is None:
        return None
    pool = FilePool()
    try:
        return _find_kind(Hdf5File(file, pool).root())
    except DataError:  # to open it says what is wrong
        if file.name == MINARI_FILE:
            return "minari"
        return OTHER
    finally:
        pool.close()


def refuse_raw(path: Path, options: ReadOptions) -> NoReturn:
    """Raise DataError: such files hold simulator states, and no observations yet."""
    raise DataError(
        f"{path} is a raw collection of robosuite: it holds states of the simulator and actions, "
        f"no observations. They are computed by hotstart data recompute {path} NEW.zarr"
    )


def find_first(path: Path) -> Path | None:
    """The file itself, or the folder's first; None where there is no HDF5."""
    if path.is_file():
        if is_hdf5(path):
            return path
        return None
    if not path.is_dir():
        return None
    for file in (path / "data" / MINARI_FILE, path / MINARI_FILE, *list_hdf5(path)):
        if is_hdf5(file):
            return file
    return None


def _find_kind(root: Hdf5Group) -> str:
    names = root.names()
    if "data" in names:
        return _find_kind_of_demos(root)
    if "action" in names and "observations" in names:
        return "aloha"
    if root.file.path.name == MINARI_FILE or "episode_0" in names:
        first = root.find(sort_naturally(names)[0])
        if isinstance(first, Hdf5Group) and {"observations", "actions"} <= set(first.names()):
            return "minari"
    return OTHER


def _find_kind_of_demos(root: Hdf5Group) -> str:
    """robomimic's layout, or one that grew from it."""
    data = root.find("data")
    if not isinstance(data, Hdf5Group):
        return OTHER
    names = data.names()
    if not names:
        return OTHER
    first = data.find(names[0])
    if not isinstance(first, Hdf5Group):
        return OTHER
    held = set(first.names())
    if {"actions", "obs"} <= held:
        if data.text("bddl_file_name") or data.text("problem_info"):
            return "libero"
        return "robomimic"
    if "states" in held and first.attribute("model_file") is not None:
        return "robosuite-raw"
    return OTHER
