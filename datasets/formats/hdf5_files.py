"""Reads HDF5 files that somebody else may have written, within limits.

Only what lies in the file itself is read: no external links, no external storage, no virtual data
sets. Numbers, truth values, plain text and rows of bytes are read, no objects. Only filters that
are built into h5py are opened; no plug-in is loaded. HDF5 has no checksums unless its writer asked
for them: damage in the numbers of a file without them cannot be seen.
"""

# pyright: reportAttributeAccessIssue=false
# The stubs of h5py lack its low-level modules.

from __future__ import annotations

import math
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z
from numpy.typing import NDArray

from ...spec import DataError, cut
from .files import AGAIN, DAMAGE, check_inflation, check_memory

HEAD = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".hdf5", ".h5")
HDF5_DAMAGE = (*DAMAGE, LookupError, TypeError, AttributeError, ArithmeticError, SystemError)
"""What h5py raises on files that are damaged or that it cannot read."""
MOST_LINKS = 1_000_000
"""Names in one group."""
MOST_JUMPS = 16
"""Soft links that are followed for one name."""
MOST_ATTRIBUTE = 100_000
"""Numbers or texts of one attribute."""
MOST_OPEN = 32
"""Files that are kept open."""
MOST_ARRAYS = 256
"""Packed arrays of one file that are kept open."""
FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_LZF}
PLUG_INS = {
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32026: "Blosc2",
}
"""Filters that are known by name and not opened, with the numbers that the HDF Group gave them."""
REPACK = "pack it anew where the plug-in is installed: h5repack -f GZIP=4 OLD NEW"
Holds = Literal["numbers", "text", "bytes"]


@contextmanager
def name_damage(where: object) -> Iterator[None]:
    """Turn whatever h5py raises inside into a DataError that names the place."""
    try:
        yield
    except DataError:
        raise
    except HDF5_DAMAGE as problem:
        said = cut(str(problem), 200)
        raise DataError(f"{where} cannot be read as HDF5 ({said}); {AGAIN}") from problem


def is_hdf5(path: Path) -> bool:
    """Whether an ordinary file begins as HDF5 files do."""
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(len(HEAD)) == HEAD
    return False


def list_hdf5(folder: Path) -> list[Path]:
    """The HDF5 files directly in a folder, episode_2 before episode_10."""
    found = {path.name: path for path in folder.iterdir() if path.suffix in SUFFIXES}
    return [found[name] for name in sort_naturally(found)]


def choose_files(path: Path) -> list[Path]:
    """A file itself, or those of a folder; DataError where it has none."""
    if not path.is_dir():
        return [path]
    found = list_hdf5(path)
    if not found:
        raise DataError(f"{path} holds no HDF5 file of this format that can be read; {AGAIN}")
    return found


def sort_naturally(names: Iterable[str]) -> list[str]:
    """Names in the order of the numbers in them: demo_2 before demo_10."""
    return sorted(names, key=_split_numbers)


def _split_numbers(name: str) -> tuple[list[tuple[str, int]], str]:
    """Each stretch of text with the number behind it, then the whole name."""
    parts = re.findall(r"(\D*)(\d{0,18})", name)
    return [(text, int(number or -1)) for text, number in parts], name


class FilePool:
    """Keeps the files of a data set open that were read last; one thread at a time asks HDF5.

    `with FilePool() as pool` closes them where what stands inside raises, and only then.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._open: OrderedDict[Path, Hdf5File] = OrderedDict()

    def __enter__(self) -> FilePool:
        return self

    def __exit__(self, problem: type[BaseException] | None, *_: object) -> None:
        if problem is not None:
            self.close()

    def touch(self, file: Hdf5File) -> None:
        """Note that a file is used; the one that was not used for longest is closed."""
        self._open[file.path] = file
        self._open.move_to_end(file.path)
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close every file."""
        with self.lock:
            for file in self._open.values():
                file.close()
            self._open.clear()


class Hdf5File:
    """An HDF5 file for reading. It is opened when needed; several threads may read.

    Raises DataError where it is no HDF5 file, is damaged, or has changed since it was first seen.
    """

    def __init__(self, path: Path, pool: FilePool) -> None:
        self.path = path
        self._pool = pool
        self._file: h5py.File | None = None
        self._arrays: OrderedDict[str, h5py.Dataset] = OrderedDict()
        if not is_hdf5(path):
            raise DataError(f"{path} does not begin as an HDF5 file; {AGAIN}")
        self._status = _take_status(path.stat())
        self._declared = 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._status[0]

    @contextmanager
    def use(self, name: str = "") -> Iterator[h5py.File]:
        """The open file, for one thread at a time; what h5py raises becomes a DataError."""
        where = self.path
        with self._pool.lock, name_damage(f"{where}/{name}" if name else where):
            if self._file is None:
                self._file = h5py.File(self.path, "r", locking="best-effort")
            self._pool.touch(self)
            yield self._file

    def root(self) -> Hdf5Group:
        """The group that holds all others."""
        return Hdf5Group(self, "")

    def declare(self, name: str, declared: int) -> None:
        """Count an array's bytes; DataError where the file is too small for all that it says."""
        self._declared += declared
        check_inflation(f"{self.path}/{name}", self._declared, self.size)

    def read_bytes(self, start: int, count: int) -> bytes:
        """Bytes as they lie in the file."""
        with name_damage(self.path):
            number = os.open(self.path, os.O_RDONLY)
            try:
                self._check_unchanged(os.fstat(number))
                raw = os.pread(number, count, start)
            finally:
                os.close(number)
        if len(raw) != count:
            raise DataError(f"{self.path} ends before its arrays do; {AGAIN}")
        return raw

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows of an array as HDF5 unpacks them."""
        with self.use(name) as file:
            array = self._arrays.get(name)
            if array is None:
                self._check_unchanged(self.path.stat())
                array = h5py.Dataset(_open_array(file, name))
                self._arrays[name] = array
                if len(self._arrays) > MOST_ARRAYS:
                    self._arrays.popitem(last=False)
            return array[start:stop]

    def _check_unchanged(self, status: os.stat_result) -> None:
        if _take_status(status) != self._status:
            raise DataError(f"{self.path} has changed since it was opened: open it again")

    def close(self) -> None:
        """Close it; it is opened again when it is read next."""
        self._arrays.clear()
        if self._file is not None:
            with suppress(*HDF5_DAMAGE):
                self._file.close()
            self._file = None


def _take_status(status: os.stat_result) -> tuple[int, int]:
    """Size and time of the last change."""
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Hdf5Group:
    """A group of a file, by its name from the root on; "" is the root."""

    file: Hdf5File
    name: str

    def names(self) -> list[str]:
        """What lies directly in it, demo_2 before demo_10."""
        found: list[bytes] = []

        def note(name: bytes) -> bool | None:
            found.append(name)
            return len(found) > MOST_LINKS or None

        with self.file.use(self.name) as file:
            group = _open(file, self.name, h5g.GroupID)  # HDF5 closes what nobody holds
            group.links.iterate(note)
            names = [name.decode() for name in found]
        if len(names) > MOST_LINKS:
            raise DataError(f"{self.file.path}/{self.name} holds more than {MOST_LINKS:,} names")
        return sort_naturally(names)

    def find(self, name: str) -> Hdf5Group | Hdf5Array | None:
        """A group or an array below it; None where there is none of this name.

        Raises DataError for links that lead out of the file and for arrays that are not read.
        """
        inner = f"{self.name}/{name}".strip("/")
        with self.file.use(inner) as file:
            found = _follow(file, inner)
            if isinstance(found, h5g.GroupID):
                return Hdf5Group(self.file, inner)
            if isinstance(found, h5d.DatasetID):
                return check_array(self.file, inner, found)
        return None

    def group(self, name: str) -> Hdf5Group:
        """A group below it; DataError where there is none."""
        found = self.find(name)
        if isinstance(found, Hdf5Group):
            return found
        raise DataError(f"{self.file.path} has no group {cut(f'{self.name}/{name}')!r}; {AGAIN}")

    def array(self, name: str) -> Hdf5Array:
        """An array below it; DataError where there is none."""
        found = self.find(name)
        if isinstance(found, Hdf5Array):
            return found
        raise DataError(
            f"{self.file.path} has no array {cut(f'{self.name}/{name}')!r}; "
            f"{self.name or 'the file'} holds {cut(str(self.names()))}"
        )

    def attribute(self, name: str) -> Any:
        """A number, a text or an array of them; None where there is no such attribute."""
        with self.file.use(self.name) as file:
            group = _open(file, self.name, h5g.GroupID)
            if not h5a.exists(group, name.encode()):
                return None
            held = h5a.open(group, name.encode())
            count = held.get_space().get_simple_extent_npoints()
            plain = held.get_type().get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM)
            if not plain or count > MOST_ATTRIBUTE or held.get_storage_size() > self.file.size:
                raise DataError(
                    f"{self.file.path}: the attribute {name!r} of {self.name!r} is no number "
                    "and no text"
                )
            value = h5py.Group(group).attrs[name]
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return value

    def text(self, name: str) -> str:
        """An attribute that is a text; empty where it is missing or something else."""
        value = self.attribute(name)
        if isinstance(value, str):
            return value
        return ""


@dataclass(frozen=True)
class Hdf5Array:
    """An array of a file, time first, that may be read."""

    file: Hdf5File
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    holds: Holds
    offset: int | None
    """Where its numbers begin in the file, if they lie there unpacked."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one step."""
        return self.shape[1:]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop, (stop - start, *row); DataError where they cannot be read."""
        stop = min(stop, len(self))
        if self.offset is None:
            values = self.file.read_rows(self.name, start, stop)
        else:
            row_bytes = math.prod(self.row) * self.dtype.itemsize
            first = self.offset + start * row_bytes
            raw = self.file.read_bytes(first, (stop - start) * row_bytes)
            values = np.frombuffer(raw, self.dtype).reshape(stop - start, *self.row)
        if self.dtype == np.bool_:
            return values.view(np.uint8) != 0
        return values

    def texts(self) -> list[str]:
        """All of it as texts."""
        if self.holds != "text" or len(self.shape) != 1:
            raise DataError(f"{self.file.path}/{self.name} is no list of texts")
        found: list[str] = []
        for raw in self.rows(0, len(self)):
            found.append(bytes(raw).decode(errors="replace"))
        return found


def _open(file: h5py.File, name: str, kind: type[Any]) -> Any:
    found = _follow(file, name)
    if not isinstance(found, kind):
        raise DataError(f"{file.filename} has no group {cut(name)!r}; {AGAIN}")
    return found


def _open_array(file: h5py.File, name: str) -> h5d.DatasetID:
    found = _follow(file, name)
    if not isinstance(found, h5d.DatasetID):
        raise DataError(f"{file.filename} has no array {cut(name)!r}; {AGAIN}")
    return found


def _follow(file: h5py.File, name: str) -> Any:
    """The object of a name from the root on; None where it is missing.

    Links are followed one by one here, not by HDF5, so that none of them leads out of the file.
    """
    root = h5g.open(file.id, b"/")
    at: Any = root
    todo = [part for part in name.encode().split(b"/") if part]
    jumps = 0
    while todo:
        part = todo.pop(0)
        if not isinstance(at, h5g.GroupID) or not at.links.exists(part):
            return None
        kind = at.links.get_info(part).type
        if kind == h5l.TYPE_HARD:
            at = h5o.open(at, part)
            continue
        jumps += 1
        if kind != h5l.TYPE_SOFT or jumps > MOST_JUMPS:
            raise DataError(
                f"{file.filename}: {cut(name)!r} is a link that leads out of the file, or round "
                "and round; only what lies in the file itself is read"
            )
        target = at.links.get_val(part)
        if target.startswith(b"/"):
            at = root
        todo = [step for step in target.split(b"/") if step and step != b"."] + todo
    return at


def check_array(file: Hdf5File, name: str, found: h5d.DatasetID) -> Hdf5Array:
    """What an array holds and where; DataError where it is not read. None of it is read yet."""
    where = f"{file.path}/{name}"
    settings = found.get_create_plist()
    layout = settings.get_layout()
    # Asked first: to take the size of a virtual data set opens the files that it names.
    if layout == h5d.VIRTUAL or settings.get_external_count():
        raise DataError(f"{where} lies in other files; only what lies in the file itself is read")
    _check_filters(where, settings)
    holds, dtype = _check_type(where, found.get_type())
    shape = tuple(map(int, found.shape))
    declared = math.prod(shape) * dtype.itemsize
    file.declare(name, declared)
    if declared and found.get_storage_size() == 0:
        raise DataError(f"{where} was made and never written; {AGAIN}")
    if layout == h5d.CHUNKED:
        _check_chunks(where, file, found, shape, dtype)
    offset = None
    if layout == h5d.CONTIGUOUS and holds == "numbers" and declared:
        offset = _find_offset(where, file, found, dtype, declared)
    return Hdf5Array(file, name, shape, dtype, holds, offset)


def _check_filters(where: str, settings: h5d.PropDCID) -> None:
    """Refuse filters that h5py does not bring along."""
    for number in range(settings.get_nfilters()):
        code = settings.get_filter(number)[0]
        if code not in FILTERS:
            name = PLUG_INS.get(code, "an unknown plug-in")
            raise DataError(f"{where} is packed by {name} (filter {code}); {REPACK}")


def _check_type(where: str, held: h5t.TypeID) -> tuple[Holds, np.dtype[Any]]:
    """What the entries of an array are: numbers and truth values, text, or bytes of any length."""
    kind = held.get_class()
    if kind == h5t.STRING:
        return "text", held.dtype
    if kind == h5t.VLEN and held.get_super().equal(h5t.NATIVE_UINT8):
        return "bytes", held.dtype
    dtype = np.dtype("O")
    if kind in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM):
        dtype = held.dtype
    if dtype.kind not in "fiub" or dtype.itemsize > 8 or (kind == h5t.ENUM and dtype.kind != "b"):
        raise DataError(f"{where} holds no plain numbers and no text; such arrays are not read")
    return "numbers", dtype


def _check_chunks(
    where: str, file: Hdf5File, found: h5d.DatasetID, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Refuse chunks that inflate, and chunks that are missing: HDF5 would make zeros of them."""
    chunk = found.get_create_plist().get_chunk()
    chunk_bytes = math.prod(chunk) * dtype.itemsize
    check_inflation(where, chunk_bytes, file.size)
    check_memory(where, chunk_bytes)
    wanted = math.prod(-(-size // part) for size, part in zip(shape, chunk, strict=True))
    stored = found.get_num_chunks()
    if stored != wanted:
        raise DataError(f"{where} has {stored} of its {wanted} chunks; {AGAIN}")


def _find_offset(
    where: str, file: Hdf5File, found: h5d.DatasetID, dtype: np.dtype[Any], declared: int
) -> int | None:
    """Where unpacked numbers begin; None where numpy's numbers are not the file's."""
    offset = found.get_offset()
    if offset is None or (dtype != np.bool_ and not found.get_type().equal(h5t.py_create(dtype))):
        return None
    if offset + declared > file.size or found.get_storage_size() != declared:
        raise DataError(f"{where} ends beyond the file; {AGAIN}")
    return offset
