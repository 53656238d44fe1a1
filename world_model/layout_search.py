"""Finds what the numbers of a play's states mean, see `layout`; its letters are those there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..spec import (
    ActionSpec,
    BoolArray,
    ConfigError,
    FloatArray,
    IntArray,
    ObsKey,
    ObsPart,
    ObsSpec,
)
from .layout import Group, Layout, Position, Role, SetPoint, Sign, find_signed
from .play import Play

ALIKE = 0.99
"""Share of the steps in which a number that repeats another must be equal to it."""
UNIT = 1e-3
"""Quaternions, and sines with their cosines, have length 1 up to this."""


def join_states(obs_spec: ObsSpec, observations: Mapping[str, NDArray[Any]]) -> FloatArray:
    """All state observations (N, ...) as one array (N, D), in the order of the specification."""
    parts: list[FloatArray] = []
    for name, key in obs_spec.keys.items():
        if key.kind == "state":
            values = np.asarray(observations[name], np.float64)
            parts.append(values.reshape(len(values), -1))
    if not parts:
        raise ConfigError(
            "the play observes no state, only "
            f"{list(obs_spec.keys)}: a model of states cannot be learned from it"
        )
    return np.concatenate(parts, 1)


def find_layout(play: Play, set_points: bool = True) -> Layout:
    """The layout of a play's states. `set_points` False leaves out what increments add up to."""
    states = join_states(play.obs_spec, play.observations)
    first = np.zeros(len(states), bool)
    first[play.first] = True
    roles: list[Role] = []
    still = _find_still(states, play.episode_of)
    sources, lags = _find_copies(states, first, still)
    for number in range(states.shape[1]):
        if still[number]:
            roles.append("context")
        elif sources[number] >= 0:
            roles.append("copy")
        else:
            roles.append("moving")
    groups = _find_groups(states, list_parts(play.obs_spec), roles)
    context: list[int] = []
    for number in np.flatnonzero(still).tolist():
        if np.ptp(states[:, number]) > 0:
            context.append(number)
    places = _list_places(groups, context)
    layout = Layout(
        keys={name: list(key.shape) for name, key in _state_keys(play.obs_spec)},
        roles=roles,
        sources=sources,
        lags=lags,
        groups=groups,
        positions=_find_positions(list_parts(play.obs_spec), places),
        set_points=[SetPoint() for _ in play.action_spec.dims],
        context=context,
    )
    if set_points:
        layout.set_points[:] = _find_set_points(play.action_spec, layout)
    return layout


def _state_keys(obs_spec: ObsSpec) -> list[tuple[str, ObsKey]]:
    return [(name, key) for name, key in obs_spec.keys.items() if key.kind == "state"]


def list_parts(obs_spec: ObsSpec) -> list[ObsPart]:
    """The parts of all states in order; a key without parts is so many single numbers."""
    parts: list[ObsPart] = []
    for name, key in _state_keys(obs_spec):
        if key.parts:
            parts += key.parts
        else:
            parts += [ObsPart(f"{name}_{i}") for i in range(int(np.prod(key.shape)))]
    return parts


def _find_still(states: FloatArray, episode_of: IntArray) -> BoolArray:
    """(D,): numbers that never change within an episode."""
    same = episode_of[1:] == episode_of[:-1]
    return ~((states[1:] != states[:-1]) & same[:, None]).any(0)


def _find_copies(
    states: FloatArray, first: BoolArray, still: BoolArray
) -> tuple[list[int], list[int]]:
    """Of each number (D,) the one that it repeats, or -1, and how many periods late.

    A number repeats an earlier one at the same time, or any other one a control period late.
    """
    width = states.shape[1]
    sources = [-1] * width
    lags = [0] * width
    late = np.flatnonzero(~first)
    for number in np.flatnonzero(~still).tolist():
        for other in range(width):
            if other == number or still[other] or sources[other] >= 0:
                continue
            if other < number and _is_alike(states[:, number], states[:, other]):
                sources[number] = other
                break
            if _is_alike(states[late, number], states[late - 1, other]):
                sources[number] = other
                lags[number] = 1
                break
    return sources, lags


def _is_alike(one: FloatArray, other: FloatArray) -> bool:
    return bool((one == other).mean() >= ALIKE)


def _find_groups(
    states: FloatArray, parts: Sequence[ObsPart], roles: Sequence[Role]
) -> list[Group]:
    """The moving numbers, rotations as six numbers."""
    groups: list[Group] = []
    start = 0
    count = 0
    for part in parts:
        numbers = list(range(start, start + part.size))
        start += part.size
        moving = [number for number in numbers if roles[number] == "moving"]
        if not moving:
            continue
        turns = part.kind in ("quaternion", "angle") and moving == numbers
        unit = np.abs(np.linalg.norm(states[:, numbers], axis=1) - 1) < UNIT
        if turns and part.kind == "quaternion" and part.size == 4 and unit.all():
            sign = _find_sign(states[:, numbers])
            groups.append(Group("quaternion", numbers, list(range(count, count + 6)), sign))
        elif turns and part.kind == "angle" and part.size == 2 and unit.all():
            groups.append(Group("angle", numbers, [count, count + 1]))
        else:
            groups.append(Group("plain", moving, list(range(count, count + len(moving)))))
        count += len(groups[-1].own)
    return groups


def _find_sign(quaternions: FloatArray) -> Sign:
    """The rule that the signs of quaternions (N, 4) keep to, if there is one."""
    rules: tuple[Sign, ...] = ("last", "first", "largest")
    for rule in rules:
        if bool((find_signed(torch.as_tensor(quaternions), rule) >= 0).all()):
            return rule
    return "near"


def _list_places(groups: Sequence[Group], context: Sequence[int]) -> dict[int, int]:
    """Number of the observation -> its place in the S + C numbers, where it is there as it is."""
    places: dict[int, int] = {}
    count = 0
    for group in groups:
        if group.kind != "quaternion":
            places.update(zip(group.raw, group.own, strict=True))
        count += len(group.own)
    for place, number in enumerate(context):
        places[number] = count + place
    return places


def _find_positions(parts: Sequence[ObsPart], places: Mapping[int, int]) -> list[Position]:
    """The positions among the parts that move or differ between episodes."""
    found: list[Position] = []
    start = 0
    for part in parts:
        if part.kind == "position":
            axes: dict[str, int] = {}
            for offset, axis in zip(range(part.size), part.axes, strict=False):
                if start + offset in places:
                    axes[axis] = places[start + offset]
            if axes:
                found.append(Position(part.name, axes))
        start += part.size
    return found


def _find_set_points(action_spec: ActionSpec, layout: Layout) -> list[SetPoint]:
    """Which increments move which position: `hand_dx` in 0.01 m moves the x of `hand`.

    The name of an increment ends in d and the axis; without a word before, it is the first position
    that is meant.
    """
    found: list[SetPoint] = []
    by_name = {position.name: position for position in layout.positions}
    for dim in action_spec.dims:
        name = re.fullmatch(r"(?:(.+)_)?d([xyz])", dim.name)
        scale = re.match(r"[0-9.]+", dim.unit)
        position: Position | None = None
        if name is not None and not dim.absolute and layout.positions:
            position = by_name.get(name[1] or layout.positions[0].name)
        if name is None or position is None or name[2] not in position.axes:
            found.append(SetPoint())
            continue
        place = position.axes[name[2]]
        if place >= layout.moving:
            found.append(SetPoint())
        elif scale is None:
            found.append(SetPoint(place))
        else:
            found.append(SetPoint(place, float(scale[0])))
    return found


def trace_set_points(
    layout: Layout, play: Play, moving: FloatArray, rest: FloatArray
) -> FloatArray:
    """The set-points (N, A) in force before every step of a play.

    moving (N, S) are its moving numbers; `rest` (A,) stands for the last action of an episode that
    begins. Commanded places stay in the range that was seen.
    """
    points = np.tile(rest, (len(play), 1))
    low = moving.min(0)
    high = moving.max(0)
    begins = np.zeros(len(play), bool)
    begins[play.first] = True
    for number, point in enumerate(layout.set_points):
        actions = play.actions[:, number]
        if point.place < 0:
            late = ~begins
            points[late, number] = actions[:-1][late[1:]]
            continue
        place = point.place
        current = 0.0
        for step in range(len(play)):
            if begins[step]:
                current = moving[step, place]
            points[step, number] = current
            current = current + point.scale * actions[step]
            current = min(max(current, low[place]), high[place])
    return points
