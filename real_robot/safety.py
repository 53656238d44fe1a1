"""What an arm may be told: plans are judged when they come, targets once more before they are sent.

Nothing here reads a clock or a device. What may be mended is clamped and counted; what may not is
refused, and nothing more is let through until somebody resets the filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..spec import (
    ActionSpec,
    BoolArray,
    ConfigError,
    FloatArray,
    HotstartError,
    Limits,
    TimedActions,
)

JUMPS = {"rad": 0.35, "m": 0.10}
"""How far [by unit] the first action may be from where the arm is: 20 degrees, 10 cm."""
TOLERANCE_M = 0.02
"""So far the tool may be outside its workspace before that is a fault; a path cuts corners."""
SPANS, LEAST_SPAN = 1.0, 0.5
"""Numbers may be so many spans of the training data outside it; a span is at least so wide."""
ROUNDING = 1e-6
"""Share of a limit by which a number may be beyond it without a clamp."""
ROUNDS = 10
"""So often a point is moved out of the parts of a workspace in turn."""
OTHER_UNITS = {
    "rad": (math.radians(1.0), "degrees"),
    "m": (0.001, "millimetres"),
}
"""What a number of this unit was perhaps meant in: its size in the unit, and its name."""


class SafetyError(HotstartError):
    """A plan or a target was refused; the message says which number, and what would be right."""


@dataclass(frozen=True)
class Plane:
    """The tool stays on the side of a point that the normal points to."""

    point: tuple[float, float, float]
    normal: tuple[float, float, float]

    def outside(self, tool: FloatArray) -> FloatArray:
        """The shortest way (3,) [m] back to where the tool may be; zeros where it may be there."""
        normal = np.array(self.normal) / np.linalg.norm(self.normal)
        depth = min(0.0, float((tool - self.point) @ normal))
        return -depth * normal


@dataclass(frozen=True)
class Sphere:
    """The tool stays out of it."""

    center: tuple[float, float, float]
    radius: float

    def outside(self, tool: FloatArray) -> FloatArray:
        """The shortest way (3,) [m] back to where the tool may be; zeros where it may be there."""
        away = tool - self.center
        distance = float(np.linalg.norm(away))
        if distance >= self.radius:
            return np.zeros(3)
        if distance < 1e-9:
            return np.array([0.0, 0.0, self.radius])
        return away / distance * (self.radius - distance)


@dataclass(frozen=True)
class Workspace:
    """Where the tool may be: in a box, on one side of planes, out of spheres; the base's frame."""

    lower: tuple[float, float, float] = (-math.inf, -math.inf, -math.inf)
    upper: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    parts: Sequence[Plane | Sphere] = ()

    def depth(self, tool: FloatArray) -> float:
        """How far [m] a position (3,) is outside; 0 within."""
        ways = [np.clip(tool, self.lower, self.upper) - tool]
        for part in self.parts:
            ways.append(part.outside(tool))
        return max(float(np.linalg.norm(way)) for way in ways)

    def project(self, tool: FloatArray) -> FloatArray:
        """A position (3,) within, next to the given one, by turns of all the parts.

        Raises SafetyError where none is found: the parts leave no room.
        """
        found = np.array(tool, np.float64)
        for _ in range(ROUNDS):
            for part in self.parts:
                found = found + part.outside(found)
            found = np.clip(found, self.lower, self.upper)
            if self.depth(found) < 1e-6:
                return found
        raise SafetyError(
            f"no permitted position was found near {tool.round(3).tolist()} m: "
            "the box, planes and spheres of the workspace leave no room there"
        )


@dataclass(frozen=True)
class SafetyOptions:
    """What else is asked of actions (A,) besides the arm's limits."""

    jump: FloatArray | None = None
    """The first action's greatest distance from the measured position; None: by unit, see JUMPS."""
    step: FloatArray | None = None
    """The greatest change between two commands; None: what the speed limit allows."""
    workspace: Workspace | None = None
    tool_of: Callable[[FloatArray], FloatArray] | None = None
    """The tool's position (3,) [m] for an action (A,), for actions that are joint angles."""
    trained: tuple[FloatArray, FloatArray] | None = None
    """Least and greatest actions (A,) of the training data."""


@dataclass
class Counts:
    """How often each number was clamped or dropped, by reason."""

    names: list[str]
    clamps: dict[str, dict[str, int]] = field(default_factory=dict)
    """reason -> name of the number -> times; plain values, for the log."""

    def add(self, reason: str, which: BoolArray) -> None:
        """Count the numbers `which` (A,) are true."""
        for number in np.flatnonzero(which):
            counted = self.clamps.setdefault(reason, {})
            name = self.names[number]
            counted[name] = counted.get(name, 0) + 1

    def add_one(self, reason: str, name: str) -> None:
        """Count something under a name of its own."""
        counted = self.clamps.setdefault(reason, {})
        counted[name] = counted.get(name, 0) + 1

    @property
    def total(self) -> int:
        """All of them."""
        return sum(sum(counted.values()) for counted in self.clamps.values())


def check_range(
    values: FloatArray, lower: FloatArray, upper: FloatArray, names: Sequence[str], unit: str = ""
) -> None:
    """Raise SafetyError where values (n,) are far from those of the training data, (n,) each.

    Far is more than a span of the data outside it: another unit, another zero or sign, or another
    arm. The message names the first one, and the unit that it may be in.
    """
    margin = SPANS * np.maximum(upper - lower, LEAST_SPAN)
    far = ~((values >= lower - margin) & (values <= upper + margin))
    if not far.any():
        return
    number = int(np.flatnonzero(far)[0])
    value = float(values[number])
    least, most = float(lower[number]), float(upper[number])
    unit_text = f" {unit}" * bool(unit)
    message = (
        f"{names[number]!r} is {value:.6g}{unit_text}; the policy was trained on "
        f"{least:.4g} to {most:.4g}{unit_text}"
    )
    size, other = OTHER_UNITS.get(unit, (0.0, ""))
    if other and least - margin[number] <= value * size <= most + margin[number]:
        message += f": it looks like {other}, which would be {value * size:.4g} {unit}"
    else:
        message += ": look at its unit, its zero and its sign, and at whether it is the same arm"
    raise SafetyError(message)


class SafetyFilter:
    """Judges an arm's plans and targets; a fault stays until `reset`."""

    def __init__(
        self,
        spec: ActionSpec,
        limits: Limits,
        period_s: float,
        options: SafetyOptions | None = None,
    ) -> None:
        self.spec, self.limits = spec, limits
        self.period_s = period_s
        self.options = options or SafetyOptions()
        self.names = [dim.name for dim in spec.dims]
        self.counts = Counts(self.names)
        self.fault = ""
        """What was refused; empty: nothing."""
        self._smooth = np.array([dim.kind != "discrete" for dim in spec.dims])
        self._jump = _find_jumps(spec, self.options)
        self._step = np.where(self._smooth, limits.velocity * period_s, np.inf)
        if self.options.step is not None:
            self._step = np.minimum(self._step, self.options.step)
        self._bend = np.where(self._smooth, limits.acceleration * period_s**2, np.inf)
        self._slack = np.where(self._smooth, ROUNDING * self._step, 0.0)
        self._tool = find_tool(spec)
        self._first = True
        self._before = np.zeros(spec.width)
        self.speed = np.zeros(spec.width)
        """(A,): of the newest target, per second."""

    @property
    def knows_tool(self) -> bool:
        """Whether an action tells where the tool will be."""
        return self._tool is not None or self.options.tool_of is not None

    def start(self, position: FloatArray, speed: FloatArray | None = None) -> None:
        """The arm is at a position (A,), at rest or not; the next plan is its first one."""
        self._first = True
        self._before = np.array(position, np.float64)
        self.speed = np.zeros_like(self._before)
        if speed is not None:
            self.speed = np.array(speed, np.float64)

    def reset(self) -> None:
        """Somebody has looked at the fault."""
        self.fault = ""

    def admit(self, plan: TimedActions) -> TimedActions:
        """A plan that the arm may follow: within its range and its workspace.

        Raises SafetyError for numbers that are not finite or far from the training data, and for a
        first action that is far from where the arm is.
        """
        self._check_fault()
        wrong = ~np.isfinite(plan.actions)
        if wrong.any():
            step, number = np.argwhere(wrong)[0].tolist()
            self._refuse(f"action {step} of a plan says {self.names[number]!r} is not finite")
        if not np.isfinite(plan.times_s).all():
            self._refuse("the times of a plan are not finite")
        if self.options.trained is not None:
            self._check_trained(plan.actions, *self.options.trained)
        clipped = np.clip(plan.actions, self.limits.lower, self.limits.upper)
        for beyond in clipped != plan.actions:
            self.counts.add("position", beyond)
        kept = self._keep_in_workspace(TimedActions(plan.times_s, clipped))
        if self._first and len(kept) > 0:
            self._check_jump(kept.actions[0])
            self._first = False
        return kept

    def check(self, target: FloatArray) -> FloatArray:
        """The target (A,) to send, one period after the one before: within all limits.

        Acceleration gives way to speed and step, and these to position. Raises SafetyError for a
        number that is not finite, and for a tool that leaves its workspace.
        """
        self._check_fault()
        if not np.isfinite(target).all():
            number = int(np.flatnonzero(~np.isfinite(target))[0])
            self._refuse(f"the target of {self.names[number]!r} is {target[number]}")
        drift = self.speed * self.period_s
        move = target - self._before
        if self._is_fine(target, move, move - drift):
            sent = target
        else:
            change = self._clamp("acceleration", move - drift, self._bend)
            move = self._clamp("speed", np.where(self._smooth, drift + change, move), self._step)
            sent = np.clip(self._before + move, *self._reach())
            self.counts.add("position", np.abs(sent - self._before - move) > ROUNDING)
        self._check_tool(sent)
        self.speed = (sent - self._before) / self.period_s
        self._before = sent
        return sent.copy()

    def watch(self, tool: FloatArray) -> None:
        """Raise SafetyError where the measured tool (3,) has left its workspace."""
        workspace = self.options.workspace
        if workspace is None:
            return
        depth = workspace.depth(tool)
        if depth > TOLERANCE_M:
            self._refuse(
                f"the tool is at {np.round(tool, 3).tolist()} m, {1000 * depth:.0f} mm outside its "
                "workspace: lead the arm back by hand, then recover"
            )

    def _reach(self) -> tuple[FloatArray, FloatArray]:
        """The range, wider where the arm is outside it already: it need not jump back."""
        lower = np.minimum(self.limits.lower, self._before)
        return lower, np.maximum(self.limits.upper, self._before)

    def _is_fine(self, target: FloatArray, move: FloatArray, change: FloatArray) -> bool:
        """Whether a target (A,) is within all limits: the usual case, and a short way through."""
        return bool(
            (np.abs(change) <= self._bend + self._slack).all()
            and (np.abs(move) <= self._step + self._slack).all()
            and (target >= self.limits.lower).all()
            and (target <= self.limits.upper).all()
        )

    def _clamp(self, reason: str, values: FloatArray, most: FloatArray) -> FloatArray:
        """Values (A,) of at most this size; those that were beyond it are counted."""
        beyond = np.abs(values) > most + self._slack
        self.counts.add(reason, beyond)
        return np.where(beyond, np.clip(values, -most, most), values)

    def _check_fault(self) -> None:
        if self.fault:
            raise SafetyError(f"{self.fault}; nothing moves until it is reset")

    def _refuse(self, message: str) -> None:
        self.fault = message
        raise SafetyError(message)

    def _check_trained(self, actions: FloatArray, lower: FloatArray, upper: FloatArray) -> None:
        for number, dim in enumerate(self.spec.dims):
            part = slice(number, number + 1)
            worst = int(np.argmax(np.abs(actions[:, number])))
            try:
                value = actions[worst, part]
                check_range(value, lower[part], upper[part], [dim.name], dim.unit)
            except SafetyError as error:
                self._refuse(f"action {worst} of a plan: {error}")

    def _check_jump(self, action: FloatArray) -> None:
        """Raise SafetyError where the first action (A,) is far from where the arm is."""
        gap = np.abs(action - self._before)
        far = gap > self._jump
        if far.any():
            number = int(np.flatnonzero(far)[0])
            dim = self.spec.dims[number]
            unit = f" {dim.unit}" * bool(dim.unit)
            self._refuse(
                f"the first action wants {dim.name!r} at {action[number]:.4g}{unit}, where "
                f"{self._before[number]:.4g}{unit} is measured; at most {self._jump[number]:.3g}"
                f"{unit} lie between them at a start: bring the arm near where the demonstrations "
                "began"
            )

    def _keep_in_workspace(self, plan: TimedActions) -> TimedActions:
        """Tool positions within the workspace; joint angles only up to the first one outside."""
        workspace = self.options.workspace
        if workspace is None:
            return plan
        actions = plan.actions.copy()
        for step, action in enumerate(actions):
            if self._tool is not None:
                permitted = workspace.project(action[self._tool])
                if np.abs(permitted - action[self._tool]).max() > ROUNDING:
                    self.counts.add_one("workspace", "tool")
                    action[self._tool] = permitted
            elif self._leaves(workspace, action):
                self.counts.add_one("workspace", "tool")
                return TimedActions(plan.times_s[:step], actions[:step])
        return TimedActions(plan.times_s, actions)

    def _leaves(self, workspace: Workspace, action: FloatArray) -> bool:
        """Whether an action (A,), of joint angles say, brings the tool out of its workspace."""
        tool_of = self.options.tool_of
        return tool_of is not None and workspace.depth(tool_of(action)) > 0

    def _check_tool(self, target: FloatArray) -> None:
        """Raise SafetyError where a target (A,) would bring the tool out of its workspace."""
        if self.options.workspace is None:
            return
        if self._tool is not None:
            self.watch(target[self._tool])
        elif self.options.tool_of is not None:
            self.watch(self.options.tool_of(target))


def find_tool(spec: ActionSpec) -> list[int] | None:
    """Where an action says the tool's position: its numbers x, y and z in metres; None: nowhere."""
    places: list[int] = []
    for wanted in "xyz":
        for number, dim in enumerate(spec.dims):
            if dim.unit == "m" and dim.name.rpartition("_")[2] == wanted:
                places.append(number)
    if len(places) == 3:
        return places
    return None


def _find_jumps(spec: ActionSpec, options: SafetyOptions) -> FloatArray:
    """How far the first action may be from the measured position (A,)."""
    if options.jump is not None:
        if options.jump.shape != (spec.width,):
            raise ConfigError(
                f"jump has shape {options.jump.shape}; an action has {spec.width} numbers"
            )
        return options.jump
    found = []
    for dim in spec.dims:
        found.append(JUMPS.get(dim.unit, math.inf))
    return np.array(found)
