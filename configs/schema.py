"""The options of every verb: which there are, their types, their defaults and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.registry import FORMATS, list_written
from ..policy.training.settings import TrainingSettings
from ..spec import LONGEST_EPISODE, REQUIRED, ConfigError, Horizon, option
from .checking import Repair, Verify
from .deploy import Deploy
from .doctor import Examine
from .editing import Diff, Drop, Filter, Merge, Recompute, Relabel, Split, Trim, View
from .exporting import Export
from .recording import Record, Replay
from .robots import CalibrateArm, MeasureLatency, SimulateArm
from .world_model import AuditWorldModel, DrawStrip, DreamDemo, LearnWorldModel, ViewWorldModel

MISSING = "???"
"""What OmegaConf takes for a value that must be given."""
MOST = {
    "episodes": 10**6,
    "demonstrations": 10**6,
    "num_envs": 10_000,
    "workers": 1024,
    "charged_episodes": 10**6,
    "videos": 10_000,
    "seed": 2**62,
    "max_steps": LONGEST_EPISODE,
}
"""The largest whole number that an option of this name may have, wherever it stands."""
WORKERS = "processes to simulate in; 0 is this one, -1 one per core"


@dataclass
class TaskConfig:
    """A task: the environment that simulates it and what the policy sees of it."""

    name: str = option(MISSING, "the task's name; data and runs are named after it")
    data: str = option(
        "${.name}", "name of the data set that is trained on, data/NAME.zarr; tasks may share it"
    )
    env: str = option(
        MISSING, "the environment that simulates it, as pusht, lift, metaworld or gymnasium"
    )
    options: dict[str, Any] = option({}, "options of the environment")
    obs_keys: list[str] = option(
        [], "which observations the policy sees, in this order; empty: all"
    )
    max_steps: int = option(
        300, "length of an episode; 0: as many as the environment itself says", "ticks"
    )


@dataclass
class Learning:
    """What is trained and how: the options that every training verb has."""

    task: TaskConfig = option(TaskConfig, "what is done, and the environment that simulates it")
    encoder: Any = option(MISSING, "network that turns observations into condition tokens")
    denoiser: Any = option(MISSING, "network that denoises plans")
    schedule: Any = option(MISSING, "noise levels over the schedule time, and their weights")
    actions: Any = option(MISSING, "form in which the network sees actions")
    prediction: Literal["v", "eps", "x0", "edm"] = option("v", "what the network predicts")
    horizon: Horizon = option(Horizon, "steps that a policy observes, plans and executes")
    training: TrainingSettings = option(TrainingSettings, "how to train")


@dataclass(frozen=True)
class PlaySettings:
    """Play for a world model: how a policy is disturbed, and in how many episodes."""

    on: bool = option(
        False, "whether to record play for a world model, around the policy demonstrator=CHECKPOINT"
    )
    undisturbed: float = option(0.25, "share of episodes in which it acts exactly as deployed")
    scripted: float = option(
        0.25, "share of episodes of the scripted demonstrator, disturbed; a task without has none"
    )
    noise: float = option(
        0.5,
        "largest noise of a disturbed episode; each draws its own, from 0 to this",
        "share of the action's range",
    )
    hold_chance: float = option(0.02, "chance that a hold begins in a tick of a disturbed episode")
    hold_ticks: int = option(10, "longest hold; each lasts 1 to so many", "ticks")
    after_success: int = option(8, "how long an episode goes on after success", "ticks")

    def __post_init__(self) -> None:
        for name in ("undisturbed", "scripted", "hold_chance"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ConfigError(f"play.{name} is {share}; a share from 0 to 1 is wanted")
        if self.undisturbed + self.scripted > 1:
            raise ConfigError(
                f"play.undisturbed is {self.undisturbed} and play.scripted {self.scripted}; "
                "together they must be at most 1"
            )
        if not 0 <= self.noise < float("inf"):
            raise ConfigError(f"play.noise is {self.noise}; a finite number from 0 on is wanted")
        if self.hold_ticks < 1 or self.after_success < 0:
            raise ConfigError(
                f"play.hold_ticks is {self.hold_ticks} and play.after_success "
                f"{self.after_success}; at least 1 and 0 are wanted"
            )


@dataclass
class Collect:
    """Collect demonstrations into a store; a killed collection goes on where it stopped.

    Play for a world model, around a policy: the task is the checkpoint's own unless it is given.

      hotstart collect data/push_play.zarr demonstrator=runs/push play.on=true episodes=300
    """

    out: str = option("data/${task.name}.zarr", "the store to write", positional=True)
    task: TaskConfig = option(TaskConfig, "what is done, and the environment that simulates it")
    demonstrator: str = option(
        "scripted",
        "who acts: scripted, play (scripted, wandering off in between), random, or a checkpoint",
    )
    inference: Any = option(None, "sampler of a checkpoint that acts; none: ddim in 10 steps")
    keep: Literal["success", "all"] = option(
        "success",
        "which episodes; of all, each step says whether the task was fulfilled; play keeps all",
    )
    episodes: int = option(100, "episodes to keep")
    seed: int = option(0, "first seed; each attempt takes the next one")
    noise: float = option(
        0.0,
        "standard deviation of noise on the demonstrator's actions",
        "share of the action's range",
    )
    workers: int = option(-1, WORKERS)
    play: PlaySettings = option(PlaySettings, "play for a world model")


@dataclass
class Train(Learning):
    """Train a policy on a store.

    The same command goes on with a run that was stopped. More training.steps go on with one that
    is done; the learning rate then follows the longer cosine.
    """

    data: str = option(
        "data/${task.data}.zarr",
        "the data set to learn from, of any format; or several, as A.zarr,B.zarr",
        positional=True,
    )
    mixture: list[float] = option(
        [], "share of the windows that each of several data sets gives; empty: by their size"
    )
    read: ReadOptions = option(ReadOptions, "how a data set in another format is read")
    name: str = option("${task.name}", "the run's name")
    runs: str = option("runs", "folder of all runs")
    filter: str = option(
        "",
        "latent world model through whose filter the policy sees (encoder=state); empty: none",
    )


@dataclass
class Evaluate:
    """Run a checkpoint in simulation on seeds of its own.

    Writes success, score, cost and smoothness with intervals.
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    inference: Any = option(MISSING, "sampler: how a plan is initialised and updated")
    task: TaskConfig | None = option(None, "another task than the checkpoint's own")
    episodes: int = option(100, "episodes; each has a seed of its own")
    seed: int = option(100000, "seed of the first episode; never one that was trained or tuned on")
    num_envs: int = option(
        50,
        "environments that run in step; a result is reproducible to the bit for the same number",
    )
    workers: int = option(-1, WORKERS)
    answer_s: float = option(
        120.0, "time that a worker may take to answer before the evaluation stops", "s"
    )
    rate: Literal["same", "any"] = option(
        "same", "control rate: same refuses a task of another rate than the data's, any takes it"
    )
    executed: int | None = option(
        None, "actions of each chunk to execute instead of the checkpoint's own Ta", "ticks"
    )
    latency: str = option(
        "none",
        "time that a plan is charged with: none, a time as 0.1s or 100ms, or profile (measured)",
    )
    profile: str = option(
        "latency.json",
        "measured times of plans, from `hotstart bench call_time CHECKPOINT out=FILE`",
    )
    planner: Literal["sync", "async"] = option(
        "sync",
        "sync asks when a chunk is used up, async so early that the next one is there in time",
    )
    device: str = option("cpu", "where the network runs: cpu or cuda")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "numbers of the denoiser's weights; bf16 (denoiser=mode) takes half the bytes"
    )
    runtime: Any = option(MISSING, "what evaluates the denoiser network")
    out: str = option("result.json", "result file; empty: not written")
    overwrite: bool = option(
        False, "whether a result, videos and their page may be replaced by new ones"
    )
    video: str = option(
        "", "folder for videos of the first episodes and a page that shows them; empty: none"
    )
    videos: int = option(4, "how many episodes to film")


@dataclass
class Serve:
    """Serve a policy to robots on other machines, over websockets in openpi's message shape.

    Clients: `hotstart_client.Client`, `hotstart.real_robot.remote.RemotePlanner`, openpi's own.

      hotstart serve runs/push inference=rti port=8000
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    inference: Any = option(MISSING, "sampler: how a plan is initialised and updated")
    host: str = option(
        "127.0.0.1", "address to listen at; one that other machines reach asks for a token"
    )
    port: int = option(8000, "port to listen at; 0: a free one")
    token_file: str = option(
        "", "file that holds the token of the clients; empty: the variable HOTSTART_TOKEN"
    )
    clients: int = option(32, "clients at a time; each has an episode of its own")
    batch: int = option(16, "clients that are planned for in one call of the network")
    deadline_s: float = option(5.0, "longest time that a client may give an answer", "s")
    max_age_s: float = option(
        1.0, "age of an observation that is refused, where a client does not say another", "s"
    )
    message_mb: float | None = option(
        None, "largest message; none: what the policy's observations take as float64", "MB"
    )
    executed: int | None = option(
        None, "actions of each chunk to hand out instead of the checkpoint's own Ta", "ticks"
    )
    delay: int = option(0, "further actions to hand out, for a robot that plans ahead", "ticks")
    device: str = option("cpu", "where the network runs: cpu or cuda")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "numbers of the denoiser's weights; bf16 (denoiser=mode) takes half the bytes"
    )
    runtime: Any = option(MISSING, "what evaluates the denoiser network")


@dataclass
class Certify:
    """Compare a runtime's plans with PyTorch's over recorded observations.

    The certificate is written beside the weights; `hotstart deploy runtime=...` asks for it.

      hotstart certify runs/push data=data/push.zarr runtime=openvino inference=rti
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: str = option(REQUIRED, "a store with observations to plan from, as that of its training")
    inference: Any = option(MISSING, "sampler: how a plan is initialised and updated")
    runtime: Any = option(MISSING, "what evaluates the denoiser network")
    plans: int = option(100, "plans to compare, 10 of an episode at most")
    tolerance: float | None = option(
        None,
        "greatest difference of plans that is passed; none: 0.001 in fp32, 0.1 in other formats",
        "normalised units",
    )
    seed: int = option(0, "seed of the noise and of the order of the episodes")
    device: str = option("cpu", "where the network runs: cpu or cuda")


@dataclass
class Finetune:
    """Tune a checkpoint with reinforcement learning in simulation, for the sampler it is run with.

    The same command goes on with a run that was stopped. At the end base and tuned policy are
    evaluated on the same fresh seeds and compared, and results say every real step that was spent.

      hotstart finetune runs/push task=metaworld task.options.task=push-v3 inference=rti
    """

    checkpoint: str = option(REQUIRED, "the base: a checkpoint or a run", positional=True)
    inference: Any = option(MISSING, "sampler that is tuned for, and deployed with")
    method: Any = option(MISSING, "how to tune")
    play: str = option(
        "", "store of recorded play: rollouts are dreams of a world model of it, none is real"
    )
    world_model: str = option(
        "", "world model of that play, of `hotstart world-model train`; empty: one is trained"
    )
    task: TaskConfig | None = option(None, "another task than the checkpoint's own")
    name: str = option("", "the run's name; empty: the base's and the method's")
    runs: str = option("runs", "folder of all runs")
    executed: int | None = option(
        None, "actions of each chunk to execute instead of the checkpoint's own Ta", "ticks"
    )
    episodes: int = option(200, "episodes of the comparison with the base; 0: none")
    seed: int = option(100000, "seed of its first episode; fine-tuning takes others")
    num_envs: int = option(50, "environments of the comparison that run in step")
    controls: bool = option(
        True, "whether the base is compared with less starting noise too: none, and half of it"
    )
    others: list[str] = option(
        [], "other samplers that base and tuned policy are compared under too, as [ddim,rti-2,sdp]"
    )
    other_tasks: list[str] = option(
        [], "other tasks that they are compared on too, each as the words behind task=, as [mt10]"
    )
    workers: int = option(-1, WORKERS)


@dataclass
class Demo(Learning):
    """Collect, train and evaluate robosuite Lift, and write the report: runs/demo/report.html.

    `hotstart demo world-model` is another demo: a policy that is tuned in a world model's dreams.
    """

    name: str = option("demo", "the run's name", positional=True)
    runs: str = option("runs", "folder of all runs")
    demonstrations: int = option(100, "scripted demonstrations to collect")
    noise: float = option(
        0.3,
        "standard deviation of noise on the demonstrator's actions",
        "share of the action's range",
    )
    episodes: int = option(100, "episodes of each evaluation")
    seed: int = option(100000, "seed of the first evaluation episode")
    workers: int = option(-1, WORKERS)
    inferences: list[str] = option(
        ["ddim-10", "ddim-2", "rti-2", "sdp-4"],
        "samplers with their steps, to evaluate where plans take no time",
    )
    charged: list[str] = option(
        [
            "ddim-10:sync",
            "ddim-10:async",
            "rti-2:sync",
            "rti-2:async",
            "ddim-2:sync",
            "sdp-4:async",
            "rtc-4:async",
        ],
        "samplers with their planners, to evaluate where every evaluation takes evaluation_ms",
    )
    evaluation_ms: float = option(
        50.0, "time that a plan is charged with for each of its denoiser evaluations", "ms"
    )
    charged_episodes: int = option(
        50, "episodes of each evaluation with charged time, the first ones of the others"
    )


@dataclass
class Info:
    """Print what a data set holds: episodes, steps, hours; each key's shape, dtype and range."""

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    fps: float | None = option(None, "rate of the steps; needed where the format has none", "Hz")
    mapping: Path | None = option(None, "a file that says which topics become which keys (YAML)")


@dataclass
class Inspect:
    """Print what a recording holds (MCAP, rosbag2), and draft a mapping of its topics to keys.

    For each topic: type, messages, rate, longest gap, and by how much the recorder's clock is ahead
    of the times in the headers.
    """

    path: Path = option(REQUIRED, "the recording, or a folder of them", positional=True)
    out: Path | None = option(None, "a new file for the mapping; none prints it")


@dataclass
class ConversionEnds:
    """From what and to what is converted."""

    source: Path = option(REQUIRED, "what to convert", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder or file", positional=True)
    to: str = option("hotstart", f"format of the target: hotstart, {', '.join(list_written())}")
    format: str | None = option(
        None, f"format of the source; none finds it out: {', '.join(FORMATS)}"
    )


@dataclass
class Convert(ReadOptions, ConversionEnds):
    """Make a data set of one in another format, or write one in another format.

    The source is recognised by what it holds. A conversion that was stopped goes on where it was:
    give the same command again.
    """


@dataclass
class Download:
    """Fetch a published data set, check it against its known contents, and convert it."""

    name: str = option(REQUIRED, "which data set, as pusht", positional=True)
    folder: Path = option(Path("data"), "where to put it; it becomes FOLDER/NAME.zarr")
    address: str | None = option(None, "another place that has the same file")
    images: bool = option(False, "whether to take the images too")


@dataclass
class Import:
    """Take over a policy that was trained elsewhere.

    SOURCE is a folder that LeRobot's save_pretrained wrote (config.json, model.safetensors and the
    processors' files), or a low-dim .ckpt of Diffusion Policy, of which only tensors are read. The
    policy needs no training to be warm-started: hotstart evaluate OUT inference=rti. Its rate and
    its task are read from the folder's train_config.json where it names them.

      hotstart checkpoint import pretrained_model fps=10 task=pusht \\
          names=observation.state:agent_pos,observation.image:image
      hotstart checkpoint import latest.ckpt fps=10 task=pusht names=obs:keypoints
    """

    source: Path = option(REQUIRED, "the folder or the .ckpt to import", positional=True)
    out: Path = option(Path("runs/imported"), "checkpoint to write")
    fps: float | None = option(
        None, "control rate that it was trained at; none: what the folder says", "Hz"
    )
    task: str | None = option(
        None, "environment that `evaluate` takes unless told otherwise; none: what the folder says"
    )
    names: tuple[str, ...] = option(
        (), "what its observations are called here, each as theirs:ours"
    )
    planned: int = option(16, "T of a .ckpt, which does not say it plainly", "ticks")
    executed: int = option(8, "Ta of a .ckpt", "ticks")
    overwrite: bool = option(False, "whether a checkpoint at out may be replaced by the new one")


@dataclass
class Calibrate:
    """Measure how much of a plan's error warm starts leave.

    Writes the start to take beside the weights.
    """

    run: Path = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: Path = option(REQUIRED, "the store it was trained on")
    steps: int = option(2, "evaluations of a warm start")
    windows: int = option(16, "moments of the data to sample at")
    samples: int = option(32, "plans at each")


@dataclass
class Anchors:
    """Cluster a policy's data into anchors for inference=anchored.

    Trains a head that chooses one by the observation.
    """

    run: Path = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: Path = option(REQUIRED, "the store it was trained on")
    out: Path = option(Path("runs/anchored"), "checkpoint to write: the same weights, with anchors")
    count: int = option(64, "how many anchors")
    steps: int = option(2000, "optimiser steps of the head")
    overwrite: bool = option(False, "whether a checkpoint at out may be replaced by the new one")


@dataclass
class Compare:
    """Compare results of `hotstart evaluate`, the files that its option out= names.

    Every result file is one row. Differences are paired: only seeds that both results have count,
    so that what is hard about a scene cancels out. p is McNemar's exact one for success; the
    interval of the score's difference is bootstrapped.

      hotstart compare runs/demo/result_ddim.json runs/demo/result_ddpm.json
      hotstart compare runs/demo/result_*.json baseline=ddpm-100 out=runs/demo/comparison
    """

    files: tuple[Path, ...] = option(REQUIRED, "result files", positional=True)
    out: Path | None = option(
        None, "folder for plots (PNG and SVG) and the table; none: only print"
    )
    baseline: str | None = option(
        None, "file or name of the result to compare with; none: the first file"
    )
    measure: Literal["success", "score"] = option("success", "what the plots show")
    overwrite: bool = option(False, "whether a comparison at out may be replaced by the new one")


@dataclass(frozen=True)
class Verb:
    """A verb: what it does, and its options, or those of each of its actions; or both."""

    summary: str
    options: type | None = None
    actions: Mapping[str, type] = field(default_factory=dict)
    composed: bool = False
    """Whether it has parts to choose, so that Hydra composes its configuration."""


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "collect, train and evaluate robosuite Lift, and write a report: the first thing to run",
        Demo,
        actions={"world-model": DreamDemo},
        composed=True,
    ),
    "collect": Verb("collect demonstrations from a demonstrator", Collect, composed=True),
    "data": Verb(
        "look at, convert, check, edit and download data sets",
        actions={
            "info": Info,
            "inspect": Inspect,
            "convert": Convert,
            "verify": Verify,
            "repair": Repair,
            "download": Download,
            "split": Split,
            "merge": Merge,
            "filter": Filter,
            "trim": Trim,
            "drop": Drop,
            "relabel": Relabel,
            "diff": Diff,
            "view": View,
            "recompute": Recompute,
        },
    ),
    "train": Verb("train a policy on a data set", Train, composed=True),
    "finetune": Verb(
        "tune a checkpoint with reinforcement learning in simulation", Finetune, composed=True
    ),
    "world-model": Verb(
        "learn a world model from recorded play, judge it, and look at it",
        actions={
            "train": LearnWorldModel,
            "audit": AuditWorldModel,
            "view": ViewWorldModel,
            "strip": DrawStrip,
        },
    ),
    "evaluate": Verb("run a checkpoint in simulation and measure it", Evaluate, composed=True),
    "serve": Verb("serve a checkpoint to robots on other machines", Serve, composed=True),
    "robot": Verb(
        "simulated arms at the wire; calibrate an arm, measure its latency",
        actions={"sim": SimulateArm, "calibrate": CalibrateArm, "latency": MeasureLatency},
    ),
    "deploy": Verb("run a checkpoint on an arm", Deploy, composed=True),
    "certify": Verb(
        "compare the plans of a runtime with PyTorch's, which deploy asks for",
        Certify,
        composed=True,
    ),
    "export": Verb("write a policy that runs without torch", Export, composed=True),
    "checkpoint": Verb(
        "import a policy that was trained elsewhere; fit what warm and anchored starts need",
        actions={"import": Import, "calibrate": Calibrate, "anchors": Anchors},
    ),
    "compare": Verb("compare results of evaluations, paired by seed", Compare),
    "record": Verb("record demonstrations that an operator shows on a robot", Record),
    "replay": Verb("let a robot repeat a recorded episode", Replay),
    "doctor": Verb("look for what this machine lacks, and say how to mend it", Examine),
    "bench": Verb("measure a claim of BENCHMARKS.md again"),
}
"""Every verb; `bench` alone finds its actions itself, one a file of `benchmarks/`."""
AXES = {
    "experiment": "overrides that belong together",
    "solver@inference.solver": "step from one noise level to the next, of a sampler that takes one",
}
"""Axes that are no option of their own, with their meaning."""
