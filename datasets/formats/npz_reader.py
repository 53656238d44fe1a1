"""Reads npz archives, whoever wrote them: only DataError is raised, in bounded time and memory,
and nothing is unpickled.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

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
    names = [name for name in files.names() if name.endswith(SUFFIX)]
    declared = sum(files.size(name) or 0 for name in names)
    check_inflation(str(path), declared, path.stat().st_size)
    check_memory(str(path), declared)
    arrays: dict[str, NDArray[Any]] = {}
    unread: dict[str, DataError] = {}
    for name in names:
        array = _parse_array(files.read(name, declared), path, name.removesuffix(SUFFIX))
        if isinstance(array, DataError):
            unread[name.removesuffix(SUFFIX)] = array
        else:
            arrays[name.removesuffix(SUFFIX)] = array
    return arrays, unread


def _parse_array(raw: bytes, path: Path, name: str) -> NDArray[Any] | DataError:
    """The array in an .npy file; the error, not raised, where it holds no plain numbers."""
    where = f"{path}: {shorten(name)}"
    shape, fortran, dtype, start = _parse_header(raw, where)
    if number_type(dtype.str) is None:
        return refuse_type(str(path), name, dtype)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(raw) - start:
        raise DataError(
            f"{where} declares shape {shorten(shape)}, {wanted:,} bytes, and holds "
            f"{len(raw) - start:,}; {AGAIN}"
        )
    try:
        if wanted:
            flat = np.frombuffer(raw, dtype, offset=start)
        else:
            flat = np.zeros(0, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")
    except ValueError as problem:  # more axes than numpy has
        raise DataError(
            f"{where} has shape {shorten(shape)} ({cut(str(problem))}); {AGAIN}"
        ) from problem


def _parse_header(raw: bytes, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, type, and where the numbers begin."""
    stream = io.BytesIO(raw)
    try:
        version = npy.read_magic(stream)
        if version == (1, 0):
            read = npy.read_array_header_1_0
        else:
            read = npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (
        Exception
    ) as problem:  # numpy hands the header to Python's parser, which raises a dozen kinds
        raise DataError(f"{where} is no array of numpy ({cut(str(problem))}); {AGAIN}") from problem
    if any(type(size) is not int or size < 0 for size in shape):
        raise DataError(f"{where} has shape {shorten(shape)}; {AGAIN}")
    return shape, fortran, dtype, stream.tell()
