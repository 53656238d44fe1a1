"""What to do after an evaluation: it reads results and checkpoints, which `next_steps` need not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation import results
from ..policy import checkpoint
from ..spec import HotstartError
from ..system import outputs
from .next_steps import OUTPUTS, compare_files, keep_arguments, write_command, write_option

FILMED = 4
"""Episodes of the evaluation that is advised for its videos."""
LOOKED_AT = 20
"""Result files beside a new one that are read, the newest first."""
COMPARED = 7
"""Result files that one comparison is advised for."""


def advise_after_evaluation(config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    """Commands by what they do: compare the result, and watch the episodes."""
    advised = _advise_comparison(config, result)
    if not config["video"]:
        advised["to watch it"] = _film_few(config)
    return advised


def _advise_comparison(config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    """A comparison with the results beside this one, or the evaluation that makes another one."""
    out = Path(config["out"])
    if not config["out"] or outputs.is_device(out):
        return {}
    others = find_comparable(out, result)
    if others:
        return {"next": compare_files([*others, out])}
    sampler = _choose_other_sampler(config, result)
    if not sampler:
        return {}
    other = out.with_name(f"{out.stem}_{sampler}{out.suffix}")
    if other.exists():
        other = outputs.free_name(other)
    kept = keep_arguments(config["arguments"], ("inference", *OUTPUTS))
    words = [*kept, f"inference={sampler}", write_option("out", other)]
    return {"next": write_command("evaluate", *words), "then": compare_files([out, other])}


def find_comparable(out: Path, result: Mapping[str, Any]) -> list[Path]:
    """Results in the folder of `out` that are of the same task; the oldest first.

    Only the newest files are looked at, and files that are no results are passed over.
    """
    beside = [path for path in out.parent.glob("*.json") if path.name != out.name]
    beside.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    found: list[Path] = []
    for path in beside[:LOOKED_AT]:
        try:
            other = results.load(path)
        except (HotstartError, OSError):
            continue
        same = ("task", "seed", "task_options")
        if all(other.get(key) == result.get(key) for key in same):
            found.append(path)
    return found[: COMPARED - 1][::-1]


def _choose_other_sampler(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Warm-started plans after fresh ones, and the other way round.

    Empty where the checkpoint was not trained for it, or where its times were not measured.
    """
    if config["latency"] == "profile":
        return ""
    regimes = checkpoint.read_meta(checkpoint.find(config["checkpoint"])).get("regimes")
    if regimes is not None and "constant" not in regimes:
        return ""
    if results.family(result)[0] == "rti":
        return "ddim"
    return "rti"


def _film_few(config: Mapping[str, Any]) -> str:
    """The same evaluation of a few episodes, with their videos and without a result."""
    kept = keep_arguments(config["arguments"], (*OUTPUTS, "episodes", "num_envs"))
    folder = Path(config["out"]).parent / "videos"
    page = folder / "gallery.html"
    if page.exists():
        folder = outputs.free_name(folder)
    words = [f"episodes={FILMED}", "out=", write_option("video", folder)]
    return write_command("evaluate", *kept, *words)
