"""Central types and protocols: what an action, an observation, a policy and a robot are.

Numpy only, and nothing of ours is imported here: every other folder may import this one.
Letters of the shapes: B batch (rows), R chosen rows, To observed steps, T planned steps, Ta executed steps, A action width.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import MISSING, asdict, dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Observation = Mapping[str, NDArray[Any]]
"""Key -> array whose first axis is the row: (B, ...)."""

ActionKind = Literal["continuous", "rotation", "discrete"]
ObsKind = Literal["state", "image", "language"]


class HotstartError(ValueError):
    """A mistake that the user can mend: the message says what was wrong, where, and what would be right."""


class ConfigError(HotstartError):
    """A choice or a value of the configuration is wrong."""


class DataError(HotstartError):
    """A data set cannot be used as it is."""


class CheckpointError(HotstartError):
    """A checkpoint cannot be loaded or written."""


class SilentError(HotstartError):
    """Something that a running robot depends on has gone silent."""


class PlanError(HotstartError):
    """A plan that no robot may be given."""


class StopError(HotstartError):
    """A robot could not be stopped."""


def unknown(what: str, word: str, valid: Sequence[str]) -> str:
    """The message for a word that is not among the valid ones, with the nearest of them where one is near."""
    return (
        f"unknown {what} {shorten(word)}{nearest(word, valid)}; valid: {', '.join(valid) or 'none'}"
    )


def nearest(word: str, valid: Sequence[str]) -> str:
    """A guess at what was meant, to put into a message; empty when nothing is near."""
    near = difflib.get_close_matches(word[:LONGEST], valid, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return ""


LONGEST = 120
"""Characters of a value that a message repeats."""
FIRST = 10
"""Elements of a list or dictionary that a message repeats."""


def cut(text: str, longest: int = 4 * LONGEST) -> str:
    """Text for a message, its end left out where it is long."""
    if len(text) <= longest:
        return text
    return text[: longest - 3] + "..."


def shorten(value: object, longest: int = LONGEST) -> str:
    """`repr(value)` for a message, at most `longest` characters of it, in bounded time and memory whatever the value is."""
    return cut(_describe(value, 3), longest)


def _describe(value: object, depth: int) -> str:
    if isinstance(value, str | bytes | bytearray):
        if len(value) <= LONGEST:
            return repr(value)
        return repr(value[:LONGEST]) + "..."
    if isinstance(value, bool | float | complex | None):
        return repr(value)
    if isinstance(value, int):
        if value.bit_length() <= LONGEST:
            return repr(value)
        return f"<a whole number of {value.bit_length()} bits>"
    if isinstance(value, Mapping):
        pairs = (
            f"{_describe(key, depth - 1)}: {_describe(part, depth - 1)}"
            for key, part in value.items()
        )
        return _describe_parts(pairs, len(value), depth, "{}")
    if isinstance(value, list | tuple | Set):
        brackets = {list: "[]", tuple: "()"}.get(type(value), "{}")
        return _describe_parts(
            (_describe(part, depth - 1) for part in value), len(value), depth, brackets
        )
    if isinstance(value, BaseException):
        return type(value).__name__ + _describe(value.args, depth - 1)
    return _describe_object(value)


def _describe_parts(parts: Iterable[str], count: int, depth: int, brackets: str) -> str:
    """The first elements of `parts`, which is asked for no more of them than are shown."""
    if depth > 0:
        shown = list(itertools.islice(parts, FIRST))
    else:
        shown = []
    if count > len(shown):
        more = ["..."]
    else:
        more = []
    if brackets == "()" and count == len(shown) == 1:
        one = ","
    else:
        one = ""
    return brackets[0] + ", ".join([*shown, *more]) + one + brackets[1]


def _describe_object(value: object) -> str:
    """Types and numpy's small numbers as they are; of everything else the type, and its shape where it has one."""
    small = (
        isinstance(value, np.ndarray) and value.size <= 2 * FIRST and value.dtype.kind in "biufc"
    )
    if small or isinstance(value, np.number | np.bool_ | type):
        return cut(repr(value), LONGEST)
    if isinstance(value, np.dtype):
        if value.names is None:
            return repr(value)
        return "<a structured dtype>"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        size = f" {tuple(shape)}"
    else:
        size = ""
    return f"<{type(value).__name__}{size}>"


REQUIRED: Any = MISSING
"""The default of an option that must be given."""


def option(default: Any, meaning: str, unit: str = "", positional: bool = False) -> Any:
    """A field of a dataclass that the command line fills; `--help` shows its meaning and its unit.

    A `default` that can be called is a factory. A `positional` option may be given without its name.
    """
    notes = {"meaning": meaning, "unit": unit, "positional": positional}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=notes)
    if callable(default):
        return field(default_factory=default, metadata=notes)
    return field(default=default, metadata=notes)


LONGEST_EPISODE = 100_000
LONGEST_PLAN = 10_000
"""The most steps of an episode and of each part of a horizon."""


@dataclass(frozen=True)
class Horizon:
    """Steps a policy sees, plans and executes: To, T, Ta, and the delay it must be able to bridge (all in ticks)."""

    observed: int = option(
        2, "To: newest observations that a plan is made from [ticks]; n_obs_steps elsewhere"
    )
    planned: int = option(
        24, "T: actions of a plan, those at past observations included [ticks]; horizon elsewhere"
    )
    executed: int = option(
        8, "Ta: actions of a plan that are executed [ticks]; n_action_steps elsewhere"
    )
    delay: int = option(0, "ticks that go by while a plan is made, which it must bridge beside Ta")

    def __post_init__(self) -> None:
        for name, least in (("observed", 1), ("planned", 1), ("executed", 1), ("delay", 0)):
            value = getattr(self, name)
            if (
                not isinstance(value, int)
                or isinstance(value, bool)
                or not least <= value <= LONGEST_PLAN
            ):
                raise ConfigError(
                    f"horizon.{name} is {shorten(value)}; it must be a whole number of at least {least} "
                    f"and at most {LONGEST_PLAN}"
                )
        if self.planned < self.needed:
            raise ConfigError(
                f"horizon.planned is {self.planned}, but observed - 1 + executed + delay = {self.needed} steps are needed: "
                f"raise horizon.planned to {self.needed} or more, or lower horizon.executed"
            )

    @property
    def needed(self) -> int:
        """Least T: To - 1 + Ta + delay."""
        return self.observed - 1 + self.executed + self.delay

    @property
    def past(self) -> int:
        """Planned steps that lie before the newest observation: To - 1."""
        return self.observed - 1

    @property
    def blocks(self) -> int:
        """Complete blocks of Ta steps after the past ones: the stairs of SDP's staircase (2406.04806, section 3)."""
        return (self.planned - self.past) // self.executed

    def check_streaming(self) -> None:
        """Raise ConfigError unless the plan holds the two blocks that streaming needs: T >= To - 1 + 2 Ta."""
        if self.blocks < 2:
            least = self.past + 2 * self.executed
            raise ConfigError(
                f"streaming needs two blocks: horizon.planned is {self.planned}, it must be at least {least}"
            )


@dataclass(frozen=True)
class ActionDim:
    """One number of an action."""

    name: str
    unit: str = ""
    kind: ActionKind = "continuous"
    absolute: bool = True


@dataclass(frozen=True)
class ActionSpec:
    """What each number of an action means."""

    dims: tuple[ActionDim, ...]

    @property
    def width(self) -> int:
        """A."""
        return len(self.dims)

    @classmethod
    def plain(cls, width: int) -> ActionSpec:
        """A specification for numbers nobody has named: action_0, action_1, ..."""
        return cls(tuple(ActionDim(f"action_{i}") for i in range(width)))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain lists and dicts, for the store and the checkpoint."""
        return [asdict(dim) for dim in self.dims]

    @classmethod
    def from_json(cls, dims: Sequence[Mapping[str, Any]]) -> ActionSpec:
        """Read back what `to_json` wrote; raises ConfigError for anything else."""
        if not isinstance(dims, list | tuple):
            raise ConfigError(
                f"action_spec is {shorten(dims)}; a list of numbers with their names is wanted"
            )
        return cls(tuple(_read_dim(dim) for dim in dims))


@dataclass(frozen=True)
class ObsKey:
    """One entry of an observation: its shape without row and time axes, its numpy dtype and what kind of thing it is."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: ObsKind = "state"


TEXT_BYTES = 96
"""Room for a task's words in an observation of kind `language`: UTF-8, filled up with zeros."""
TEXT_KEY = ObsKey((TEXT_BYTES,), "uint8", "language")


def text_to_bytes(text: str) -> NDArray[np.uint8]:
    """Words as a `language` observation, (TEXT_BYTES,); raises ConfigError for words that are too long."""
    raw = text.encode()
    if len(raw) > TEXT_BYTES:
        raise ConfigError(
            f"the instruction {shorten(text)} is {len(raw)} bytes long; at most {TEXT_BYTES} are possible: shorten it"
        )
    return np.frombuffer(raw.ljust(TEXT_BYTES, b"\0"), np.uint8).copy()


def bytes_to_text(values: ArrayLike) -> str:
    """The words of a `language` observation (TEXT_BYTES,)."""
    return np.asarray(values, np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")


@dataclass(frozen=True)
class ObsSpec:
    """What an observation holds, key by key, in a fixed order."""

    keys: Mapping[str, ObsKey]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain dicts, for the store and the checkpoint."""
        return {name: {**asdict(key), "shape": list(key.shape)} for name, key in self.keys.items()}

    @classmethod
    def from_json(cls, keys: Mapping[str, Mapping[str, Any]]) -> ObsSpec:
        """Read back what `to_json` wrote; raises ConfigError for anything else."""
        if not isinstance(keys, Mapping):
            raise ConfigError(f"obs_spec is {shorten(keys)}; keys with a shape each are wanted")
        return cls({name: _read_key(name, key) for name, key in keys.items()})


WHOLE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
NUMBER_TYPES = ("bool", *WHOLE_TYPES, "float16", "float32", "float64")
"""What the numbers of an observation may be."""


def _read_dim(plain: Any) -> ActionDim:
    wanted = {"name": str, "unit": str, "kind": str, "absolute": bool}
    fitting = isinstance(plain, dict) and all(
        isinstance(value, wanted.get(key, ())) for key, value in plain.items()
    )
    if (
        not fitting
        or "name" not in plain
        or plain.get("kind", "continuous") not in get_args(ActionKind)
    ):
        raise ConfigError(
            f"action_spec holds {shorten(plain)}; a name, a unit, a kind ({', '.join(get_args(ActionKind))}) and absolute "
            f"(true or false) are wanted"
        )
    return ActionDim(**plain)


def _read_key(name: object, plain: Any) -> ObsKey:
    wanted = {"shape": (list, tuple), "dtype": str, "kind": str}
    fitting = isinstance(plain, dict) and all(
        isinstance(value, wanted.get(key, ())) for key, value in plain.items()
    )
    if not fitting or "shape" not in plain or not isinstance(name, str):
        raise ConfigError(
            f"obs_spec holds {shorten(name)}: {shorten(plain)}; a shape, a dtype and a kind are wanted"
        )
    key = ObsKey(**{**plain, "shape": tuple(plain["shape"])})
    whole = all(
        isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in key.shape
    )
    if not whole or key.dtype not in NUMBER_TYPES or key.kind not in get_args(ObsKind):
        raise ConfigError(
            f"obs_spec holds {shorten(name)}: {shorten(plain)}; the shape is of whole numbers, the dtype one of "
            f"{', '.join(NUMBER_TYPES)}, the kind one of {', '.join(get_args(ObsKind))}"
        )
    return key


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What a robot reports of a turn, per row; hardware reports `Feedback.silent(rows)`."""

    terminated: BoolArray  # (B,) the task has ended the episode
    truncated: BoolArray  # (B,) something outside the task has ended it, as a time limit does
    reward: FloatArray  # (B,) of this turn alone
    success: BoolArray  # (B,) the task is fulfilled now
    score: FloatArray  # (B,) of the episode so far, as the environment gives it; it may fall
    reports_success: BoolArray | None = None  # (B,) rows where `success` counts; None: every row
    applied: FloatArray | None = None
    """(B, A): this turn's actions as the robot applies them, behind its own limits; NaN, or None, where it cannot tell."""

    @property
    def done(self) -> BoolArray:
        """(B,): the episode is over."""
        return self.terminated | self.truncated

    @classmethod
    def silent(cls, rows: int) -> Feedback:
        """No end, no reward, no score, and success is not reported."""
        return cls(
            terminated=np.zeros(rows, bool),
            truncated=np.zeros(rows, bool),
            reward=np.zeros(rows),
            success=np.zeros(rows, bool),
            score=np.zeros(rows),
            reports_success=np.zeros(rows, bool),
        )

    def fulfilled(self, row: int) -> bool | None:
        """Whether the row's task is fulfilled now; None where that is not reported."""
        if self.reports_success is not None and not self.reports_success[row]:
            return None
        return bool(self.success[row])


@dataclass(frozen=True)
class TimedObservation:
    """An observation and when its parts were made, for robots whose sensors take time.

    Times are seconds of the control loop's clock, as those of `TimedActions` are. A plan's first action is meant for the
    oldest part that the policy reads: a driver that pairs an old picture with the joint angles of its time loses nothing.
    """

    observation: Observation  # key -> (B, ...)
    made_s: Mapping[str, FloatArray]  # key -> (B,); a key that is missing was made just now


@dataclass(frozen=True)
class TimedActions:
    """Actions of one row with the times they are meant for, by the control loop's clock."""

    times_s: FloatArray  # (n,) rising
    actions: FloatArray  # (n, A)

    def __len__(self) -> int:
        return len(self.times_s)

    @classmethod
    def none(cls, width: int) -> TimedActions:
        """No actions."""
        return cls(np.zeros(0), np.zeros((0, width)))


class Robot(Protocol):
    """B rows of something that observes and acts: simulated environments (B of them) or one arm (B = 1)."""

    rows: int
    rate_hz: float
    """Control periods a second: the rate of the policy's actions."""
    servo_hz: float | None
    """Rate of a servo that follows the times of actions; None: actions are applied when they are handed over."""
    substeps: int
    """Parts of a control period that `act` can tell apart; 1 where it takes whole periods only."""
    obs_spec: ObsSpec
    action_spec: ActionSpec

    def reset(self, seeds: Sequence[int]) -> Feedback | None:
        """Begin an episode in the first rows, one per seed; the others are idle.

        The seed fixes all that is random in the episode, the model of the scene included. Returns how things stand before
        the first action (a task may be fulfilled already), or None where nobody knows.
        """
        ...

    def reset_rows(self, rows: IntArray, seeds: Sequence[int]) -> Feedback | None:
        """Begin an episode in `rows` (R,) only, with a seed each; the other rows go on as if nothing had happened.

        Returns how things stand in all B rows, or None where nobody knows.
        """
        ...

    def observe(self) -> Observation | TimedObservation:
        """The newest observation, key -> (B, ...); a `TimedObservation` unless all of it was made just now."""
        ...

    def act(
        self,
        actions: FloatArray,
        substeps: IntArray | None = None,
        timed: Sequence[TimedActions] | None = None,
    ) -> Feedback:
        """Hand over actions (B, A) in the units of the action specification, for `substeps` (B,) or a whole period each.

        A row with 0 substeps stands still: its episode is over for who acts. A robot with a servo follows `timed` (B) instead:
        each row's actions with their times, this turn's first, then those planned so far for later turns. They replace
        what was handed over before, and end in a hold. A robot without a servo gets None.
        """
        ...

    def hold_position(self) -> FloatArray:
        """The actions (B, A) that keep every row where it is now."""
        ...

    def stop(self) -> None:
        """Bring every row to a safe rest; called however the loop ends."""
        ...


class Snapshots(Protocol):
    """A robot that can go back: simulations whose state can be saved in the middle of an episode."""

    def snapshot(self, rows: IntArray) -> object:
        """The present state of `rows` (R,), the place in their random streams included; raises ConfigError where a suite cannot save."""
        ...

    def restore(self, rows: IntArray, snapshot: object) -> None:
        """Put `rows` (R,) back into a snapshot of as many rows; what follows is the same to the bit."""
        ...


@dataclass(frozen=True)
class Planned:
    """A policy's answer: chunks for some rows, and what their next plans continue from.

    `actions[:, 0]` belongs to the tick of the newest observation the policy saw.
    """

    rows: IntArray  # (R,)
    actions: FloatArray  # (R, Ta, A) in the robot's units
    plan: Any  # opaque, the policy's own: what it continues from, its arrays (R, ...), see `rows`
    nfe: IntArray  # (R,) denoiser evaluations spent on each row


@dataclass(frozen=True)
class Executed:
    """What each row executed since the observation before: the commands as they were sent, holds included."""

    actions: FloatArray  # (B, A) in the robot's units; NaN in rows that executed nothing
    duration_s: FloatArray  # (B,) for how long, by the row's own clock [s]; 0 where nothing was

    @classmethod
    def nothing(cls, rows: int, width: int) -> Executed:
        """No row executed anything: the first observation of an episode."""
        return cls(np.full((rows, width), np.nan), np.zeros(rows))


State = Any
"""What a policy remembers: its own value, opaque to others. Its arrays have the rows first (B, ...), see `rows`."""


class Policy(Protocol):
    """Turns observations into chunks. All that it remembers lies in the state, a value that is handed in and out."""

    horizon: Horizon
    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float | None
    """Control rate of the data that it was trained on [Hz]; None where nobody has said it."""

    def initial_state(self, seeds: Sequence[int]) -> State:
        """A fresh state with one row per seed; the seed fixes the row's noise."""
        ...

    def reset_rows(self, state: State, rows: IntArray, seeds: Sequence[int]) -> State:
        """Begin anew in `rows` only; the other rows stay as they are, bit for bit."""
        ...

    def observe(
        self,
        state: State,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> State:
        """Take in one turn's observation (B, ...); cheap, called every turn.

        `executed` says what the rows executed since the observation before; None where that is not
        known. `new` (B,) says for which rows a control period has passed since then; None: for all.
        In the others this observation replaces the one before: the history keeps its spacing.
        """
        ...

    def plan(
        self, state: State, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """Chunks for `rows` (R,), see `Ask` for the other two."""
        ...

    def adopt(self, state: State, planned: Planned) -> State:
        """The newer `state` with the plans of `planned` in its rows; what it has observed meanwhile stays."""
        ...


class Clock(Protocol):
    """Monotonic seconds, real or virtual."""

    def now_s(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep_until(self, time_s: float) -> None:
        """Return when `now_s()` has reached `time_s`."""
        ...


@dataclass(frozen=True)
class Ask:
    """A question for chunks."""

    rows: IntArray  # (R,)
    executed: IntArray  # (R,) actions of the row's newest plan that lie behind it, from that plan's own observation on
    frozen: IntArray  # (R,) further actions of it that will be executed before the answer is there
    now_s: FloatArray  # (R,) time of the newest observation, by each row's own clock


class Planner(Protocol):
    """Asks a policy for chunks: at once, after a virtual latency, in a thread or in a process."""

    @property
    def expected_s(self) -> float:
        """How long an answer is expected to take."""
        ...

    def reset(self) -> None:
        """An episode begins: forget what is under way, it is nobody's any more."""
        ...

    def submit(self, state: State, ask: Ask) -> None:
        """Ask for chunks, from the state as it is now."""
        ...

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """The answers that are there by `now_s` (B,), oldest first; each once."""
        ...

    def due_s(self, row: int) -> float:
        """When the answer under way for a row will be there; infinity where nobody knows, or none is."""
        ...


class Actor(IntEnum):
    """Whose action a row executes."""

    NOBODY = 0  # the row is idle, or its episode is over
    POLICY = 1
    HOLD = 2  # no plan was there
    INTERVENTION = 3


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
    applied: (
        FloatArray  # (B, A) the actions as the robot applied them, as sent where it cannot tell
    )
    feedback: Feedback  # silent before the robot has acted


Listener = Callable[[Tick], None]
"""Called after every turn."""
Intervention = Callable[[Tick], FloatArray | None]
"""Called before a turn's actions are sent; returns (B, A) to send instead, NaN in the rows that stay as they are."""
