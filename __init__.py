"""hotstart: diffusion policies for robots that must move smoothly, now.

The public names are imported when they are first used, so that `import hotstart` costs nothing. It
sets the environment of torch's threads where torch is not loaded yet and the user has not set it,
see `system.threads`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .system.threads import set_up_environment

if TYPE_CHECKING:  # the same names as in _PUBLIC, for type checkers and editors
    from .checks import check_fit as check_fit
    from .commands.api import collect as collect
    from .commands.api import compare as compare
    from .commands.api import evaluate as evaluate
    from .commands.checkpoint import import_checkpoint as import_checkpoint
    from .commands.comparison_page import Comparison as Comparison
    from .configs.schema import PlaySettings as PlaySettings
    from .control import LoopSettings as LoopSettings
    from .control import RealClock as RealClock
    from .control import RowLog as RowLog
    from .control import VirtualClock as VirtualClock
    from .control import run as run
    from .datasets.arrays import Arrays as Arrays
    from .datasets.checks.verify import verify as verify
    from .datasets.episodes import Dataset as Dataset
    from .datasets.store import Store as Store
    from .envs import make_env as make_env
    from .envs.base import TaskEnv as TaskEnv
    from .envs.demonstrators.demonstrate import Demonstrator as Demonstrator
    from .envs.simulated_robot import SimulatedRobot as SimulatedRobot
    from .envs.snapshots import RowSnapshot as RowSnapshot
    from .envs.snapshots import Snapshot as Snapshot
    from .evaluation import read_result as read_result
    from .evaluation.pairing import PairedDifference as PairedDifference
    from .evaluation.pairing import pair_results as pair_results
    from .evaluation.result_types import EvaluationResult as EvaluationResult
    from .planners import DelayedPlanner as DelayedPlanner
    from .planners import ImmediatePlanner as ImmediatePlanner
    from .planners import ThreadedPlanner as ThreadedPlanner
    from .planners import constant_latency as constant_latency
    from .planners import drawn_latency as drawn_latency
    from .policy.actions import Representation as Representation
    from .policy.agent import Agent as Agent
    from .policy.agent import load as load
    from .policy.denoisers.base import Network as Network
    from .policy.denoisers.mlp import DiffusionMLP as DiffusionMLP
    from .policy.denoisers.mode import ModeTransformer as ModeTransformer
    from .policy.denoisers.published_unet import PublishedUnet as PublishedUnet
    from .policy.denoisers.transformer import DiffusionTransformer as DiffusionTransformer
    from .policy.denoisers.unet import ConditionalUnet as ConditionalUnet
    from .policy.diffusion.regimes import Regimes as Regimes
    from .policy.diffusion.schedule import Flow as Flow
    from .policy.diffusion.schedule import IndexTable as IndexTable
    from .policy.diffusion.schedule import LogLogistic as LogLogistic
    from .policy.diffusion.schedule import Schedule as Schedule
    from .policy.diffusion.schedule import VPCosine as VPCosine
    from .policy.diffusion.solvers import DDIM as DDIM
    from .policy.diffusion.solvers import PLMS as PLMS
    from .policy.diffusion.solvers import DPMSolverPP as DPMSolverPP
    from .policy.diffusion.solvers import Solver as Solver
    from .policy.diffusion.solvers import Step as Step
    from .policy.diffusion_policy import DiffusionPolicy as DiffusionPolicy
    from .policy.encoders.base import Encoder as Encoder
    from .policy.encoders.image import ImageEncoder as ImageEncoder
    from .policy.encoders.language import InstructionEncoder as InstructionEncoder
    from .policy.encoders.published import PublishedEncoder as PublishedEncoder
    from .policy.encoders.state import StateEncoder as StateEncoder
    from .policy.model import ModelConfig as ModelConfig
    from .policy.model import PolicyModel as PolicyModel
    from .policy.registry import node as node
    from .policy.registry import register as register
    from .policy.samplers.anchored import Anchored as Anchored
    from .policy.samplers.base import PlanOutcome as PlanOutcome
    from .policy.samplers.base import PlanRequest as PlanRequest
    from .policy.samplers.base import Sampler as Sampler
    from .policy.samplers.best_of import BestOf as BestOf
    from .policy.samplers.bidirectional import BidirectionalDecoding as BidirectionalDecoding
    from .policy.samplers.classifier_free import ClassifierFreeGuidance as ClassifierFreeGuidance
    from .policy.samplers.fresh import Fresh as Fresh
    from .policy.samplers.real_time_chunking import RealTimeChunking as RealTimeChunking
    from .policy.samplers.stepwise import StepwiseSearch as StepwiseSearch
    from .policy.samplers.streaming import Streaming as Streaming
    from .policy.samplers.warm_start import WarmStart as WarmStart
    from .policy.training.api import train as train
    from .policy.training.settings import TrainingSettings as TrainingSettings
    from .real_robot import make_robot as make_robot
    from .spec import ActionDim as ActionDim
    from .spec import ActionSpec as ActionSpec
    from .spec import CheckpointError as CheckpointError
    from .spec import Clock as Clock
    from .spec import ConfigError as ConfigError
    from .spec import DataError as DataError
    from .spec import Executed as Executed
    from .spec import Feedback as Feedback
    from .spec import Horizon as Horizon
    from .spec import HotstartError as HotstartError
    from .spec import ObsKey as ObsKey
    from .spec import ObsSpec as ObsSpec
    from .spec import PlanError as PlanError
    from .spec import Planned as Planned
    from .spec import Planner as Planner
    from .spec import PlanQuery as PlanQuery
    from .spec import Policy as Policy
    from .spec import Robot as Robot
    from .spec import SilentError as SilentError
    from .spec import StopError as StopError
    from .spec import Tick as Tick
    from .spec import TimedActions as TimedActions
    from .spec import TimedObservation as TimedObservation

__version__ = "0.1.0"

set_up_environment()  # before anything imports torch

_PUBLIC = {
    "check_fit": "checks",
    "collect": "commands.api",
    "compare": "commands.api",
    "evaluate": "commands.api",
    "import_checkpoint": "commands.checkpoint",
    "Comparison": "commands.comparison_page",
    "PlaySettings": "configs.schema",
    "LoopSettings": "control",
    "RealClock": "control",
    "RowLog": "control",
    "VirtualClock": "control",
    "run": "control",
    "Arrays": "datasets.arrays",
    "verify": "datasets.checks.verify",
    "Dataset": "datasets.episodes",
    "Store": "datasets.store",
    "make_env": "envs",
    "TaskEnv": "envs.base",
    "Demonstrator": "envs.demonstrators.demonstrate",
    "SimulatedRobot": "envs.simulated_robot",
    "RowSnapshot": "envs.snapshots",
    "Snapshot": "envs.snapshots",
    "read_result": "evaluation",
    "PairedDifference": "evaluation.pairing",
    "pair_results": "evaluation.pairing",
    "EvaluationResult": "evaluation.result_types",
    "DelayedPlanner": "planners",
    "ImmediatePlanner": "planners",
    "ThreadedPlanner": "planners",
    "constant_latency": "planners",
    "drawn_latency": "planners",
    "Representation": "policy.actions",
    "Agent": "policy.agent",
    "load": "policy.agent",
    "Network": "policy.denoisers.base",
    "DiffusionMLP": "policy.denoisers.mlp",
    "ModeTransformer": "policy.denoisers.mode",
    "PublishedUnet": "policy.denoisers.published_unet",
    "DiffusionTransformer": "policy.denoisers.transformer",
    "ConditionalUnet": "policy.denoisers.unet",
    "Regimes": "policy.diffusion.regimes",
    "Flow": "policy.diffusion.schedule",
    "IndexTable": "policy.diffusion.schedule",
    "LogLogistic": "policy.diffusion.schedule",
    "Schedule": "policy.diffusion.schedule",
    "VPCosine": "policy.diffusion.schedule",
    "DDIM": "policy.diffusion.solvers",
    "PLMS": "policy.diffusion.solvers",
    "DPMSolverPP": "policy.diffusion.solvers",
    "Solver": "policy.diffusion.solvers",
    "Step": "policy.diffusion.solvers",
    "DiffusionPolicy": "policy.diffusion_policy",
    "Encoder": "policy.encoders.base",
    "ImageEncoder": "policy.encoders.image",
    "InstructionEncoder": "policy.encoders.language",
    "PublishedEncoder": "policy.encoders.published",
    "StateEncoder": "policy.encoders.state",
    "ModelConfig": "policy.model",
    "PolicyModel": "policy.model",
    "node": "policy.registry",
    "register": "policy.registry",
    "Anchored": "policy.samplers.anchored",
    "PlanOutcome": "policy.samplers.base",
    "PlanRequest": "policy.samplers.base",
    "Sampler": "policy.samplers.base",
    "BestOf": "policy.samplers.best_of",
    "BidirectionalDecoding": "policy.samplers.bidirectional",
    "ClassifierFreeGuidance": "policy.samplers.classifier_free",
    "Fresh": "policy.samplers.fresh",
    "RealTimeChunking": "policy.samplers.real_time_chunking",
    "StepwiseSearch": "policy.samplers.stepwise",
    "Streaming": "policy.samplers.streaming",
    "WarmStart": "policy.samplers.warm_start",
    "train": "policy.training.api",
    "TrainingSettings": "policy.training.settings",
    "make_robot": "real_robot",
    "ActionDim": "spec",
    "ActionSpec": "spec",
    "CheckpointError": "spec",
    "Clock": "spec",
    "ConfigError": "spec",
    "DataError": "spec",
    "Executed": "spec",
    "Feedback": "spec",
    "Horizon": "spec",
    "HotstartError": "spec",
    "ObsKey": "spec",
    "ObsSpec": "spec",
    "PlanError": "spec",
    "Planned": "spec",
    "Planner": "spec",
    "PlanQuery": "spec",
    "Policy": "spec",
    "Robot": "spec",
    "SilentError": "spec",
    "StopError": "spec",
    "Tick": "spec",
    "TimedActions": "spec",
    "TimedObservation": "spec",
}
"""Public name -> the module that it is imported from when it is first used."""

__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # a type checker knows the names from the imports above, and no others

    def __getattr__(name: str) -> Any:
        """A public name, from the module it lives in."""
        if name not in _PUBLIC:
            raise AttributeError(f"hotstart has no {name!r}; it has {', '.join(__dir__())}")
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
