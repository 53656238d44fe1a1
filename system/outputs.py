"""Files that a command writes: tried before the work, written whole, never replaced unasked."""

from __future__ import annotations

import os
from pathlib import Path

from ..spec import ConfigError

DEVICES = ("/dev", "/proc")


def check_file(path: Path, overwrite: bool, word: str = "out") -> None:
    """Try whether `path` can be written; leaves nothing but its folder. `word` is its key.

    Raises ConfigError for a folder, for a place that cannot be written, and for a file that is
    there already unless it may be overwritten.
    """
    if is_device(path):
        return
    if path.is_dir():
        raise ConfigError(
            f"{word}={path} is a folder; name a file in it, as {word}={path / 'result.json'}"
        )
    check_free(path, overwrite, path, word)
    _try(path.resolve(), f"{word}={path}")


def check_free(path: Path, overwrite: bool, place: Path, word: str = "out") -> None:
    """Raise ConfigError for a file or folder that is there already, unless it may be overwritten.

    `place` is what the key `word` named: the path itself, or a folder that holds it.
    """
    if path.exists() and not overwrite:
        raise ConfigError(
            f"{path} is there already and is not overwritten unasked: choose another name, "
            f"as {word}={free_name(place)}, or say overwrite=true"
        )


def check_folder(folder: Path, word: str = "out") -> None:
    """Make `folder` and try whether it can be written into; raises ConfigError where it cannot."""
    _try(folder / "file", f"{word}={folder}")


def _try(path: Path, shown: str) -> None:
    """Make a file's folder, and a file beside it that is taken away again."""
    half = _half(path)
    try:
        half.parent.mkdir(parents=True, exist_ok=True)
        half.touch()
        half.unlink()
    except OSError as error:
        raise ConfigError(
            f"{shown} cannot be written: {error.strerror}: {error.filename}"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a file in one piece: a kill or a full disk leaves the old file or the new one.

    Devices and pipes are written to, links are followed. Raises OSError where it cannot be written.
    """
    if is_device(path):
        with path.open("a", encoding="utf-8") as device:
            device.write(text)
        return
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    half = _half(target)
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(target)
    except OSError:
        half.unlink(missing_ok=True)
        raise


def unfinished_path(out: Path) -> Path:
    """The file beside a result file that holds an evaluation's finished episodes meanwhile."""
    return out.with_name(out.name + ".unfinished")


def is_device(path: Path) -> bool:
    """Whether `path` is no file and cannot become one: /dev/stdout, /dev/null, a pipe."""
    if str(path.absolute()).startswith(tuple(f"{folder}/" for folder in DEVICES)):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


def free_name(path: Path) -> Path:
    """The first of NAME_2, NAME_3 ... that is not there yet."""
    number = 2
    while (numbered := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    return numbered


def choose_name(path: Path) -> Path:
    """The path itself, or where it is taken the first free name after it."""
    if path.exists():
        return free_name(path)
    return path


def _half(path: Path) -> Path:
    """Where a file grows before it takes its place."""
    return path.with_name(f".{path.name}.{os.getpid()}")
