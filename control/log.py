"""What the control loop writes down of an episode."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..spec import Actor, FloatArray


@dataclass
class RowLog:
    """What happened in one row of one episode."""

    seed: int
    success: bool | None = None
    """Whether the task was fulfilled at any time; None where the robot has never reported it."""
    score: float = 0.0  # the newest that the robot reported
    steps: int = 0  # control periods begun
    commands: list[FloatArray] = field(default_factory=list)  # (A,) each
    durations: list[float] = field(default_factory=list)
    """Of each command, in control periods: 1, or less where a hold was cut."""
    nfe: list[int] = field(default_factory=list)  # per plan, the first one is cold
    late_actions: int = 0
    starved_ticks: float = 0.0  # control periods without an action to execute
    reactions: list[tuple[float, float, int]] = field(default_factory=list)
    """Of each plan that was executed in part or whole: when its observation was made [s], when its
    chunk was spliced [s], and how many actions had been executed before."""
    executed: int = 0  # actions of plans; what was held is not among them
    solved_at_reset: bool = False  # the task was fulfilled before the first action

    def note(
        self, command: FloatArray, lasted: float, actor: int, fulfilled: bool | None, score: float
    ) -> None:
        """Add a turn: `command` (A,) was executed for `lasted` control periods."""
        self.commands.append(command)
        self.durations.append(lasted)
        if actor == Actor.POLICY:
            self.executed += 1
        elif actor == Actor.HOLD:
            self.starved_ticks += lasted
        if fulfilled is not None:
            self.success = bool(self.success) or fulfilled
        self.score = score
