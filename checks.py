"""Checks before a robot moves: robot and policy fit, plans and commands are sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from .spec import (
    ActionDim,
    ActionSpec,
    ConfigError,
    FloatArray,
    IntArray,
    ObsSpec,
    PlanError,
    Planned,
)

RATE_SHARE = 0.01
"""Two control rates that differ by more than this share are two rates."""
LARGEST = float(np.finfo(np.float32).max)
"""Robots are told float32 numbers; what is larger is no command."""
NAMED = 8
"""So many names stand in a message."""
NO_ARRAY = (TypeError, ValueError, RuntimeError)
"""What numpy raises for ragged lists, for objects, and for a tensor on another device."""


class Described(Protocol):
    """What a robot or an environment says of itself."""

    @property
    def rate_hz(self) -> float:
        """Control rate [Hz]."""
        ...

    @property
    def obs_spec(self) -> ObsSpec:
        """What it observes."""
        ...

    @property
    def action_spec(self) -> ActionSpec:
        """What it is told."""
        ...


class DescribedPolicy(Protocol):
    """What a policy says of itself; its rate is None where that is not known."""

    @property
    def rate_hz(self) -> float | None:
        """Control rate of the data that it was trained on [Hz]."""
        ...

    @property
    def obs_spec(self) -> ObsSpec:
        """What it wants to see."""
        ...

    @property
    def action_spec(self) -> ActionSpec:
        """What it plans."""
        ...


def check_fit(robot: Described, policy: DescribedPolicy, any_rate: bool = False) -> None:
    """Raise ConfigError where a policy cannot run a robot.

    Compared are width, units and order of actions, observations, and the control rate. A unit that
    one of them leaves open is not compared, nor is anything but the width where actions have no
    names of their own. `any_rate` allows another control rate than that of the policy's data.
    """
    lacking = []
    for name in ("obs_spec", "action_spec", "rate_hz"):
        if not hasattr(policy, name):
            lacking.append(name)
    if lacking:
        raise ConfigError(
            f"{type(policy).__name__} has no {', '.join(lacking)}: a policy says what it observes, "
            "what it plans, and at which rate (None where nobody knows), see hotstart.spec.Policy"
        )
    faults = [
        *_action_faults(policy.action_spec, robot.action_spec),
        *_observation_faults(policy.obs_spec, robot.obs_spec),
    ]
    if not any_rate and rates_differ(policy.rate_hz, robot.rate_hz):
        faults.append(
            f"the policy was trained on data of {policy.rate_hz:g} Hz, the robot runs at "
            f"{robot.rate_hz:g} Hz: train on data of the robot's rate, set the robot's rate to "
            "that of the data, or allow it (`hotstart evaluate` with rate=any, in Python "
            "any_rate=True)"
        )
    if faults:
        raise ConfigError("policy and robot do not fit: " + "; ".join(faults))


def rates_differ(one_hz: float | None, other_hz: float | None) -> bool:
    """Whether two control rates are further apart than RATE_SHARE; False where one is not known."""
    if one_hz is None or other_hz is None:
        return False
    return abs(one_hz - other_hz) > RATE_SHARE * max(abs(one_hz), abs(other_hz))


def check_plan(
    planned: object, asked: IntArray, width: int | None = None, longest: int | None = None
) -> Planned:
    """A policy's answer with its arrays as they must be: rows (R,), actions (R, n, A), nfe (R,).

    Rows and evaluations become int64, actions float64. Raises PlanError for rows that were not
    `asked` for, another shape, another width A than `width`, no step or more than `longest`, and
    numbers that are no finite float32.
    """
    if not isinstance(planned, Planned):
        raise PlanError(
            f"the policy's answer is {type(planned).__name__}; hotstart.spec.Planned was expected"
        )
    rows = _whole_numbers(planned.rows, "rows")
    nfe = _whole_numbers(planned.nfe, "nfe")
    actions = _numbers(planned.actions, "the plan's")
    _check_rows(rows, asked)
    _check_shape(actions, len(rows), width, longest)
    if len(nfe) != len(rows):
        raise PlanError(f"the plan says the evaluations of {len(nfe)} rows; it holds {len(rows)}")
    _check_finite(actions, rows)
    return replace(planned, rows=rows, actions=actions, nfe=nfe)


def check_command(actions: FloatArray) -> None:
    """Raise PlanError where actions (B, A) to be sent hold a number that is no finite float32."""
    wrong = ~(np.abs(actions) <= LARGEST)
    if wrong.any():
        row, number = np.argwhere(wrong)[0].tolist()
        raise PlanError(
            f"row {row} would be told {actions[row, number]!r} for number {number}; a robot is "
            "told finite float32 numbers: where it holds, they are what `hold_position` says, and "
            "where somebody intervenes, the hook's"
        )


def check_replacement(actions: object, shape: tuple[int, ...]) -> FloatArray:
    """The actions (B, A) of a hook as float64; raises PlanError for another shape than `shape`."""
    found = _numbers(actions, "the hook's")
    if found.shape != shape:
        raise PlanError(
            f"the hook's actions have shape {found.shape}; {shape} was expected, with NaN in the "
            "rows that stay as they are"
        )
    return found


def _check_rows(rows: IntArray, asked: IntArray) -> None:
    """Raise PlanError for rows that were not asked for, or that come twice."""
    if len(np.unique(rows)) < len(rows) or not np.isin(rows, asked).all():
        raise PlanError(
            f"the plan is for rows {_some(rows)}; asked for were {_some(asked)}, each once"
        )


def _check_shape(actions: FloatArray, rows: int, width: int | None, longest: int | None) -> None:
    """Raise PlanError unless there are (rows, 1 to `longest`, `width`) actions; None: any."""
    fits = actions.ndim == 3 and len(actions) == rows and actions.shape[1] > 0
    if fits and longest is not None:
        fits = actions.shape[1] <= longest
    if fits and width is not None:
        fits = actions.shape[2] == width
    if fits:
        return
    steps = "1 or more"
    if longest is not None:
        steps = f"1 to {longest}"
    wanted = f"({rows} rows, {steps} steps, {width or 'some'} numbers)"
    raise PlanError(f"the plan's actions have shape {actions.shape}; {wanted} were expected")


def _check_finite(actions: FloatArray, rows: IntArray) -> None:
    """Raise PlanError where actions (R, n, A) hold a number that is no finite float32."""
    wrong = ~(np.abs(actions) <= LARGEST)  # NaN too
    if wrong.any():
        place = np.argwhere(wrong)[0]
        step, number = place[1:]
        raise PlanError(
            f"the plan says {actions[tuple(place)]!r} for number {number} of step {step} in row "
            f"{rows[place[0]]}; a robot is told finite float32 numbers: look at the observation "
            "and at the weights"
        )


def _numbers(values: object, whose: str) -> FloatArray:
    """The actions as float64, whatever held them."""
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "fiu":
            raise TypeError(f"they are {found.dtype}")
        return found.astype(np.float64)
    except NO_ARRAY as error:
        raise PlanError(f"{whose} actions are no array of real numbers: {error}") from error


def _whole_numbers(values: object, name: str) -> IntArray:
    """Rows or evaluations as whole numbers (R,)."""
    try:
        found = np.asarray(values)
    except NO_ARRAY as error:
        raise PlanError(f"the plan's {name} are no array of whole numbers: {error}") from error
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise PlanError(
            f"the plan's {name} are {found.dtype} of shape {found.shape}; "
            "whole numbers (R,) were expected"
        )
    return found.astype(np.int64)


def _action_faults(policy: ActionSpec, robot: ActionSpec) -> Iterator[str]:
    """How the numbers of an action differ."""
    if policy.width != robot.width:
        yield (
            f"the policy plans {policy.width} numbers an action ({_names(policy)}), "
            f"the robot takes {robot.width} ({_names(robot)})"
        )
        return
    places = {dim.name: number for number, dim in enumerate(robot.dims)}
    for number, (ours, theirs) in enumerate(zip(policy.dims, robot.dims, strict=True)):
        if _is_plain(ours, number) or _is_plain(theirs, number):
            continue
        if places.get(ours.name, number) != number:
            place = f"number {number} of an action is"
            yield _say_difference(place, repr(ours.name), repr(theirs.name))
        if ours.unit and theirs.unit and ours.unit != theirs.unit:
            yield _say_difference(f"{ours.name!r} is", f"in [{ours.unit}]", f"in [{theirs.unit}]")
        if ours.absolute != theirs.absolute:
            words = {True: "absolute", False: "a change"}
            mine, other = words[ours.absolute], words[theirs.absolute]
            yield _say_difference(f"{ours.name!r} is", mine, other)


def _observation_faults(policy: ObsSpec, robot: ObsSpec) -> Iterator[str]:
    """What the policy wants to see and the robot does not show, or shows otherwise."""
    for name, wanted in policy.keys.items():
        shown = robot.keys.get(name)
        if shown is None:
            yield f"the policy observes {name!r}, the robot shows only {_some(list(robot.keys))}"
        elif tuple(shown.shape) != tuple(wanted.shape):
            yield _say_difference(f"{name!r} has shape", tuple(wanted.shape), tuple(shown.shape))
        elif not np.can_cast(np.dtype(shown.dtype), np.dtype(wanted.dtype), "same_kind"):
            yield _say_difference(f"{name!r} is", wanted.dtype, shown.dtype)


def _say_difference(what: str, ours: object, theirs: object) -> str:
    return f"{what} {ours} for the policy and {theirs} for the robot"


def _is_plain(dim: ActionDim, number: int) -> bool:
    """Whether nobody has said what this number is, see `ActionSpec.plain`."""
    return dim == ActionSpec.plain(number + 1).dims[number]


def _names(spec: ActionSpec) -> str:
    return _some([dim.name for dim in spec.dims])


def _some(items: Sequence[object] | IntArray) -> str:
    """The first few, with commas."""
    shown = ", ".join(map(str, items[:NAMED]))
    if len(items) > NAMED:
        return f"{shown}, ..."
    return shown or "none"
