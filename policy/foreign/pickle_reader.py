"""Tensors out of a file that torch.save wrote, without running anything that is pickled in it.

The pickle's opcodes are read one by one, by a reader of their own: no `pickle.Unpickler` ever sees the file. Only tensors,
their storages, dictionaries, lists and plain values are built. Whatever else the file names (configurations, workspaces, or
an attacker's function) becomes an inert placeholder: it is never imported, and calling it does nothing. Time and memory grow
with the file's size at most: members are stored and not compressed, each storage is read once, and opcodes are counted.
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
"""The tensors of a file may hold this many times the numbers of its storages: some are shared."""
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
    """The members of a file of torch.save, each read once and as long as it says."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        """`size` is the whole file's [bytes]."""
        self.archive = archive
        entries = archive.infolist()
        if len(entries) > MEMBERS:
            raise CheckpointError(f"it has {len(entries):,} members; at most {MEMBERS:,} are read")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError("its members are compressed; torch.save writes them as they are")
        if sum(entry.file_size for entry in entries) > size:
            raise CheckpointError("its members are longer than the file")
        roots = [
            entry.filename.removesuffix("/data.pkl")
            for entry in entries
            if entry.filename.endswith("/data.pkl")
        ]
        if len(roots) != 1:
            raise CheckpointError("it holds no data.pkl: a file that torch.save wrote is wanted")
        self.root = roots[0]
        self.storages: dict[str, tuple[str, Storage]] = {}
        self.numbers = 0

    def pickled(self) -> bytes:
        """The pickle, of bounded length."""
        entry = self.archive.getinfo(f"{self.root}/data.pkl")
        if entry.file_size > PICKLE_BYTES:
            raise CheckpointError(
                f"its pickle has {entry.file_size:,} bytes; at most {PICKLE_BYTES:,} are read"
            )
        return self.archive.read(entry)

    def storage(self, kind: str, key: str) -> Storage:
        """The storage `key`; raises CheckpointError where it is asked for as two kinds of numbers."""
        if key not in self.storages:
            values = self._numbers(kind, key)
            self.numbers += values.numel()
            self.storages[key] = (kind, Storage(values))
        known, storage = self.storages[key]
        if known != kind:
            raise CheckpointError(f"the storage {shorten(key)} is read as two kinds of numbers")
        return storage

    def _numbers(self, kind: str, key: str) -> Tensor:
        dtype = DTYPES[kind]
        raw = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        if not raw:
            return torch.empty(0, dtype=dtype)
        if dtype == torch.bool:
            return torch.frombuffer(raw, dtype=torch.uint8) != 0
        return torch.frombuffer(raw, dtype=dtype)


class _Machine:
    """A pickle's stack, with nothing on it but tensors, storages, names, placeholders and plain values."""

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.numbers = 0
        self.steps: dict[str, Callable[[Any], None]] = {
            "MARK": self._mark,
            "POP": lambda _: self._drop(),
            "POP_MARK": lambda _: self._drop_marked(),
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_SET": lambda _: self.stack.append(Placeholder()),
            "TUPLE": lambda _: self.stack.append(tuple(self._marked())),
            "FROZENSET": lambda _: self._make_placeholder(self._marked()),
            "APPEND": lambda _: self._extend([self._taken()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "ADDITEMS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._put([self._taken(), self._taken()][::-1]),
            "SETITEMS": lambda _: self._put(self._marked()),
            "GLOBAL": self._name,
            "STACK_GLOBAL": self._name_of_stack,
            "REDUCE": lambda _: self._call(self._taken(), self._taken()),
            "NEWOBJ": lambda _: self._call(self._taken(), self._taken()),
            "NEWOBJ_EX": lambda _: self._make_placeholder(
                [self._taken(), self._taken(), self._taken()]
            ),
            "BUILD": lambda _: self._build(self._taken()),
            "BINPERSID": lambda _: self._load_storage(self._taken()),
        }

    def run(self, pickled: bytes) -> Any:
        """What the pickle leaves on the stack; raises CheckpointError for an opcode that is not in the lists above."""
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
            self.stack.append(tuple([self._taken() for _ in range(TUPLES[name])][::-1]))
        elif name in self.steps:
            self.steps[name](argument)
        elif name not in IGNORED:
            raise CheckpointError(
                f"its pickle holds the opcode {name}, which torch.save does not write"
            )

    def _taken(self) -> Any:
        """The topmost value; one below a mark is out of reach."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise CheckpointError("its pickle takes more values than it has")
        return self.stack.pop()

    def _top(self) -> Any:
        self.stack.append(self._taken())
        return self.stack[-1]

    def _mark(self, _: Any) -> None:
        if len(self.marks) >= MARKS:
            raise CheckpointError(f"its pickle is nested more than {MARKS} deep")
        self.marks.append(len(self.stack))

    def _marked(self) -> list[Any]:
        if not self.marks:
            raise CheckpointError("its pickle takes more values than it has")
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def _drop(self) -> None:
        self._taken()

    def _drop_marked(self) -> None:
        self._marked()

    def _remember(self, place: int) -> None:
        self.memo[place] = self._top()

    def _recall(self, place: int) -> None:
        if place not in self.memo:
            raise CheckpointError("its pickle refers to a value that is not there")
        self.stack.append(self.memo[place])

    def _make_placeholder(self, _: list[Any]) -> None:
        self.stack.append(Placeholder())

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Placeholder):
            raise CheckpointError("its pickle appends to something that is no list")

    def _put(self, values: list[Any]) -> None:
        """Key after value into a dictionary; keys other than text and small whole numbers are left out."""
        target = self._top()
        if isinstance(target, Placeholder):
            return
        if not isinstance(target, dict):
            raise CheckpointError("its pickle puts items into something that is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, str) or (isinstance(key, int) and abs(key) < WHOLE_KEY):
                target[key] = value

    def _name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(module, name))

    def _name_of_stack(self, _: Any) -> None:
        name, module = self._taken(), self._taken()
        self.stack.append(
            Name(module, name)
            if isinstance(name, str) and isinstance(module, str)
            else Placeholder()
        )

    def _call(self, arguments: Any, function: Any) -> None:
        """A tensor, a dictionary or a placeholder for what a call would give."""
        if isinstance(function, Name):
            named = (function.module, function.name)
        else:
            named = None
        if isinstance(arguments, tuple):
            first = next(iter(arguments), None)
        else:
            first = None
        if named == ("torch._utils", "_rebuild_tensor_v2"):
            self.stack.append(self._rebuild(arguments))
        elif named == ("torch._utils", "_rebuild_parameter") and isinstance(first, Tensor):
            self.stack.append(first)
        elif named == ("collections", "OrderedDict") and first is None:
            self.stack.append({})
        else:
            self.stack.append(Placeholder())

    def _build(self, _: Any) -> None:
        """Forget the state of an object that is not built; a dictionary's attributes (torch's `_metadata`) too."""
        if not isinstance(self._top(), Placeholder | dict):
            raise CheckpointError("its pickle sets the state of something that has none")

    def _load_storage(self, pid: Any) -> None:
        """A storage: its bytes lie in a file of their own in the archive."""
        match pid:
            case ("storage", Name("torch", kind), str(key), _, _) if kind in DTYPES:
                self.stack.append(self.archive.storage(kind, key))
            case _:
                raise CheckpointError(
                    f"the file refers to something that is no tensor's storage: {shorten(pid)}"
                )

    def _rebuild(self, arguments: Any) -> Tensor:
        """A view of a storage that lies wholly inside it."""
        match arguments:
            case (Storage(values), int(offset), tuple(size), tuple(stride), *_):
                pass
            case _:
                raise CheckpointError(f"a tensor of the file is described by {shorten(arguments)}")
        few = len(size) == len(stride) <= DIMENSIONS
        if not few or not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)):
            raise CheckpointError(
                f"a tensor of the file has the shape {shorten(size)} and the strides {shorten(stride)}"
            )
        count = math.prod(size)
        if count > values.numel():  # a stride of 0 would repeat little into much
            raise CheckpointError("a tensor of the file is larger than its storage")
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
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
    """What torch.save wrote (its zip format): dictionaries, lists, plain values and tensors, with placeholders for the rest.

    Raises CheckpointError for a file of another kind, a broken one, and one that torch.save would not have written.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            archive = _Archive(opened, path.stat().st_size)
            return _Machine(archive).run(archive.pickled())
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read as a file of torch.save: {error}") from error
    except Exception as error:  # a zip file can break in any way
        raise CheckpointError(
            f"{path} cannot be read as a file of torch.save: {cut(str(error))}"
        ) from error
