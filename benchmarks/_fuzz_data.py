"""What `hotstart bench fuzz` does with data sets: good ones of every form, damage, and reading."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from ..commands import data
from ..configs.schema import Info
from ..datasets.arrays import Arrays
from ..datasets.checks.verify import verify
from ..datasets.formats.conversion import export
from ..datasets.store import Store
from ..spec import ActionSpec, ObsKey, ObsSpec
from . import _fuzz_formats

ENDS = np.array([4, 9, 15])
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**62,
    10**25,
    1e300,
    float("nan"),
    "",
    "x" * 10_000,
    "|O",
    "<M8[s]",
    "a\0b",
    "../../etc",
    [],
    {},
    [[]],
    {"id": "pickle"},
    [{"id": "pickle"}],
    [{"name": "numcodecs.pickle"}],
    [2**40, 2],
    [10**9, 10**9],
)
"""Values for a place in metadata."""
Change = Callable[[bytes, np.random.Generator], bytes]


def make_arrays() -> dict[str, np.ndarray[Any, Any]]:
    """Three short episodes."""
    rng = np.random.default_rng(0)
    return {
        "action": rng.normal(size=(15, 2)).astype(np.float32),
        "state": rng.normal(size=(15, 3)),
        "camera": rng.integers(0, 256, (15, 8, 9, 3), dtype=np.uint8),
    }


def make_valid_npz(path: Path) -> None:
    """An npz, one in deflate."""
    np.savez_compressed(path, episode_ends=ENDS, **make_arrays())


def make_valid_zarr(path: Path, zarr_format: Literal[2, 3]) -> None:
    """A replay buffer as Zarr writes one, its arrays in several codecs."""
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    codecs: tuple[Any, ...] = (BloscCodec(), GzipCodec(), ZstdCodec())
    if zarr_format == 2:
        codecs = (numcodecs.Blosc("lz4"), numcodecs.Zlib(), numcodecs.Zstd())
    for (key, values), codec in zip(make_arrays().items(), codecs, strict=True):
        chunks = (4, *values.shape[1:])
        made = group.create_array(
            f"data/{key}", shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=codec
        )
        made[:] = values
    group.create_array("meta/episode_ends", shape=ENDS.shape, dtype=ENDS.dtype)[:] = ENDS


def make_valid_zip(path: Path) -> None:
    """The same in a zip."""
    with tempfile.TemporaryDirectory() as folder:
        make_valid_zarr(Path(folder) / "a", 2)
        members: dict[str, bytes] = {}
        for file in list_files(Path(folder)):
            members[str(file.relative_to(folder))] = file.read_bytes()
    write_members(path, members)


def make_valid_store(path: Path) -> None:
    """A data set of ours."""
    spec = ObsSpec({"state": ObsKey((3,)), "camera": ObsKey((8, 9, 3), "uint8", "image")})
    store = Store.create(path, fps=10, action_spec=ActionSpec.plain(2), obs_spec=spec)
    for start, stop in zip((0, *ENDS[:-1]), ENDS, strict=True):
        arrays = {name: values[start:stop] for name, values in make_arrays().items()}
        store.append({**arrays, "state": arrays["state"].astype(np.float32)})
    store.release()


def make_valid_lerobot(path: Path, to: str) -> None:
    """LeRobot's form of the same, with pictures as PNG and as video."""
    arrays = make_arrays()
    arrays["top"] = np.pad(arrays["camera"], ((0, 0), (4, 4), (4, 3), (0, 0)))
    export(Arrays(cut_episodes(arrays), 10), path, to)


def make_valid_robomimic(path: Path) -> None:
    """robomimic's HDF5 of the same, as hotstart writes it."""
    export(Arrays(cut_episodes(make_arrays()), 10), path, "robomimic")


def cut_episodes(
    arrays: dict[str, np.ndarray[Any, Any]],
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The steps of every array, episode by episode."""
    episodes: list[dict[str, np.ndarray[Any, Any]]] = []
    for start, stop in zip((0, *ENDS[:-1]), ENDS, strict=True):
        episodes.append({name: values[start:stop] for name, values in arrays.items()})
    return episodes


VALID: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npz": ("npz.npz", make_valid_npz),
    "zarr2": ("zarr2", lambda path: make_valid_zarr(path, 2)),
    "zarr3": ("zarr3", lambda path: make_valid_zarr(path, 3)),
    "zip": ("zip.zip", make_valid_zip),
    "store": ("store", make_valid_store),
    "lerobot-v3": ("lerobot-v3", lambda path: make_valid_lerobot(path, "lerobot-v3")),
    "lerobot-v2.1": ("lerobot-v2.1", lambda path: make_valid_lerobot(path, "lerobot-v2.1")),
    "robomimic": ("robomimic.hdf5", make_valid_robomimic),
    **_fuzz_formats.VALID,
}
"""Kind -> name of its file or folder, which is the kind or begins with it and a point, and the
function that makes it.
"""


def read_store(path: Path) -> str:
    """Look at, check, hash and append to a data set, as the verbs do."""
    store = Store.open(path)
    data.print_info(Info(path))
    findings = hashlib.sha256(repr(verify(store)).encode()).hexdigest()
    digest = store.content_hash()
    keys = {name: np.zeros((2, *key.shape), key.dtype) for name, key in store.obs_spec.keys.items()}
    store.append({**keys, "action": np.zeros((2, store.action_spec.width), np.float32)})
    store.release()
    return f"{digest} {findings}"


READERS: dict[str, Callable[[Path], str]] = {
    **{kind: partial(_fuzz_formats.read_foreign, kind) for kind in VALID},
    "store": read_store,
}
"""Kind -> function that reads it, raising HotstartError, or saying what it read."""


def damage_copy(path: Path, rng: np.random.Generator) -> None:
    """What a bad copy does to one file: it is cut off, or 1 to 3 bits are flipped."""
    if path.is_dir():
        files = list_files(path)
        path = files[int(rng.integers(len(files)))]
    raw = path.read_bytes()
    if rng.random() < 0.5:
        path.write_bytes(_cut(raw, rng))
    else:
        path.write_bytes(flip_bits(raw, rng, 3))


def damage(path: Path, rng: np.random.Generator) -> None:
    """One to three faults in a file or folder.

    In a zip half of them are in a member, whose checksum is put right.
    """
    for _ in range(int(rng.integers(1, 4))):
        if path.is_dir():
            files = list_files(path)
            if files:
                _damage_file(files[int(rng.integers(len(files)))], rng)
        elif rng.random() < 0.5 or not _damage_member(path, rng):
            _damage_file(path, rng)


def list_files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted."""
    files: list[Path] = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            files.append(file)
    return files


def make_hostile(folder: Path, rng: np.random.Generator, marking: str) -> tuple[str, Path]:
    """A data set of somebody who means ill, and its kind.

    `marking` is a module with a function `run` that leaves a mark.
    """
    path = folder / "hostile"
    shutil.rmtree(path, ignore_errors=True)
    if rng.random() < 0.3:
        packed = path.with_suffix(".npz")
        bomb = (1 << 30, 1 << 60)[int(rng.integers(2))]
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({bomb},), }}".encode()
        magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        action = magic + bytes(int(rng.integers(64 << 20)))
        write_members(packed, {"action.npy": action, "episode_ends.npy": magic})
        return "npz", packed
    make_valid_zarr(path, 2)
    pickled = f"c{marking}\nrun\n)R.".encode()
    names = ("pickle", "json2", "zlib", "zstd", "lzma")
    codec = {"id": names[int(rng.integers(5))]}
    change: tuple[dict[str, Any], ...] = (
        {"compressor": codec},
        {"compressor": None, "filters": [codec]},
        {"dtype": "|O", "filters": [codec], "fill_value": None},
        {"shape": [10**9, 10**6], "chunks": [10**9, 1]},
        {"shape": [10**12, 2], "chunks": [1, 1]},
        {"chunks": [15, 1 << 40]},
        {"fill_value": "x" * 10**6},
        {"filters": [{"id": "crc32"}] * 10**5},
    )
    metadata = path / "data" / "action" / ".zarray"
    content = json.loads(metadata.read_text())
    content |= change[int(rng.integers(len(change)))]
    metadata.write_text(json.dumps(content))
    bombs = (
        pickled,
        numcodecs.Zlib(9).encode(bytes(64 << 20)),
        numcodecs.Zstd().encode(bytes(64 << 20)),
    )
    (path / "data" / "action" / "0.0").write_bytes(bombs[int(rng.integers(3))])
    return "zarr2", path


def write_members(
    path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED
) -> None:
    """A zip of these files."""
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, raw in members.items():
            packed.writestr(name, raw)


def read_members(path: Path) -> dict[str, bytes]:
    """Every file of a zip by its name; raises what zipfile raises."""
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def _damage_file(path: Path, rng: np.random.Generator) -> None:
    if not path.is_file():
        return
    if rng.random() < 0.05:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
    else:
        path.write_bytes(_change(path.name, path.read_bytes(), rng))


def _damage_member(path: Path, rng: np.random.Generator) -> bool:
    """Whether the zip was still one that could be packed anew."""
    try:
        members = read_members(path)
    except Exception:  # damaged before
        return False
    name = sorted(members)[int(rng.integers(len(members)))]
    members[name] = _change(name, members[name], rng)
    write_members(path, members)
    return True


def _change(name: str, raw: bytes, rng: np.random.Generator) -> bytes:
    changes: list[Change] = [flip_bits, _cut, _overwrite, _lengthen]
    if name.endswith((".zarray", ".zgroup", ".zattrs", ".json")):
        changes += [_change_value] * 8
    if name.endswith(".npy"):
        changes += [_flip_start] * 4
    return changes[int(rng.integers(len(changes)))](raw, rng)


def flip_bits(raw: bytes, rng: np.random.Generator, most: int = 19) -> bytes:
    """The bytes with 1 to `most` bits flipped at random places; nothing of no bytes."""
    changed = bytearray(raw)
    if raw:
        for place in rng.integers(8 * len(raw), size=int(rng.integers(1, most + 1))).tolist():
            changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _flip_start(raw: bytes, rng: np.random.Generator) -> bytes:
    """Bits of the first 128 bytes: an array's header."""
    return flip_bits(raw[:128], rng) + raw[128:]


def _cut(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(len(raw) + 1))]


def _lengthen(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw + rng.bytes(int(rng.integers(1, 50)))


def _overwrite(raw: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(raw) + 1))
    piece = rng.bytes(int(rng.integers(1, 60)))
    return raw[:start] + piece + raw[start + len(piece) :]


def list_parts(value: Any) -> list[tuple[Any, Any]]:
    """Key and part for every part of a mapping or a list; none of anything else."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return list(enumerate(value))
    return []


def _change_value(raw: bytes, rng: np.random.Generator) -> bytes:
    """Another value, or none, in one place of JSON."""
    try:
        whole = json.loads(raw)
    except ValueError:
        return flip_bits(raw, rng)
    places: list[tuple[Any, Any]] = []
    waiting = [whole]
    while waiting:
        part = waiting.pop()
        for key, inner in list_parts(part):
            places.append((part, key))
            waiting.append(inner)
    if not places:
        return raw
    container, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = ODD[int(rng.integers(len(ODD)))]
    return json.dumps(whole).encode()
