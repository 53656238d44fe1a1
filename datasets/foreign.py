"""Recognises data sets of other programs where a store is wanted, to say what works instead."""

from __future__ import annotations

from pathlib import Path

from ..spec import DataError, shorten
from ..system.untrusted import read_json

HDF5_HEAD = b"\x89HDF\r\n\x1a\n"
EXPLAIN_HDF5 = (
    "no store of hotstart; hotstart data convert makes one of robomimic's, LIBERO's, ALOHA's "
    "and Minari's, and of others with keys=action:NAME,state:NAME"
)
HDF5_NAMES = (".hdf5", ".h5")
_MEND = (
    "give each episode's arrays to hotstart.Arrays, or to Store.create and append "
    "(docs/data.md, '{}')"
)


def refuse_foreign(path: Path) -> None:
    """Raise DataError, with what to do, for HDF5, Parquet, and LeRobot's data sets.

    Folders of HDF5 files are refused too; nothing else is.
    """
    if path.is_dir():
        _refuse_lerobot(path)
        for found in sorted(path.iterdir()):
            if found.suffix in HDF5_NAMES:
                raise DataError(f"{path} holds HDF5 files ({found.name}): {EXPLAIN_HDF5}")
    elif path.is_file() and (path.suffix in HDF5_NAMES or _read_head(path) == HDF5_HEAD):
        raise DataError(f"{path} is an HDF5 file: {EXPLAIN_HDF5}")
    elif path.suffix == ".parquet":
        raise DataError(
            f"{path} is a Parquet file: it cannot be converted yet; "
            f"read it with pyarrow and {_MEND.format('Arrays in memory')}; of LeRobot's data sets "
            "give the folder that holds meta/info.json"
        )


def _refuse_lerobot(path: Path) -> None:
    info = path / "meta" / "info.json"
    if not info.is_file():
        return
    found = read_json(info, DataError)
    if isinstance(found, dict) and "codebase_version" in found:
        raise DataError(
            f"{path} is a LeRobot data set ({shorten(found['codebase_version'])}), no store: "
            f"`hotstart data convert {path} data/mine.zarr` makes one of it, "
            f"`hotstart train {path}` takes it as it is"
        )


def _read_head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_HEAD))
    except OSError:
        return b""
