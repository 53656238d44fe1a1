"""Tensors out of a file that torch.save wrote, without running anything that is pickled in it.

This module reads the pickle's opcodes one by one; no `pickle.Unpickler` ever sees the file. It
builds only tensors, their storages, dictionaries, lists and plain values. Whatever else the file
names (a configuration, a workspace, an attacker's function) becomes an inert placeholder: it is
never imported, and a call of it does nothing. Time and memory grow at most with the file's size:
members are stored and not compressed, each storage is read once, and opcodes are counted.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...spec import CheckpointError
from ...system.untrusted import cut, shorten

PICKLE_BYTES = 16 << 20
OPCODES = 1_000_000
MEMBERS = 100_000
DIMENSIONS = 8
MARKS = 1000
REPEATED = 2
"""Tensors may share storages: together they hold at most this many times the storages' numbers."""
WHOLE_KEY = 1 << 31
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
ARGUMENTS = frozenset((*NUMBERS, *TEXTS))
"""Opcodes that push their argument, a plain value."""
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class Placeholder:
    """Stands for an object that is not built."""


@dataclass(frozen=True)
class Name:
    """A function or a class that the file names: never imported."""

    module: str
    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers of one storage, (n,)."""

    values: Tensor


class _Archive:
    """The members of a file of torch.save; each is read once, up to the length in its entry."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        """`size` is the whole file's [bytes].

        Raises CheckpointError for members that torch.save would not have written.
        """
        self.archive = archive
        self.root = _find_root(archive.infolist(), size)
        self.storages: dict[str, tuple[str, Storage]] = {}
        self.numbers = 0

    def read_pickle(self) -> bytes:
        """The pickle; raises CheckpointError where it has more than `PICKLE_BYTES`."""
        entry = self.archive.getinfo(f"{self.root}/data.pkl")
        if entry.file_size > PICKLE_BYTES:
            raise CheckpointError(
                f"its pickle has {entry.file_size:,} bytes; at most {PICKLE_BYTES:,} are read"
            )
        return self.archive.read(entry)

    def read_storage(self, kind: str, key: str) -> Storage:
        """The storage `key`; raises CheckpointError where the file reads it as two kinds."""
        if key not in self.storages:
            values = self._read_numbers(kind, key)
            self.numbers += values.numel()
            self.storages[key] = (kind, Storage(values))
        known, storage = self.storages[key]
        if known != kind:
            raise CheckpointError(f"the storage {shorten(key)} is read as two kinds of numbers")
        return storage

    def _read_numbers(self, kind: str, key: str) -> Tensor:
        """The numbers (n,) of a storage, of the type that `kind` names."""
        dtype = DTYPES[kind]
        raw = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        if not raw:
            return torch.empty(0, dtype=dtype)
        if dtype == torch.bool:
            return torch.frombuffer(raw, dtype=torch.uint8) != 0
        return torch.frombuffer(raw, dtype=dtype)


def _find_root(entries: list[zipfile.ZipInfo], size: int) -> str:
    """The folder of data.pkl in a file of `size` bytes.

    Raises CheckpointError for too many members, compressed ones, ones longer together than the
    file, and where there is not exactly one data.pkl.
    """
    if len(entries) > MEMBERS:
        raise CheckpointError(f"it has {len(entries):,} members; at most {MEMBERS:,} are read")
    roots: list[str] = []
    total = 0
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError("its members are compressed; torch.save writes them as they are")
        total += entry.file_size
        if entry.filename.endswith("/data.pkl"):
            roots.append(entry.filename.removesuffix("/data.pkl"))
    if total > size:
        raise CheckpointError("its members are longer than the file")
    if len(roots) != 1:
        raise CheckpointError("it holds no data.pkl: a file that torch.save wrote is wanted")
    return roots[0]


class _Machine:
    """A pickle's stack: it holds tensors, storages, names, placeholders and plain values alone."""

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.numbers = 0
        self.steps: dict[str, Callable[[Any], object]] = {
            "MARK": self._push_mark,
            "POP": lambda _: self._pop(),
            "POP_MARK": lambda _: self._pop_to_mark(),
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_SET": lambda _: self.stack.append(Placeholder()),
            "TUPLE": lambda _: self.stack.append(tuple(self._pop_to_mark())),
            "FROZENSET": lambda _: self._push_placeholder(self._pop_to_mark()),
            "APPEND": lambda _: self._extend(self._pop_many(1)),
            "APPENDS": lambda _: self._extend(self._pop_to_mark()),
            "ADDITEMS": lambda _: self._extend(self._pop_to_mark()),
            "SETITEM": lambda _: self._set_items(self._pop_many(2)),
            "SETITEMS": lambda _: self._set_items(self._pop_to_mark()),
            "GLOBAL": self._push_name,
            "STACK_GLOBAL": lambda _: self._push_name_of_stack(),
            "REDUCE": lambda _: self._call(*self._pop_many(2)),
            "NEWOBJ": lambda _: self._call(*self._pop_many(2)),
            "NEWOBJ_EX": lambda _: self._push_placeholder(self._pop_many(3)),
            "BUILD": lambda _: self._drop_state(),
            "BINPERSID": lambda _: self._load_storage(self._pop()),
        }

    def run(self, pickled: bytes) -> Any:
        """What the pickle leaves on the stack.

        Raises CheckpointError for an opcode that is in none of the lists above, and for a pickle
        that leaves no value or more than one.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if count >= OPCODES:
                raise CheckpointError(f"its pickle has more than {OPCODES:,} opcodes")
            self._step(opcode.name, argument)
        if len(self.stack) != 1 or self.marks:
            raise CheckpointError("its pickle does not end with one value")
        return self.stack[0]

    def _step(self, name: str, argument: Any) -> None:
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in ARGUMENTS:
            self.stack.append(argument)
        elif name in TUPLES:
            self.stack.append(tuple(self._pop_many(TUPLES[name])))
        elif name in self.steps:
            self.steps[name](argument)
        elif name not in IGNORED:
            raise CheckpointError(
                f"its pickle holds the opcode {name}, which torch.save does not write"
            )

    def _pop_many(self, count: int) -> list[Any]:
        """The topmost `count` values, from below to above; values below a mark are out of reach."""
        lowest = 0
        if self.marks:
            lowest = self.marks[-1]
        first = len(self.stack) - count
        if first < lowest:
            raise CheckpointError("its pickle takes more values than it has")
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def _pop(self) -> Any:
        return self._pop_many(1)[0]

    def _peek(self) -> Any:
        """The topmost value, which stays on the stack."""
        value = self._pop()
        self.stack.append(value)
        return value

    def _push_mark(self, _: object) -> None:
        if len(self.marks) >= MARKS:
            raise CheckpointError(f"its pickle is nested more than {MARKS} deep")
        self.marks.append(len(self.stack))

    def _pop_to_mark(self) -> list[Any]:
        """The values above the last mark, from below to above; the mark goes too."""
        if not self.marks:
            raise CheckpointError("its pickle takes more values than it has")
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def _remember(self, place: int) -> None:
        self.memo[place] = self._peek()

    def _recall(self, place: int) -> None:
        if place not in self.memo:
            raise CheckpointError("its pickle refers to a value that is not there")
        self.stack.append(self.memo[place])

    def _push_placeholder(self, _: list[Any]) -> None:
        """Push what stands for a call or a set of these values."""
        self.stack.append(Placeholder())

    def _extend(self, values: list[Any]) -> None:
        target = self._peek()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Placeholder):
            raise CheckpointError("its pickle appends to something that is no list")

    def _set_items(self, values: list[Any]) -> None:
        """Set the items key, value, key, value, ... of the topmost dictionary.

        Items whose key is neither text nor a small whole number are left out.
        """
        target = self._peek()
        if isinstance(target, Placeholder):
            return
        if not isinstance(target, dict):
            raise CheckpointError("its pickle puts items into something that is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, str) or (isinstance(key, int) and abs(key) < WHOLE_KEY):
                target[key] = value

    def _push_name(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(Name(module, name))

    def _push_name_of_stack(self) -> None:
        module, name = self._pop_many(2)
        if isinstance(module, str) and isinstance(name, str):
            self.stack.append(Name(module, name))
        else:
            self.stack.append(Placeholder())

    def _call(self, function: object, arguments: object) -> None:
        """Push a tensor, a dictionary or a placeholder for what the call would give."""
        first = None
        if isinstance(arguments, tuple):
            first = next(iter(arguments), None)
        match function:
            case Name("torch._utils", "_rebuild_tensor_v2"):
                self.stack.append(self._rebuild_tensor(arguments))
            case Name("torch._utils", "_rebuild_parameter") if isinstance(first, Tensor):
                self.stack.append(first)
            case Name("collections", "OrderedDict") if first is None:
                self.stack.append({})
            case _:
                self.stack.append(Placeholder())

    def _drop_state(self) -> None:
        """Drop the state of a placeholder, or a dictionary's attributes (torch's `_metadata`)."""
        self._pop()
        if not isinstance(self._peek(), Placeholder | dict):
            raise CheckpointError("its pickle sets the state of something that has none")

    def _load_storage(self, pid: object) -> None:
        """Push a storage, whose bytes are a member of their own."""
        match pid:
            case ("storage", Name("torch", kind), str(key), _, _) if kind in DTYPES:
                self.stack.append(self.archive.read_storage(kind, key))
            case _:
                raise CheckpointError(
                    f"the file refers to something that is no tensor's storage: {shorten(pid)}"
                )

    def _rebuild_tensor(self, arguments: object) -> Tensor:
        """A view of a storage; raises CheckpointError unless it lies wholly inside the storage."""
        match arguments:
            case (Storage(values), int(offset), tuple(size), tuple(stride), *_):
                pass
            case _:
                raise CheckpointError(f"a tensor of the file is described by {shorten(arguments)}")
        whole = len(size) == len(stride) <= DIMENSIONS
        for number in (offset, *size, *stride):
            whole = whole and isinstance(number, int) and number >= 0
        if not whole:
            raise CheckpointError(
                f"a tensor of the file has the shape {shorten(size)} "
                f"and the strides {shorten(stride)}"
            )
        count = math.prod(size)
        if count > values.numel():  # a stride of 0 would repeat little into much
            raise CheckpointError("a tensor of the file is larger than its storage")
        last = offset
        for side, step in zip(size, stride, strict=True):
            last += (side - 1) * step
        if (count and last >= values.numel()) or offset > values.numel():
            raise CheckpointError("a tensor of the file reaches beyond its storage")
        self._count_numbers(count)
        return torch.as_strided(values, size, stride, offset)

    def _count_numbers(self, count: int) -> None:
        """Raise CheckpointError where the tensors show their storages again and again."""
        self.numbers += count
        if self.numbers > REPEATED * self.archive.numbers + OPCODES:
            raise CheckpointError("the tensors of the file show the same numbers many times over")


def read_tensors(path: Path) -> Any:
    """What torch.save wrote, in its zip format.

    It is made of dictionaries, lists, plain values and tensors, with placeholders for the rest.
    Raises CheckpointError for a file of another kind, a broken one, and one that torch.save would
    not have written.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            archive = _Archive(opened, path.stat().st_size)
            return _Machine(archive).run(archive.read_pickle())
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read as a file of torch.save: {error}") from error
    except Exception as error:  # a zip file can break in any way
        raise CheckpointError(
            f"{path} cannot be read as a file of torch.save: {cut(str(error))}"
        ) from error
