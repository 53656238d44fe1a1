"""Columns of Parquet files that follow each other, read a row group at a time.

Only DataError is raised. What a file declares is compared with its size before memory is taken.
Pages with checksums are compared with them; LeRobot writes none.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, cut
from .files import AGAIN, check_inflation, check_memory
from .zarr_reader import ChunkCache

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

NUMBER_BYTES = 8
MAGIC = b"PAR1"
UNFINISHED = (
    "the end of the file, where Parquet keeps its table of contents, was never written: the "
    "recording was stopped before LeRobot's finalize(), or the copy is not whole"
)


@dataclass(frozen=True)
class TableFile:
    """One file: the rows of each of its row groups, and its columns."""

    path: Path
    groups: tuple[int, ...]
    columns: frozenset[str]
    size: int
    """Bytes on disk."""

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.groups)


def read_footer(path: Path) -> TableFile:
    """What a file holds, from its end; DataError where it is missing, cut off or damaged."""
    with _open(path) as file:
        metadata = file.metadata
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        columns = frozenset(file.schema_arrow.names)
    size = path.stat().st_size
    if min(groups, default=0) < 0:
        raise DataError(f"{path} declares a negative number of rows; {AGAIN}")
    check_inflation(f"{path}", sum(groups) * NUMBER_BYTES, size)
    return TableFile(path, tuple(groups), columns, size)


def read_table(
    path: Path, choose: Callable[[str], bool] = lambda name: True
) -> dict[str, list[Any]]:
    """The columns of a small file whose names are chosen, as plain values."""
    found = read_footer(path)
    wanted = sorted(name for name in found.columns if choose(name))
    check_inflation(f"{path}", found.rows * NUMBER_BYTES * len(wanted), found.size)
    table: dict[str, list[Any]] = {}
    with _open(path) as file, _explain(path):
        content = file.read(columns=wanted)
        for name in content.column_names:
            table[name] = content.column(name).to_pylist()
    return table


class Tables:
    """Files with the same columns, one after the other; may be asked from several threads."""

    def __init__(self, files: Sequence[TableFile]) -> None:
        """Files in the order of their rows."""
        self.files = tuple(files)
        self._cache = ChunkCache()
        self._places: list[tuple[TableFile, int]] = []
        lengths: list[int] = []
        for file in files:
            self._places.extend((file, number) for number in range(len(file.groups)))
            lengths.extend(file.groups)
        self._ends = np.cumsum(lengths, dtype=np.int64)

    @property
    def rows(self) -> int:
        """Rows of all files."""
        if len(self._ends):
            return int(self._ends[-1])
        return 0

    def numbers(self, column: str, shape: tuple[int, ...], start: int, stop: int) -> NDArray[Any]:
        """The rows start..stop of a column of numbers, (stop - start, *shape).

        Raises DataError where the column is missing, damaged, or of another shape.
        """
        parts: list[NDArray[Any]] = []
        for number, rows in self._split(start, stop):
            parts.append(self._fetch_numbers(column, shape, number)[rows])
        if not parts:
            return np.zeros((0, *shape), np.float32)
        return np.concatenate(parts)

    def files_in(self, column: str, start: int, stop: int) -> list[bytes]:
        """The rows start..stop of a column of encoded pictures ({"bytes", "path"}): their bytes."""
        found: list[bytes] = []
        for number, rows in self._split(start, stop):
            ends = self._fetch_files(column, number, "ends")
            content = self._fetch_files(column, number, "bytes")
            for row in range(rows.start, rows.stop):
                found.append(content[ends[row] : ends[row + 1]].tobytes())
        return found

    def _split(self, start: int, stop: int) -> list[tuple[int, slice]]:
        """Row groups that hold some rows, and which rows of theirs."""
        found: list[tuple[int, slice]] = []
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop and number < len(self._ends):
            group_stop = int(self._ends[number])
            file, group = self._places[number]
            first = group_stop - file.groups[group]
            last = min(stop, group_stop)
            if last > start:
                found.append((number, slice(start - first, last - first)))
            start, number = last, number + 1
        return found

    def _fetch_numbers(self, column: str, shape: tuple[int, ...], number: int) -> NDArray[Any]:
        return self._cache.get(
            f"{number} {column}", lambda: self._read_numbers(column, shape, number)
        )

    def _read_numbers(self, column: str, shape: tuple[int, ...], number: int) -> NDArray[Any]:
        file, group = self._places[number]
        declared = file.groups[group] * math.prod(shape) * NUMBER_BYTES
        check_inflation(f"{file.path}", declared, file.size)
        check_memory(f"{file.path}", declared)
        with _explain(file.path):
            values = _flatten(_read_column(file, group, column))
            array = values.to_numpy(zero_copy_only=False)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{column} holds {values.type}, no numbers")
            if array.size != file.groups[group] * math.prod(shape):
                raise ValueError(
                    f"{column} holds {array.size:,} numbers in {file.groups[group]:,} rows of "
                    f"shape {shape}"
                )
            return array.reshape(-1, *shape)

    def _fetch_files(self, column: str, number: int, part: str) -> NDArray[Any]:
        return self._cache.get(
            f"{number} {column} {part}", lambda: self._read_files(column, number)[part]
        )

    def _read_files(self, column: str, number: int) -> Mapping[str, NDArray[Any]]:
        """Where each picture of a row group ends, (n + 1,), and the bytes of all of them."""
        import pyarrow as pa

        file, group = self._places[number]
        with _explain(file.path):
            values = _read_column(file, group, column)
            if pa.types.is_struct(values.type):
                values = values.field("bytes")
            values = values.cast(pa.large_binary())
            if values.null_count:
                raise ValueError(f"{column} has {values.null_count} pictures outside of the file")
            buffers = values.buffers()
            ends = np.frombuffer(buffers[1] or b"", np.int64)[values.offset :][: len(values) + 1]
            return {"ends": ends, "bytes": np.frombuffer(buffers[2] or b"", np.uint8)}


def decode_picture(raw: bytes, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """A PNG or JPEG as (height, width, channels); DataError where it is another picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=("PNG", "JPEG")) as picture:
            if picture.size != (shape[1], shape[0]):
                raise ValueError(f"it is {picture.size[0]} x {picture.size[1]}")
            mode = {1: "L", 3: "RGB", 4: "RGBA"}[shape[2]]
            return np.asarray(picture.convert(mode)).reshape(shape)
    except Exception as problem:  # Pillow hands on whatever its decoders raise
        raise DataError(
            f"{where}: a picture is no PNG or JPEG of {shape[1]} x {shape[0]} "
            f"({cut(str(problem)) or type(problem).__name__}); {AGAIN}"
        ) from problem


def _flatten(values: pa.Array) -> pa.Array:
    """The numbers of nested lists, one after the other; ValueError where rows are of different
    length or something is missing.
    """
    import pyarrow as pa

    while True:
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if values.null_count:
            raise ValueError(f"{values.null_count} rows are empty")
        if pa.types.is_fixed_size_list(values.type):
            values = values.flatten()
        elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            lengths = values.value_lengths().to_numpy(zero_copy_only=False)
            if len(lengths) and lengths.min() != lengths.max():
                raise ValueError(
                    f"rows hold {lengths.min()} to {lengths.max()} numbers; all must hold as many"
                )
            values = values.flatten()
        else:
            return values


def _read_column(file: TableFile, group: int, column: str) -> pa.Array:
    if column not in file.columns:
        raise DataError(f"{file.path} has no column {column!r}, which meta/info.json names")
    with _open(file.path) as opened:
        found = opened.read_row_group(group, columns=[column]).column(column)
    joined = found.combine_chunks()
    if hasattr(joined, "chunks"):
        return joined.chunk(0)
    return joined


def _open(path: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path} is missing or no ordinary file; {AGAIN}")
    with _explain(path):
        return pq.ParquetFile(path, page_checksum_verification=True)


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into DataError."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError, TypeError) as problem:
        reason = cut(str(problem)) or type(problem).__name__
        if _lacks_end(path):
            reason = UNFINISHED
        raise DataError(f"{path} cannot be read: {reason}; {AGAIN}") from problem


def _lacks_end(path: Path) -> bool:
    """Whether a file begins as Parquet but does not end so."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(max(0, path.stat().st_size - 4))
            return head == MAGIC and file.read(4) != MAGIC
    except OSError:
        return False
