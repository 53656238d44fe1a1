"""Random damage to good files, for `hotstart bench fuzz`."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..policy import checkpoint
from . import _fuzz_data
from ._fuzz_files import MARKING, copy_good

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**40,
    10**25,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x" * 10_000,
    "\ud800",
    "a\0b",
    [],
    {},
    [[]],
    {"a": 1},
    [None],
    ["x", -1],
    [2**40] * 4,
    f"{MARKING}:Env-v0",
    f"{MARKING}.run",
    "../../etc/passwd",
)


def damage(kind: str, folder: Path, rng: np.random.Generator, bad_copy: bool = False) -> Path:
    """A copy of the good file or folder with one to three faults; `bad_copy`: cut or flipped."""
    path = copy_good(kind, folder)
    if bad_copy:
        _fuzz_data.damage_copy(path, rng)
        return path
    if kind in _fuzz_data.VALID:
        _fuzz_data.damage(path, rng)
        return path
    for _ in range(int(rng.integers(1, 4))):
        files = [path]
        if path.is_dir():
            files = _fuzz_data.list_files(path)
        if files:
            _damage_file(files[int(rng.integers(len(files)))], rng)
    return path


def _damage_file(path: Path, rng: np.random.Generator) -> None:
    changes: list[Callable[[Path, np.random.Generator], None]] = [
        _flip_bits,
        _truncate,
        _overwrite,
        _remove,
        _drop_hashes,
    ]
    if path.suffix in (".json", ".yaml"):
        changes += [_change_value] * 6 + [_remove_key] * 3 + [_nest, _enlarge_number]
    elif path.suffix == ".safetensors":
        changes += [_change_header] * 4
    elif path.suffix == ".ckpt":
        changes += [_change_pickle] * 6
    if path.exists():
        changes[int(rng.integers(len(changes)))](path, rng)


def _flip_bits(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(_fuzz_data.flip_bits(path.read_bytes(), rng))


def _truncate(path: Path, rng: np.random.Generator) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(rng.integers(len(raw) + 1))])


def _overwrite(path: Path, rng: np.random.Generator) -> None:
    """Random bytes, zeros or a piece of the file itself in place of another piece."""
    raw = bytearray(path.read_bytes())
    start = int(rng.integers(len(raw) + 1))
    stop = start + int(rng.integers(1, 200))
    pieces = (rng.bytes(stop - start), bytes(stop - start), bytes(raw[:200]))
    raw[start:stop] = pieces[int(rng.integers(3))]
    path.write_bytes(raw)


def _remove(path: Path, rng: np.random.Generator) -> None:
    if rng.random() < 0.2:
        path.unlink()
    else:
        _truncate(path, rng)


def _drop_hashes(path: Path, rng: np.random.Generator) -> None:
    """Damage somewhere, by somebody who takes the hashes out."""
    meta = path.parent / checkpoint.META
    if meta.is_file():
        text = meta.read_text(errors="replace")
        meta.write_text(text.replace(f'"{checkpoint.HASHES}"', '"other"'))
    if path.exists():
        _flip_bits(path, rng)


def _read_plain(path: Path) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text())
        return yaml.safe_load(path.read_text())
    except (ValueError, yaml.YAMLError, RecursionError):
        return None


def _write_plain(path: Path, value: Any) -> None:
    with contextlib.suppress(UnicodeEncodeError, yaml.YAMLError):
        if path.suffix == ".json":
            text = json.dumps(value)
        else:
            text = yaml.safe_dump(value, sort_keys=False)
        path.write_text(text)


def list_places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all parts of plain values."""
    for key, part in _fuzz_data.list_parts(value):
        yield (*place, key)
        yield from list_places(part, (*place, key))


def _change_part(path: Path, rng: np.random.Generator, change: Callable[[Any, Any], None]) -> None:
    """Let `change(container, key)` change one part of a file of plain values."""
    whole = _read_plain(path)
    places = list(list_places(whole))
    if not places:
        return
    place = places[int(rng.integers(len(places)))]
    container = whole
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    _write_plain(path, whole)


def _change_value(path: Path, rng: np.random.Generator) -> None:
    odd = ODD[int(rng.integers(len(ODD)))]
    _change_part(path, rng, lambda container, key: container.__setitem__(key, odd))


def _remove_key(path: Path, rng: np.random.Generator) -> None:
    _change_part(path, rng, lambda container, key: container.__delitem__(key))


def _nest(path: Path, rng: np.random.Generator) -> None:
    deep: Any = 1
    for _ in range(int(rng.integers(1, 60))):
        if rng.random() < 0.5:
            deep = [deep]
        else:
            deep = {"a": deep}
    _change_part(path, rng, lambda container, key: container.__setitem__(key, deep))


def _enlarge_number(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text(errors="replace")
    numbers = list(re.finditer(r"\d+", text))
    if numbers:
        chosen = numbers[int(rng.integers(len(numbers)))]
        nines = "9" * int(rng.integers(1, 6000))
        path.write_text(text[: chosen.start()] + nines + text[chosen.end() :])


def _change_header(path: Path, rng: np.random.Generator) -> None:
    """Another value in the header of a safetensors file, whose length is put right."""
    raw = path.read_bytes()
    size = 0
    if len(raw) >= 8:
        size = struct.unpack("<Q", raw[:8])[0]
    part = path.with_name("header.json")
    part.write_bytes(raw[8 : 8 + size])
    _change_value(part, rng)
    header = part.read_bytes()
    part.unlink()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + size :])


def _change_pickle(path: Path, rng: np.random.Generator) -> None:
    """Other bytes in the pickle or in a storage of a file of torch.save.

    Its checksums are put right.
    """
    try:
        members = _fuzz_data.read_members(path)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, RuntimeError):
        return
    names = sorted(members)
    if rng.random() < 0.6:
        name = next((name for name in names if name.endswith("data.pkl")), names[0])
    else:
        name = names[int(rng.integers(len(names)))]
    part = path.with_name("part")
    part.write_bytes(members[name])
    changes = (_flip_one_bit, _flip_one_bit, _flip_bits, _truncate, _overwrite)
    changes[int(rng.integers(5))](part, rng)
    members[name] = part.read_bytes()
    part.unlink()
    _fuzz_data.write_members(path, members, zipfile.ZIP_STORED)


def _flip_one_bit(path: Path, rng: np.random.Generator) -> None:
    raw = bytearray(path.read_bytes())
    if raw:
        place = int(rng.integers(8 * len(raw)))
        raw[place // 8] ^= 1 << place % 8
    path.write_bytes(raw)
