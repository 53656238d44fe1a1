"""Reads files for `hotstart bench fuzz`, in a process that may die.

It takes lines of a kind and a path, and answers each with a line, the outcome. Not run by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from ..commands import compare
from ..configs.schema import Compare
from ..envs.registry import check_task
from ..evaluation import latency
from ..policy import checkpoint
from ..policy.foreign.diffusion_policy import import_ckpt
from ..policy.foreign.lerobot import import_policy, read_origin
from ..spec import HotstartError
from . import _fuzz_data

SPARE_BYTES = 3 << 30
"""Memory that reading may take beside what the libraries hold."""


def read_native(path: Path) -> None:
    """A checkpoint, its training state and the task that it names."""
    _, meta = checkpoint.load(path)
    if (path / checkpoint.STATE).exists():
        checkpoint.load_training_state(path)
    check_task(meta.get("task"))


def read_lerobot(path: Path) -> None:
    """A folder of LeRobot."""
    read_origin(path)
    import_policy(path)


def read_result(path: Path) -> None:
    """A result in a table with a good one, as `hotstart compare` does."""
    compare.run(Compare(files=(path, path.with_name("good.json"))))


READERS: dict[str, Callable[[Path], object]] = {
    "native": read_native,
    "lerobot": read_lerobot,
    "ckpt": import_ckpt,
    "result": read_result,
    "profile": lambda path: latency.read_profile(path, "rti-2"),
    **_fuzz_data.READERS,
}


def outcome(kind: str, path: Path) -> tuple[str, str]:
    """`read`, `refused` or `traceback`, and what was said."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            said = READERS[kind](path)
    except HotstartError as error:
        if len(str(error)) > 3000:
            return "traceback", f"a message of {len(str(error)):,} characters"
        return "refused", str(error)[:200]
    except BaseException as error:  # whatever it is, it is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            "traceback",
            f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: "
            f"{str(error)[:100]}",
        )
    if isinstance(said, str):
        return "read", said
    return "read", ""


def _count_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_count_bytes() + SPARE_BYTES, hard))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split("\t")
        print(json.dumps(outcome(kind, Path(path))), file=answers, flush=True)


if __name__ == "__main__":
    main()
