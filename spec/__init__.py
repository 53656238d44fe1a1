"""Central types and protocols: what an action, an observation, a policy and a robot are.

Numpy only, and nothing of ours outside this folder is imported: every other folder may import it.
"""

from .actions import ActionDim, ActionKind, ActionSpec
from .arrays import BoolArray, FloatArray, IntArray, Observation
from .errors import (
    CheckpointError,
    ConfigError,
    DataError,
    HotstartError,
    PlanError,
    SilentError,
    StopError,
)
from .horizon import LONGEST_EPISODE, LONGEST_PLAN, Horizon
from .loop import Actor, Clock, Intervention, Listener, Planner, PlanQuery, Tick
from .messages import FIRST, LONGEST, cut, nearest, shorten, unknown
from .observations import (
    NUMBER_TYPES,
    TEXT_BYTES,
    TEXT_KEY,
    WHOLE_TYPES,
    ObsKey,
    ObsKind,
    ObsPart,
    ObsSpec,
    PartKind,
    bytes_to_text,
    text_to_bytes,
)
from .options import REQUIRED, Part, option
from .policy import Executed, Planned, Policy, State
from .robot import Feedback, Limits, Robot, Snapshots, TimedActions, TimedObservation
from .rollouts import RolloutSource, Turn

__all__ = [
    "FIRST",
    "LONGEST",
    "LONGEST_EPISODE",
    "LONGEST_PLAN",
    "NUMBER_TYPES",
    "REQUIRED",
    "TEXT_BYTES",
    "TEXT_KEY",
    "WHOLE_TYPES",
    "ActionDim",
    "ActionKind",
    "ActionSpec",
    "Actor",
    "BoolArray",
    "CheckpointError",
    "Clock",
    "ConfigError",
    "DataError",
    "Executed",
    "Feedback",
    "FloatArray",
    "Horizon",
    "HotstartError",
    "IntArray",
    "Intervention",
    "Limits",
    "Listener",
    "ObsKey",
    "ObsKind",
    "ObsPart",
    "ObsSpec",
    "Observation",
    "Part",
    "PartKind",
    "PlanError",
    "PlanQuery",
    "Planned",
    "Planner",
    "Policy",
    "Robot",
    "RolloutSource",
    "SilentError",
    "Snapshots",
    "State",
    "StopError",
    "Tick",
    "TimedActions",
    "TimedObservation",
    "Turn",
    "bytes_to_text",
    "cut",
    "nearest",
    "option",
    "shorten",
    "text_to_bytes",
    "unknown",
]
