"""Opens what lies at a path: a store, or a data set of another program in its own format."""

from __future__ import annotations

from pathlib import Path

from ..spec import DataError
from .formats.foreign_data import ForeignData, ReadOptions
from .formats.registry import FORMATS, open_foreign, recognise
from .store import Store

Opened = Store | ForeignData
"""A data set on disk, ours or another program's; both have a path and a task."""


def open_dataset(path: str | Path, options: ReadOptions | None = None, format: str = "") -> Opened:
    """The data set at a path, in whatever format it is; foreign ones are read with `options`.

    `format` is a name of the registry; empty recognises it. Raises DataError where nothing is
    there, where no format knows it, or where it is damaged, and ConfigError for a missing option.
    """
    path = Path(path)
    if format or recognise(path) is not None:
        return open_foreign(path, options, format)
    return Store.open(path)


def open_for_training(path: str | Path, options: ReadOptions | None = None) -> Opened:
    """The data set at a path, where it is read fast enough at random to train on it as it is.

    Raises DataError as `open_dataset` does, and for slower formats, with the command that makes a
    store of them.
    """
    path = Path(path)
    name = recognise(path)
    if name is not None and not FORMATS[name].direct:
        raise DataError(
            f"{path} is in the format {name}, whose steps are not read at random: make a store "
            f"of it first, hotstart data convert {path} {path.name}.converted.zarr"
        )
    return open_dataset(path, options)
