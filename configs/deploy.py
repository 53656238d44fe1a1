"""The options of `hotstart deploy`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..spec import REQUIRED, option


@dataclass
class Deploy:
    """Run a checkpoint on an arm; however it ends, the arm is stopped first.

    Writes to runs/NAME: result.json (as `hotstart evaluate` does), timing.json and a page.

      hotstart robot sim ur5e
      hotstart deploy runs/push robot=ur5e robot.host=127.0.0.1 stage=127.0.0.1:8765 episodes=10
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    robot: Any = option(None, "the arm, and how it is reached")
    inference: Any = option("???", "sampler: how a plan is initialised and updated")
    cameras: dict[str, str] = option(
        {}, "cameras by the observation that they are, each KIND:PLACE, as cameras.front=opencv:0"
    )
    stage: str = option(
        "",
        "control port of a simulated arm, HOST:PORT: begins episodes and judges them; empty: none",
    )
    episodes: int = option(1, "episodes; the operator is asked before each, unless ask=false")
    seconds: float = option(30.0, "longest episode", "s")
    seed: int = option(100000, "seed of the first episode's noise, and of its scene on a stage")
    ask: bool = option(True, "whether to wait for the operator before an episode; never on a stage")
    planner: Literal["async", "sync"] = option(
        "async", "async plans while the arm moves; sync lets it wait for every plan"
    )
    replan_at: int | None = option(
        None, "actions left when the next plan is asked for; none: from measured times", "ticks"
    )
    executed: int | None = option(
        None, "actions of each chunk to execute instead of the checkpoint's own Ta", "ticks"
    )
    rate: Literal["same", "any"] = option(
        "same", "control rate: same refuses a checkpoint of another rate than the robot's"
    )
    rate_hz: float | None = option(None, "control rate of the policy; none: that of its data", "Hz")
    speed: float = option(
        1.0, "share of the arm's own limits of velocity and acceleration, above 0 to 1"
    )
    soft_start_s: float = option(
        1.0, "the first plan of an episode begins slowly; full limits count after so long", "s"
    )
    latency_s: float = option(
        0.0, "how long the arm takes to follow: actions are sent so much earlier", "s"
    )
    box: list[float] = option(
        [], "where the tool may be, [x0,x1,y0,y1,z0,z1] in the arm's frame; empty: anywhere", "m"
    )
    patience_s: float = option(2.0, "longest wait for a plan before the arm is stopped", "s")
    failure: str = option("", "calibration of failure detection; empty: none")
    on_failure: Literal["log", "hold", "ask", "takeover"] = option(
        "log", "what happens when a failure is detected"
    )
    takeover: str = option(
        "",
        "who may take over: keyboard, spacemouse, leader, scripted; space takes over and gives "
        "back, and such an episode is no success of the policy; empty: nobody",
    )
    takeover_options: dict[str, str] = option(
        {}, "options of who takes over, as takeover_options.step=0.05"
    )
    takeover_after_s: float = option(
        0.0, "take over where the stage's score has not risen for so long; 0: never", "s"
    )
    record: str = option("", "store to append the episodes to; empty: none")
    name: str = option("", "the run's name; empty: the checkpoint's and the robot's")
    runs: str = option("runs", "folder of all runs")
    overwrite: bool = option(False, "whether a run of this name may be replaced by the new one")
    device: str = option("cpu", "where the network runs: cpu or cuda")
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "numbers of the denoiser's weights; bf16 (denoiser=mode) takes half the bytes"
    )
    runtime: Any = option("???", "what evaluates the denoiser network")
