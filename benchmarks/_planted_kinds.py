"""Faults to plant in a clean data set, each in three sizes, and the findings that tell of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.episodes import ACTION, TIMESTAMP
from ..datasets.windows import split_episodes
from ..spec import FloatArray
from ._planted_sets import Planted


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Args:
        plant: puts it into a copy of a clean set, (set, size, random numbers) -> the episodes that
            have it; none where the whole set has it
        sizes: small, middle, large
        unit: what a size is
        codes: findings any of which tells of it
    """

    plant: Callable[[Planted, float, np.random.Generator], list[int]]
    sizes: tuple[float, float, float]
    unit: str
    codes: tuple[str, ...]


def _pick(data: Planted, rng: np.random.Generator) -> int:
    return int(rng.integers(len(data.episodes)))


def _camera(data: Planted, rng: np.random.Generator) -> str:
    names = [name for name, key in data.obs_spec.keys.items() if key.kind == "image"]
    return names[int(rng.integers(len(names)))]


def _reach(data: Planted, key: str) -> FloatArray:
    """1 % to 99 % range of every number of a key."""
    values = data.array(key)
    data._joined.clear()
    return np.quantile(values, 0.99, axis=0) - np.quantile(values, 0.01, axis=0)


def _dim(data: Planted, key: str, rng: np.random.Generator) -> int:
    """A number of a key that moves, no discrete one."""
    values = data.array(key)
    data._joined.clear()
    moving = [d for d in range(values.shape[1]) if len(np.unique(values[:, d])) > 10]
    return moving[int(rng.integers(len(moving)))]


def plant_nan(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Numbers that are not finite."""
    number = _pick(data, rng)
    values = data.episodes[number]["state"]
    steps = rng.choice(len(values), min(int(size), len(values)), replace=False)
    values[steps, _dim(data, "state", rng)] = np.nan
    return [number]


def plant_missing(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A key of the last episode is shorter than the episode."""
    last = data.episodes[-1]
    last["state"] = last["state"][: -int(size)]
    data.lengths = [len(episode[ACTION]) for episode in data.episodes]
    return [len(data.episodes) - 1]


def plant_ends(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """An episode ends some steps too late: it holds the beginning of the next one."""
    data.lengths = [len(episode[ACTION]) for episode in data.episodes]
    number = int(rng.integers(len(data.episodes) - 1))
    data.lengths[number] += int(size)
    data.lengths[number + 1] -= int(size)
    return [number]


def plant_short(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """An episode was stopped at once."""
    number = _pick(data, rng)
    data.episodes[number] = {k: v[: int(size)] for k, v in data.episodes[number].items()}
    return [number]


def plant_constant(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A state never moves but for noise, relative to 1."""
    dim = _dim(data, "state", rng)
    for episode in data.episodes:
        episode["state"][:, dim] = 0.3 + size * rng.uniform(-1, 1, len(episode["state"]))
    return []


def plant_stuck(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A sensor stops for the last part of an episode."""
    number = _pick(data, rng)
    values = data.episodes[number]["state"]
    start = int(len(values) * (1 - size))
    dim = _dim(data, "state", rng)
    values[start:, dim] = values[start, dim]
    return [number]


def plant_still(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Nothing moves for a part of an episode."""
    number = _pick(data, rng)
    for key in ("state", ACTION):
        values = data.episodes[number][key]
        start = int(len(values) * (1 - size))
        values[start:] = values[start]
    return [number]


def plant_teleport(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A state jumps, and stays there."""
    number = _pick(data, rng)
    values = data.episodes[number]["state"]
    dim = _dim(data, "state", rng)
    start = int(rng.integers(len(values) // 4, 3 * len(values) // 4))
    values[start:, dim] += size * _reach(data, "state")[dim] * rng.choice([-1, 1])
    return [number]


def plant_spike(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """One number of one step is wrong."""
    number = _pick(data, rng)
    values = data.episodes[number]["state"]
    dim = _dim(data, "state", rng)
    step = int(rng.integers(len(values)))
    values[step, dim] += size * _reach(data, "state")[dim] * rng.choice([-1, 1])
    return [number]


def plant_repeats(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Stamps occur twice."""
    number = _pick(data, rng)
    stamps = data.episodes[number][TIMESTAMP]
    steps = rng.choice(len(stamps) - 1, int(size), replace=False) + 1
    for step in np.sort(steps):
        stamps[step] = stamps[step - 1]
    return [number]


def plant_back(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """The clock is set back by so many steps."""
    number = _pick(data, rng)
    stamps = data.episodes[number][TIMESTAMP]
    stamps[len(stamps) // 2 :] -= size / data.fps
    return [number]


def plant_gap(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Steps were lost, the clock went on."""
    number = _pick(data, rng)
    episode = data.episodes[number]
    start = int(rng.integers(5, len(episode[ACTION]) - int(size) - 5))
    for key, values in episode.items():
        episode[key] = np.delete(values, np.arange(start, start + int(size)), axis=0)
    return [number]


def plant_drift(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """All clocks go slow by a share."""
    for episode in data.episodes:
        episode[TIMESTAMP] *= 1 + size
    return []


def plant_repeated(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Frames of a camera are lost in an episode, and filled up with the one before."""
    number = _pick(data, rng)
    frames = data.episodes[number][_camera(data, rng)]
    for step in range(1, len(frames)):
        if rng.random() < size:
            frames[step] = frames[step - 1]
    return [number]


def plant_frozen(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A camera stops for a part of an episode."""
    number = _pick(data, rng)
    frames = data.episodes[number][_camera(data, rng)]
    count = int(size * len(frames))
    start = int(rng.integers(len(frames) - count + 1))
    frames[start : start + count] = frames[start]
    return [number]


def plant_blank(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Frames are black."""
    number = _pick(data, rng)
    frames = data.episodes[number][_camera(data, rng)]
    frames[: int(size)] = rng.integers(0, 3, frames[: int(size)].shape)
    return [number]


def _delay(frames: NDArray[np.uint8], steps: int) -> NDArray[np.uint8]:
    places = np.clip(np.arange(len(frames)) - steps, 0, len(frames) - 1)
    return frames[places]


def plant_lag(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A camera is so many steps late, or early, in all episodes."""
    camera = _camera(data, rng)
    steps = int(size * rng.choice([-1, 1]))
    for episode in data.episodes:
        episode[camera] = _delay(episode[camera], steps)
    return []


def plant_episode_lag(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """A camera is so many steps late, or early, in one episode."""
    number = _pick(data, rng)
    episode = data.episodes[number]
    camera = _camera(data, rng)
    episode[camera] = _delay(episode[camera], int(size * rng.choice([-1, 1])))
    return [number]


def plant_degrees(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Actions of a share of the episodes are in degrees."""
    chosen = np.sort(rng.choice(len(data.episodes), int(size), replace=False))
    for number in chosen:
        data.episodes[number][ACTION] *= 180 / np.pi
    if size == len(data.episodes):
        return []
    return chosen.tolist()


def plant_offset(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """An action of one episode is a part of its range away."""
    number = _pick(data, rng)
    dim = _dim(data, ACTION, rng)
    data.episodes[number][ACTION][:, dim] += size * _reach(data, ACTION)[dim]
    return [number]


def plant_saturation(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """An action is cut off above, in a share of all steps."""
    dim = _dim(data, ACTION, rng)
    limit = np.quantile(data.array(ACTION)[:, dim], 1 - size)
    data._joined.clear()
    for episode in data.episodes:
        episode[ACTION][:, dim] = np.minimum(episode[ACTION][:, dim], limit)
    return []


def plant_copies(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Episodes stand in the set a second time, at its end."""
    count = len(data.episodes)
    for number in rng.choice(count, int(size), replace=False):
        data.episodes.append(dict(data.episodes[number]))
    return list(range(count, len(data.episodes)))


def _add_near(data: Planted, number: int, size: float, rng: np.random.Generator) -> None:
    made = dict(data.episodes[number])
    for key in ("state", ACTION):
        scale = size * _reach(data, key)
        made[key] = made[key] + rng.normal(size=made[key].shape) * scale
    data.episodes.append(made)


def plant_near_copy(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """An episode stands there a second time with noise, a share of the range."""
    _add_near(data, _pick(data, rng), size, rng)
    return [len(data.episodes) - 1]


def plant_leak(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """An episode that is held out for validation is trained on too, with noise."""
    _, held_out = split_episodes(len(data.episodes) + 1, 0.05, 0)
    held = [number for number in held_out if number < len(data.episodes)]
    if not held:
        _add_near(data, _pick(data, rng), size, rng)  # the new one is held out
        return []
    _add_near(data, int(held[0]), size, rng)
    return []


def plant_unlabelled(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Success was never set."""
    for episode in data.episodes:
        episode["success"] = np.zeros(len(episode[ACTION]), np.bool_)
    return []


def plant_statistics(data: Planted, size: float, rng: np.random.Generator) -> list[int]:
    """Stored statistics are of other numbers: the mean is off by a share of the range."""
    data.stored["state"]["mean"][_dim(data, "state", rng)] += size * _reach(data, "state").max()
    return []


FAULTS: Mapping[str, Fault] = {
    "NaN": Fault(plant_nan, (1, 5, 40), "numbers", ("not-finite",)),
    "steps of a key missing": Fault(plant_missing, (1, 5, 20), "steps", ("steps-missing",)),
    "end in the next episode": Fault(
        plant_ends, (1, 5, 20), "steps", ("ends", "timestamps-back", "timestamps-repeat", "jump")
    ),
    "near-empty episode": Fault(
        plant_short, (1, 3, 5), "steps", ("episode-short", "episode-near-empty")
    ),
    "constant state": Fault(
        plant_constant, (0, 1e-6, 3e-4), "noise", ("constant", "nearly-constant")
    ),
    "stuck sensor": Fault(plant_stuck, (0.6, 0.8, 1.0), "share", ("stuck", "constant")),
    "nothing moves": Fault(plant_still, (0.25, 0.5, 1.0), "share", ("still",)),
    "teleport": Fault(plant_teleport, (0.1, 0.2, 0.5), "range", ("jump", "outlier")),
    "spike": Fault(plant_spike, (0.3, 1, 20), "range", ("jump", "outlier")),
    "stamps repeat": Fault(plant_repeats, (1, 3, 10), "stamps", ("timestamps-repeat",)),
    "stamps go back": Fault(plant_back, (2, 5, 20), "steps", ("timestamps-back",)),
    "steps lost": Fault(plant_gap, (1, 3, 10), "steps", ("timestamps-gap",)),
    "clock drifts": Fault(plant_drift, (0.005, 0.01, 0.04), "share", ("timestamps-drift",)),
    "wrong rate": Fault(plant_drift, (0.07, 0.2, 1.0), "share", ("rate",)),
    "frames repeated": Fault(
        plant_repeated, (0.05, 0.1, 0.3), "share", ("frames-repeated", "camera-frozen")
    ),
    "camera frozen": Fault(
        plant_frozen, (0.1, 0.3, 0.8), "share", ("camera-frozen", "frames-repeated")
    ),
    "camera black": Fault(plant_blank, (1, 5, 1000), "frames", ("camera-blank",)),
    "camera late in all": Fault(plant_lag, (1, 2, 5), "steps", ("out-of-step",)),
    "camera late in one": Fault(plant_episode_lag, (2, 4, 8), "steps", ("episode-out-of-step",)),
    "actions in degrees": Fault(
        plant_degrees, (1, 3, 24), "episodes", ("scale", "action-unit", "outlier")
    ),
    "actions off": Fault(plant_offset, (0.3, 0.6, 1.5), "range", ("action-far", "outlier")),
    "actions cut off": Fault(plant_saturation, (0.05, 0.15, 0.4), "share", ("saturated",)),
    "copies": Fault(plant_copies, (1, 3, 10), "episodes", ("duplicate",)),
    "near copy": Fault(plant_near_copy, (1e-5, 1e-3, 1e-2), "noise", ("near-duplicate",)),
    "leakage": Fault(plant_leak, (0, 1e-5, 1e-3), "noise", ("leakage",)),
    "unlabelled": Fault(plant_unlabelled, (1, 1, 1), "set", ("success-never",)),
    "statistics": Fault(plant_statistics, (0.01, 0.1, 1), "range", ("statistics",)),
}
