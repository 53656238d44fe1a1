"""Damaged and hostile files of every kind that hotstart reads: nothing may run, crash, hang or
end in a traceback.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from ..policy import checkpoint
from ..policy.denoisers.published_unet import PublishedUnet
from ..policy.denoisers.unet import ConditionalUnet
from ..policy.diffusion.schedule import VPCosine
from ..policy.encoders.state import StateEncoder
from ..policy.model import ModelConfig, PolicyModel
from ..policy.normalizer import ACTION, Normalizer
from ..policy.training.api import node
from ..spec import ActionSpec, Horizon, ObsKey, ObsSpec, option
from . import _fuzz_data

KINDS = ("native", "lerobot", "ckpt", "result", "profile", *_fuzz_data.VALID)
MARKING = "marking_module"
"""A module that leaves a mark when it is imported, on the workers' path: a file that gets it
imported has run something.
"""
ODD: tuple[Any, ...] = (
    *(
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
    ),
    *(
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
    ),
)


@dataclass
class Options:
    """Break good files at random, make hostile ones, read each in a process with limits, and
    count what came of it.
    """

    files: int = option(3000, "damaged files to read")
    hostile: int = option(240, "files made by somebody who means ill")
    seed: int = option(0, "seed of the damage")
    limit_s: float = option(20.0, "seconds that reading one file may take")
    keep: Path | None = option(
        None, "folder for files that were not answered as they should be; none: do not keep"
    )
    shown: int = option(20, "how many of them to print")


@dataclass
class Tally:
    """Outcomes of one kind of file."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_s: float = 0.0


def run(options: Options) -> None:
    """Print a table of outcomes by kind, and the first files that were not answered as they
    should be.
    """
    found: dict[str, Tally] = collections.defaultdict(Tally)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_marking(folder)
        _write_good(folder / "good")
        worker = Worker(folder, options.limit_s)
        for kind in KINDS:
            outcome, said, _ = worker.read(kind, _copy(kind, folder))
            if outcome != "read":
                raise RuntimeError(f"the good file of kind {kind} is not read: {said}")
        for name, kind, path in _cases(options, folder):
            outcome, said, seconds = worker.read(kind, path)
            if (folder / "mark").exists():
                (folder / "mark").unlink()
                outcome = "executed"
            if "hostile" in name:
                group = f"{kind}, hostile"
            else:
                group = kind
            found[group].counts[outcome] += 1
            found[group].slowest_s = max(found[group].slowest_s, seconds)
            if outcome not in ("read", "refused"):
                faults.append(f"{name}: {outcome}: {said}")
                _keep(path, options.keep, name)
        worker.close()
    _print(found, faults[: options.shown])


def _cases(options: Options, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(name, kind, path) of every file, written into `folder` one after the other."""
    for number in range(options.files):
        kind = KINDS[number % len(KINDS)]
        rng = np.random.default_rng(np.random.SeedSequence([options.seed, number]))
        yield f"{kind}_{number}", kind, _damage(kind, folder, rng)
    for number in range(options.hostile):
        rng = np.random.default_rng(np.random.SeedSequence([options.seed, number, 1]))
        maker = HOSTILE[number % len(HOSTILE)]
        kind, path = maker(folder, rng)
        yield f"hostile_{maker.__name__.removeprefix('_')}_{number}", kind, path


def _print(found: dict[str, Tally], faults: list[str]) -> None:
    columns = ("read", "refused", "executed", "crash", "hang", "traceback")
    print(
        f"{'kind':<20}{'files':>7}"
        + "".join(f"{name:>11}" for name in columns)
        + f"{'slowest s':>11}"
    )
    total: collections.Counter[str] = collections.Counter()
    for kind, tally in sorted(found.items()):
        total += tally.counts
        _print_row(kind, tally.counts, columns, tally.slowest_s)
    _print_row("all", total, columns, max(tally.slowest_s for tally in found.values()))
    for line in faults:
        print("  " + line)


def _print_row(
    name: str, counts: collections.Counter[str], columns: tuple[str, ...], slowest_s: float
) -> None:
    print(
        f"{name:<20}{counts.total():>7}"
        + "".join(f"{counts[c]:>11}" for c in columns)
        + f"{slowest_s:>11.2f}"
    )


def _keep(path: Path, keep: Path | None, name: str) -> None:
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, keep / name, dirs_exist_ok=True)
    else:
        shutil.copy(path, keep / f"{name}{path.suffix}")


class Worker:
    """A process that reads files; a new one takes its place when it dies or hangs."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self.folder, self.limit_s = folder, limit_s
        self.process: subprocess.Popen[str] | None = None

    def read(self, kind: str, path: Path) -> tuple[str, str, float]:
        """(outcome, what was said, seconds) of one file."""
        process = self._running()
        assert process.stdin is not None
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{kind}\t{path}\n")
            process.stdin.flush()
        line = self._answer(process, self.limit_s)
        seconds = time.monotonic() - began
        if line:
            outcome, said = json.loads(line)
            return outcome, said, seconds
        hung = process.poll() is None and line is None
        process.kill()
        code = process.wait()
        self.process = None
        return ("hang" if hung else "crash"), f"exit status {code} after {seconds:.1f} s", seconds

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None:
            command = [sys.executable, "-m", f"{__package__}._fuzz_worker"]
            paths = [str(self.folder), os.environ.get("PYTHONPATH", "")]
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "OMP_NUM_THREADS": "1",
            }
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            if self._answer(self.process, 120.0) != "ready\n":
                raise RuntimeError("the process that reads the files does not start")
        return self.process

    @staticmethod
    def _answer(process: subprocess.Popen[str], limit_s: float) -> str | None:
        """The next line; empty where the process has ended, None where nothing came in time."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], limit_s)
        if ready:
            return process.stdout.readline()
        return None

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


# --- good files


def _write_marking(folder: Path) -> None:
    mark = f"from pathlib import Path\nMARK = Path({str(folder / 'mark')!r})\nMARK.touch()\n"
    (folder / f"{MARKING}.py").write_text(f"{mark}def run(*_, **__):\n    MARK.touch()\n")


def _write_good(folder: Path) -> None:
    """One good file or folder of every kind."""
    torch.manual_seed(0)
    folder.mkdir()
    _write_native(folder / "native")
    _write_lerobot(folder / "lerobot")
    _write_ckpt(folder / "ckpt.ckpt")
    (folder / "result.json").write_text(json.dumps(_result(), indent=1))
    profile = {
        "seconds": {
            "rti-2": {"cold": [0.1, 0.2], "warm": [0.05]},
            "ddim-10": {"cold": [0.3], "warm": [0.3]},
        }
    }
    (folder / "profile.json").write_text(json.dumps(profile))
    for name, make in _fuzz_data.VALID.values():
        make(folder / name)


def _write_native(folder: Path) -> None:
    spec = ObsSpec({"state": ObsKey((2,))})
    config = ModelConfig(
        encoder=node(StateEncoder, token_width=8),
        denoiser=node(ConditionalUnet, channels=[8, 8], groups=2, level_width=8),
        schedule=node(VPCosine),
        obs_spec=spec,
        action_spec=ActionSpec.plain(2),
        horizon=Horizon(2, 12, 4),
    )
    ranges = {name: (np.zeros(2), np.ones(2)) for name in ("state", ACTION)}
    model = PolicyModel(config, Normalizer.of_ranges(ranges, {"state": (2,), ACTION: (2,)}))
    options = {"control": "absolute", "cameras": {"agentview": 84}}
    task = {
        "name": "lift",
        "env": "lift",
        "options": options,
        "max_steps": 100,
        "obs_keys": ["state"],
    }
    meta = {
        "rate_hz": 10.0,
        "regimes": ["constant"],
        "action_scale": [1.0, 1.0],
        "warm_start": {"start": 0.3},
    }
    state = {"step": 3, "seconds": 1.5, "best": None}
    checkpoint.save(
        folder, model, {**meta, "task": task, "step": 3}, {"model.x": torch.zeros(3)}, state
    )


def _write_lerobot(folder: Path) -> None:
    folder.mkdir()
    config: dict[str, Any] = {
        "type": "diffusion",
        "input_features": {"observation.state": {"type": "STATE", "shape": [2]}},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"},
    }
    config |= {
        "n_obs_steps": 2,
        "horizon": 8,
        "n_action_steps": 4,
        "down_dims": [8, 16],
        "kernel_size": 3,
        "n_groups": 4,
    }
    config |= {
        "diffusion_step_embed_dim": 8,
        "use_film_scale_modulation": True,
        "num_train_timesteps": 20,
    }
    config |= {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "epsilon",
        "vision_backbone": "resnet18",
    }
    config |= {
        "spatial_softmax_num_keypoints": 4,
        "use_group_norm": True,
        "use_separate_rgb_encoder_per_camera": False,
    }
    config |= {"crop_shape": None, "clip_sample": True, "clip_sample_range": 1.0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "train_config.json").write_text(json.dumps({"env": {"type": "pusht", "fps": 10}}))
    unet = PublishedUnet(2, 2, 2, (8, 16), 3, 4, 8, True, 20)
    tensors = {
        f"diffusion.unet.{name}": value.contiguous() for name, value in unet.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")
    ends = {
        "min": torch.tensor([0.0, -1.0]),
        "max": torch.ones(2),
        "mean": torch.zeros(2),
        "std": torch.ones(2),
    }
    statistics = {
        f"{name}.{kind}": value.clone()
        for name in ("observation.state", "action")
        for kind, value in ends.items()
    }
    save_file(statistics, folder / "policy_preprocessor_step_3_normalizer_processor.safetensors")


def _write_ckpt(path: Path) -> None:
    unet = PublishedUnet(2, 2, 5, (8, 16), 3, 8, 8, True)
    named: dict[str, Any] = {}
    for name, tensor in unet.state_dict().items():
        other = name.replace(".conv1.block.", ".blocks.0.block.").replace(
            ".conv2.block.", ".blocks.1.block."
        )
        named["model." + re.sub(r"^((?:down|up)_modules\.\d+\.2)\.", r"\1.conv.", other)] = tensor
    for key, width in (("obs", 5), ("action", 2)):
        named[f"normalizer.params_dict.{key}.scale"] = torch.ones(width)
        named[f"normalizer.params_dict.{key}.offset"] = torch.zeros(width)
    torch.save(
        {"state_dicts": {"ema_model": named}, "cfg": OSError("x"), "pickles": {"epoch": b"..."}},
        path,
    )


def _result() -> dict[str, Any]:
    """A result as `hotstart evaluate` writes one."""
    interval = {"low": 0.1, "high": 0.9}
    result: dict[str, Any] = {
        "success": {"rate": 0.5, **interval},
        "score": {"mean": 0.5, **interval},
        "nfe": {"cold": 10.0, "warm": 2.0, "per_action": 0.25},
        "inference_ms": {"p50": 10.0, "p95": 12.0, "per_second_of_motion": 12.0, "rows": 1.0},
        "smoothness": {"jerk_rms": 1.0, "max_step": 0.1},
        "per_episode": [
            {"seed": seed, "success": seed == 1, "score": 0.1 * seed, "steps": 100}
            for seed in range(3)
        ],
        "versions": {"torch": "2"},
        "sampler_settings": {"start": 0.3, "solver": {"eta": 0.0}},
        "task_options": {"goal": [256, 256, 0.8]},
    }
    result |= {
        "format": 2,
        "task": "pusht",
        "checkpoint": "runs/x",
        "inference": "rti-2",
        "executed": 8,
        "episodes": 3,
        "seed": 0,
    }
    result |= {
        "latency_s": 0.0,
        "late_actions": 0,
        "starved_ticks": 0.0,
        "planner": "sync",
        "reaction_s": 0.4,
    }
    result |= {
        "wall_seconds": 3.0,
        "machine": {"cpu": "x", "cores": 2, "device": "cpu"},
        "checkpoint_step": 100,
    }
    return result


# --- damage


def _damage(kind: str, folder: Path, rng: np.random.Generator) -> Path:
    """A copy of the good file or folder with one to three faults."""
    path = _copy(kind, folder)
    if kind in _fuzz_data.VALID:
        _fuzz_data.damage(path, rng)
        return path
    for _ in range(int(rng.integers(1, 4))):
        if path.is_dir():
            files = []
            for each in sorted(path.rglob("*")):
                if each.is_file():
                    files.append(each)
        else:
            files = [path]
        if files:
            _damage_file(files[int(rng.integers(len(files)))], rng)
    return path


def _copy(kind: str, folder: Path) -> Path:
    """A fresh copy to be broken."""
    (good,) = [each for each in (folder / "good").iterdir() if each.stem == kind]
    shutil.copy(folder / "good" / "result.json", folder / "good.json")
    target = folder / f"broken_{good.name}"
    if target.is_dir():
        shutil.rmtree(target)
    if good.is_dir():
        return Path(shutil.copytree(good, target))
    return Path(shutil.copy(good, target))


def _damage_file(path: Path, rng: np.random.Generator) -> None:
    samplers: list[Callable[[Path, np.random.Generator], None]] = [
        _flip_bits,
        _truncate,
        _overwrite,
        _remove,
        _drop_hashes,
    ]
    if path.suffix in (".json", ".yaml"):
        samplers += [_change_value] * 6 + [_remove_key] * 3 + [_nest, _enlarge_number]
    elif path.suffix == ".safetensors":
        samplers += [_change_header] * 4
    elif path.suffix == ".ckpt":
        samplers += [_change_pickle] * 6
    if path.exists():
        samplers[int(rng.integers(len(samplers)))](path, rng)


def _flip_bits(path: Path, rng: np.random.Generator) -> None:
    raw = bytearray(path.read_bytes())
    for place in rng.integers(8 * len(raw), size=int(rng.integers(1, 20))) if raw else ():
        raw[int(place) // 8] ^= 1 << int(place) % 8
    path.write_bytes(raw)


def _truncate(path: Path, rng: np.random.Generator) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(rng.integers(len(raw) + 1))])


def _overwrite(path: Path, rng: np.random.Generator) -> None:
    """Random bytes, zeros or a piece of the file itself in place of another piece."""
    raw = bytearray(path.read_bytes())
    start = int(rng.integers(len(raw) + 1))
    stop = start + int(rng.integers(1, 200))
    piece = (rng.bytes(stop - start), bytes(stop - start), bytes(raw[:200]))[int(rng.integers(3))]
    raw[start:stop] = piece
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
        path.write_text(
            json.dumps(value) if path.suffix == ".json" else yaml.safe_dump(value, sort_keys=False)
        )


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all parts of plain values."""
    for key, part in _fuzz_data.list_parts(value):
        yield (*place, key)
        yield from _places(part, (*place, key))


def _with_part(path: Path, rng: np.random.Generator, change: Callable[[Any, Any], None]) -> None:
    """Let `change(container, key)` change one part of a file of plain values."""
    whole = _read_plain(path)
    places = list(_places(whole))
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
    _with_part(path, rng, lambda container, key: container.__setitem__(key, odd))


def _remove_key(path: Path, rng: np.random.Generator) -> None:
    _with_part(path, rng, lambda container, key: container.__delitem__(key))


def _nest(path: Path, rng: np.random.Generator) -> None:
    deep: Any = 1
    for _ in range(int(rng.integers(1, 60))):
        if rng.random() < 0.5:
            deep = [deep]
        else:
            deep = {"a": deep}
    _with_part(path, rng, lambda container, key: container.__setitem__(key, deep))


def _enlarge_number(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text(errors="replace")
    numbers = list(re.finditer(r"\d+", text))
    if numbers:
        chosen = numbers[int(rng.integers(len(numbers)))]
        path.write_text(
            text[: chosen.start()] + "9" * int(rng.integers(1, 6000)) + text[chosen.end() :]
        )


def _change_header(path: Path, rng: np.random.Generator) -> None:
    """Another value in the header of a safetensors file, whose length is put right."""
    raw = path.read_bytes()
    if len(raw) >= 8:
        size = struct.unpack("<Q", raw[:8])[0]
    else:
        size = 0
    part = path.with_name("header.json")
    part.write_bytes(raw[8 : 8 + size])
    _change_value(part, rng)
    header = part.read_bytes()
    part.unlink()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + size :])


def _change_pickle(path: Path, rng: np.random.Generator) -> None:
    """Other bytes in the pickle or in a storage of a file of torch.save, its checksums put
    right.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, RuntimeError):
        return
    names = sorted(members)
    pickled = [name for name in names if name.endswith("data.pkl")]
    if rng.random() < 0.6:
        name = (pickled or names)[0]
    else:
        name = names[int(rng.integers(len(names)))]
    part = path.with_name("part")
    part.write_bytes(members[name])
    (_flip_one_bit, _flip_one_bit, _flip_bits, _truncate, _overwrite)[int(rng.integers(5))](
        part, rng
    )
    members[name] = part.read_bytes()
    part.unlink()
    _write_zip(path, members)


def _flip_one_bit(path: Path, rng: np.random.Generator) -> None:
    raw = bytearray(path.read_bytes())
    if raw:
        place = int(rng.integers(8 * len(raw)))
        raw[place // 8] ^= 1 << place % 8
    path.write_bytes(raw)


def _write_zip(path: Path, members: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)


# --- files of somebody who means ill


def _pickle(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """Opcodes that run, nest, share, remember far away, or show memory."""
    depth = int(rng.integers(1000, 300_000))
    shared = b"(tq\x00" + b"".join(
        b"(" + b"h%c" % i * 30 + b"tq%c" % (i + 1) for i in range(int(rng.integers(5, 100)))
    )
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
    _write_zip(path, {"a/data.pkl": text, "a/data/0": bytes(int(rng.integers(100)))}, packed)
    return "ckpt", path


def _bomb(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A little file that would unpack to much."""
    path = folder / "bomb.ckpt"
    _write_zip(
        path, {"a/data.pkl": bytes(50 << 20), "a/data/0": bytes(50 << 20)}, zipfile.ZIP_DEFLATED
    )
    return "ckpt", path


def _module(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A checkpoint whose task or parts name a module."""
    path = _copy("native", folder)
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
    path = _copy("native", folder)
    plain = yaml.safe_load((path / checkpoint.CONFIG).read_text())
    large = int(2 ** rng.integers(12, 62))
    changes: list[tuple[str, str, Any]] = [
        ("denoiser", "channels", [large - large % 2, large - large % 2]),
        ("denoiser", "channels", [8] * int(rng.integers(100, 5000))),
        ("denoiser", "level_width", large),
        ("denoiser", "kernel", large + 1),
        ("encoder", "token_width", large),
        ("horizon", "planned", large),
        ("obs_spec", "state", {"shape": [large, large], "dtype": "float32", "kind": "state"}),
    ]
    part, key, value = changes[int(rng.integers(len(changes)))]
    plain[part][key] = value
    (path / checkpoint.CONFIG).write_text(yaml.safe_dump(plain))
    return "native", path


def _anchors(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """YAML that multiplies itself, by aliases, by merge keys or by depth, or that asks for
    Python objects.
    """
    path = _copy("native", folder)
    depth, wide = int(rng.integers(5, 200)), int(rng.integers(2, 10))
    aliases = ["a0: &a0 [x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * wide)}]" for i in range(1, depth)
    ]
    merged = ["a0: &a0 {k: 1}"] + [
        f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * wide)}]" for i in range(1, depth)
    ]
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
    path = _copy(kind, folder)
    file = {"native": checkpoint.META, "lerobot": "config.json"}.get(kind)
    if file is None:
        target = path
    else:
        target = path / file
    text = odd[int(rng.integers(len(odd)))]
    whole = target.read_text()
    target.write_text(
        text if rng.random() < 0.5 else whole[:-1].rstrip().rstrip("}") + f', "step": {text}}}'
    )
    return kind, path


def _data_set(folder: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """A data set with codecs that run, sizes that nobody means, and chunks that inflate."""
    return _fuzz_data.hostile(folder, rng, MARKING)


HOSTILE: tuple[Callable[[Path, np.random.Generator], tuple[str, Path]], ...] = (
    *(
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
    ),
)
