"""Files of somebody who means ill, for `hotstart bench fuzz`: each maker draws one of many."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..policy import checkpoint
from . import _fuzz_data
from ._fuzz_files import MARKING, copy_good


def _pickle(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """Opcodes that run, nest, share, remember far away, or show memory."""
    depth = int(rng.integers(1000, 300_000))
    shared = b"(tq\x00"
    for i in range(int(rng.integers(5, 100))):
        shared += b"(" + b"h%c" % i * 30 + b"tq%c" % (i + 1)
    run = f"c{MARKING}\nrun\n".encode()
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n"
    texts = [
        run + b")R",
        run + b")\x81}b",
        f"X\x0e\x00\x00\x00{MARKING}X\x03\x00\x00\x00run\x93)R".encode(),
        b"}" + b")" + b"\x85" * depth + b"K\x01s",
        b"]" * depth + b"a" * (depth - 1),
        b"}" + shared + b"K\x01s",
        b"\x8f(" + shared + b"\x90",
        tensor + shared + b"R",
        b"Nr" + rng.bytes(4),
        b"(" * depth,
        tensor + b")R}b",
        b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R",
        b"\x8e" + rng.bytes(8),
        b"\x8b" + rng.bytes(4) + rng.bytes(100),
        rng.bytes(int(rng.integers(1, 1000))),
    ]
    path = folder / "hostile.ckpt"
    if rng.random() < 0.1:
        packed = zipfile.ZIP_DEFLATED
    else:
        packed = zipfile.ZIP_STORED
    text = b"\x80\x02" + texts[int(rng.integers(len(texts)))] + b"."
    _fuzz_data.write_members(
        path, {"a/data.pkl": text, "a/data/0": bytes(int(rng.integers(100)))}, packed
    )
    return "ckpt", path


def _bomb(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A little file that would unpack to much."""
    path = folder / "bomb.ckpt"
    _fuzz_data.write_members(
        path, {"a/data.pkl": bytes(50 << 20), "a/data/0": bytes(50 << 20)}, zipfile.ZIP_DEFLATED
    )
    return "ckpt", path


def _module(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A checkpoint whose task or parts name a module."""
    path = copy_good("native", folder)
    meta = json.loads((path / checkpoint.META).read_text())
    word = f"{MARKING}:Env-v0"
    options = [
        {"id": word},
        {"id": "GymV21Environment-v0", "env_id": word},
        {"id": "GymV26Environment-v0", "make_kwargs": {"id": word}},
        {"id": "Ant-v5", "xml_file": "/etc/passwd"},
        {"controller": "../a.json"},
    ]
    meta["task"] |= {
        "env": ("gymnasium", word, "lift")[int(rng.integers(3))],
        "options": options[int(rng.integers(5))],
    }
    (path / checkpoint.META).write_text(json.dumps(meta))
    if rng.random() < 0.5:
        plain = yaml.safe_load((path / checkpoint.CONFIG).read_text())
        axis = ("encoder", "denoiser", "schedule", "actions")[int(rng.integers(4))]
        plain[axis] = {
            "_target_": (f"{MARKING}.run", "os.system", [word], None)[int(rng.integers(4))],
            "command": "true",
        }
        (path / checkpoint.CONFIG).write_text(yaml.safe_dump(plain))
    return "native", path


def _size(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A checkpoint that says it is much larger than it is."""
    path = copy_good("native", folder)
    plain = yaml.safe_load((path / checkpoint.CONFIG).read_text())
    large = int(2 ** rng.integers(12, 62))
    changes: list[tuple[str, dict[str, Any]]] = [
        ("denoiser", {"channels": [large - large % 2, large - large % 2]}),
        ("denoiser", {"channels": [8] * int(rng.integers(100, 5000))}),
        ("denoiser", {"level_width": large}),
        ("denoiser", {"kernel": large + 1}),
        ("encoder", {"token_width": large}),
        ("horizon", {"planned": large}),
        ("obs_spec", {"state": {"shape": [large] * 2, "dtype": "float32", "kind": "state"}}),
    ]
    part, values = changes[int(rng.integers(len(changes)))]
    plain[part] |= values
    (path / checkpoint.CONFIG).write_text(yaml.safe_dump(plain))
    return "native", path


def _anchors(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """YAML that multiplies itself, by aliases, merge keys or depth, or asks for Python objects."""
    path = copy_good("native", folder)
    depth, wide = int(rng.integers(5, 200)), int(rng.integers(2, 10))
    aliases = ["a0: &a0 [x, x]"]
    merged = ["a0: &a0 {k: 1}"]
    for i in range(1, depth):
        before = ", ".join([f"*a{i - 1}"] * wide)
        aliases.append(f"a{i}: &a{i} [{before}]")
        merged.append(f"a{i}: &a{i}\n  <<: [{before}]")
    texts = [
        "\n".join([*aliases, f"encoder: *a{depth - 1}"]),
        "\n".join(merged),
        "[" * 1000 * depth,
        "&a [*a]",
        f"encoder: !!python/object/apply:{MARKING}.run []",
        f"encoder: !!python/module:{MARKING}",
        "a: " + "1:" * 1000 * depth + "1",
        "? " * depth,
    ]
    (path / checkpoint.CONFIG).write_text(texts[int(rng.integers(len(texts)))])
    return "native", path


def _json(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """JSON that is deep, wide or of huge numbers, in every place where JSON is read."""
    depth = int(rng.integers(1000, 200_000))
    odd = (
        "[" * depth,
        '{"a":' * depth,
        "9" * depth,
        f'"{chr(92)}ud800"',
        "[" + "[]," * depth + "[]]",
        "1e999",
        "-" * depth,
    )
    kind = ("native", "lerobot", "result", "profile")[int(rng.integers(4))]
    path = copy_good(kind, folder)
    files = {"native": checkpoint.META, "lerobot": "config.json"}
    target = path
    if kind in files:
        target = path / files[kind]
    text = odd[int(rng.integers(len(odd)))]
    if rng.random() >= 0.5:
        start = target.read_text()[:-1].rstrip().rstrip("}")
        text = f'{start}, "step": {text}}}'
    target.write_text(text)
    return kind, path


def _data_set(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A data set with codecs that run, sizes that nobody means, and chunks that inflate."""
    return _fuzz_data.make_hostile(folder, rng, MARKING)


HOSTILE: tuple[Callable[[Path, np.random.Generator], tuple[str, Path]], ...] = (
    _pickle,
    _module,
    _size,
    _anchors,
    _json,
    _pickle,
    _module,
    _size,
    _anchors,
    _json,
    _pickle,
    _bomb,
    _data_set,
    _data_set,
)
