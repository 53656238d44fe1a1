"""Opens what lies at a path: a store, or a data set of another program in its own format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..spec import ConfigError, DataError
from .episodes import Dataset
from .formats.foreign_data import ForeignData, ReadOptions
from .formats.registry import FORMATS, open_foreign, recognise
from .mixture import Mixture
from .store import Store

Opened = Store | ForeignData | Mixture
"""A data set on disk, ours or another program's; both have a path and a task."""


def open_dataset(path: str | Path, options: ReadOptions | None = None, format: str = "") -> Opened:
    """The data set at a path, in whatever format it is; foreign ones are read with `options`.

    `format` is a name of the registry; empty recognises it. Raises DataError where nothing is
    there, where no format knows it, or where it is damaged, and ConfigError for a missing option.
    """
    path = Path(path)
    name = format or recognise(path)
    if name is None:
        return Store.open(path)
    return open_foreign(path, options, name)


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
    if name is None:
        return Store.open(path)
    return open_foreign(path, options, name)


def open_mixture(
    paths: str, shares: Sequence[float] = (), options: ReadOptions | None = None
) -> Opened:
    """The data set at one path, or a mixture of those at several, which commas separate.

    `shares` are those of the training windows; without them all windows count the same. Raises
    ConfigError for shares of one data set alone, and as `Mixture` does.
    """
    parts = paths.split(",")
    if len(parts) == 1 or Path(paths).exists():
        if shares:
            raise ConfigError(
                f"a mixture has several data sets, {paths} is one: data=A.zarr,B.zarr, or leave "
                "mixture= out"
            )
        return open_for_training(paths, options)
    sources: dict[str, Dataset] = {}
    for part in parts:
        if part in sources:
            raise ConfigError(f"{part} stands twice in the mixture: raise its share instead")
        sources[part] = open_for_training(part, options)
    return Mixture(sources, shares)
