"""Whether a world model may be tuned in: judged from recorded play that it has not learned from.

Nothing here runs the real task. What is asked: is the open-loop error below persistence, does the
success model know success, and does the base succeed in dreams as often, and from the same starts,
as it did in the episodes that it was recorded in. Letters: B rows, E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from ..evaluation.intervals import wilson
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.turns import PolicyRows
from ..spec import BoolArray, ConfigError, FloatArray, IntArray, option
from .base import WorldModel
from .dreams import SURE, DreamSource, Starts
from .play import Play
from .success import Judge, recall_recorded

HORIZONS = (1, 4, 20, 40)
"""Control periods after which the open-loop error is told."""
DRAWS = 1000
"""Bootstrap samples of a rank correlation."""
WINDOWS = 100
"""Held-out windows of a horizon that its error is averaged over, at least."""
WORSE = 1.1
"""Error as a multiple of persistence's from which it is a fault.

What nothing predicts, as how a thing turns when it is pushed, is predicted to stand still: its
error is that of persistence, a little more or less by chance.
"""
STILL = 1e-5
"""What spreads by less than this share of its size does not move."""
USUAL = 0.95
"""Quantile of the base's disagreement in its own dreams that is called usual."""


@dataclass(frozen=True)
class AuditSettings:
    """How a world model is judged, and what it must reach."""

    repeats: int = option(4, "dreams from every recorded start, each with another member and noise")
    max_bias: float = option(0.1, "largest difference of imagined and true success of the base")
    min_agreement: float = option(
        0.7, "least share of recorded episodes that end the same when their actions are replayed"
    )
    least_success: float = option(
        0.1, "least recorded success of the base: one that hardly succeeds is judged right by all"
    )
    least_episodes: int = option(30, "undisturbed episodes of the base that the audit asks for")
    seed: int = option(0, "seed of the dreams")


@dataclass(frozen=True)
class Imagined:
    """How dreams went."""

    success: BoolArray  # (B,)
    disagreement: FloatArray  # of all chunks
    doubtful: BoolArray  # (B,)


def imagine(
    policy: DiffusionPolicy, source: DreamSource, index: IntArray, seed: int = 0
) -> Imagined:
    """One episode of a policy from each of the recorded steps `index` (B,); B is the source's.

    Members take turns, so that a start that is repeated is dreamed by several.
    """
    rows = np.arange(source.rows)
    member = rows % source.model.members
    observation = source.begin_at(rows, index, member)
    seeds = (seed * 10**6 + rows).tolist()
    going = PolicyRows.begin(policy, observation, seeds)
    success = np.zeros(source.rows, bool)
    doubtful = np.zeros(source.rows, bool)
    over = np.zeros(source.rows, bool)
    disagreement: list[FloatArray] = []
    while not over.all():
        turn = source.step(going.plan_actions())
        disagreement.append(source.disagreement[~over])
        going.push(turn)
        success |= turn.success
        if turn.doubtful is not None:
            doubtful |= turn.doubtful
        over |= turn.done
    return Imagined(success, np.concatenate(disagreement), doubtful)


def measure_open_loop(model: WorldModel, play: Play) -> list[dict[str, Any]]:
    """Error of states under recorded actions, and that of persistence, part by part.

    Averaged over the windows in which the part moves. The unit is that of the observation.
    """
    horizons = list_horizons(play)
    longest = max(horizons)
    index = play.list_windows(longest)
    index = index[:: max(1, len(index) // 2000)]
    state = model.begin(model.encode(play), torch.as_tensor(index))
    member = torch.as_tensor(np.arange(len(index)) % model.members)
    rows: list[dict[str, Any]] = []
    for number in range(-(-longest // model.jump)):
        first = index + number * model.jump
        inside = np.minimum(first, len(play) - model.jump - 1)
        chunk = torch.as_tensor(play.take_chunks(inside, model.jump))
        state = model.step(state, chunk, member).state
        steps = (number + 1) * model.jump
        for horizon in horizons:
            if steps - model.jump < horizon <= steps and horizon % model.jump == 0:
                rows += _compare_parts(play, model.decode(state, 1), index, horizon, longest)
    return rows


def list_horizons(play: Play) -> list[int]:
    """The horizons that enough windows of the play are as long as; ConfigError for none."""
    found: list[int] = []
    for horizon in HORIZONS:
        if len(play.list_windows(horizon)) >= WINDOWS:
            found.append(horizon)
    if not found:
        raise ConfigError(
            f"the held-out play has fewer than {WINDOWS} windows of {HORIZONS[0]} steps"
        )
    return found


def _compare_parts(
    play: Play, decoded: Mapping[str, Tensor], index: IntArray, horizon: int, longest: int
) -> list[dict[str, Any]]:
    """Errors of every part of the states that moves, after `horizon` steps."""
    rows: list[dict[str, Any]] = []
    for name, key in play.obs_spec.keys.items():
        if key.kind != "state" or name not in decoded:
            continue
        true = play.observations[name].reshape(len(play), -1)
        imagined = decoded[name].numpy().reshape(len(index), -1)
        for part, numbers in _list_numbers(name, key.parts, true.shape[1]):
            now = true[index][:, numbers]
            later = true[index + horizon][:, numbers]
            still = np.linalg.norm(later - now, axis=1)
            far = np.linalg.norm(true[index + longest][:, numbers] - now, axis=1)
            usual = np.linalg.norm(np.std(true[:, numbers], axis=0))
            moves = far > 0.1 * usual
            if usual <= STILL * np.abs(true[:, numbers]).max() or not moves.any():
                continue
            error = np.linalg.norm(imagined[:, numbers] - later, axis=1)
            rows.append(
                {
                    "part": part,
                    "steps": horizon,
                    "error": float(error[moves].mean()),
                    "persistence": float(still[moves].mean()),
                    "windows": int(moves.sum()),
                }
            )
    return rows


def _list_numbers(name: str, parts: Sequence[Any], width: int) -> list[tuple[str, list[int]]]:
    """The parts of a state by name; a state without parts is one."""
    if not parts:
        return [(name, list(range(width)))]
    found: list[tuple[str, list[int]]] = []
    start = 0
    for part in parts:
        found.append((part.name, list(range(start, start + part.size))))
        start += part.size
    return found


def measure_judge(model: WorldModel, judge: Judge, play: Play) -> dict[str, float]:
    """The success model on recorded states, and the outcome of replayed episodes.

    In a replay the model is given all the actions that were recorded: it has no policy in it.
    """
    rated = recall_recorded(model, play)
    with torch.no_grad():
        chance = judge.rate(rated.features, pessimistic=False)
        said = (judge.rate(rated.features) > SURE).numpy()
    true = rated.reached.numpy()
    episode = play.episode_of
    count = len(play.episode_ends)
    outcome = _any_by_episode(true, episode, count)
    return {
        "precision": float((said & true).sum() / max(1, said.sum())),
        "recall": float((said & true).sum() / max(1, true.sum())),
        "calibration_error": _measure_calibration(chance.numpy(), true),
        "episodes_right": float((_any_by_episode(said, episode, count) == outcome).mean()),
        "replays_right": float((_replay(model, judge, play) == outcome).mean()),
    }


def _any_by_episode(values: BoolArray, episode: IntArray, count: int) -> BoolArray:
    found = np.zeros(count, bool)
    np.logical_or.at(found, episode, values)
    return found


def _measure_calibration(chance: FloatArray, true: BoolArray) -> float:
    """Mean distance of said and true share of success over ten bins, weighted by their size."""
    bins = np.minimum((chance * 10).astype(int), 9)
    total = 0.0
    for number in range(10):
        inside = bins == number
        if inside.any():
            total += inside.mean() * abs(chance[inside].mean() - true[inside].mean())
    return float(total)


@torch.no_grad()
def _replay(model: WorldModel, judge: Judge, play: Play) -> BoolArray:
    """Which episodes (E,) succeed when their recorded actions are replayed in the model."""
    first = play.first
    count = len(first)
    state = model.begin(model.encode(play), torch.as_tensor(first))
    member = torch.as_tensor(np.arange(count) % model.members)
    success = np.zeros(count, bool)
    lengths = play.episode_ends - first
    for start in range(0, int(lengths.max()) - model.jump, model.jump):
        runs = start + model.jump <= lengths
        index = np.where(runs, first + start, 0)
        chunk = torch.as_tensor(play.take_chunks(index, model.jump))
        state = model.step(state, chunk, member).state
        success |= runs & (judge.rate(model.features(state).float()).numpy() > SURE)
    return success


def compare_base(
    model: WorldModel,
    judge: Judge,
    play: Play,
    variants: Mapping[str, DiffusionPolicy],
    max_steps: int,
    settings: AuditSettings,
) -> dict[str, Any]:
    """Imagined against true success of the base, from the starts that it was recorded at.

    variants: policies by name, the base first; those behind it have no truth in the play, and are
        imagined for comparison
    """
    recorded = np.flatnonzero(~play.explored[play.first])
    if len(recorded) == 0:
        raise ConfigError(
            "the held-out play has no undisturbed episode of the base to compare with: record "
            "some, as with play.undisturbed=0.25"
        )
    outcome = _any_by_episode(play.reached, play.episode_of, len(play.episode_ends))[recorded]
    interval = wilson(int(outcome.sum()), len(outcome))
    index = np.repeat(play.first[recorded], settings.repeats)
    frames = max(policy.horizon.observed for policy in variants.values())
    filtered = next(iter(variants.values())).model.filter is not None
    source = DreamSource(
        model, judge, Starts(play), len(index), max_steps, frames=frames, filtered=filtered
    )
    imagined: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for name, policy in variants.items():
        dreams = imagine(policy, source, index, settings.seed)
        by_start = dreams.success.reshape(-1, settings.repeats)
        imagined[name] = float(by_start.mean())
        if not found:
            found = {
                "starts": len(recorded),
                "true": float(outcome.mean()),
                "true_low": interval.low,
                "true_high": interval.high,
                "imagined": float(by_start.mean()),
                "bias": float(by_start.mean() - outcome.mean()),
                "agreement": float((by_start == outcome[:, None]).mean()),
                "self_agreement": _agree_with_itself(by_start),
                "by_member": _by_member(dreams.success, model.members),
                "doubtful": float(dreams.doubtful.mean()),
                "disagreement": float(np.quantile(dreams.disagreement, USUAL)),
            }
    return {**found, "variants": imagined}


def _agree_with_itself(by_start: BoolArray) -> float:
    """How often two dreams of the same policy from the same start (E, repeats) end alike.

    More than this no model could agree with recorded episodes of a policy that draws noise.
    """
    repeats = by_start.shape[1]
    wins = by_start.sum(1)
    alike = wins * (wins - 1) + (repeats - wins) * (repeats - wins - 1)
    return float((alike / max(1, repeats * (repeats - 1))).mean())


def _by_member(success: BoolArray, members: int) -> list[float]:
    """Imagined success by each member of the dynamics."""
    which = np.arange(len(success)) % members
    return [float(success[which == member].mean()) for member in range(members)]


def audit(
    model: WorldModel,
    judge: Judge,
    held_out: Play,
    variants: Mapping[str, DiffusionPolicy],
    max_steps: int,
    settings: AuditSettings,
) -> dict[str, Any]:
    """All figures of an audit, and its verdict: `passed` and `faults`."""
    open_loop = measure_open_loop(model, held_out)
    base = compare_base(model, judge, held_out, variants, max_steps, settings)
    found: dict[str, Any] = {
        "settings": asdict(settings),
        "held_out": {"episodes": len(held_out.episode_ends), "steps": len(held_out)},
        "open_loop": open_loop,
        "success_model": measure_judge(model, judge, held_out),
        "base": base,
    }
    found["faults"] = list_faults(found, settings)
    found["passed"] = not found["faults"]
    return found


def list_faults(found: Mapping[str, Any], settings: AuditSettings) -> list[str]:
    """Why a model fails its audit, in words; empty where it passes."""
    faults: list[str] = []
    starts = found["base"]["starts"]
    if starts < settings.least_episodes:
        faults.append(
            f"the held-out play has {starts} undisturbed episodes of the base, and "
            f"{settings.least_episodes} are wanted: record more, as with play.undisturbed=0.25"
        )
    recorded = found["base"]["true"]
    if recorded < settings.least_success:
        faults.append(
            f"the base succeeds in {recorded:.2f} of the recorded episodes, and at least "
            f"{settings.least_success:.2f} is wanted: a model in which nothing succeeds would pass"
        )
    for row in found["open_loop"]:
        if row["error"] >= WORSE * row["persistence"]:
            faults.append(
                f"{row['part']} is off by {row['error']:.4g} after {row['steps']} steps; "
                f"standing still is off by {row['persistence']:.4g}"
            )
    base = found["base"]
    if abs(base["bias"]) >= settings.max_bias:
        faults.append(
            f"the base succeeds in {base['imagined']:.2f} of its dreams and in {base['true']:.2f} "
            f"of the recorded episodes from the same starts; at most {settings.max_bias:.2f} "
            "between them is allowed"
        )
    replays = found["success_model"]["replays_right"]
    if replays < settings.min_agreement:
        faults.append(
            f"{replays:.2f} of the held-out episodes end in the model as they did when their "
            f"actions are replayed; at least {settings.min_agreement:.2f} is wanted"
        )
    return faults


def rank_policies(
    imagined: Sequence[float], true: Sequence[float], seed: int = 0
) -> dict[str, Any]:
    """Spearman's rank correlation of imagined and true success, with a bootstrapped interval."""
    one = np.asarray(imagined)
    other = np.asarray(true)
    rng = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(DRAWS):
        index = rng.integers(0, len(one), len(one))
        if np.ptp(one[index]) > 0 and np.ptp(other[index]) > 0:
            drawn.append(_correlate_ranks(one[index], other[index]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "policies": float(len(one)),
        "spearman": _correlate_ranks(one, other),
        "low": float(low),
        "high": float(high),
        "pearson": float(np.corrcoef(one, other)[0, 1]),
        "mean_bias": float((one - other).mean()),
    }


def _correlate_ranks(one: FloatArray, other: FloatArray) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
