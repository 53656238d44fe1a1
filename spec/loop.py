"""What the control loop is made of: clocks, planners, and its turns as listeners see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from .arrays import BoolArray, FloatArray, IntArray, Observation
from .policy import Planned, State
from .robot import Feedback


class Clock(Protocol):
    """Monotonic seconds, real or virtual."""

    def now_s(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep_until(self, time_s: float) -> None:
        """Return when `now_s()` has reached `time_s`."""
        ...


@dataclass(frozen=True)
class PlanQuery:
    """What a policy is asked: chunks for some rows.

    Steps are counted from the observations: step 0 of a plan belongs to the observation that it was
    made from, also where that was old when it was read.
    """

    rows: IntArray  # (R,)
    executed: IntArray  # (R,) steps of the row's newest plan that lie before the newest observation
    frozen: IntArray  # (R,) its further steps that will be executed before the answer is there
    now_s: FloatArray  # (R,) when it is asked, by each row's own clock [s]


class Planner(Protocol):
    """Asks a policy for chunks: at once, after a virtual latency, in a thread or in a process."""

    @property
    def expected_s(self) -> float:
        """How long an answer is expected to take [s]."""
        ...

    def reset(self) -> None:
        """Forget the answers that are under way: an episode begins."""
        ...

    def submit(self, state: State, query: PlanQuery) -> None:
        """Ask for chunks, from the state (B rows) as it is now; one answer is due a row at most."""
        ...

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """The answers that have arrived by `now_s` (B,) [s], each row's own clock; does not wait.

        The oldest comes first, each comes once. An answer holds some of the rows that were asked
        for in one query, or all of them. Raises what the policy raised, and PlanError for an answer
        that is no plan for exactly the rows of its query.
        """
        ...

    def due_s(self, row: int) -> float:
        """When the row's answer will be there [s]; infinity where none is due, or nobody knows."""
        ...


class Actor(IntEnum):
    """Whose action a row executes."""

    NOBODY = 0  # the row is idle, or its episode is over
    POLICY = 1
    HOLD = 2  # no plan was there
    INTERVENTION = 3
    OPERATOR = 4  # in recordings: somebody shows the task, and no policy acts


@dataclass(frozen=True)
class Tick:
    """One turn of the control loop. Times are by each row's own clock [s]."""

    number: int
    now_s: FloatArray  # (B,) when it began
    made_s: FloatArray  # (B,) when the observation was made: its oldest part that the policy reads
    target_s: FloatArray  # (B,) when the action is meant for
    observation: Observation  # key -> (B, ...)
    actions: FloatArray  # (B, A) in the robot's units
    substeps: IntArray  # (B,) for how long the action counts; 0: the episode is over
    actors: IntArray  # (B,) of `Actor`
    applied: FloatArray  # (B, A) the actions as the robot applied them; as sent if it cannot tell
    feedback: Feedback  # silent before the robot has acted
    key_made_s: Mapping[str, FloatArray] = field(default_factory=dict)
    """Key of the observation -> (B,) when it was made; a key that is missing was made just now."""

    def acted(self, actor: Actor) -> BoolArray:
        """(B,): the rows in which `actor` acts.

        An array is compared with a plain number: numpy asks the class of an enumeration member for
        attributes, and drops whatever is raised there, a Ctrl-C or SIGTERM of that moment included.
        """
        return self.actors == int(actor)


Listener = Callable[[Tick], None]
"""Called after every turn."""
Intervention = Callable[[Tick], FloatArray | None]
"""Called before a turn's actions are sent.

Returns actions (B, A) to send instead, NaN in the rows that stay as they are; None replaces none. A
replaced row's plan ends there: the next one is made from what the intervention has led to.
"""
