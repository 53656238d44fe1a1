"""Reads npz archives, whoever wrote them.

Only DataError is raised, in bounded time and memory, and nothing is unpickled.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...spec import DataError, cut, shorten
from .codecs import number_type, refuse_type
from .files import AGAIN, ZipFiles, check_inflation, check_memory

SUFFIX = ".npy"


def read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, DataError]]:
    """Every array of plain numbers by its name, and why each of the others cannot be read.

    Raises DataError where the archive is damaged, takes more than half of the memory, or declares
    more than is believable.
    """
    files = ZipFiles(path)
    names: list[str] = []
    declared = 0
    for name in files.names():
        if name.endswith(SUFFIX):
            names.append(name)
            declared += files.size(name) or 0
    check_inflation(str(path), declared, path.stat().st_size)
    check_memory(str(path), declared)
    arrays: dict[str, NDArray[Any]] = {}
    unread: dict[str, DataError] = {}
    for name in names:
        key = name.removesuffix(SUFFIX)
        array = _parse_array(files.read(name, declared), path, key)
        if isinstance(array, DataError):
            unread[key] = array
        else:
            arrays[key] = array
    return arrays, unread


@dataclass(frozen=True)
class _Header:
    """What an .npy file says before its numbers, which begin at the byte `start`."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]
    start: int


def _parse_array(raw: bytes, path: Path, name: str) -> NDArray[Any] | DataError:
    """The array in an .npy file; the error, not raised, where it holds no plain numbers."""
    where = f"{path}: {shorten(name)}"
    header = _parse_header(raw, where)
    if number_type(header.dtype.str) is None:
        return refuse_type(str(path), name, header.dtype)
    wanted = math.prod(header.shape) * header.dtype.itemsize
    held = len(raw) - header.start
    if wanted != held:
        raise DataError(
            f"{where} declares shape {shorten(header.shape)}, {wanted:,} bytes, "
            f"and holds {held:,}; {AGAIN}"
        )
    try:
        if wanted:
            flat = np.frombuffer(raw, header.dtype, offset=header.start)
        else:
            flat = np.zeros(0, header.dtype)
        return flat.reshape(header.shape, order=header.order)
    except ValueError as problem:  # more axes than numpy has
        raise DataError(
            f"{where} has shape {shorten(header.shape)} ({cut(str(problem))}); {AGAIN}"
        ) from problem


def _parse_header(raw: bytes, where: str) -> _Header:
    stream = io.BytesIO(raw)
    try:
        if npy.read_magic(stream) == (1, 0):
            found = npy.read_array_header_1_0(stream)
        else:
            found = npy.read_array_header_2_0(stream)
    except Exception as problem:  # numpy uses Python's parser here, which raises a dozen kinds
        raise DataError(f"{where} is no array of numpy ({cut(str(problem))}); {AGAIN}") from problem
    shape = found[0]
    if any(type(size) is not int or size < 0 for size in shape):
        raise DataError(f"{where} has shape {shorten(shape)}; {AGAIN}")
    order = "C"
    if found[1]:
        order = "F"
    return _Header(shape, order, found[2], stream.tell())
