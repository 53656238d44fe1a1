"""The page that shows an evaluation: its figures, its videos, and the command that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation import results
from ..finetuning.ledger import Ledger
from . import after_evaluation, next_steps
from .page import (
    VIDEO_NAME,
    embed_videos,
    join_parts,
    mark_outcome,
    shorten_number,
    write_commands,
    write_facts,
    write_foot,
    write_grid,
    write_headline,
    write_note,
    write_page,
)
from .rollouts import OUTCOMES

PAGE = "gallery.html"
"""The page in the folder of an evaluation's videos that shows them."""
Result = Mapping[str, Any]
Episode = Mapping[str, Any]


def write_gallery(config: Mapping[str, Any], result: Result, videos: Sequence[Path]) -> Path:
    """Write the page of an evaluation with its videos, failures first; returns its path."""
    page = Path(config["video"]) / PAGE
    sampler = str(result["inference"])
    episodes = _sort_episodes(result, videos)
    captions = {video: _caption(episode) for video, episode in episodes.items()}
    figures, remarks = embed_videos(captions)
    sections = [
        write_headline([result], [sampler]),
        write_facts("What was evaluated", _list_facts(config, result)),
        _write_videos(figures, [_describe_filmed(result, len(videos)), *remarks]),
        write_commands(_list_made(config), "The command that made this page"),
        write_commands(_list_next(config, result), "What to try next"),
    ]
    title = f"{result['task']}: {result['episodes']} episodes by {sampler}"
    write_page(
        page, title=title, task=str(result["task"]), sections=sections, foot=write_foot([result])
    )
    return page


def _sort_episodes(result: Result, videos: Sequence[Path]) -> dict[Path, Episode]:
    """Each video with its episode: failures first, and of those the lowest scores."""
    by_seed = {int(episode["seed"]): episode for episode in result["per_episode"]}
    found: dict[Path, Episode] = {}
    for video in videos:
        parts = VIDEO_NAME.fullmatch(video.stem)
        assert parts, video
        found[video] = by_seed[int(parts["seed"])]

    def rank(video: Path) -> tuple[bool, float, int]:
        episode = found[video]
        return (bool(episode["success"]), episode["score"], episode["seed"])

    return {video: found[video] for video in sorted(found, key=rank)}


def _caption(episode: Episode) -> str:
    """How an episode went, its score, its seed, and its instruction where it has one."""
    text = f"score {episode['score']:.2f}, seed {episode['seed']}, {episode['steps']} steps"
    if episode.get("task"):
        text += f": {episode['task']}"
    return mark_outcome(OUTCOMES[episode["success"]], text)


def _describe_filmed(result: Result, count: int) -> str:
    text = (
        f"Filmed: the first {count} of {result['episodes']} evaluated episodes. "
        "Failures stand first, the lowest scores before the others. "
    )
    return text + f"The figures above count all {result['episodes']}."


def _write_videos(figures: Sequence[str], notes: Sequence[str]) -> str:
    """The videos, and notes on them."""
    remarks = join_parts(map(write_note, notes))
    return f"<section>\n<h2>Episodes</h2>\n{remarks}\n{write_grid(figures)}\n</section>"


def _list_facts(config: Mapping[str, Any], result: Result) -> dict[str, str]:
    """What was evaluated, how well it went and what it cost, by name."""
    nfe, score = result["nfe"], result["score"]
    calls = result["inference_ms"]
    given = [word for word in config["arguments"] if word.startswith("task.")]
    step = ""
    if result.get("checkpoint_step") is not None:
        step = f", step {result['checkpoint_step']}"
    plans = f"{shorten_number(nfe['cold'])} NFE in the first plan"
    if nfe["warm"] is not None:
        plans += f", {shorten_number(nfe['warm'])} in later ones"
    rows = calls.get("rows") or 1
    jerk = shorten_number(result["smoothness"]["jerk_rms"])
    facts = {
        "task": " ".join([str(result["task"]), *given]),
        "checkpoint": f"{result['checkpoint']}{step}",
        "sampler": f"{result['inference']}: {plans}",
        "success": f"{results.success_words(result['success'])} of {result['episodes']} episodes",
        "score": f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]",
        "inference": f"{shorten_number(calls['p50'])} ms a call (median, {rows:.3g} rows a call)",
        "latency charged": f"{results.latency_words(result)} ms",
        "jerk of the commands": f"{jerk} normalised units / s\u00b3 (RMS)",
    }
    ledger = Ledger.from_json(result.get("ledger", {}))
    if ledger.was_tuned:
        facts["real control periods spent"] = ledger.in_words()
    return facts


def _list_made(config: Mapping[str, Any]) -> dict[str, str]:
    """The command again; it may replace what it made."""
    kept = next_steps.keep_arguments(config["arguments"], ["overwrite"])
    command = next_steps.write_command("evaluate", *kept, "overwrite=true")
    return {"The same seeds give the same episodes; this result and page are replaced:": command}


def _list_next(config: Mapping[str, Any], result: Result) -> dict[str, str]:
    """What to try after an evaluation."""
    commands = {
        "The same with more episodes, for a narrower interval:": next_steps.more_episodes(config)
    }
    advised = after_evaluation.advise_after_evaluation(config, result)
    if "then" in advised:
        commands["Another sampler with the same checkpoint and seeds:"] = advised["next"]
        commands["Then both side by side, paired by seed:"] = advised["then"]
    elif "next" in advised:
        commands["This result beside the others, paired by seed:"] = advised["next"]
    commands["Everything that can be chosen:"] = next_steps.write_command("evaluate", "--help")
    return commands
