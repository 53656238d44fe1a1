"""Sets without known faults for `hotstart bench planted_faults`: two synthetic, one recorded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.episodes import ACTION, TIMESTAMP
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.registry import open_foreign
from ..datasets.statistics import Statistics, statistics
from ..spec import ActionDim, ActionSpec, FloatArray, IntArray, ObsKey, ObsSpec

EPISODES = 24
FPS = 20.0
SIDE = 32
PUSHT = "pusht_cchi_v7_replay.zarr.zip"
Arrays = dict[str, NDArray[Any]]


@dataclass
class Planted:
    """A data set in memory that refuses nothing: its episodes are lists of arrays, key by key."""

    fps: float
    action_spec: ActionSpec
    obs_spec: ObsSpec
    episodes: list[Arrays]
    lengths: list[int] = field(default_factory=list)
    """Steps that `episode_ends` claims; those of the actions where it is left empty."""
    stored: Mapping[str, Statistics] = field(default_factory=dict)
    _joined: Arrays = field(default_factory=dict)

    @property
    def episode_ends(self) -> IntArray:
        """First step after each episode, (E,) int64."""
        lengths = self.lengths or [len(episode[ACTION]) for episode in self.episodes]
        return np.cumsum(lengths).astype(np.int64)

    @property
    def keys(self) -> tuple[str, ...]:
        """What the first episode holds."""
        return tuple(self.episodes[0])

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key."""
        if key not in self._joined:
            self._joined[key] = np.concatenate([episode[key] for episode in self.episodes])
        return self._joined[key]

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Some steps of one key."""
        return self.array(key)[start:stop]

    def content_hash(self) -> str:
        """Nobody asks."""
        return ""

    def stored_statistics(self) -> Mapping[str, Statistics]:
        """Those that were computed when the set was made."""
        return self.stored

    def store_statistics(self) -> None:
        """Compute them, as a format that holds them would."""
        self.stored = {key: statistics(self.array(key)) for key in ("state", ACTION)}

    def copy(self) -> Planted:
        """Another one whose arrays may be changed."""
        made = copy.copy(self)
        made.episodes = copy.deepcopy(self.episodes)
        made.stored = copy.deepcopy(self.stored)
        made._joined = {}
        return made


def make_arm(seed: int, count: int = EPISODES) -> Planted:
    """Six joints go between random postures; two cameras see a planar arm; targets are actions."""
    rng = np.random.default_rng([seed, 1])
    episodes: list[Arrays] = []
    for _ in range(count):
        joints = _reach(rng, int(rng.integers(80, 140)), 6)
        gripper = np.cumsum(rng.random(len(joints)) < 0.03).astype(np.float64) % 2
        state = np.concatenate([joints, gripper[:, None]], axis=1)
        state[:, :6] += rng.normal(scale=1e-4, size=joints.shape)  # an encoder's noise
        target = np.concatenate([joints[1:], joints[-1:]])
        action = np.concatenate([target, gripper[:, None]], axis=1)
        episode = _finish(rng, state, action)
        for name, at in (("front", 0), ("wrist", 3)):
            episode[name] = _draw(rng, joints[:, at : at + 3])
        episodes.append(episode)
    dims = [ActionDim(f"joint_{i}", "rad") for i in range(6)]
    spec = ActionSpec((*dims, ActionDim("gripper", "", "discrete")))
    return _make(spec, 7, ("front", "wrist"), episodes)


def make_hand(seed: int) -> Planted:
    """A hand is driven by changes of its place that a person's hand trembles in, seen by a camera.

    The camera has more noise and the motion more pauses than those of `make_arm`.
    """
    rng = np.random.default_rng([seed, 2])
    episodes: list[Arrays] = []
    for _ in range(EPISODES):
        steps = int(rng.integers(60, 200))
        push = rng.normal(size=(steps, 3))
        for step in range(1, steps):
            push[step] = 0.85 * push[step - 1] + 0.5 * push[step]
        push *= (np.sin(np.arange(steps) / rng.uniform(8, 25) + rng.uniform(0, 6)) > -0.6)[:, None]
        action = np.clip(push / 4, -1, 1)
        place = np.cumsum(0.02 * action, axis=0)
        state = np.concatenate([place, np.diff(place, axis=0, prepend=place[:1])], axis=1)
        state += rng.normal(scale=1e-5, size=state.shape)
        episode = _finish(rng, state, action)
        episode["scene"] = _draw(rng, place * 2, noise=6)
        episodes.append(episode)
    dims = tuple(ActionDim(f"change_{i}", "", "continuous", False) for i in range(3))
    return _make(ActionSpec(dims), 6, ("scene",), episodes)


def make_pusht(seed: int, folder: Path) -> Planted:
    """Episodes of Push-T by people, drawn from the 206, with pictures of 48 x 48 pixels."""
    rng = np.random.default_rng([seed, 3])
    whole = _read_pusht(folder)
    ends = whole.episode_ends
    episodes: list[Arrays] = []
    for number in rng.choice(len(ends), EPISODES, replace=False):
        steps = slice(int(ends[number - 1]) if number else 0, int(ends[number]))
        episode = {key: whole.array(key)[steps].copy() for key in whole.keys}
        episode[TIMESTAMP] = np.arange(len(episode[ACTION])) / whole.fps
        episodes.append(episode)
    return _make(whole.action_spec, 6, ("image",), episodes, 48, whole.fps)


@cache
def _read_pusht(folder: Path) -> Planted:
    """All 206 episodes, read once."""
    data = open_foreign(folder / "pusht" / PUSHT, ReadOptions())
    joined: Arrays = {}
    for key in ("state", ACTION):
        joined[key] = data.array(key)
    parts: list[NDArray[Any]] = []
    for start in range(0, len(joined[ACTION]), 512):
        parts.append(data.rows("image", start, start + 512)[:, ::2, ::2])
    joined["image"] = np.concatenate(parts)
    lengths = np.diff(data.episode_ends, prepend=0).tolist()
    return Planted(data.fps, data.action_spec, data.obs_spec, [joined], lengths)


def _make(
    spec: ActionSpec,
    width: int,
    cameras: tuple[str, ...],
    episodes: list[Arrays],
    side: int = SIDE,
    fps: float = FPS,
) -> Planted:
    keys = {"state": ObsKey((width,), "float64")}
    for name in cameras:
        keys[name] = ObsKey((side, side, 3), "uint8", "image")
    made = Planted(fps, spec, ObsSpec(keys), episodes)
    made.store_statistics()
    return made


def _finish(rng: np.random.Generator, state: FloatArray, action: FloatArray) -> Arrays:
    """Add stamps with 5 % of jitter, and success at the end."""
    steps = len(action)
    stamps = (np.arange(steps) + rng.uniform(-0.05, 0.05, steps)) / FPS
    success = np.zeros(steps, np.bool_)
    success[-1] = True
    return {"state": state, ACTION: action, TIMESTAMP: stamps, "success": success}


def _reach(rng: np.random.Generator, steps: int, joints: int) -> FloatArray:
    """Minimum-jerk motions between random postures [rad], (steps, joints)."""
    place = rng.uniform(-1.5, 1.5, joints)
    parts: list[FloatArray] = []
    while sum(map(len, parts)) < steps:
        goal = rng.uniform(-1.5, 1.5, joints)
        count = int(rng.integers(15, 40))
        share = np.arange(count)[:, None] / count
        parts.append(place + (goal - place) * (10 * share**3 - 15 * share**4 + 6 * share**5))
        place = goal
    return np.concatenate(parts)[:steps]


def _draw(rng: np.random.Generator, angles: FloatArray, noise: int = 2) -> NDArray[np.uint8]:
    """A bright spot at the end of a planar arm of three joints, (n, SIDE, SIDE, 3)."""
    turned = np.cumsum(angles[:, :3], axis=1)  # (n, 3)
    x = 0.5 + 0.14 * np.cos(turned).sum(1)
    y = 0.5 + 0.14 * np.sin(turned).sum(1)
    grid = (np.arange(SIDE) + 0.5) / SIDE
    away = (grid[None, None] - x[:, None, None]) ** 2 + (
        grid[None, :, None] - y[:, None, None]
    ) ** 2
    spot = 40 + 180 * np.exp(-away / 0.01)  # (n, SIDE, SIDE)
    frames = spot[..., None] + rng.integers(-noise, noise + 1, (*spot.shape, 3))
    return np.clip(frames, 0, 255).astype(np.uint8)
