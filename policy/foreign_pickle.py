"""Tensors out of a file that torch.save wrote, without running anything that is pickled in it.

Only tensors, their storages, ordered dictionaries and plain values are built. Whatever else the file names (configurations,
workspaces, or an attacker's function) becomes an inert placeholder: it is never imported, and calling it does nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..spec import CheckpointError

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


class Placeholder:
    """Stands for an object that is not built."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything, do nothing."""

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget an item."""

    def append(self, value: Any) -> None:
        """Forget an element."""

    def extend(self, values: Any) -> None:
        """Forget elements."""

    def __hash__(self) -> int:
        return id(self)


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel():  # a stride of 0 would repeat little into much
        raise CheckpointError("a tensor of the file is larger than its storage")
    if offset < 0 or min((*size, *stride), default=0) < 0 or (0 not in size and last >= storage.numel()):
        raise CheckpointError("a tensor of the file reaches beyond its storage")
    return torch.as_strided(storage, size, stride, offset).clone()


class _Reader(pickle.Unpickler):
    """Builds tensors and plain values only."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """The few things that may be built; for every other name a placeholder."""
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        allowed = {("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor, ("collections", "OrderedDict"): OrderedDict}
        return allowed.get((module, name), Placeholder)

    def persistent_load(self, pid: Any) -> Any:
        """A storage: its bytes lie in a file of their own in the archive."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[1], torch.dtype):
            raise CheckpointError(f"the file refers to something that is no tensor's storage: {str(pid)[:80]}")
        raw = self.archive.read(f"{self.root}/data/{pid[2]}")
        return torch.frombuffer(bytearray(raw), dtype=pid[1]) if raw else torch.empty(0, dtype=pid[1])


def read_tensors(path: Path) -> Any:
    """What torch.save wrote (its zip format): dictionaries, lists, plain values and tensors, with placeholders for the rest.

    Raises CheckpointError for a file of another kind, or a broken one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise CheckpointError(f"{path} holds no data.pkl: a file that torch.save wrote is wanted")
            return _Reader(archive, roots[0]).load()
    except CheckpointError:
        raise
    except Exception as error:  # a pickle can break in any way
        raise CheckpointError(f"{path} cannot be read as a file of torch.save: {error!r}") from error
